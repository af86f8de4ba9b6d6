"""The lean path: what many are told is worked out and encoded once, and nobody can tell, but by the time it takes."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
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
from graphql_api.transport.fanout import REMEMBERED, SENT_AT_ONCE, FanOut, Recipient
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


class Broken(Exception):
    """What nobody expects."""


async def nothing() -> None:
    """What is done between two events, mostly."""


@dataclass
class Observed:
    """What operations are asked for: ``answered`` holds each event that was answered, as far as anybody keeps it.

    When they are ``broken``, sources break off with their next event; they close when they may. Before each event, and
    before they close, they do what ``between`` does.
    """

    answered: list[weakref.ref[Any]] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    waits: bool = False
    sources: int = 0  # that are followed
    broken: bool = False
    between: Callable[[], Awaitable[object]] = nothing
    may_close: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_close.set()


class ObservedOperations(Operations):
    """Operations that note which events they answer, and do so when they may."""

    def __init__(self, services: Services, observed: Observed) -> None:
        super().__init__(services)
        self._observed = observed

    async def subscribe(
        self, prepared: Prepared, variables: Variables, caller: Caller, after: int | None = None
    ) -> Subscription:
        return ObservedSubscription(await super().subscribe(prepared, variables, caller, after), self._observed)


class ObservedSubscription(Subscription):
    def __init__(self, subscription: Subscription, observed: Observed) -> None:
        self.events = self._noted(subscription.events)
        self._subscription = subscription
        self._observed = observed

    async def _noted(self, events: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        self._observed.sources += 1
        try:
            async with aclosing(events):
                async for event in events:
                    if self._observed.broken:
                        raise Broken
                    await self._observed.between()
                    yield event
        finally:
            try:
                await self._observed.may_close.wait()
                await self._observed.between()
            finally:
                self._observed.sources -= 1

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

    @property
    def seqs(self) -> list[int]:
        """Of all events by now."""
        return list(range(1, self.chunk.events[-1].seq + 1))

    def begin_to_tell(self, taker: Taker, caller: Caller = ANYBODY, query: str = EVENTS) -> None:
        given = self.fanout.give(prepare(query), {"id": self.chunk.update_id}, caller, taker)
        taker.task = asyncio.create_task(given)

    @asynccontextmanager
    async def told(self, *takers: Taker, caller: Caller = ANYBODY, query: str = EVENTS) -> AsyncIterator[None]:
        """While all of these are told of the log, and have been told of what there is."""
        for taker in takers:
            self.begin_to_tell(taker, caller, query)
        try:
            await eventually(lambda: all(taker.seqs == self.seqs for taker in takers))
            yield
        finally:
            for taker in takers:
                taker.leave()
            await asyncio.wait([taker.task for taker in takers])

    async def append_for(self, *takers: Taker) -> None:
        """Append a line, of which all these are told."""
        await self.append()
        await eventually(lambda: all(taker.seqs == self.seqs for taker in takers))


class Taker(Recipient):
    """Takes what it is told, when it has room."""

    task: asyncio.Task[None]

    def __init__(self, *, has_room: bool = True) -> None:
        self.seqs = list[int]()
        self.frames = list[bytes]()
        self.before_sent: Callable[[], object] = lambda: None
        self.has_room = asyncio.Event()
        if has_room:
            self.has_room.set()

    def sent(self, frame: bytes) -> bool:
        self.before_sent()
        if self.has_room.is_set():
            self._take(frame)
        return self.has_room.is_set()

    async def send(self, frame: bytes) -> None:
        await self.has_room.wait()
        self._take(frame)

    def turn(self) -> None:
        """Have room from now on, or none."""
        self.has_room.clear() if self.has_room.is_set() else self.has_room.set()

    def leave(self) -> None:
        self.task.cancel()

    def _take(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.seqs += [event["seq"] for event in json.loads(frame)["data"]["stackUpdateEvents"]["events"]]


@asynccontextmanager
async def shared(sent_at_once: int = SENT_AT_ONCE) -> AsyncIterator[Shared]:
    async with parts() as made:
        update = a_stack_update()
        await kept(made.backends.updates, update, started(update))
        chunk = await made.append(a_chunk(a_line(), update_id=update.id))
        observed = Observed()
        fanout = FanOut(ObservedOperations(made.services, observed), sent_at_once)
        yield Shared(made, observed, fanout, chunk)
        assert (fanout.followed, observed.sources) == (0, 0)
        assert made.wakeups.topics == frozenset()
        assert "tell subscribers" not in {task.get_name() for task in asyncio.all_tasks()}


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


# --- groups


async def test_a_group_follows_one_source() -> None:
    """Whoever has come to the end of the log needs no source of its own; with the last to leave the group's ends."""
    async with shared() as log:
        takers = [Taker() for _ in range(10)]
        async with log.told(*takers):
            await log.append_for(*takers)
            await eventually(lambda: log.observed.sources == 1)
            before = len(log.observed.answered)
            for _ in range(5):
                await log.append_for(*takers)

            assert len(log.observed.answered) == before + 5
            assert all(taker.frames[-1] is takers[0].frames[-1] for taker in takers)
            for taker in takers[1:]:
                taker.leave()
            await log.append_for(takers[0])
            assert (log.fanout.followed, log.observed.sources) == (1, 1)


