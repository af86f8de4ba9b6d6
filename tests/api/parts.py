"""The API over collaborators that a test holds in its hands: a database in memory, and a store that counts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route, WebSocketRoute

from graphql_api.adapters import Backends, open_backends
from graphql_api.adapters.in_process import InProcessWakeups
from graphql_api.domain.callers import ANYBODY
from graphql_api.domain.events import StatusChanged
from graphql_api.domain.ports import EVERY_UPDATE, Chunk, Slice, StackUpdateFilter, UpdateHistory, events_topic
from graphql_api.domain.records import CloudResourceId, Phase, StackUpdate
from graphql_api.schema.operations import EXECUTION_PATIENCE, Answer, Operations, RequestRefused, prepare
from graphql_api.service import Services
from graphql_api.service.control import Control
from graphql_api.service.events import Events
from graphql_api.service.facts import ServerFacts
from graphql_api.service.manifests import Manifests
from graphql_api.service.queue import Queue
from graphql_api.service.resources import Resources
from graphql_api.service.turns import Turns
from graphql_api.service.updates import QUEUE_LIMIT, Updates
from graphql_api.service.watch import Watch
from graphql_api.transport import connections
from graphql_api.transport.access import Access
from graphql_api.transport.api import Api
from graphql_api.transport.connections import Connection
from graphql_api.transport.download import Download
from graphql_api.transport.endpoint import Endpoint
from graphql_api.transport.fanout import FanOut
from graphql_api.transport.guard import Guard
from graphql_api.transport.quotas import Limits, Quotas
from graphql_api.transport.refusals import EXCEPTION_HANDLERS
from graphql_api.transport.sockets import Socket
from graphql_api.transport.websocket import SocketLimits, WebSocketEndpoint
from tests.builders import FAILURE
from tests.service import Service


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
        queue = Queue(self.history, max_concurrent=1, at_work=tuple, served=tuple)
        self.services = Services(
            resources=Resources(resources, self.history, self.wakeups, turns, manifests),
            updates=Updates(
                resources,
                updates,
                self.history,
                self.backends.requests,
                self.backends.keys,
                self.wakeups,
                self,
                turns,
                manifests,
                timeout=timedelta(seconds=600),
                timeout_limit=timedelta(hours=6),
                self_managed=True,
                queue_limit=self.queue_limit,
            ),
            control=Control(updates, self.backends.requests, self.wakeups, timeout_limit=timedelta(hours=6)),
            queue=queue,
            events=Events(updates, self.backends.events, self.wakeups),
            watch=Watch(updates, self.history, resources, self.wakeups, queue),
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
        answer = await self._answer(query, variables)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    async def errors(self, query: str, **variables: Any) -> list[dict[str, Any]]:
        """The errors of an operation, each by what its extensions hold."""
        answer = await self._answer(query, variables)
        return [error["extensions"] for error in answer.get("errors", [])]

    async def _answer(self, query: str, variables: dict[str, Any]) -> Answer:
        try:
            return await Operations(self.services).execute(prepare(query), variables, ANYBODY)
        except RequestRefused as refused:
            return refused.answer

    async def append(self, chunk: Chunk) -> Chunk:
        """Write to a log, as the worker does; with the last event the record ends, too."""
        assert await self.backends.events.append(chunk)
        await self.wakeups.announce(events_topic(chunk.update_id))
        what = chunk.events[-1].what
        if isinstance(what, StatusChanged) and what.phase is Phase.FINISHED:
            update = await self.backends.updates.get(chunk.update_id)
            assert update
            await self.backends.updates.save(update.failed(update.updated_at, FAILURE))
            await self.wakeups.announce(update.id)
        return chunk

    def api(self, access: Access | None = None, patience: timedelta = EXECUTION_PATIENCE, **limits: int) -> Api:
        """The API of these use cases; ``limits`` are those of one caller."""
        operations = Operations(self.services, patience)
        return Api(access or Access({}), operations, FanOut(operations), quotas=Quotas(Limits(**limits)))

    @asynccontextmanager
    async def served(
        self, token: str | None = None, *, api: Api | None = None, limits: SocketLimits | None = None
    ) -> AsyncIterator[Service]:
        """A server of these use cases, which has neither a worker nor a place for its data."""
        api = api or self.api(Access({token: None} if token else {}))
        download = Download(self.services.events)
        app = Starlette(
            routes=[
                Route("/graphql", Endpoint(api)),
                WebSocketRoute("/graphql", WebSocketEndpoint(api, limits)),
                Route("/stack-updates/{id}/log.txt", download.text),
                Route("/stack-updates/{id}/log.ndjson", download.ndjson),
            ],
            middleware=[Middleware(Guard, access=api.access, hosts=["127.0.0.1"], origins=[])],
            exception_handlers=EXCEPTION_HANDLERS,
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            config = uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                timeout_graceful_shutdown=5,
                http=partial(Connection, connections.Limits()),  # type: ignore[arg-type]  # it is only called
                ws=Socket,
                ws_per_message_deflate=False,
            )
            server = _Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield Service("{}:{}".format(*listener.getsockname()), Path())
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
