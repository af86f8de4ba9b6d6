"""The worker: in which order it works, what is asked of it meanwhile, and troubles of stores, systems and stacks."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import StoreRefused
from graphql_api.domain.events import CancellationChanged, Happening, OwnerChanged, StatusChanged
from graphql_api.domain.ports import (
    REQUESTS_TOPIC,
    CancelRequest,
    Claims,
    Closing,
    ExtendRequest,
    Request,
    Slice,
    StackUpdateFilter,
    UpdateHistory,
    UpdateStore,
)
from graphql_api.domain.progress import Progress, ProgressCount, ResourceOperation, ResourceState
from graphql_api.domain.records import (
    Cancellation,
    CancellationReason,
    Claim,
    Diagnostic,
    Ending,
    Failure,
    FailureKind,
    Phase,
    StackFqdn,
    StackUpdate,
    StackUpdateId,
    Status,
    new_id,
    utc_now,
)
from runners import recovery
from runners.changes import FileChanges
from runners.deployment import Deployer, Observer, Task
from runners.fork_server import ForkServerLost
from runners.job import JobSettings
from runners.lease import LEASE, THE_SERVICE, Lease, claim_stack
from runners.limits import RunLimits
from runners.lock import StackLock
from runners.log import Log
from runners.outcome import WORKER_LOST, Outcome, Stop
from runners.runs import Run
from runners.worker import Worker, WorkerPorts, WorkerSettings
from tests.builders import MANIFEST, NOON, SECOND, STACK, a_claim, a_stack_update, started
from tests.unit import virtual_time

OTHER = StackFqdn("organization/demo/other")
GRACES = (SECOND, SECOND)
JOBS = JobSettings(GRACES, RunLimits(10**9, 10**9))
LOG_LIMIT = 10**6
CANCEL = CancelRequest(CancellationReason.ASKED, requested_by="ann")
SUCCESS = Outcome(None, 0)
HOUR = timedelta(hours=1)


async def nothing(_: object) -> None:
    """What happens on the way to a store, or in a deployment, that works."""


@dataclass
class FaultyUpdates:
    """An update store, and what is done before the queue is read and before a record is saved."""

    store: UpdateStore
    before_queue: Callable[[object], Awaitable[None]] = nothing
    before_save: Callable[[object], Awaitable[None]] = nothing

    async def insert(self, update: StackUpdate, manifest: str) -> None:
        await self.store.insert(update, manifest)

    async def save(self, update: StackUpdate, output: str | None = None) -> None:
        await self.before_save(update)
        await self.store.save(update, output)

    async def get(self, id_: StackUpdateId) -> StackUpdate | None:
        return await self.store.get(id_)

    async def manifest(self, id_: StackUpdateId) -> str | None:
        return await self.store.manifest(id_)

    async def output(self, id_: StackUpdateId) -> str | None:
        return await self.store.output(id_)

    async def next_queued(self, busy: Collection[StackFqdn] = ()) -> StackUpdate | None:
        await self.before_queue(busy)
        return await self.store.next_queued(busy)


@dataclass
class FaultyHistory:
    """A history in which some records can't be read, so that no page with one of them can."""

    history: UpdateHistory
    damaged: set[StackUpdateId] = field(default_factory=set)

    async def page(self, slice_: Slice, where: StackUpdateFilter) -> Sequence[StackUpdate]:
        page = await self.history.page(slice_, where)
        if any(update.id in self.damaged for update in page):
            raise StoreRefused("A stack update can't be read. Correct the document or delete it.")
        return page


@dataclass
class FaultyClaims:
    """Claims, and what is done before one is made or looked at."""

    claims: Claims
    before_claim: Callable[[object], Awaitable[None]] = nothing
    before_current: Callable[[object], Awaitable[None]] = nothing

    async def current(self, stack: StackFqdn) -> Claim | None:
        await self.before_current(stack)
        return await self.claims.current(stack)

    async def claim(self, claim: Claim) -> bool:
        await self.before_claim(claim)
        return await self.claims.claim(claim)

    async def renew(self, claim: Claim, expires_at: datetime) -> None:
        await self.claims.renew(claim, expires_at)

    async def end(self, claim: Claim) -> None:
        await self.claims.end(claim)