async def test_who_was_alone_joins_with_the_next_event() -> None:
    """Whichever of it and the group is woken first."""
    for _ in range(10):
        first, second = Taker(), Taker()
        async with shared() as log, log.told(first), log.told(second):
            assert log.observed.sources == 2
            await log.append_for(first, second)

            await eventually(lambda: log.observed.sources == 1, 1)


async def test_who_is_overtaken_while_it_joins_goes_on_from_the_log() -> None:
    """More came while its own source was closing."""
    early, late = [Taker() for _ in range(2)], Taker()
    async with shared() as log, log.told(*early):
        await log.append_for(*early)
        await eventually(lambda: log.observed.sources == 1)
        log.observed.may_close.clear()
        async with log.told(late):
            await log.append_for(*early)
            await log.append_for(*early)
            log.observed.may_close.set()
            await eventually(lambda: late.seqs == log.seqs)
            await log.append_for(*early, late)

            await eventually(lambda: log.observed.sources == 1)


async def test_one_alone_is_no_group() -> None:
    """It follows its own source."""
    async with shared() as log, log.told(taker := Taker()):
        await log.append_for(taker)

        assert "tell subscribers" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_members_are_told_what_each_would_be_told_alone() -> None:
    """Byte by byte, whatever kinds of events there are."""
    async with shared() as log, log.told(*(takers := [Taker() for _ in range(3)])):
        await log.append_for(*takers)
        alone = await log.follow(after=log.seqs[-1])
        async with aclosing(alone):
            await anext(alone)
            asked = asyncio.ensure_future(next_of([alone]))
            await log.append(*HAPPENINGS[1:-1])
            expected = await asked
            await eventually(lambda: all(taker.seqs == log.seqs for taker in takers))

        assert [taker.frames[-1:] for taker in takers] == [expected] * 3


