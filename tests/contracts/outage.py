"""A server that can be away: what stands before the real one, and passes nothing on while it is off."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from urllib.parse import SplitResult, urlsplit


class Away(Enum):
    """How a server is away."""

    REFUSING = auto()  # its connections break, and nobody listens at its port
    SILENT = auto()  # its connections stay, new ones are taken, and no byte comes back


class Outage:
    """Stands at a port of its own, which it keeps while the server is away."""

    def __init__(self, server: SplitResult) -> None:
        self._server_at = (server.hostname, server.port or 27017)
        self._port = 0
        self._held = self._bound()
        self._port = self._held.getsockname()[1]
        self._listening: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self.passed = 0  # bytes, both ways
        self.url = server._replace(netloc=f"127.0.0.1:{self._port}", query="directConnection=true").geturl()

    async def begin(self, how: Away) -> None:
        self._passing.clear()
        if how is Away.REFUSING:
            await self._hang_up()
            self._held = self._bound()

    async def end(self) -> None:
        self._passing.set()
        if self._listening is None:
            self._listening = await asyncio.start_server(self._serve, sock=self._held)

    async def close(self) -> None:
        await self._hang_up()
        self._held.close()

    def _bound(self) -> socket.socket:
        """At a port where nobody listens yet, connections are refused, and nobody else can take it."""
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", self._port))
        return held

    async def _hang_up(self) -> None:
        if self._listening:
            self._listening.close()
            self._listening = None
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        to_server = None
        try:
            from_server, to_server = await asyncio.open_connection(*self._server_at)
            async with asyncio.TaskGroup() as tasks:
                both = [
                    tasks.create_task(self._pass(from_client, to_server)),
                    tasks.create_task(self._pass(from_server, to_client)),
                ]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                for one in both:
                    one.cancel()
        except asyncio.CancelledError:
            pass  # hung up, which a stream's server would report as a failure
        finally:
            self._connections.discard(task)
            to_client.transport.abort()
            if to_server:
                to_server.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(1_000_000):
                await self._passing.wait()
                self.passed += len(data)
                target.write(data)
                await target.drain()


@asynccontextmanager
async def outage_before(url: str) -> AsyncIterator[Outage]:
    """The server that the URL names, as the outage's own URL reaches it; it isn't away at first."""
    outage = Outage(urlsplit(url))
    try:
        await outage.end()
        yield outage
    finally:
        await outage.close()
