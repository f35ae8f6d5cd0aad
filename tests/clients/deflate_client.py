"""A member by the websockets package with its default offer, which says what was agreed, and answers questions."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect


async def play(url):
    async with connect(url) as socket:
        print("agreed", *(type(extension).__name__ for extension in socket.protocol.extensions), flush=True)
        variables = {"question": "", "answer": ""}
        handshake = {"kind": "handshake", "room": "arena", "username": "python", "variables": variables}
        await socket.send(json.dumps(handshake))
        async for frame in socket:
            for line in frame.split("\n"):
                question = json.loads(line)
                if question["variable"] == "question":
                    answer = {"kind": "set", "variable": "answer", "value": question["value"]}
                    await socket.send(json.dumps(answer))


asyncio.run(play(sys.argv[1]))
