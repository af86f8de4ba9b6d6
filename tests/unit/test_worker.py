"""The worker among troubles: records that can't be read, stores and systems that refuse, stacks that are held."""

from __future__ import annotations

import asyncio
import errno
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
from graphql_api.domain.ports import Claims, Slice, StackUpdateFilter, UpdateHistory, UpdateStore
from graphql_api.domain.records import (
    Claim,
    Diagnostic,
    Failure,
    FailureKind,
    Phase,
    StackFqdn,
    StackUpdate,
    StackUpdateId,
    Status,
    utc_now,
)
from runners import recovery
from runners.deployment import Deployer, Task
from runners.lease import LEASE, THE_SERVICE, Lease
from runners.lock import StackLock
from runners.outcome import Outcome
from runners.recovery import outcome_after_loss
from runners.runs import Run
from runners.worker import Worker, WorkerSettings
from tests.builders import MANIFEST, SECOND, STACK, a_claim, a_stack_update, started
from tests.unit import virtual_time

OTHER = StackFqdn("organization/demo/other")
GRACES = (SECOND, SECOND)
SUCCESS = Outcome(None, 0)


async def nothing(_: object) -> None:
    """What happens on the way to a store, or in a deployment, that works."""


@dataclass
class FaultyUpdates:
    """An update store, and what is done before the queue is read."""

    store: UpdateStore
    before_queue: Callable[[object], Awaitable[None]] = nothing

    async def insert(self, update: StackUpdate, manifest: str) -> None:
        await self.store.insert(update, manifest)

    async def save(self, update: StackUpdate, output: str | None = None) -> None:
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
    """Claims, and what is done before one is made."""

    claims: Claims
    before_claim: Callable[[object], Awaitable[None]] = nothing

    async def current(self, stack: StackFqdn) -> Claim | None:
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
    """A deployer that starts no process: what is done in a deployment, and what the files of a run say."""

    during: Callable[[object], Awaitable[None]] = nothing
    found: Outcome | None = None
    deployed: list[StackFqdn] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)

    async def deploy(self, task: Task, _: Run, __: StackLock, on_running: Callable[[], Awaitable[None]]) -> Outcome:
        await on_running()
        self.deployed.append(task.stack)
        await self.during(task)
        return SUCCESS

    def outcome_of(self, run: Run, _: timedelta) -> Outcome | None:
        self.looked_at.append(run.update_id)
        return self.found


class Scene:
    """A worker over stores in memory whose calls can be made to fail."""

    def __init__(self, backends: Backends, directory: Path, max_concurrent: int) -> None:
        self.backends = backends
        self.runs = directory / "runs"
        self.updates = FaultyUpdates(backends.updates)
        self.history = FaultyHistory(backends.history)
        self.claims = FaultyClaims(backends.claims)
        self.deployer = Deploying()
        self.service = Lease(a_claim(stack=THE_SERVICE))
        self.worker = Worker(
            self.updates,
            cast("UpdateHistory", self.history),
            self.claims,
            backends.wakeups,
            cast("Deployer", self.deployer),
            WorkerSettings("us", self.runs, directory / "locks", GRACES, max_concurrent),
            self.service,
        )

    async def queued(self, stack: StackFqdn = STACK) -> StackUpdate:
        update = a_stack_update(stack_fqdn=stack)
        await self.updates.insert(update, MANIFEST)
        return update

    async def begun(self, *, run: bool = False, **changes: object) -> StackUpdate:
        """An update that an earlier life had taken up, perhaps with the directory of its run."""
        update = a_stack_update(**changes)
        await self.updates.insert(update, MANIFEST)
        await self.updates.save(started(update))
        if run:
            Run.create(self.runs, update.id)
        return started(update)

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
            assert await self.worker.stop(timedelta(seconds=10))
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
                for update in (*begun[:4], *begun[5:]):
                    failure = (await scene.ended(update)).failure
                    assert failure
                    assert failure.kind is FailureKind.WORKER_LOST
                assert (await scene.ended(queued)).status is Status.SUCCESS
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
                at_once.append(scene.worker.at_work)
                await asyncio.sleep(5)

            scene.deployer.during = during
            theirs = a_claim(owner="another service", expires_at=utc_now() + timedelta(hours=1))
            assert await scene.claims.claim(theirs)
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
            assert await scene.claims.claim(a_claim(owner="another service", expires_at=utc_now() + timedelta(hours=1)))
            waiting = await scene.queued()
            async with scene.working():
                await asyncio.sleep(10)
                assert await virtual_time.elapsed(scene.worker.stop(timedelta(seconds=60))) < 2
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
            theirs = a_claim(owner="another service", expires_at=utc_now() + timedelta(hours=1))
            assert await scene.claims.claim(theirs)
            waiting, at_work = await scene.queued(STACK), await scene.queued(OTHER)
            async with scene.working():
                await asyncio.sleep(5)
                await scene.claims.end(theirs)
                await asyncio.sleep(5)
                assert await scene.worker.stop(timedelta(seconds=60))
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
def test_trouble_while_pulumi_runs_ends_it_first(
    tmp_path: Path, found: Outcome | None, kind: FailureKind | None
) -> None:
    """What the run says of itself is recorded if it succeeded, else the trouble; then its directory goes."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:

            async def no_descriptor(_: object) -> None:
                raise OSError(errno.EMFILE, "Too many open files")

            scene.deployer.during = no_descriptor
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
                assert (await scene.ended(second, limit=3)).failure
            assert scene.deployer.looked_at == [second.id]
            assert not any(scene.runs.iterdir())

    virtual_time.run(scenario)


def test_a_lost_run_keeps_what_pulumi_reported() -> None:
    """Why it went wrong is told although nobody waited for its end."""
    diagnostics = (Diagnostic("quota exceeded", "urn:x"),)
    found = Outcome(Failure(FailureKind.RESOURCE_ERROR, "It failed.", diagnostics=diagnostics), 1)

    outcome = outcome_after_loss(found)

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