@dataclass
class Deploying:
    """A deployer that starts no process: what is done in a deployment, and what the files of a run say.

    After ``during``, a deployment takes so many seconds, unless it is ended before. If there are ``events``, they are
    what Pulumi logs. One that an earlier life began, and that ended as ``found``, takes as long to read; ``adopting``
    comes before. ``granted`` is how long each deployment may take in all.
    """

    during: Callable[[object], Awaitable[None]] = nothing
    adopting: Callable[[object], Awaitable[None]] = nothing
    seconds: float = 0
    events: str = ""
    found: Outcome | None = None
    tasks: list[Task] = field(default_factory=list)
    granted: list[timedelta] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)

    @property
    def deployed(self) -> list[StackUpdateId]:
        return [task.update_id for task in self.tasks]

    async def deploy(self, task: Task, run: Run, _: StackLock, observer: Observer) -> Outcome:
        await observer.running()
        self.tasks.append(task)
        self.granted.append(task.timeout + run.extension)
        await self.during(task)
        if not self.events:
            return await self._wait(observer)
        directory = run.next_directory("up")
        async with observer.following(directory):
            directory.mkdir()
            (directory / "events").write_text(self.events)
            return await self._wait(observer)

    async def resume(self, task: Task, run: Run, __: StackLock, observer: Observer) -> Outcome | None:
        self.looked_at.append(run.update_id)
        await self.adopting(task)
        if self.found is not None:
            await observer.running()
            observer.ended()
            await asyncio.sleep(self.seconds)
        return self.found

    async def _wait(self, observer: Observer) -> Outcome:
        clock = asyncio.get_running_loop().time
        end = clock() + self.seconds
        while clock() < end and observer.stop is None:  # noqa: ASYNC110 - as Pulumi, it is told by no event
            await asyncio.sleep(0.1)
        return observer.stop.outcome() if observer.stop else SUCCESS

    def secrets(self) -> frozenset[str]:
        return frozenset()

    def outcome_of(self, run: Run, _: timedelta, __: Stop | None) -> Outcome | None:
        self.looked_at.append(run.update_id)
        return self.found


class Scene:
    """A worker over stores in memory whose calls can be made to fail."""

    def __init__(self, backends: Backends, directory: Path, max_concurrent: int) -> None:
        self.backends = backends
        self.runs, self.locks = directory / "runs", directory / "locks"
        self.updates = FaultyUpdates(backends.updates)
        self.history = FaultyHistory(backends.history)
        self.claims = FaultyClaims(backends.claims)
        self.deployer = Deploying()
        self.service = Lease(a_claim(stack=THE_SERVICE))
        self.worker = Worker(
            WorkerPorts(
                self.updates,
                cast("UpdateHistory", self.history),
                self.claims,
                backends.events,
                backends.requests,
                backends.wakeups,
            ),
            cast("Deployer", self.deployer),
            FileChanges(),
            WorkerSettings("us", self.runs, self.locks, JOBS, LOG_LIMIT, max_concurrent),
            self.service,
        )

    async def queued(self, stack: StackFqdn = STACK) -> StackUpdate:
        update = a_stack_update(stack_fqdn=stack)
        await self.updates.insert(update, MANIFEST)
        return update

    async def asked(self, update: StackUpdate, what: CancelRequest | ExtendRequest = CANCEL) -> Request:
        now = utc_now()
        request = Request(new_id(now), update.id, now, what)
        await self.backends.requests.make(request)
        await self.backends.wakeups.announce(REQUESTS_TOPIC)
        return request

    async def settled(self, limit: float = 10) -> None:
        """Return once all that was asked is settled."""
        async with asyncio.timeout(limit):
            while await self.backends.requests.open(1):  # noqa: ASYNC110 - a store has no event of ours
                await asyncio.sleep(0.1)

    async def in_phase(self, update: StackUpdate, phase: Phase, limit: float = 10) -> StackUpdate:
        async with asyncio.timeout(limit):
            while (stored := await self.stored(update)).phase is not phase:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
        return stored

    async def stored(self, update: StackUpdate) -> StackUpdate:
        stored = await self.backends.updates.get(update.id)
        assert stored
        return stored

    async def told(self, update: StackUpdate) -> list[Happening]:
        """What its log tells."""
        return [event.what for event in (await self.backends.events.read(update.id, 0, 100)).events]

    async def held_by_another(self, stack: StackFqdn = STACK) -> Claim:
        theirs = a_claim(stack=stack, owner="another service", expires_at=utc_now() + HOUR)
        assert await self.claims.claim(theirs)
        return theirs

    async def begun(self, *, run: bool = False, **changes: object) -> StackUpdate:
        """An update that an earlier life had taken up, perhaps with the directory of its run."""
        update = a_stack_update(**changes)
        await self.updates.insert(update, MANIFEST)
        await self.updates.save(started(update))
        if run:
            Run.create(self.runs, update.id)
        return started(update)

    async def logged(self, update: StackUpdate) -> None:
        """An earlier life wrote that it had begun."""
        claim = await claim_stack(self.claims, STACK, update.id, "us")
        assert claim
        log = Log(update, Lease(claim), self.backends.events, self.backends.wakeups, LOG_LIMIT)
        await log.append([StatusChanged(Status.IN_PROGRESS, Phase.PREPARING)])

    async def ended(self, update: StackUpdate, limit: float = 1000) -> StackUpdate:
        """The record once it has ended."""
        async with asyncio.timeout(limit):
            while True:
                stored = await self.backends.updates.get(update.id)
                if stored and stored.ended:
                    return stored
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def working(self, *, confirmed: bool = True) -> AsyncIterator[None]:
        """The worker at work; ``confirmed`` when the service's claim on the database is kept confirmed."""
        tasks = [asyncio.create_task(self.worker.run())]
        if confirmed:
            tasks.append(asyncio.create_task(self._confirm()))
        try:
            yield
            assert await self.worker.drain(timedelta(seconds=10))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _confirm(self) -> None:
        while True:
            self.service.confirm(asyncio.get_running_loop().time())
            await asyncio.sleep(LEASE.total_seconds() / 2)


