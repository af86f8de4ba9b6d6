"""The application on uvicorn, listening where the settings say."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import uvicorn

from graphql_api.app import open_app
from graphql_api.domain.errors import StartRefused
from graphql_api.settings import WILDCARDS, Settings
from graphql_api.transport.connections import Connection, Limits
from graphql_api.transport.guard import BODY_LIMIT
from graphql_api.transport.sockets import Socket

#: How long open requests and sockets may take to end once the server is to stop, in seconds.
CLOSE_PATIENCE = 5


class _Server(uvicorn.Server):
    """uvicorn without its own signals: they end the command, and leaving it closes the server before the worker."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(settings: Settings, limits: Limits | None = None) -> AsyncIterator[str]:
    """The server's address on this machine, HOST:PORT, while it serves.

    Raises StartRefused when it can't, also in the midst of the caller's work when the server ends by itself.
    """
    limits = limits or Limits()
    with _bound(settings, limits) as listener:
        async with open_app(settings) as app:
            config = uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ws=Socket,
                ws_max_size=BODY_LIMIT,
                # One encoding is shared by all who watch the same; deflated, each socket would have its own, and a
                # window in memory.
                ws_per_message_deflate=False,
                ws_ping_interval=None,  # the endpoint pings, and gives up with a code that clients retry
                timeout_graceful_shutdown=CLOSE_PATIENCE,
                backlog=limits.backlog,
                http=partial(Connection, limits),  # type: ignore[arg-type]  # it is only called
            )
            server = _Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="server")
            try:
                async with _ending_with(serving):
                    yield _address(settings, listener)
            finally:
                server.should_exit = True
                await asyncio.wait([serving])


@asynccontextmanager
async def _ending_with(server: asyncio.Task[None]) -> AsyncIterator[None]:
    """Cancel the body when the server ends by itself, or it would wait for ever for requests that can't come."""
    body = asyncio.current_task()
    assert body is not None  # noqa: S101 (a coroutine runs in a task)

    def end(_: asyncio.Task[None]) -> None:
        body.cancel()

    server.add_done_callback(end)
    try:
        yield
    except asyncio.CancelledError:
        if server.done() and body.uncancel() == 0:
            failure = None if server.cancelled() else server.exception()
            raise StartRefused("The server has stopped answering by itself. Start the service again.") from failure
        raise
    finally:
        server.remove_done_callback(end)


def _address(settings: Settings, listener: socket.socket) -> str:
    """Where clients on this machine reach it, under a name that the guard lets in."""
    bound, port = listener.getsockname()[:2]
    host = WILDCARDS.get(bound, settings.host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bound(settings: Settings, limits: Limits) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=limits.backlog)
        # Its connections inherit it. asyncio sees to it only where it knows that a socket is TCP's, and so not here:
        # without it a message right after another waits for the client's system to acknowledge that, for 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            # Its connections inherit it: one whose client takes nothing any more ends, and frees what waits for it.
            patience = round(limits.send_patience.total_seconds() * 1000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
        return listener
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise StartRefused(
            f"{settings.host}:{settings.port} can't be listened on: {why}. Set STACKCAST_PORT to another port, or "
            "STACKCAST_HOST to an address of this machine."
        ) from error