async def test_who_has_no_room_goes_on_from_the_log() -> None:
    """The others are not held up; it is told all in order, each time it falls behind, and is one of them again."""
    async with shared() as log, log.told(*(takers := [Taker() for _ in range(3)])):
        slow, *quick = takers
        await log.append_for(*takers)
        await eventually(lambda: log.observed.sources == 1)
        for lines in (1, 3, 600):
            slow.has_room.clear()
            before = list(slow.seqs)
            for _ in range(lines // 100 + 1):
                await log.append(*[a_line()] * (lines // (lines // 100 + 1)))
            await eventually(lambda: all(taker.seqs == log.seqs for taker in quick))
            assert slow.seqs == before
            slow.has_room.set()
            await eventually(lambda: slow.seqs == log.seqs)
            await log.append_for(*takers)
            await log.append_for(*takers)
            await eventually(lambda: log.observed.sources == 1)


async def test_when_none_has_room_all_go_on_from_the_log() -> None:
    """And come together again."""
    async with shared() as log, log.told(*(takers := [Taker() for _ in range(5)])):
        await log.append_for(*takers)
        for taker in takers:
            taker.has_room.clear()
        for _ in range(3):
            await log.append()
        for taker in takers:
            taker.has_room.set()
        await log.append_for(*takers)
        await log.append_for(*takers)

        await eventually(lambda: log.observed.sources == 1)


async def test_who_joins_late_is_told_of_all_before() -> None:
    """It becomes a member with the next event."""
    async with shared() as log, log.told(*(early := [Taker() for _ in range(2)])):
        for _ in range(3):
            await log.append_for(*early)
        async with log.told(late := Taker()):
            await log.append_for(*early, late)

            await eventually(lambda: log.observed.sources == 1)
            await log.append_for(*early, late)


async def test_who_comes_to_the_group_while_it_is_told_misses_nothing() -> None:
    """At the place behind which the others are being told just now, one is too late to be told with them."""
    async with shared(sent_at_once=1) as log, log.told(*(takers := [Taker() for _ in range(50)])):
        await log.append_for(*takers)
        await eventually(lambda: log.observed.sources == 1)
        new, told = Taker(), asyncio.Event()

        async def wait() -> None:
            if asyncio.current_task() is new.task:
                await told.wait()

        log.observed.between = wait
        log.begin_to_tell(new)
        await eventually(lambda: log.observed.sources == 2)
        for taker in takers:
            taker.before_sent = told.set
        await log.append_for(*takers)
        await eventually(lambda: new.seqs == log.seqs)
        new.leave()
        await asyncio.wait([new.task])


async def test_who_comes_to_the_group_as_its_source_breaks_goes_on_alone() -> None:
    """The group ends with an error while one has closed its own source to join it: that one has no error."""
    async with shared() as log:
        takers, new, may_join = [Taker() for _ in range(3)], Taker(), asyncio.Event()
        for taker in takers:
            log.begin_to_tell(taker)
        await eventually(lambda: all(taker.seqs == log.seqs for taker in takers))
        await log.append_for(*takers)
        await eventually(lambda: log.observed.sources == 1)

        async def wait() -> None:
            if asyncio.current_task() is new.task and new.seqs:
                await may_join.wait()

        log.observed.between = wait
        log.begin_to_tell(new)
        await eventually(lambda: new.seqs == log.seqs)
        log.observed.broken = True
        await log.append()
        for taker in takers:
            with pytest.raises(RequestRefused):
                await taker.task
        log.observed.broken = False
        may_join.set()
        await eventually(lambda: new.seqs == log.seqs)
        new.leave()
        await asyncio.wait([new.task])


async def test_who_leaves_while_others_are_told_is_told_nothing_more() -> None:
    """Of many members whom one of them ends; whoever comes meanwhile is told each event once."""
    async with shared() as log:
        takers = [Taker() for _ in range(2 * SENT_AT_ONCE + 1)]
        new = Taker()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(log.told(*takers))
            await log.append_for(*takers)
            await eventually(lambda: log.observed.sources == 1)
            left = list[Taker]()

            def leave() -> None:
                left.extend(taker for taker in takers if len(taker.seqs) == 2)
                for taker in left:
                    taker.leave()

            def first() -> None:
                for taker in takers:
                    taker.before_sent = lambda: None
                asyncio.get_running_loop().call_soon(leave)

            for taker in takers:
                taker.before_sent = first
            await log.append()
            await stack.enter_async_context(log.told(new))
            await eventually(lambda: all(taker.task.done() for taker in left))
            stayed = [taker for taker in takers if taker not in left]
            await log.append_for(*stayed, new)

            assert (len(stayed), len(left)) == (SENT_AT_ONCE, SENT_AT_ONCE + 1)
            assert {tuple(taker.seqs) for taker in left} == {(1, 2)}


async def test_a_group_completes_with_the_log() -> None:
    """For all its members, with the last event, and for one who had no room for it."""
    async with shared() as log, log.told(*(takers := [Taker() for _ in range(4)])):
        await log.append_for(*takers)
        takers[0].has_room.clear()
        await log.append(a_line(), END)
        await asyncio.wait([taker.task for taker in takers[1:]])
        takers[0].has_room.set()
        await asyncio.wait([takers[0].task])

        assert [taker.task.exception() for taker in takers] == [None] * 4
        assert [taker.seqs for taker in takers] == [log.seqs] * 4


async def test_all_are_told_why_a_group_ends(caplog: pytest.LogCaptureFixture) -> None:
    """What is not expected is masked, and logged once for all; each has an error of its own."""
    async with shared() as log, log.told(*(takers := [Taker() for _ in range(4)])):
        await log.append_for(*takers)
        await eventually(lambda: log.observed.sources == 1)
        log.observed.broken = True
        await log.append()
        await asyncio.wait([taker.task for taker in takers])
        errors = [taker.task.exception() for taker in takers]

        assert all(isinstance(error, RequestRefused) for error in errors)
        assert len(set(map(id, errors))) == 4
        assert "INTERNAL" in str(errors[0].errors)  # type: ignore[union-attr]
        assert len([record for record in caplog.records if "unexpected error" in record.getMessage()]) == 1


async def test_rights_make_groups() -> None:
    """Those with other rights are told apart, and so is what they are told."""
    async with shared() as log:
        readers, writers = [Taker() for _ in range(2)], [Taker() for _ in range(2)]
        reader = Caller("ann", frozenset({Right.READ}))
        async with log.told(*readers, caller=reader), log.told(*writers, caller=Caller("ann", frozenset(Right))):
            await log.append_for(*readers, *writers)
            await log.append_for(*readers, *writers)

            await eventually(lambda: log.observed.sources == 2)
            assert readers[0].frames[-1] is readers[1].frames[-1]
            assert writers[0].frames[-1] is writers[1].frames[-1]
            assert readers[0].frames[-1] is not writers[0].frames[-1]


async def leave(taker: Taker, chance: random.Random) -> None:
    """Leave, perhaps twice: the client ends its operation, and then its socket ends."""
    taker.leave()
    if chance.random() < 0.5:
        await asyncio.sleep(0)
        taker.leave()


@pytest.mark.parametrize("seed", range(10))
async def test_whatever_happens_each_is_told_each_event_once(seed: int) -> None:
    """In order, while members come, go, and have room or none, in whichever order the tasks have their turns."""
    chance = random.Random(seed)  # noqa: S311 (no secret)
    async with shared(sent_at_once=2) as log:

        async def take_turns() -> None:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)

        log.observed.between = take_turns

        takers, left = [Taker(has_room=chance.random() < 0.8) for _ in range(12)], list[Taker]()
        for taker in takers:
            log.begin_to_tell(taker)
        for _ in range(150):
            for taker in chance.sample(takers, 3):
                taker.turn()
            if chance.random() < 0.6:
                await log.append(*[a_line()] * chance.choice([1, 1, 2, 300]))
            for _ in range(chance.randrange(3)):
                position = chance.randrange(len(takers))
                left.append(takers[position])
                await leave(takers[position], chance)
                takers[position] = Taker(has_room=chance.random() < 0.8)
                log.begin_to_tell(takers[position])
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
        await log.append(END)
        for taker in takers:
            taker.has_room.set()
        await asyncio.wait_for(asyncio.gather(*(taker.task for taker in takers)), PATIENCE)
        await eventually(lambda: "tell subscribers" not in {task.get_name() for task in asyncio.all_tasks()})

        assert all(taker.seqs == log.seqs for taker in takers)
        assert all(taker.seqs == log.seqs[: len(taker.seqs)] for taker in left)