@asynccontextmanager
async def a_scene(directory: Path, max_concurrent: int = 2) -> AsyncIterator[Scene]:
    async with open_backends("sqlite:///:memory:") as backends:
        yield Scene(backends, directory, max_concurrent)


# --- records that can't be read


def test_a_record_that_cannot_be_read_holds_up_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the start all others are settled, older ones and newer ones, then the queue is worked on."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            begun = [
                await scene.begun(stack_fqdn=StackFqdn(f"organization/demo/s{n}"), created_at=utc_now() + n * SECOND)
                for n in range(9)
            ]
            queued = await scene.queued(OTHER)
            scene.history.damaged = {begun[4].id}
            async with scene.working():
                for update in (*begun[:4], *begun[5:], queued):
                    assert (await scene.ended(update)).status is Status.SUCCESS
            damaged = await scene.updates.get(begun[4].id)
            assert damaged
            assert not damaged.ended

    with caplog.at_level(logging.ERROR):
        virtual_time.run(scenario)
    assert "can't be read" in caplog.text


def test_a_record_hidden_behind_damaged_ones_is_found_by_its_run(tmp_path: Path) -> None:
    """Its directory names it, so it is read on its own."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            moments = [utc_now() + n * SECOND for n in range(3)]
            new, between, old = [await scene.begun(run=True, created_at=moment) for moment in moments]
            scene.history.damaged = {new.id, old.id}

            found = await recovery.unsettled(scene.updates, cast("UpdateHistory", scene.history), scene.runs)

            assert between in found

    virtual_time.run(scenario)


def test_a_queue_that_cannot_be_read_is_read_again(tmp_path: Path) -> None:
    """Whatever was wrong, a damaged row or a defect: the worker lives on, and works once the queue can be read."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            start = asyncio.get_running_loop().time()

            async def damaged(_: object) -> None:
                if asyncio.get_running_loop().time() < start + 300:
                    raise ValueError("that is no stack update")

            scene.updates.before_queue = damaged
            queued = await scene.queued()
            async with scene.working():
                assert (await scene.ended(queued)).status is Status.SUCCESS

    virtual_time.run(scenario)


# --- trouble on the way


def test_trouble_before_a_deployment_begins_is_retried_and_holds_up_no_other(tmp_path: Path) -> None:
    """The stack waits longer each time, and its update stays first in its line; another stack is deployed at once."""

    async def scenario() -> None:
        async with a_scene(tmp_path, max_concurrent=1) as scene:
            tries: list[float] = []

            async def refuse(claim: object) -> None:
                if isinstance(claim, Claim) and claim.stack == STACK and len(tries) < 8:
                    tries.append(asyncio.get_running_loop().time())
                    raise StoreRefused("The database is read-only.")

            scene.claims.before_claim = refuse
            stuck, other = await scene.queued(STACK), await scene.queued(OTHER)
            async with scene.working():
                assert (await scene.ended(other, limit=3)).status is Status.SUCCESS
                assert (await scene.ended(stuck)).status is Status.SUCCESS
            pauses = [later - earlier for earlier, later in pairwise(tries)]
            assert pauses == [pytest.approx(pause, abs=0.1) for pause in (1, 2, 4, 8, 16, 32, 60)]

    virtual_time.run(scenario)


def test_a_held_stack_takes_no_place_from_another(tmp_path: Path) -> None:
    """With one place at work, the stack that can be deployed is; the other follows when it is free, one at a time."""

    async def scenario() -> None:
        async with a_scene(tmp_path, max_concurrent=1) as scene:
            at_once: list[int] = []

            async def during(_: object) -> None:
                at_once.append(len(scene.worker.at_work))
                await asyncio.sleep(5)

            scene.deployer.during = during
            theirs = await scene.held_by_another()
            waiting, *others = [await scene.queued(StackFqdn(stack)) for stack in (STACK, OTHER, "o/demo/third")]
            async with scene.working():
                for update in others:
                    assert (await scene.ended(update, limit=60)).status is Status.SUCCESS
                await scene.claims.end(theirs)
                assert (await scene.ended(waiting, limit=60)).status is Status.SUCCESS
            assert at_once == [1, 1, 1]

    virtual_time.run(scenario)


