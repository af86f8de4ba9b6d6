"""What others ask of the owner: each request is heeded once, in its order, and kept until it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import StoreRefused, StoreUnavailable
from graphql_api.domain.ports import REQUESTS_TOPIC, CancelRequest, Request, Requests
from graphql_api.domain.records import CancellationReason, StackUpdateId, new_id, utc_now
from runners.lease import LeaseLost
from runners.requests import NotYet, heed_requests
from tests.unit import virtual_time


async def nothing() -> None:
    """What happens on the way to a store that works."""


@dataclass
class Way:
    """Requests, and what is done before they are read and before one is settled."""

    requests: Requests
    before_open: Callable[[], Awaitable[None]] = nothing
    before_settle: Callable[[], Awaitable[None]] = nothing

    async def make(self, request: Request) -> None:
        await self.requests.make(request)

    async def open(self, limit: int) -> Sequence[Request]:
        await self.before_open()
        return await self.requests.open(limit)

    async def settle(self, id_: str) -> None:
        await self.before_settle()
        await self.requests.settle(id_)


@dataclass
class Owner:
    """Notes what it is asked and when; some of it fails so many times first."""

    failures: dict[str, list[Exception]] = field(default_factory=dict)
    heeded: list[tuple[float, str]] = field(default_factory=list)

    async def heed(self, request: Request) -> None:
        if failures := self.failures.get(request.id):
            raise failures.pop()
        self.heeded.append((asyncio.get_running_loop().time(), request.id))

    @property
    def order(self) -> list[str]:
        return [id_ for _, id_ in self.heeded]


@dataclass
class Scene:
    backends: Backends
    way: Way
    owner: Owner = field(default_factory=Owner)

    async def asked(self, update: StackUpdateId | None = None, *, force: bool = False) -> Request:
        now = utc_now()
        what = CancelRequest(CancellationReason.ASKED, force)
        request = Request(new_id(now), update or StackUpdateId(new_id(now)), now, what)
        await self.way.make(request)
        await self.backends.wakeups.announce(REQUESTS_TOPIC)
        return request

    @asynccontextmanager
    async def heeding(self) -> AsyncIterator[None]:
        task = asyncio.create_task(heed_requests(self.way, self.backends.wakeups, self.owner.heed))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    async def all_settled(self, limit: float = 100) -> None:
        async with asyncio.timeout(limit):
            while await self.way.requests.open(1):  # noqa: ASYNC110 - a store has no event of ours
                await asyncio.sleep(0.1)


@asynccontextmanager
async def a_scene() -> AsyncIterator[Scene]:
    async with open_backends("sqlite:///:memory:") as backends:
        yield Scene(backends, Way(backends.requests))


def test_what_was_asked_before_and_what_is_asked_now_is_heeded_once_and_in_order() -> None:
    """The oldest first; an announced one at once; settled, none is heeded again."""

    async def scenario() -> None:
        async with a_scene() as scene:
            before = [await scene.asked() for _ in range(5)]
            async with scene.heeding():
                await scene.all_settled()
                now = await scene.asked()
                assert await virtual_time.elapsed(scene.all_settled()) < 0.2
                await asyncio.sleep(60)

            assert scene.owner.order == [request.id for request in (*before, now)]

    virtual_time.run(scenario)


def test_a_request_that_nobody_announced_is_found() -> None:
    """An announcement may be lost: what is asked is read again and again."""

    async def scenario() -> None:
        async with a_scene() as scene, scene.heeding():
            await asyncio.sleep(5)
            now = utc_now()
            request = Request(new_id(now), StackUpdateId("x"), now, CancelRequest(CancellationReason.ASKED))
            await scene.way.make(request)

            await scene.all_settled(limit=2)
            assert scene.owner.order == [request.id]

    virtual_time.run(scenario)


@pytest.mark.parametrize("error", [LeaseLost("lost"), StoreRefused("read-only"), ValueError("a defect")])
def test_a_request_that_fails_is_tried_again_and_holds_up_no_other(error: Exception) -> None:
    """It stays until it is heeded; those behind it are heeded meanwhile."""

    async def scenario() -> None:
        async with a_scene() as scene:
            failing, *others = [await scene.asked() for _ in range(3)]
            scene.owner.failures[failing.id] = [error] * 10
            async with scene.heeding():
                await scene.all_settled()

            assert scene.owner.order == [*(request.id for request in others), failing.id]
            assert scene.owner.heeded[-1][0] == pytest.approx(10, abs=0.5)

    virtual_time.run(scenario)


def test_what_is_asked_again_of_one_that_is_not_in_hand_is_kept_once() -> None:
    """However often: the oldest of each kind waits, or requests of others would not be read any more."""

    async def scenario() -> None:
        async with a_scene() as scene:
            update = StackUpdateId("x")
            first, force = await scene.asked(update), await scene.asked(update, force=True)
            for request in (first, force):
                scene.owner.failures[request.id] = [NotYet()] * 10
            async with scene.heeding():
                for _ in range(3):
                    await scene.asked(update)
                await asyncio.sleep(5)
                assert [request.id for request in await scene.way.open(10)] == [first.id, force.id]
                await scene.all_settled()

            assert scene.owner.order == [first.id, force.id]

    virtual_time.run(scenario)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreRefused("damaged"), ValueError("no request")])
def test_requests_that_cannot_be_read_are_read_again(error: Exception) -> None:
    """Whatever was wrong: who waits for it lives on, and heeds what is asked once it can be read."""

    async def scenario() -> None:
        async with a_scene() as scene:

            async def trouble() -> None:
                if asyncio.get_running_loop().time() < 60:
                    raise error

            scene.way.before_open = trouble
            request = await scene.asked()
            async with scene.heeding():
                await scene.all_settled()

            assert scene.owner.order == [request.id]

    virtual_time.run(scenario)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreRefused("read-only")])
def test_a_request_that_cannot_be_settled_is_heeded_once(error: Exception) -> None:
    """What was done is not done again, such as the next step towards a deployment's end."""

    async def scenario() -> None:
        async with a_scene() as scene:

            async def trouble() -> None:
                if asyncio.get_running_loop().time() < 60:
                    raise error

            scene.way.before_settle = trouble
            requests = [await scene.asked() for _ in range(2)]
            async with scene.heeding():
                await scene.all_settled()

            assert scene.owner.order == [request.id for request in requests]
            assert asyncio.get_running_loop().time() >= timedelta(seconds=60).total_seconds()

    virtual_time.run(scenario)
