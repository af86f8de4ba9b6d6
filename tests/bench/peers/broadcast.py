"""`websockets.broadcast` of the bytes that a GraphQL server would push: no GraphQL, one encoding, no back-pressure."""

from __future__ import annotations

import asyncio
import json

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.typing import Subprotocol

from tests.bench.peers import lines

_subscribers: set[ServerConnection] = set()


async def main() -> None:
    protocol = Subprotocol("graphql-transport-ws")
    async with serve(subscribe, "127.0.0.1", 0, subprotocols=[protocol], compression=None, backlog=2048) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"http://127.0.0.1:{port}/graphql", flush=True)  # noqa: T201
        async for line in lines():
            broadcast(_subscribers, message({"text": line}))


async def subscribe(socket: ServerConnection) -> None:
    await socket.recv()
    await socket.send('{"type":"connection_ack"}')
    await socket.recv()
    await socket.send(message())
    _subscribers.add(socket)
    try:
        await socket.wait_closed()
    finally:
        _subscribers.discard(socket)


def message(*events: dict[str, str]) -> str:
    payload = {"data": {"stackUpdateEvents": {"events": events}}}
    return json.dumps({"id": "1", "type": "next", "payload": payload}, separators=(",", ":"))


if __name__ == "__main__":
    asyncio.run(main())