def test_a_stop_does_not_wait_for_what_has_not_begun(tmp_path: Path) -> None:
    """An update that waits for its stack stays queued for the next life."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            await scene.held_by_another()
            waiting = await scene.queued()
            async with scene.working():
                await asyncio.sleep(10)
                assert await virtual_time.elapsed(scene.worker.drain(timedelta(seconds=60))) < 2
            stored = await scene.updates.get(waiting.id)
            assert stored
            assert stored.phase is Phase.QUEUED

    virtual_time.run(scenario)


def test_a_stop_starts_nothing_that_waited_for_a_place(tmp_path: Path) -> None:
    """What has its stack at last while the service stops stays queued; the deployment at work ends as it would."""

    async def scenario() -> None:
        async with a_scene(tmp_path, max_concurrent=1) as scene:

            async def during(_: object) -> None:
                await asyncio.sleep(20)

            scene.deployer.during = during
            theirs = await scene.held_by_another()
            waiting, at_work = await scene.queued(STACK), await scene.queued(OTHER)
            async with scene.working():
                await asyncio.sleep(5)
                await scene.claims.end(theirs)
                await asyncio.sleep(5)
                assert await scene.worker.drain(timedelta(seconds=60))
                assert (await scene.ended(at_work)).status is Status.SUCCESS
            stored = await scene.updates.get(waiting.id)
            assert stored
            assert stored.phase is Phase.QUEUED

    virtual_time.run(scenario)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (None, FailureKind.INTERNAL),
        (SUCCESS, None),
        (Outcome(Failure(FailureKind.SERVICE_STOPPED, "It was stopped.")), FailureKind.INTERNAL),
    ],
)
@pytest.mark.parametrize("trouble", [OSError(errno.EMFILE, "Too many open files"), ForkServerLost("It was killed.")])
def test_trouble_while_pulumi_runs_ends_it_first(
    tmp_path: Path, found: Outcome | None, kind: FailureKind | None, trouble: Exception
) -> None:
    """What the run says of itself is recorded if it succeeded, else the trouble; then its directory goes."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:

            async def fail(_: object) -> None:
                raise trouble

            scene.deployer.during = fail
            scene.deployer.found = found
            update = await scene.queued()
            async with scene.working():
                ended = await scene.ended(update)
            assert (ended.failure and ended.failure.kind) == kind
            assert not any(scene.runs.iterdir())

    virtual_time.run(scenario)


class Stubborn(Run):
    """A run that the operating system lets nobody end for some tries."""

    tries = 0

    async def end_leftover(self, lock: StackLock, graces: tuple[timedelta, timedelta]) -> bool:
        self.tries += 1
        if self.tries < 5:
            raise OSError(errno.EMFILE, "Too many open files")
        return await super().end_leftover(lock, graces)


def test_a_run_is_ended_however_often_that_is_refused(tmp_path: Path) -> None:
    """Nobody goes on as if it had ended: it returns when the run has ended and the stack's lock is held."""

    async def scenario() -> None:
        run, lock = Stubborn(tmp_path / "run"), StackLock(tmp_path / "lock")

        took = await virtual_time.elapsed(recovery.end_run(run, lock, GRACES))

        assert lock.held
        lock.release()
        assert took == pytest.approx(1 + 2 + 4 + 8, abs=0.5)

    virtual_time.run(scenario)


# --- what an earlier life left


def test_leftovers_of_one_stack_are_settled_one_after_the_other(tmp_path: Path) -> None:
    """Two at once would each wait for the other's lock. One that stands in both lists is settled once."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            first = await scene.begun(run=True)
            await scene.updates.save(first.failed(utc_now(), Failure(FailureKind.TIMEOUT, "Too long.")))
            second = await scene.begun(run=True)

            assert [
                update.id for update in await recovery.unsettled(scene.updates, scene.backends.history, scene.runs)
            ] == [first.id, second.id]

            async with scene.working():
                assert (await scene.ended(second, limit=3)).status is Status.SUCCESS
            assert scene.deployer.looked_at == [second.id]
            assert not any(scene.runs.iterdir())

    virtual_time.run(scenario)


def test_a_lost_run_keeps_what_pulumi_reported() -> None:
    """Why it went wrong is told although nobody waited for its end."""
    diagnostics = (Diagnostic("quota exceeded", "urn:x"),)
    found = Outcome(Failure(FailureKind.RESOURCE_ERROR, "It failed.", diagnostics=diagnostics), 1)

    outcome = found.after(WORKER_LOST)

    assert outcome.failure
    assert (outcome.failure.kind, outcome.failure.diagnostics) == (FailureKind.WORKER_LOST, diagnostics)


# --- one service


def test_nothing_starts_while_the_database_may_be_anothers(tmp_path: Path) -> None:
    """Once the claim on it was not confirmed for a lease, another service may have it: what is queued waits."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            await asyncio.sleep(LEASE.total_seconds())
            queued = await scene.queued()
            async with scene.working(confirmed=False):
                await asyncio.sleep(60)
                stored = await scene.updates.get(queued.id)
                assert stored
                assert stored.phase is Phase.QUEUED
                assert await scene.claims.current(STACK) is None
                scene.service.confirm(asyncio.get_running_loop().time())
                assert (await scene.ended(queued)).status is Status.SUCCESS

    virtual_time.run(scenario)


# --- the order


def test_each_stack_gets_its_turn(tmp_path: Path) -> None:
    """Many on one stack don't hold up the others: of each the oldest first, then of each the next."""

    async def scenario() -> None:
        async with a_scene(tmp_path, max_concurrent=1) as scene:
            a, b, c = (StackFqdn(f"o/demo/{name}") for name in "abc")
            order = [await scene.queued(stack) for stack in (a, a, a, b, b, c)]
            async with scene.working():
                for update in order:
                    await scene.ended(update)
            a1, a2, a3, b1, b2, c1 = (update.id for update in order)
            assert scene.deployer.deployed == [a1, b1, c1, a2, b2, a3]

    virtual_time.run(scenario)


