"""A client as a process of its own, so that a test can stop it: it subscribes, says so, and reads what it is sent.

Its arguments are the server's address and the payload of its `subscribe` messages, one for each subscription.
"""

from __future__ import annotations

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol


async def main(address: str, payloads: list[str]) -> None:
    protocol = Subprotocol("graphql-transport-ws")
    async with connect(f"ws://{address}/graphql", subprotocols=[protocol], proxy=None, compression=None) as socket:
        await socket.send('{"type":"connection_init"}')
        await socket.recv()
        for number, payload in enumerate(payloads):
            await socket.send(json.dumps({"type": "subscribe", "id": str(number), "payload": json.loads(payload)}))
            await socket.recv()
        print("subscribed", flush=True)  # noqa: T201 (the test waits for it)
        async for _ in socket:
            pass


asyncio.run(main(sys.argv[1], sys.argv[2:]))
