"""Accepting a deployment: what becomes of it when the stack is busy, and what a repeated request is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import cast

import pytest

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import (
    BadUserInput,
    CloudResourceNotFound,
    IdempotencyKeyReused,
    QueueFull,
    StackBusy,
    StoreUnavailable,
)
from graphql_api.domain.ports import (
    QUEUE_TOPIC,
    REQUESTS_TOPIC,
    CancelRequest,
    IdempotencyKey,
    IdempotencyKeys,
    Slice,
    UpdateStore,
)
from graphql_api.domain.records import (
    CancellationReason,
    CloudResource,
    CloudResourceId,
    StackUpdate,
    StackUpdateId,
    utc_now,
)
from graphql_api.service.manifests import Manifests
from graphql_api.service.turns import Turns
from graphql_api.service.updates import KEY_LENGTH, KEY_LIFE, QUEUE_LIMIT, Accepted, Updates, WhenBusy
from tests.builders import CANCELLATION, FAILURE, MANIFEST, a_cloud_resource
from tests.unit import virtual_time

QUEUE, REJECT, SUPERSEDE, JOIN = WhenBusy
MINUTE = timedelta(minutes=1)


async def nothing() -> None:
    """What happens before an insert that nothing goes wrong with."""


@dataclass
class FaultyUpdates:
    """A store of stack updates in which something happens before or after an insert."""

    updates: UpdateStore
    before_insert: Callable[[], Awaitable[None]] = nothing
    after_insert: Callable[[], Awaitable[None]] = nothing
    hidden: set[StackUpdateId] = field(default_factory=set)

    async def insert(self, update: StackUpdate, manifest: str) -> None:
        await self.before_insert()
        await self.updates.insert(update, manifest)
        await self.after_insert()

    async def get(self, id_: StackUpdateId) -> StackUpdate | None:
        if id_ in self.hidden:  # as if it were stored only a little later
            self.hidden.remove(id_)
            return None
        return await self.updates.get(id_)

    async def manifest(self, id_: StackUpdateId) -> str | None:
        return await self.updates.manifest(id_)


@dataclass
class ForgetfulKeys:
    """A store of keys whose clock is set forward by ``later``."""

    keys: IdempotencyKeys
    later: timedelta = timedelta(0)

    async def find(self, caller: str, key: str, since: datetime) -> IdempotencyKey | None:
        return await self.keys.find(caller, key, since + self.later)

    async def keep(self, key: IdempotencyKey, since: datetime) -> IdempotencyKey:
        return await self.keys.keep(key, since + self.later)


@dataclass
class Stage:
    """A cloud resource, and those who deploy it; itself the preflight, which takes a while."""

    backends: Backends
    resource: CloudResource = field(default_factory=a_cloud_resource)
    checks: int = 0

    def __post_init__(self) -> None:
        self.store = FaultyUpdates(self.backends.updates)
        self.keys = ForgetfulKeys(self.backends.keys)
        self.turns = Turns()
        self.updates = self.service()

    def service(self, queue_limit: int = QUEUE_LIMIT) -> Updates:
        """As after a restart."""
        return Updates(
            self.backends.resources,
            cast("UpdateStore", self.store),
            self.backends.history,
            self.backends.requests,
            self.keys,
            self.backends.wakeups,
            self,
            self.turns,
            Manifests(self_managed=True),
            timeout=10 * MINUTE,
            timeout_limit=60 * MINUTE,
            self_managed=True,
            queue_limit=queue_limit,
        )

    async def check(self, kind: str) -> None:
        self.checks += 1
        await asyncio.sleep(0.1)

    async def deploy(
        self, when_busy: WhenBusy = QUEUE, key: str | None = None, timeout: timedelta | None = None
    ) -> Accepted:
        return await self.updates.deploy(self.resource.id, timeout, when_busy, key)

    async def accepted(self, when_busy: WhenBusy = QUEUE) -> StackUpdate:
        """A new one."""
        answer = await self.deploy(when_busy)
        assert not answer.joined
        return answer.update

    async def all(self) -> list[StackUpdate]:
        """The stack updates there are, oldest first."""
        return list(await self.backends.history.page(Slice(100)))[::-1]

    async def save(self, update: StackUpdate) -> StackUpdate:
        await self.backends.updates.save(update)
        return update

    async def asked(self) -> list[tuple[StackUpdateId, object]]:
        return [(request.update_id, request.what) for request in await self.backends.requests.open(100)]


@asynccontextmanager
async def a_stage() -> AsyncIterator[Stage]:
    async with open_backends("sqlite:///:memory:") as backends:
        stage = Stage(backends)
        await backends.resources.insert(stage.resource)
        yield stage


async def another_stack(stage: Stage) -> CloudResource:
    """A cloud resource whose manifest names another stack."""
    other = a_cloud_resource(manifest=MANIFEST.replace("demo/dev", "demo/prod"))
    await stage.backends.resources.insert(other)
    return other


async def another_on_the_stack(stage: Stage) -> CloudResource:
    """A cloud resource with the same manifest, and so on the same stack."""
    other = a_cloud_resource()
    await stage.backends.resources.insert(other)
    return other


# --- when the stack is busy


@pytest.mark.parametrize("when_busy", WhenBusy)
async def test_on_a_free_stack_every_wish_is_queued(when_busy: WhenBusy) -> None:
    """What has ended and what goes on elsewhere does not make a stack busy; nobody is asked to end."""
    async with a_stage() as stage:
        await stage.save((await stage.accepted()).failed(utc_now(), FAILURE))
        await stage.updates.deploy((await another_stack(stage)).id)

        update = await stage.accepted(when_busy)

        assert await stage.backends.updates.get(update.id) == update
        assert await stage.asked() == []


async def test_a_rejected_wish_names_what_is_in_its_way() -> None:
    """The newest on the stack, whether it runs or waits; nothing is stored."""
    async with a_stage() as stage:
        running = await stage.save((await stage.accepted()).started(utc_now()))
        with pytest.raises(StackBusy) as by_running:
            await stage.deploy(REJECT)
        waiting = await stage.accepted()
        with pytest.raises(StackBusy) as by_waiting:
            await stage.deploy(REJECT)

        assert (by_running.value.blocked_by, by_waiting.value.blocked_by) == (running, waiting)
        assert await stage.all() == [running, waiting]


@pytest.mark.parametrize("when_busy", [REJECT, JOIN])
async def test_of_many_wishes_at_one_moment_one_gets_in(when_busy: WhenBusy) -> None:
    """Nobody decides between another's look and its step, also for different cloud resources on one stack."""
    async with a_stage() as stage:
        answers = await asyncio.gather(*[stage.deploy(when_busy) for _ in range(20)], return_exceptions=True)

        [update] = await stage.all()
        if when_busy is JOIN:
            assert all(isinstance(answer, Accepted) and answer.update == update for answer in answers)
            assert [answer.joined for answer in answers if isinstance(answer, Accepted)].count(False) == 1
        else:
            assert sum(isinstance(answer, Accepted) for answer in answers) == 1
            assert sum(isinstance(answer, StackBusy) for answer in answers) == 19