def test_who_comes_later_does_not_wait_for_all_on_another_stack(tmp_path: Path) -> None:
    """It is taken up when one of those that are at work has ended, however many others wait there."""

    async def scenario() -> None:
        async with a_scene(tmp_path, max_concurrent=1) as scene:
            scene.deployer.seconds = 10
            many = [await scene.queued(STACK) for _ in range(5)]
            async with scene.working():
                await scene.ended(many[1])
                late = await scene.queued(OTHER)
                await scene.ended(late, limit=21)
                for update in many:
                    await scene.ended(update)
            place = scene.deployer.deployed.index(late.id)
            assert place <= 3

    virtual_time.run(scenario)


# --- what is asked of what waits


async def assert_withdrawn(scene: Scene, update: StackUpdate) -> None:
    """It ended CANCELLED without ever having begun, and its log says the same."""
    ended = await scene.stored(update)
    assert (ended.status, ended.phase, ended.started_at, ended.failure) == (
        Status.CANCELLED,
        Phase.FINISHED,
        None,
        None,
    )
    assert ended.cancellation
    assert (ended.cancellation.reason, ended.cancellation.requested_by) == (CancellationReason.ASKED, "ann")
    assert await scene.told(update) == [
        StatusChanged(Status.IN_PROGRESS, Phase.QUEUED),
        CancellationChanged(ended.cancellation),
        StatusChanged(Status.CANCELLED, Phase.FINISHED),
    ]
    assert update.id not in scene.deployer.deployed


def test_a_queued_one_is_cancelled_at_once_while_its_stack_is_busy(tmp_path: Path) -> None:
    """It has no owner to ask; the deployment before it goes on, and those behind it follow."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            scene.deployer.seconds = 100
            first, second, third = [await scene.queued() for _ in range(3)]
            async with scene.working():
                await scene.in_phase(first, Phase.RUNNING)
                await scene.asked(second)
                await scene.ended(second, limit=1)
                await scene.settled(limit=1)
                await scene.ended(third)
            await assert_withdrawn(scene, second)
            assert scene.deployer.deployed == [first.id, third.id]

    virtual_time.run(scenario)


def test_one_that_waits_for_its_stacks_lock_is_cancelled_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows how long something that was started there still runs; afterwards it is not deployed."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            lock = StackLock.of_stack(scene.locks, STACK)
            assert lock.try_acquire()
            update = await scene.queued()
            async with scene.working():
                await asyncio.sleep(10)
                await scene.asked(update)
                await scene.ended(update, limit=1)
                await scene.settled(limit=1)
                lock.release()
                after = await scene.queued()
                assert (await scene.ended(after)).status is Status.SUCCESS
            await assert_withdrawn(scene, update)

    with caplog.at_level(logging.ERROR):
        virtual_time.run(scenario)
    assert not caplog.records


def test_one_that_waits_for_a_claim_is_cancelled_at_once(tmp_path: Path) -> None:
    """Another service may hold the stack; what was never begun on it is nobody's, and can be ended."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            theirs = await scene.held_by_another()
            update = await scene.queued()
            async with scene.working():
                await asyncio.sleep(10)
                await scene.asked(update)
                await scene.ended(update, limit=1)
                await scene.claims.end(theirs)
                after = await scene.queued()
                assert (await scene.ended(after)).status is Status.SUCCESS
            await assert_withdrawn(scene, update)

    virtual_time.run(scenario)


def test_one_that_waits_for_a_place_is_cancelled_at_once(tmp_path: Path) -> None:
    """It has its stack by then, but all places at work are taken, for long."""

    async def scenario() -> None:
        async with a_scene(tmp_path, max_concurrent=1) as scene:
            scene.deployer.seconds = 600
            theirs = await scene.held_by_another()
            update, other = await scene.queued(STACK), await scene.queued(OTHER)
            async with scene.working():
                await scene.in_phase(other, Phase.RUNNING)
                await scene.claims.end(theirs)
                await asyncio.sleep(10)
                await scene.asked(update)
                await scene.ended(update, limit=1)
                assert (await scene.stored(other)).phase is Phase.RUNNING
                await scene.ended(other)
            await assert_withdrawn(scene, update)

    virtual_time.run(scenario)


@pytest.mark.parametrize("waits_for_lock", [False, True])
def test_a_queued_one_is_extended(tmp_path: Path, waits_for_lock: bool) -> None:
    """It gets the longer time-out when it is taken up, also where it has been waiting for its stack's lock."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            scene.deployer.seconds = 100
            lock = StackLock.of_stack(scene.locks, STACK)
            first = None if waits_for_lock else await scene.queued()
            assert not waits_for_lock or lock.try_acquire()
            update = await scene.queued()
            async with scene.working():
                await asyncio.sleep(10)
                await scene.asked(update, ExtendRequest(HOUR))
                await scene.settled(limit=1)
                stored = await scene.stored(update)
                assert (stored.phase, stored.timeout) == (Phase.QUEUED, HOUR)
                lock.release()
                assert (await scene.ended(update)).status is Status.SUCCESS
            assert [task.timeout for task in scene.deployer.tasks] == [*([first.timeout] if first else []), HOUR]

    virtual_time.run(scenario)


def test_an_extension_never_shortens(tmp_path: Path) -> None:
    """Of two that were asked for at once the longer one stays."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            await scene.held_by_another()
            update = await scene.queued()
            async with scene.working():
                for timeout in (HOUR, HOUR / 2):
                    await scene.asked(update, ExtendRequest(timeout))
                await scene.settled()
                assert (await scene.stored(update)).timeout == HOUR

    virtual_time.run(scenario)


