"""scratchattach's cloud for TurboWarp servers, told by lines on stdin what to do:

    set NAME VALUE | sets NAME VALUE ... | burst NAME COUNT | get NAME
"""

import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")

from scratchattach import TwCloud  # noqa: E402


class OurCloud(TwCloud):
    """Its events open a second connection by the class and the project alone."""

    def __init__(self, *, project_id):
        super().__init__(project_id=project_id, cloud_host=sys.argv[1])


cloud = OurCloud(project_id="60917032")
cloud.connect()
events = cloud.events()
# One object has one stream of events, and getting opens its own.
reader = OurCloud(project_id="60917032")
reader.get_all_vars()
# What comes in the first half second, both skip.
deaf_until = time.time() + 0.6


def say(*words):
    # In one piece: two threads talk.
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


@events.event
def on_ready():
    time.sleep(max(0, deaf_until - time.time()))
    say("ready")


@events.event
def on_set(activity):
    say("event", activity.var, activity.value)


def value(text):
    return {"True": True}.get(text, text)


events.start(thread=True)
sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(1))
for line in sys.stdin:
    order, *words = line.split()
    if order == "set":
        cloud.set_var(words[0], value(words[1]))
    elif order == "sets":
        cloud.set_vars(dict(zip(words[::2], words[1::2])))
    elif order == "burst":
        for n in range(1, int(words[1]) + 1):
            cloud.set_var(words[0], n)
    elif order == "get":
        # `get_var` of 2.2.6 looks for a name with a cloud among names without.
        say("got", reader.get_all_vars().get(words[0]))
