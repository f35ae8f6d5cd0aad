"""scratchcommunication's cloud for TurboWarp servers, told by lines on stdin what to do:

    set NAME VALUE | get NAME
"""

import sys

from scratchcommunication.cloud import TwCloudConnection

cloud = TwCloudConnection(
    project_id="60917032",
    username="communicator",
    cloud_host=sys.argv[1],
    contact_info="a test",
    daemon_thread=True,
)


@cloud.on("set")
def heard(event):
    print("event", event.name, event.value, flush=True)


print("ready", flush=True)
for line in sys.stdin:
    order, *words = line.split()
    if order == "set":
        cloud.set_variable(name=words[0], value=words[1])
    elif order == "get":
        print("got", cloud.values.get("\u2601 " + words[0]), flush=True)