async def test_many_wishes_at_one_moment_for_two_resources_on_one_stack() -> None:
    """The turn is the stack's, not the cloud resource's."""
    async with a_stage() as stage:
        other = await another_on_the_stack(stage)
        wishes = [stage.updates.deploy(id_, None, REJECT) for id_ in [stage.resource.id, other.id] * 5]
        answers = await asyncio.gather(*wishes, return_exceptions=True)

        assert sum(isinstance(answer, Accepted) for answer in answers) == 1
        assert len(await stage.all()) == 1


async def test_joining_takes_the_newest_that_deploys_the_same() -> None:
    """The one that runs, or the last that waits; nothing is stored."""
    async with a_stage() as stage:
        running = await stage.save((await stage.accepted()).started(utc_now()))
        assert await stage.deploy(JOIN) == Accepted(running, joined=True)
        waiting = await stage.accepted()
        assert await stage.deploy(JOIN) == Accepted(waiting, joined=True)

        assert await stage.all() == [running, waiting]


async def test_what_deploys_something_else_is_not_joined() -> None:
    """Another manifest of the cloud resource, another cloud resource, or one that is being cancelled."""
    async with a_stage() as stage:
        await stage.accepted()
        changed = replace(stage.resource, manifest=MANIFEST + "# changed\n")
        await stage.backends.resources.replace(changed)
        by_manifest = await stage.accepted(JOIN)
        assert (await stage.deploy(JOIN)).update == by_manifest
        await stage.updates.deploy((await another_on_the_stack(stage)).id)
        by_resource = await stage.accepted(JOIN)
        ending = by_resource.started(utc_now()).cancelling
        await stage.save(by_resource.started(utc_now()))
        await stage.save(ending(utc_now(), CANCELLATION))
        await stage.accepted(JOIN)


