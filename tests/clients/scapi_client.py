"""scapi's cloud for TurboWarp servers, told by lines on stdin what to do:

    set NAME VALUE | sets NAME VALUE ... | get NAME
"""

import asyncio
import sys
import typing
import warnings

import typing_extensions

# It is written for Python 3.13 and later, of which it needs these two: a decorator, and unions of what
# cannot be compared.
warnings.deprecated = typing_extensions.deprecated
unique = typing._deduplicate
typing._deduplicate = lambda members, **more: (
    unique(members, **more) if all(getattr(m, "__origin__", 0) is not typing.Literal for m in members)
    else members
)

import scapi  # noqa: E402


async def main():
    client = scapi.HTTPClient()
    cloud = scapi.TurboWarpCloud(client, "60917032", "scapi", url=sys.argv[1])

    @cloud.event
    async def on_connect():
        print("ready", flush=True)

    @cloud.event
    async def on_set(activity):
        print("event", activity.variable, activity.value, flush=True)

    cloud.run()
    orders = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(orders)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await orders.readline():
        order, *words = line.decode().split()
        if order == "set":
            await cloud.set_var(words[0], words[1])
        elif order == "sets":
            await cloud.set_vars(list(zip(words[::2], words[1::2])))
        elif order == "get":
            print("got", cloud.get_var(words[0]), flush=True)


asyncio.run(main())
