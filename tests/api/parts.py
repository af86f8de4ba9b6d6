"""The API over collaborators that a test holds in its hands: a database in memory, and a store that counts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute

from graphql_api.adapters import Backends, open_backends
from graphql_api.adapters.in_process import InProcessWakeups
from graphql_api.domain.ports import EVERY_UPDATE, Slice, StackUpdateFilter, UpdateHistory
from graphql_api.domain.records import CloudResourceId, StackUpdate
from graphql_api.schema import SCHEMA
from graphql_api.schema.context import Context
from graphql_api.service import Services
from graphql_api.service.facts import ServerFacts
from graphql_api.service.manifests import Manifests
from graphql_api.service.resources import Resources
from graphql_api.service.turns import Turns
from graphql_api.service.updates import QUEUE_LIMIT, Updates
from graphql_api.service.watch import Watch
from graphql_api.transport.endpoint import Endpoint
from graphql_api.transport.guard import Access


@dataclass
class CountingHistory:
    """A history that notes what it is asked."""

    history: UpdateHistory
    questions: list[str] = field(default_factory=list)

    async def page(self, slice_: Slice, where: StackUpdateFilter = EVERY_UPDATE) -> Sequence[StackUpdate]:
        self.questions.append("page")
        return await self.history.page(slice_, where)

    async def count(self, where: StackUpdateFilter = EVERY_UPDATE) -> int:
        self.questions.append("count")
        return await self.history.count(where)

    async def latest(self, resources: Collection[CloudResourceId]) -> Mapping[CloudResourceId, StackUpdate]:
        self.questions.append("latest")
        return await self.history.latest(resources)

    async def changed_since(self, moment: datetime, limit: int) -> Sequence[StackUpdate]:
        self.questions.append("changed_since")
        return await self.history.changed_since(moment, limit)


async def nothing() -> None:
    """What happens while the preflight of a deployment looks that finds nothing wrong."""


@dataclass
class Parts:
    """The use cases, and what they stand on. ``during_preflight`` happens in the middle of accepting a deployment."""

    backends: Backends
    history: CountingHistory
    wakeups: InProcessWakeups = field(default_factory=InProcessWakeups)
    during_preflight: Callable[[], Awaitable[None]] = nothing
    queue_limit: int = QUEUE_LIMIT

    def __post_init__(self) -> None:
        turns, manifests = Turns(), Manifests(self_managed=True)
        resources, updates = self.backends.resources, self.backends.updates
        self.services = Services(
            resources=Resources(resources, self.history, self.wakeups, turns, manifests),
            updates=Updates(
                resources,
                updates,
                self.history,
                self.wakeups,
                self,
                turns,
                manifests,
                timeout=timedelta(seconds=600),
                timeout_limit=timedelta(hours=6),
                self_managed=True,
                queue_limit=self.queue_limit,
            ),
            watch=Watch(updates, self.history, resources, self.wakeups),
            facts=ServerFacts(
                version="0",
                backend="file",
                store="SQLite",
                max_concurrent=1,
                timeout=timedelta(seconds=600),
                timeout_limit=timedelta(hours=6),
                history=self.history,
                find_pulumi=self.find_pulumi,
                at_work=lambda: 0,
            ),
        )

    async def check(self, _: str) -> None:
        await self.during_preflight()

    async def find_pulumi(self) -> str | None:
        return None

    async def execute(self, query: str, **variables: Any) -> Any:
        """The data of an operation that must have no errors."""
        result = await SCHEMA.execute(query, variables, Context(self.services))
        assert not result.errors, result.errors
        return result.data

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """The address, HOST:PORT, of a server of these use cases."""
        endpoint = Endpoint(Access(None), self.services)
        app = Starlette(routes=[Route("/graphql", endpoint), WebSocketRoute("/graphql", endpoint)])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = _Server(uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=5))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield "{}:{}".format(*listener.getsockname())
            finally:
                server.should_exit = True
                await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def parts(*, queue_limit: int = QUEUE_LIMIT) -> AsyncIterator[Parts]:
    async with open_backends("sqlite:///:memory:") as backends:
        yield Parts(backends, CountingHistory(backends.history), queue_limit=queue_limit)