async def test_superseding_asks_those_that_wait_to_end() -> None:
    """Not the one that runs, none on another stack, and not the new one itself."""
    async with a_stage() as stage:
        await stage.save((await stage.accepted()).started(utc_now()))
        await stage.updates.deploy((await another_stack(stage)).id)
        waiting = [await stage.accepted() for _ in range(3)]
        async with stage.backends.wakeups.listen(REQUESTS_TOPIC) as wakeup:
            await stage.accepted(SUPERSEDE)
            async with asyncio.timeout(1):
                await wakeup.wait(MINUTE)

        asked = await stage.asked()
        assert {id_ for id_, _ in asked} == {update.id for update in waiting}
        assert {what for _, what in asked} == {CancelRequest(CancellationReason.SUPERSEDED)}


async def test_of_many_that_supersede_at_one_moment_the_last_stays() -> None:
    """Each asks only those before it to end, so that exactly one goes on."""
    async with a_stage() as stage:
        await asyncio.gather(*[stage.deploy(SUPERSEDE) for _ in range(8)])

        *before, last = await stage.all()
        assert {id_ for id_, _ in await stage.asked()} == {update.id for update in before}
        assert last.id not in {id_ for id_, _ in await stage.asked()}


async def test_what_is_being_superseded_is_not_asked_to_end_again() -> None:
    """However many supersede it before the worker heeds the first of them: requests don't pile up."""
    async with a_stage() as stage:
        updates = [await stage.accepted(SUPERSEDE) for _ in range(5)]

        assert sorted(id_ for id_, _ in await stage.asked()) == sorted(update.id for update in updates[:-1])


async def test_a_full_queue_still_answers_with_what_is_there() -> None:
    """Joining adds nothing; what would add something is refused."""
    async with a_stage() as stage:
        update = await stage.accepted()
        stage.updates = stage.service(queue_limit=1)

        assert await stage.deploy(JOIN) == Accepted(update, joined=True)
        for when_busy in (QUEUE, SUPERSEDE):
            with pytest.raises(QueueFull):
                await stage.deploy(when_busy)
        assert (await stage.all(), await stage.asked()) == ([update], [])


async def test_what_is_accepted_is_announced_to_the_worker() -> None:
    """After it is stored."""
    async with a_stage() as stage, stage.backends.wakeups.listen(QUEUE_TOPIC) as wakeup:
        await stage.accepted()
        async with asyncio.timeout(1):
            await wakeup.wait(MINUTE)


# --- the same request again


@pytest.mark.parametrize("when_busy", WhenBusy)
async def test_the_same_request_again_is_answered_with_the_same(when_busy: WhenBusy) -> None:
    """By the same service and by its next life, while the stack update runs and when it has ended."""
    async with a_stage() as stage:
        first = await stage.deploy(when_busy, "key")
        assert not first.joined
        assert await stage.deploy(when_busy, "key") == Accepted(first.update, joined=True)
        ended = await stage.save(first.update.failed(utc_now(), FAILURE))
        stage.updates = stage.service()
        assert await stage.deploy(when_busy, "key") == Accepted(ended, joined=True)

        assert await stage.all() == [ended]


