"""As many requests as a server answers: the same one again and again, over connections that are kept."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, cast

CONNECTIONS = 16
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def request(address: str, query: str, variables: dict[str, Any]) -> bytes:
    """A POST of an operation."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def answer(address: str, request: bytes) -> dict[str, Any]:
    """The data of one answer."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        body = json.loads(await reader.readexactly(_length(head)))
    finally:
        writer.close()
    assert "errors" not in body, body
    data: dict[str, Any] = body["data"]
    return data


async def load(address: str, request: bytes, seconds: float) -> int:
    """How many requests are answered in this time, with one under way on each of the connections."""
    host, port = address.split(":")
    loop = asyncio.get_running_loop()
    clients: list[_Client] = []
    for _ in range(CONNECTIONS):
        _, client = await loop.create_connection(lambda: _Client(request), host, int(port))
        clients.append(client)
    await asyncio.sleep(seconds)
    for client in clients:
        client.close()
    return sum(client.answers for client in clients)


class _Client(asyncio.Protocol):
    """Sends the request again as soon as it is answered."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._size = 0  # of the answer that is coming; 0 before its head is there
        self.answers = 0

    def close(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        if not self._size and (end := self._received.find(b"\r\n\r\n")) >= 0:
            assert self._received.startswith(b"HTTP/1.1 200"), bytes(self._received[:200])
            self._size = end + 4 + _length(self._received[:end])
        if self._size and len(self._received) >= self._size:
            self._received.clear()
            self._size = 0
            self.answers += 1
            self._transport.write(self._request)


def _length(head: bytes | bytearray) -> int:
    found = _LENGTH.search(head)
    assert found, bytes(head)
    return int(found[1])