# --- what is asked of what is at work


def test_a_running_one_is_cancelled(tmp_path: Path) -> None:
    """Its deployment is told to end, and both record and log say why and how far that came."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            scene.deployer.seconds = 600
            update = await scene.queued()
            async with scene.working():
                await scene.in_phase(update, Phase.RUNNING)
                await scene.asked(update)
                ended = await scene.ended(update, limit=5)
                await scene.settled(limit=1)
            assert (ended.status, ended.failure) == (Status.CANCELLED, None)
            assert ended.cancellation
            told = await scene.told(update)
            assert CancellationChanged(ended.cancellation) in told
            assert StatusChanged(Status.IN_PROGRESS, Phase.CANCELLING) in told

    virtual_time.run(scenario)


def test_one_that_has_begun_is_not_superseded(tmp_path: Path) -> None:
    """A deployment that was taken up before it could be superseded goes on to its end."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            scene.deployer.seconds = 5
            update = await scene.queued()
            async with scene.working():
                await scene.in_phase(update, Phase.RUNNING)
                await scene.asked(update, CancelRequest(CancellationReason.SUPERSEDED, requested_by="bob"))
                await scene.settled(limit=1)
                ended = await scene.ended(update)
            assert (ended.status, ended.cancellation) == (Status.SUCCESS, None)

    virtual_time.run(scenario)


@pytest.mark.parametrize("moment", ["its stack is claimed", "it is taken up"])
def test_a_request_that_comes_as_a_deployment_begins_is_not_lost(tmp_path: Path, moment: str) -> None:
    """Whoever takes it up and whoever ends it wait for each other, so exactly one of them has it."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            scene.deployer.seconds = 600
            update = await scene.queued()
            asked: list[Request] = []

            async def ask(_: object) -> None:
                if not asked:
                    asked.append(await scene.asked(update))

            if moment == "it is taken up":
                scene.updates.before_save = ask
            else:
                scene.claims.before_claim = ask
            async with scene.working():
                assert (await scene.ended(update, limit=10)).status is Status.CANCELLED
                await scene.settled(limit=2)

    virtual_time.run(scenario)


def test_requests_are_heeded_while_the_service_drains(tmp_path: Path) -> None:
    """Deployments may finish during a shutdown; meanwhile they can be cancelled or extended, and what waits, too."""

    async def scenario() -> None:
        async with a_scene(tmp_path, max_concurrent=2) as scene:
            scene.deployer.seconds = 600
            cancelled, extended = await scene.queued(STACK), await scene.queued(OTHER)
            waiting = await scene.queued(STACK)
            async with scene.working():
                for update in (cancelled, extended):
                    await scene.in_phase(update, Phase.RUNNING)
                stopping = asyncio.create_task(scene.worker.drain(HOUR))
                await asyncio.sleep(5)
                await scene.asked(extended, ExtendRequest(HOUR))
                for update in (cancelled, waiting):
                    await scene.asked(update)
                assert (await scene.ended(cancelled, limit=5)).status is Status.CANCELLED
                assert (await scene.ended(waiting, limit=5)).status is Status.CANCELLED
                assert (await scene.stored(extended)).timeout == HOUR
                assert await stopping
            assert (await scene.stored(extended)).status is Status.SUCCESS

    virtual_time.run(scenario)


def test_a_shutdown_ends_what_does_not_end_by_itself(tmp_path: Path) -> None:
    """Half of the time it may finish; then it is told to end, and its record says that the service was shut down."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            scene.deployer.seconds = 600
            update = await scene.queued()
            async with scene.working():
                await scene.in_phase(update, Phase.RUNNING)
                assert 50 <= await virtual_time.elapsed(scene.worker.drain(timedelta(seconds=100))) < 60
            ended = await scene.stored(update)
            assert ended.failure
            assert ended.cancellation
            assert (ended.status, ended.failure.kind) == (Status.FAILED, FailureKind.SERVICE_STOPPED)
            assert ended.cancellation.reason is CancellationReason.SHUTDOWN

    virtual_time.run(scenario)


@pytest.mark.parametrize("what", [CANCEL, ExtendRequest(HOUR)])
def test_what_is_asked_of_an_ended_one_is_settled(tmp_path: Path, what: CancelRequest | ExtendRequest) -> None:
    """It comes too late, or nobody knows of whom it was asked; it changes nothing and is not kept."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            update = await scene.queued()
            async with scene.working():
                ended = await scene.ended(update)
                await scene.asked(update, what)
                await scene.asked(a_stack_update(), what)
                await scene.settled()
                assert await scene.stored(update) == ended

    virtual_time.run(scenario)


def test_what_is_asked_before_a_leftover_is_in_hand_again_is_heeded_then(tmp_path: Path) -> None:
    """A cancel that an earlier life did not heed any more, or that comes while its stack is claimed, is not lost."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            scene.deployer.seconds = 600
            theirs = await scene.held_by_another()
            update = await scene.begun(run=True)
            await scene.asked(update)
            async with scene.working():
                await asyncio.sleep(5)
                await scene.claims.end(theirs)
                ended = await scene.ended(update, limit=10)
                await scene.settled()
            assert (ended.status, ended.failure) == (Status.CANCELLED, None)

    virtual_time.run(scenario)


