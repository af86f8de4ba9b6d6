"""The application on uvicorn, listening where the settings say."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from graphql_api.app import open_app
from graphql_api.domain.errors import StartRefused
from graphql_api.settings import Settings
from graphql_api.transport.guard import BODY_LIMIT

#: How long open requests and sockets may take to end once the server is to stop, in seconds.
CLOSE_PATIENCE = 5


class _Server(uvicorn.Server):
    """uvicorn without its own signals: they end the command, and leaving it closes the server before the worker."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    """The server's address, HOST:PORT, while it serves."""
    with _bound(settings) as listener:
        async with open_app(settings) as app:
            config = uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ws_max_size=BODY_LIMIT,
                timeout_graceful_shutdown=CLOSE_PATIENCE,
            )
            server = _Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="server")
            try:
                host, port = listener.getsockname()[:2]
                yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            finally:
                server.should_exit = True
                await asyncio.wait([serving])


def _bound(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise StartRefused(
            f"{settings.host}:{settings.port} can't be listened on: {why}. Set STACKCAST_PORT to another port, or "
            "STACKCAST_HOST to an address of this machine."
        ) from error
