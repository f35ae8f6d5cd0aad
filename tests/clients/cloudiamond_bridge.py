"""The server's side of cloudiamond-scratch, as its readme has it: it builds the project, says so, and
answers it through a cloud.

    cloudiamond_bridge.py URL FOLDER
"""

import json
import subprocess
import sys

from cloudiamond_scratch import CloudBridge, SecureServer, load_or_create_static_key
from websockets.sync.client import connect

url, folder = sys.argv[1:]
key = f"{folder}/server.key"
server = SecureServer(load_or_create_static_key(key), on_message=lambda _, data: b"echo:" + data)
build = [sys.executable, "-m", "cloudiamond_scratch", "build", "--key", key]
subprocess.run([*build, "-o", f"{folder}/cloudiamond.sb3"], check=True, stdout=subprocess.DEVNULL)
# The project looks for another header ten times a second, and reads the slots then.
with connect(url, max_size=None) as cloud:
    cloud.send(json.dumps({"method": "handshake", "project_id": "secret", "user": "bridge"}))

    def write(name, value):
        cloud.send(json.dumps({"method": "set", "name": name, "value": value}))

    bridge = CloudBridge(server, write)
    print("ready", flush=True)
    for frame in cloud:
        for line in frame.split("\n"):
            message = json.loads(line)
            bridge.on_variable(message["name"], message["value"])