def test_a_force_that_comes_before_a_leftover_is_in_hand_again_is_heeded_then(tmp_path: Path) -> None:
    """It means that Pulumi has ended only where that can't be known here; a run of ours is cancelled as any."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            scene.deployer.seconds = 600

            async def slow(_: object) -> None:
                await asyncio.sleep(3)

            scene.claims.before_current = slow
            update = await scene.begun(run=True)
            await scene.asked(update, CancelRequest(CancellationReason.ASKED, force=True))
            async with scene.working():
                ended = await scene.ended(update, limit=60)
                await scene.settled()
            assert (ended.status, ended.failure) == (Status.CANCELLED, None)

    virtual_time.run(scenario)


# --- what an earlier life began


def test_a_run_that_went_on_ends_as_pulumi_ended(tmp_path: Path) -> None:
    """A restarted service says in the log that it goes on, and records Pulumi's own outcome; nothing runs twice."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            update = await scene.begun(run=True)
            await scene.logged(update)
            scene.deployer.found = SUCCESS
            async with scene.working():
                ended = await scene.ended(update)
            assert ended.status is Status.SUCCESS
            assert scene.deployer.deployed == []
            told = await scene.told(update)
            assert [what for what in told if isinstance(what, OwnerChanged)] == [OwnerChanged(2)]
            assert told[-1] == StatusChanged(Status.SUCCESS, Phase.FINISHED)
            assert not (scene.runs / update.id).exists()

    virtual_time.run(scenario)


@pytest.mark.parametrize("run", [True, False])
def test_what_had_not_come_to_deploying_is_begun_anew(tmp_path: Path, run: bool) -> None:
    """A service that died while it prepared a deployment has done nothing yet: the next life does it."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            update = await scene.begun(run=run)
            async with scene.working():
                ended = await scene.ended(update)
            assert ended.status is Status.SUCCESS
            assert scene.deployer.deployed == [update.id]

    virtual_time.run(scenario)


def test_a_run_whose_end_was_being_recorded_ends_as_pulumi_ended(tmp_path: Path) -> None:
    """The service died in phase RECORDING; however long the rest takes to write down, the outcome is Pulumi's own."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            update = await scene.begun(run=True)
            running = update.running(utc_now())
            await scene.updates.save(running)
            await scene.updates.save(running.recording(utc_now()))
            failure = Failure(FailureKind.RESOURCE_ERROR, "Pulumi could not deploy a.")
            scene.deployer.found, scene.deployer.seconds = Outcome(failure, 255), 5
            async with scene.working():
                assert (await scene.ended(update)).failure == failure

    virtual_time.run(scenario)


def test_an_extension_before_a_deployment_is_begun_anew_counts_once(tmp_path: Path) -> None:
    """Its time counts from its first start, with what it was given since."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            update = await scene.begun(run=True)

            async def extend(_: object) -> None:
                await scene.asked(update, ExtendRequest(HOUR))
                await scene.settled()

            scene.deployer.adopting = extend
            async with scene.working():
                ended = await scene.ended(update)
            assert ended.timeout == HOUR
            assert HOUR - 60 * SECOND < scene.deployer.granted[0] <= HOUR + SECOND

    virtual_time.run(scenario)


def test_a_run_that_cannot_be_removed_holds_up_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A program may leave what its directory can't be rid of: that is logged, and the next deployment begins."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            update, behind = await scene.queued(), await scene.queued()

            async def spoil(task: object) -> None:
                if cast("Task", task).update_id == update.id:
                    (scene.runs / update.id).rmdir()
                    (scene.runs / update.id).write_text("no directory")

            scene.deployer.during = spoil
            async with scene.working():
                assert (await scene.ended(behind, limit=10)).status is Status.SUCCESS
            assert (await scene.stored(update)).status is Status.SUCCESS

    virtual_time.run(scenario)
    assert "can't be removed" in caplog.text


def test_a_run_that_is_gone_was_lost(tmp_path: Path) -> None:
    """Where Pulumi had begun and its directory is not there any more, nobody can say how it ended."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            update = await scene.begun()
            await scene.updates.save(update.running(utc_now()))
            async with scene.working():
                failure = (await scene.ended(update)).failure
            assert failure
            assert failure.kind is FailureKind.WORKER_LOST
            assert scene.deployer.deployed == []

    virtual_time.run(scenario)