async def test_many_of_the_same_request_at_one_moment_lead_to_one() -> None:
    """Clients repeat a request before its first answer."""
    async with a_stage() as stage:
        answers = await asyncio.gather(*[stage.deploy(QUEUE, "key") for _ in range(20)])

        [update] = await stage.all()
        assert {answer.update for answer in answers} == {update}
        assert [answer.joined for answer in answers].count(False) == 1


async def test_a_repeated_request_needs_nothing_else_to_be_right() -> None:
    """The answer is found before anything is looked at, such as a cloud resource that is gone or a full queue."""
    async with a_stage() as stage:
        first = await stage.deploy(QUEUE, "key")
        checks = stage.checks
        stage.updates = stage.service(queue_limit=0)
        await stage.backends.resources.delete(stage.resource.id, utc_now())

        assert (await stage.deploy(QUEUE, "key")).update == first.update
        assert stage.checks == checks
        with pytest.raises(CloudResourceNotFound):
            await stage.deploy(QUEUE, "another key")


async def test_a_key_stands_for_one_request() -> None:
    """Another cloud resource, time or wish under it is refused, and the refusal says what it led to."""
    async with a_stage() as stage:
        other = await another_stack(stage)
        first = await stage.deploy(QUEUE, "key", MINUTE)
        updates, id_ = stage.updates, stage.resource.id
        for again in (
            updates.deploy(other.id, MINUTE, QUEUE, "key"),
            updates.deploy(id_, None, QUEUE, "key"),
            updates.deploy(id_, 2 * MINUTE, QUEUE, "key"),
            updates.deploy(id_, MINUTE, JOIN, "key"),
            updates.deploy(CloudResourceId("0" * 24), MINUTE, QUEUE, "key"),
        ):
            with pytest.raises(IdempotencyKeyReused) as refused:
                await again
            assert refused.value.stack_update_id == first.update.id

        assert await stage.all() == [first.update]


async def test_each_caller_has_keys_of_its_own() -> None:
    """Nobody gets another's answer."""
    async with a_stage() as stage:
        answers = [
            await stage.updates.deploy(stage.resource.id, None, QUEUE, "key", caller)
            for caller in (None, "a", "b", "a", None)
        ]

        assert [answer.joined for answer in answers] == [False, False, False, True, True]
        assert [answer.update.requested_by for answer in answers] == [None, "a", "b", "a", None]
        assert (answers[3].update, answers[4].update) == (answers[1].update, answers[0].update)


async def test_a_joined_update_stays_that_of_whoever_asked_first() -> None:
    """The record tells for whom the deployment was begun, whoever joins it."""
    async with a_stage() as stage:
        first = await stage.updates.deploy(stage.resource.id, caller="a")
        joined = await stage.updates.deploy(stage.resource.id, None, JOIN, caller="b")

        assert (joined.joined, joined.update) == (True, first.update)
        assert first.update.requested_by == "a"


async def test_who_supersedes_is_told() -> None:
    """The end of what waits is asked for in the name of whoever deploys in its place."""
    async with a_stage() as stage:
        await stage.updates.deploy(stage.resource.id, caller="a")
        await stage.updates.deploy(stage.resource.id, None, SUPERSEDE, caller="b")

        asked = [request.what for request in await stage.backends.requests.open(10)]
        assert asked == [CancelRequest(CancellationReason.SUPERSEDED, requested_by="b")]


async def test_a_key_is_forgotten_after_a_day() -> None:
    """Not before; the same request is then a new one."""
    async with a_stage() as stage:
        first = await stage.deploy(QUEUE, "key")
        stage.keys.later = timedelta(days=1) - MINUTE
        assert (await stage.deploy(QUEUE, "key")).joined
        stage.keys.later = timedelta(days=1) + MINUTE
        second = await stage.deploy(QUEUE, "key")

        assert not second.joined
        assert await stage.all() == [first.update, second.update]


async def test_a_joined_update_stays_the_answer() -> None:
    """Also when it has ended, and a new wish to join would be queued."""
    async with a_stage() as stage:
        update = await stage.accepted()
        assert (await stage.deploy(JOIN, "key")).update == update
        ended = await stage.save(update.failed(utc_now(), FAILURE))

        assert await stage.deploy(JOIN, "key") == Accepted(ended, joined=True)


