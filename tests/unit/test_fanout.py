"""The lean path: what many are told is worked out and encoded once, and nobody can tell, but by the time it takes."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from graphql_api.domain.callers import ANYBODY, Caller, Right
from graphql_api.domain.events import StatusChanged
from graphql_api.domain.ports import Chunk
from graphql_api.domain.records import Phase, Status
from graphql_api.schema.operations import Answer, Operations, Prepared, RequestRefused, Subscription, Variables, prepare
from graphql_api.service import Services
from graphql_api.transport.encoding import encode
from graphql_api.transport.fanout import REMEMBERED, FanOut
from tests.api.parts import Parts, parts
from tests.builders import HAPPENINGS, a_chunk, a_line, a_stack_update, following, kept, started
from tests.runner.waiting import eventually

BATCH = "... on StackUpdateEventBatch { seq events { seq ... on LogLine { text } } }"
EVENTS = f"subscription ($id: ID!, $after: Int! = 0) {{ stackUpdateEvents(id: $id, after: $after) {{ {BATCH} }} }}"
#: Of the same operation a document that is written otherwise.
OTHER = f"subscription Other($id: ID!) {{ stackUpdateEvents(id: $id) {{ {BATCH} }} }}"
#: One whose answers have to be waited for.
CHANGES = "subscription { stackUpdatesChanged { ... on StackUpdatesChange { stackUpdate { cloudResource { id } } } } }"
PATIENCE = 10
END = StatusChanged(Status.FAILED, Phase.FINISHED)


@dataclass
class Observed:
    """What operations are asked for: ``answered`` holds each event that was answered, as far as anybody keeps it."""

    answered: list[weakref.ref[Any]] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    waits: bool = False


class ObservedOperations(Operations):
    """Operations that note which events they answer, and do so when they may."""

    def __init__(self, services: Services, observed: Observed) -> None:
        super().__init__(services)
        self._observed = observed

    async def subscribe(self, prepared: Prepared, variables: Variables, caller: Caller) -> Subscription:
        return ObservedSubscription(await super().subscribe(prepared, variables, caller), self._observed)


class ObservedSubscription(Subscription):
    def __init__(self, subscription: Subscription, observed: Observed) -> None:
        self.events = subscription.events
        self._subscription = subscription
        self._observed = observed

    def answer(self, event: object) -> Answer | Awaitable[Answer]:
        self._observed.answered.append(weakref.ref(event))
        answer = self._subscription.answer(event)
        return self._later(answer) if self._observed.waits else answer

    async def _later(self, answer: Answer | Awaitable[Answer]) -> Answer:
        await self._observed.may_answer.wait()
        return answer if isinstance(answer, dict) else await answer


@dataclass
class Shared:
    """A log that some follow through one fan-out."""

    made: Parts
    observed: Observed
    fanout: FanOut
    chunk: Chunk

    async def follow(
        self, query: str = EVENTS, caller: Caller = ANYBODY, **variables: Any
    ) -> AsyncGenerator[bytes, None]:
        return await self.fanout.follow(prepare(query), {"id": self.chunk.update_id, **variables}, caller)

    async def append(self, *what: Any) -> None:
        self.chunk = await self.made.append(following(self.chunk, *(what or [a_line()])))


@asynccontextmanager
async def shared() -> AsyncIterator[Shared]:
    async with parts() as made:
        update = a_stack_update()
        await kept(made.backends.updates, update, started(update))
        chunk = await made.append(a_chunk(a_line(), update_id=update.id))
        observed = Observed()
        fanout = FanOut(ObservedOperations(made.services, observed))
        yield Shared(made, observed, fanout, chunk)
        assert fanout.followed == 0
        assert made.wakeups.topics == frozenset()


@asynccontextmanager
async def each_closed(followers: Sequence[AsyncGenerator[bytes, None]]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for follower in followers:
            await stack.enter_async_context(aclosing(follower))
        yield


async def next_of(followers: Sequence[AsyncGenerator[bytes, None]]) -> list[bytes]:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*map(anext, followers))


async def test_what_many_are_told_is_worked_out_and_encoded_once() -> None:
    """Ten who follow a log are given the very same bytes with each event, for one execution."""
    async with shared() as log:
        followers = [await log.follow() for _ in range(10)]
        async with each_closed(followers):
            await next_of(followers)
            before = len(log.observed.answered)
            for number in range(20):
                asked = asyncio.ensure_future(next_of(followers))
                await log.append(a_line(str(number)))
                first, *others = await asked
                assert all(other is first for other in others)
                assert json.loads(first)["data"]["stackUpdateEvents"]["events"][0]["text"] == str(number)

            assert log.fanout.followed == 10
            assert len(log.observed.answered) - before == 20


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"query": OTHER}),
        ({}, {"after": 0}),
        ({"after": 0}, {"after": 1}),
        ({"x": 1}, {"x": True}),
        ({"x": 1}, {"x": 1.0}),
        ({"x": "1"}, {"x": 1}),
        ({"caller": Caller("ann", frozenset({Right.READ}))}, {"caller": Caller("ann", frozenset(Right))}),
    ],
    ids=["documents", "a default", "variables", "true", "a float", "a text", "rights"],
)
async def test_who_asks_for_something_else_is_answered_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Another document, other variables or other rights: even two that amount to the same share nothing."""
    async with shared() as log:
        ones = [await log.follow(**one) for _ in range(2)]
        others = [await log.follow(**other) for _ in range(2)]
        async with each_closed([*ones, *others]):
            await next_of([*ones, *others])
            asked = asyncio.ensure_future(next_of([*ones, *others]))
            await log.append()
            a, b, c, d = await asked

            assert a is b
            assert c is d
            assert a is not c
            assert a == c