def test_what_was_begun_in_another_data_directory_waits_for_an_operator(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it still runs can't be known here: nothing starts on its stack until somebody says that it has ended."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            update = await scene.begun()
            await scene.claims.claim(a_claim(stack=STACK, owner="elsewhere", update_id=update.id, expires_at=NOON))
            behind, other = await scene.queued(), await scene.queued(OTHER)
            async with scene.working():
                assert (await scene.ended(other)).status is Status.SUCCESS
                await asyncio.sleep(200)
                assert not (await scene.stored(update)).ended
                assert not (await scene.stored(behind)).ended
                await scene.asked(update, CancelRequest(CancellationReason.ASKED, force=True))
                failure = (await scene.ended(update, limit=5)).failure
                assert (await scene.ended(behind, limit=5)).status is Status.SUCCESS
            assert failure
            assert failure.kind is FailureKind.WORKER_LOST

    virtual_time.run(scenario)
    assert "elsewhere" in caplog.text
    assert "stackcast cancel --force" in caplog.text


def test_a_handover_leaves_what_runs_to_the_next_life(tmp_path: Path) -> None:
    """Whoever ends the worker without draining it finds the record as it was, with its run in place."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            scene.deployer.seconds = 600
            update = await scene.queued()
            work = asyncio.create_task(scene.worker.run())
            await scene.in_phase(update, Phase.RUNNING)
            work.cancel()
            await asyncio.wait([work])
            assert (await scene.stored(update)).phase is Phase.RUNNING
            assert (scene.runs / update.id).exists()

    virtual_time.run(scenario)


# --- what the log tells of an earlier life


async def closed(scene: Scene, update: StackUpdate, ended: StackUpdate) -> None:
    """The log as an earlier life closed it, before it died."""
    claim = await claim_stack(scene.claims, STACK, update.id, "us")
    assert claim
    log = Log(update, Lease(claim), scene.backends.events, scene.backends.wakeups, LOG_LIMIT)
    await log.close([StatusChanged(ended.status, ended.phase)], Closing(ended, "its output"))


@pytest.mark.parametrize("what", [None, CANCEL, ExtendRequest(HOUR)])
def test_a_queued_one_whose_log_was_closed_gets_its_record_from_it(
    tmp_path: Path, what: CancelRequest | ExtendRequest | None
) -> None:
    """It had been cancelled; whatever is asked of it now, it is neither deployed nor cancelled again."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            update = await scene.queued()
            ended = update.cancelled(
                utc_now(), Ending(cancellation=Cancellation(update.created_at, CancellationReason.SUPERSEDED))
            )
            await closed(scene, update, ended)
            if what:
                await scene.asked(update, what)
            async with scene.working():
                assert await scene.ended(update, limit=5) == ended
                await scene.settled()
            assert await scene.updates.output(update.id) == "its output"
            assert not scene.deployer.tasks

    virtual_time.run(scenario)


def test_a_begun_one_whose_log_was_closed_gets_its_record_from_it(tmp_path: Path) -> None:
    """Its end had been told to everybody who followed it, so that is how it ended."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            update = await scene.begun(run=True)
            ended = update.succeeded(utc_now(), Ending(0))
            await closed(scene, update, ended)
            async with scene.working():
                assert await scene.ended(update, limit=5) == ended
            assert not scene.deployer.looked_at
            assert not any(scene.runs.iterdir())

    virtual_time.run(scenario)


def test_a_leftover_that_another_service_ended_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    """Its record is read again when its stack can be had."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            theirs = await scene.held_by_another()
            update = await scene.begun()
            async with scene.working():
                await asyncio.sleep(5)
                ended = update.failed(utc_now(), Failure(FailureKind.TIMEOUT, "Too long."))
                await scene.updates.save(ended)
                await scene.claims.end(theirs)
                await asyncio.sleep(5)
                assert await scene.stored(update) == ended
                assert await scene.told(update) == []

    virtual_time.run(scenario)


# --- the guess of how much there is to do


@pytest.mark.parametrize("counted", [True, False])
def test_how_much_there_is_to_do_is_guessed_from_the_last_success(tmp_path: Path, counted: bool) -> None:
    """As many operations as there were resources then; a record of an older version, without counts, gives none."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            kinds = (ResourceOperation.CREATE, ResourceOperation.DELETE)
            counts = tuple(ProgressCount(kind, ResourceState.DONE, 3) for kind in kinds)
            earlier = await scene.begun()
            ending = Ending(0, progress=Progress(counts if counted else ()))
            await scene.updates.save(earlier.succeeded(utc_now(), ending))
            metadata = {"op": "create", "urn": "urn:pulumi:dev::demo::a:b:C::x", "type": "a:b:C"}
            scene.deployer.events = json.dumps({"resourcePreEvent": {"metadata": metadata}}) + "\n"
            scene.deployer.seconds = 10
            update = await scene.queued()
            async with scene.working():
                await asyncio.sleep(5)
                progress = (await scene.stored(update)).progress
                await scene.ended(update)
            assert progress.count(ResourceState.IN_PROGRESS) == 1
            assert progress.total == (3 if counted else None)

    virtual_time.run(scenario)


def test_a_last_success_that_cannot_be_read_holds_up_no_deployment(tmp_path: Path) -> None:
    """Only the guess is missing."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            earlier = await scene.begun()
            await scene.updates.save(earlier.succeeded(utc_now(), Ending(0)))
            scene.history.damaged = {earlier.id}
            update = await scene.queued()
            async with scene.working():
                assert (await scene.ended(update)).status is Status.SUCCESS

    virtual_time.run(scenario)