async def test_a_refusal_is_not_remembered() -> None:
    """Under the same key the same request may succeed later."""
    async with a_stage() as stage:
        busy = await stage.accepted()
        with pytest.raises(StackBusy):
            await stage.deploy(REJECT, "key")
        await stage.save(busy.failed(utc_now(), FAILURE))

        assert not (await stage.deploy(REJECT, "key")).joined


@pytest.mark.parametrize("key", ["", "x" * (KEY_LENGTH + 1), "a\nb", "\0", "\ud800"])
async def test_a_malformed_key_is_bad_input(key: str) -> None:
    """Nothing is looked at or kept under it."""
    async with a_stage() as stage:
        with pytest.raises(BadUserInput) as refused:
            await stage.deploy(QUEUE, key)

        assert refused.value.argument == "idempotencyKey"
        assert (await stage.all(), stage.checks) == ([], 0)


# --- a crash in between


async def fail() -> None:
    raise StoreUnavailable("The database did not answer.")


@pytest.mark.parametrize("when_busy", WhenBusy)
async def test_a_crash_between_key_and_update_loses_nothing(when_busy: WhenBusy) -> None:
    """The key is kept with an id; the next request under it adds the stack update under that id."""
    async with a_stage() as stage:
        stage.store.before_insert = fail
        with pytest.raises(StoreUnavailable):
            await stage.deploy(when_busy, "key")
        kept = await stage.backends.keys.find("", "key", utc_now() - KEY_LIFE)
        stage.store.before_insert = nothing
        stage.updates = stage.service()

        second = await stage.deploy(when_busy, "key")
        third = await stage.deploy(when_busy, "key")

        assert kept is not None
        assert second.update.id == kept.update_id
        assert (second.joined, third) == (False, Accepted(second.update, joined=True))
        assert await stage.all() == [second.update]


async def test_what_was_begun_is_not_replaced_by_joining() -> None:
    """A repeated request that had got an id before the crash keeps it, though another could be joined by now."""
    async with a_stage() as stage:
        stage.store.before_insert = fail
        with pytest.raises(StoreUnavailable):
            await stage.deploy(JOIN, "key")
        stage.store.before_insert = nothing
        other = await stage.accepted()

        second = await stage.deploy(JOIN, "key")

        assert not second.joined
        assert second.update != other
        assert (await stage.deploy(JOIN, "key")).update == second.update


async def test_a_lost_answer_of_the_store_doubles_nothing() -> None:
    """The insert took effect, but the service does not know: the next request finds it."""
    async with a_stage() as stage:
        stage.store.after_insert = fail
        with pytest.raises(StoreUnavailable):
            await stage.deploy(QUEUE, "key")
        stage.store.after_insert = nothing

        again = await stage.deploy(QUEUE, "key")

        assert again.joined
        assert await stage.all() == [again.update]


async def test_an_insert_that_takes_effect_late_doubles_nothing() -> None:
    """It was not there yet when the next request looked, and is there when that inserts."""
    async with a_stage() as stage:
        stage.store.after_insert = fail
        with pytest.raises(StoreUnavailable):
            await stage.deploy(QUEUE, "key")
        stage.store.after_insert = nothing
        [first] = await stage.all()
        stage.store.hidden = {first.id}

        again = await stage.deploy(QUEUE, "key")

        assert again == Accepted(first, joined=True)
        assert await stage.all() == [first]


def test_a_deletion_waits_for_the_acceptance_and_not_for_the_preflight() -> None:
    """Taking turns at the stack and at the key holds nobody up who does not deploy to it."""

    async def scenario() -> None:
        async with a_stage() as stage:
            deploying = asyncio.create_task(stage.deploy(QUEUE, "key"))
            await asyncio.sleep(0.05)
            async with stage.turns.of(stage.resource.id):
                await stage.backends.resources.delete(stage.resource.id, utc_now())
            with pytest.raises(CloudResourceNotFound):
                await deploying
            assert await stage.all() == []

    virtual_time.run(scenario)