async def test_names_do_not_matter() -> None:
    """What is told depends on what a caller may see, not on who they are."""
    async with shared() as log:
        followers = [await log.follow(caller=Caller(name, frozenset(Right))) for name in ("ann", "bob", None)]
        async with each_closed(followers):
            await next_of(followers)
            asked = asyncio.ensure_future(next_of(followers))
            await log.append()
            a, b, c = await asked

            assert a is b is c


async def test_whoever_asked_first_may_leave() -> None:
    """The others are still given what was being worked out for it."""
    async with shared() as log:
        followers = [await log.follow() for _ in range(3)]
        async with each_closed(followers):
            await next_of(followers)
            log.observed.waits = True
            asked = [asyncio.ensure_future(anext(follower)) for follower in followers]
            before = len(log.observed.answered)
            await log.append()
            await eventually(lambda: len(log.observed.answered) > before)
            for _ in range(10):
                await asyncio.sleep(0)  # until all of them wait
            asked[0].cancel()
            await asyncio.wait([asked[0]])
            log.observed.may_answer.set()
            b, c = await asyncio.wait_for(asyncio.gather(*asked[1:]), PATIENCE)

            assert asked[0].cancelled()
            assert b is c
            assert len(log.observed.answered) == before + 1
            assert log.fanout.followed == 2


async def test_all_are_told_what_each_would_be_told_alone() -> None:
    """Event by event, whatever kinds of events there are, whether an answer has to be waited for or not."""
    async with shared() as log:
        alone = Operations(log.made.services)
        id_ = {"id": log.chunk.update_id}
        for query, variables in ((EVENTS, id_), (OTHER, id_), (CHANGES, {})):
            followers = [await log.fanout.follow(prepare(query), variables, ANYBODY) for _ in range(3)]
            plain = await alone.subscribe(prepare(query), variables, ANYBODY)

            async def one_alone(subscription: Subscription = plain) -> bytes:
                answer = subscription.answer(await anext(subscription.events))
                return encode(answer if isinstance(answer, dict) else await answer)

            async with each_closed(followers), aclosing(plain.events):
                for _ in range(3):
                    asked = asyncio.ensure_future(asyncio.gather(next_of(followers), one_alone()))
                    await asyncio.sleep(0)
                    await log.append(*HAPPENINGS[1:-1])
                    another = a_stack_update()
                    await kept(log.made.backends.updates, another, started(another))
                    await log.made.wakeups.announce("updates")
                    told, expected = await asyncio.wait_for(asked, PATIENCE)
                    assert [json.loads(each) for each in told] == [json.loads(expected)] * 3


async def test_little_is_remembered() -> None:
    """Of many events only the newest, for those who are a little behind; of who has left, nothing."""
    async with shared() as log:
        quick, slow = await log.follow(), await log.follow()
        async with each_closed([quick, slow]):
            await next_of([quick, slow])
            for _ in range(30):
                asked = asyncio.ensure_future(next_of([quick]))
                await log.append()
                await asked
            del asked
            gc.collect()

            assert sum(reference() is not None for reference in log.observed.answered) <= REMEMBERED + 2
        del quick, slow
        gc.collect()

        assert [reference() for reference in log.observed.answered if reference() is not None] == []


async def test_a_subscription_that_is_refused_shares_nothing() -> None:
    """Who may not, and whose variables do not fit, is told so before joining."""
    async with shared() as log:
        for caller, variables in ((Caller(None, frozenset()), {}), (ANYBODY, {"after": "x"}), (ANYBODY, {"id": None})):
            with pytest.raises(RequestRefused):
                await log.follow(caller=caller, **variables)

        assert log.fanout.followed == 0
        assert log.observed.answered == []


@pytest.mark.parametrize("depth", [100, 500, 900, *range(930, 1000, 3)])
async def test_variables_may_be_nested_as_deep_as_they_can_be_read(depth: int) -> None:
    """Also such as the operation does not use."""
    async with shared() as log:
        try:
            variables = json.loads('{"x": ' + "[" * depth + "]" * depth + "}")
        except RecursionError:
            return
        follower = await log.follow(**variables)
        async with aclosing(follower):
            assert b'"seq"' in await anext(follower)


async def test_a_subscription_completes_for_all() -> None:
    """With the last event."""
    async with shared() as log:
        followers = [await log.follow() for _ in range(3)]
        async with each_closed(followers):
            await next_of(followers)
            await log.append(a_line(), END)
            rest = [[frame async for frame in follower] for follower in followers]

    assert [len(frames) for frames in rest] == [1, 1, 1]
