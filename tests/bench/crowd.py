"""Many websocket clients that cost next to nothing: they count what they are pushed and parse none of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

#: How long a crowd waits for what it expects, in seconds.
PATIENCE = 120
#: What every line that is pushed begins with, and nothing else has in it.
MARK = b'"line '
_AT_ONCE = 50
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_HANDSHAKE = (
    "GET /graphql HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)


class Crowd:
    """Subscribers, each on a connection of its own, and how many lines they have been pushed together."""

    def __init__(self) -> None:
        self.lines = 0
        self.messages = 0
        self._subscribers: list[_Subscriber] = []
        self._expected: Callable[[], bool] = lambda: False
        self._reached = asyncio.Event()
        self._failure: Exception | None = None

    async def subscribe(self, address: str, operations: Sequence[dict[str, object]]) -> None:
        """Connect one for each operation, and wait until each has had its first push."""
        for start in range(0, len(operations), _AT_ONCE):
            part = operations[start : start + _AT_ONCE]
            await asyncio.gather(*(self._add(address, operation) for operation in part))
        await self._wait(lambda: self.messages >= len(operations))

    async def expect(self, each: int) -> None:
        """Wait until the subscribers have had so many lines each, in all."""
        await self._wait(lambda: self.lines >= each * len(self._subscribers))

    def check(self, each: int) -> None:
        """Every subscriber must have had exactly so many lines."""
        had = {subscriber.lines for subscriber in self._subscribers}
        assert had == {each}, f"subscribers have had {had} lines, not {each}"

    def close(self) -> None:
        for subscriber in self._subscribers:
            subscriber.close()

    def count(self, lines: int) -> None:
        self.messages += 1
        self.lines += lines
        if self._expected():
            self._reached.set()

    def fail(self, failure: Exception) -> None:
        """A connection has ended too early."""
        self._failure = failure
        self._reached.set()

    async def _add(self, address: str, operation: dict[str, object]) -> None:
        host, port = address.split(":")
        loop = asyncio.get_running_loop()
        _, subscriber = await loop.create_connection(lambda: _Subscriber(self, address, operation), host, int(port))
        self._subscribers.append(subscriber)

    async def _wait(self, expected: Callable[[], bool]) -> None:
        self._reached.clear()
        self._expected = expected
        async with asyncio.timeout(PATIENCE):
            while not expected():
                await self._reached.wait()
                if self._failure is not None:
                    raise self._failure


@asynccontextmanager
async def crowd(address: str, operations: Sequence[dict[str, object]]) -> AsyncIterator[Crowd]:
    """A crowd that has subscribed, until leaving."""
    subscribers = Crowd()
    try:
        await subscribers.subscribe(address, operations)
        yield subscribers
    finally:
        subscribers.close()


class _Subscriber(asyncio.Protocol):
    """A client of graphql-transport-ws that reads frames without looking into them more than it must."""

    def __init__(self, crowd: Crowd, address: str, operation: dict[str, object]) -> None:
        self._crowd = crowd
        self._address = address
        self._operation = operation
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._open = False
        self._closing = False
        self.lines = 0

    def close(self) -> None:
        assert self._transport is not None
        self._closing = True
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._crowd.fail(exc or ConnectionError("the server has closed a subscriber's connection"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_HANDSHAKE.format(address=self._address).encode())

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            assert b" 101 " in head, head
            self._open = True
            self._send(_TEXT, {"type": "connection_init"})
        self._rest = self._frames(data)

    def _frames(self, data: bytes) -> bytes:
        """Take what is there in whole frames; the rest."""
        start = 0
        while len(data) - start >= 2:
            size, body = data[start + 1], start + 2
            if size >= 126:
                body += 2 if size == 126 else 8
                size = int.from_bytes(data[start + 2 : body])
            if body + size > len(data):
                break
            self._take(data[start] & 0xF, data[body : body + size])
            start = body + size
        return data[start:]

    def _take(self, kind: int, body: bytes) -> None:
        if kind == _PING:
            self._send(_PONG, body)
        elif kind == _TEXT and b'"next"' in body:
            lines = body.count(MARK)
            self.lines += lines
            self._crowd.count(lines)
        elif kind == _TEXT and b'"connection_ack"' in body:
            self._send(_TEXT, {"type": "subscribe", "id": "1", "payload": self._operation})
        elif kind == _TEXT and b'"ping"' in body:
            self._send(_TEXT, {"type": "pong"})
        else:
            assert kind != _CLOSE, body
            assert b'"error"' not in body, body

    def _send(self, kind: int, body: bytes | dict[str, object]) -> None:
        """In one frame, under a mask of zeros."""
        assert self._transport is not None
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        size = len(content)
        head = bytes([0x80 | kind, 0x80 | size]) if size < 126 else bytes([0x80 | kind, 0xFE]) + size.to_bytes(2)
        self._transport.write(head + bytes(4) + content)
