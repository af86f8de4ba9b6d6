"""The worker: takes queued stack updates in their order, runs each, and records what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from graphql_api.domain.ports import (
    QUEUE_TOPIC,
    CancelRequest,
    Claims,
    EventLog,
    ExtendRequest,
    Request,
    Requests,
    Slice,
    StackUpdateFilter,
    UpdateHistory,
    UpdateStore,
    Wakeups,
)
from graphql_api.domain.records import (
    Cancellation,
    CancellationReason,
    Claim,
    Failure,
    FailureKind,
    Phase,
    StackFqdn,
    StackUpdate,
    StackUpdateId,
    Status,
)
from runners import recovery
from runners.changes import FileChanges
from runners.deployment import Deployer
from runners.fork_server import ForkServerLost
from runners.job import Job, JobSettings
from runners.lease import Lease, LeaseLost, claim_stack, held
from runners.lock import StackLock
from runners.log import Log
from runners.outcome import WORKER_LOST, Outcome, Stop
from runners.patience import PAUSE, beside, pauses, persistently
from runners.record import Record
from runners.requests import NotYet, heed_requests
from runners.runs import Run

_BROKEN = Failure(FailureKind.INTERNAL, "The service failed while deploying; its log says more. Deploy again.", True)
_START_LOST = Failure(
    FailureKind.INTERNAL,
    "The process that starts Pulumi ended, or gave no answer, just then, and what it may have begun was ended. "
    "Deploy again.",
    retryable=True,
)
_REPLACED = "another service took over this database; nothing is started here any more. Stop this service."

_ELSEWHERE = (
    "%s was begun by the service with the data directory %s, and whether Pulumi still works on %s can't be known here. "
    "Start a service with that data directory, which goes on with it; or, once you know that it has ended, run "
    "`stackcast cancel --force %s`."
)

_log = logging.getLogger("stackcast.worker")
T = TypeVar("T")


class _Stopping(Exception):
    """The service is asked to stop while a stack update still waits; it stays as it is, for the next life."""


@dataclass(frozen=True, slots=True)
class WorkerPorts:
    """Where the worker finds its work, and where it keeps what it does."""

    updates: UpdateStore
    history: UpdateHistory
    claims: Claims
    events: EventLog
    requests: Requests
    wakeups: Wakeups


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """``owner`` is the data directory's name; ``log_limit`` is how many bytes of lines the log of a run may have."""

    owner: str
    runs: Path
    locks: Path
    jobs: JobSettings
    log_limit: int
    max_concurrent: int


class Worker:
    """Works on queued stack updates: one at a time on each stack, so many in all, the rest in order."""

    def __init__(
        self, ports: WorkerPorts, deployer: Deployer, changes: FileChanges, settings: WorkerSettings, service: Lease
    ) -> None:
        self._ports = ports
        self._deployer = deployer
        self._changes = changes
        self._settings = settings
        self._service = service
        self._busy: set[StackFqdn] = set()
        self._served: set[StackFqdn] = set()
        self._jobs: dict[StackUpdateId, Job] = {}
        self._elsewhere: dict[StackUpdateId, asyncio.Event] = {}  # set once an operator says that it has ended
        self._turn = asyncio.Lock()  # of who takes up what is queued, and of who ends or extends it
        self._places = asyncio.Semaphore(settings.max_concurrent)
        self._at_work: set[StackUpdateId] = set()
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()

    @property
    def at_work(self) -> frozenset[StackUpdateId]:
        """The stack updates that have a place at work now."""
        return frozenset(self._at_work)

    @property
    def served(self) -> frozenset[StackFqdn]:
        """The stacks that have had their turn in the round that goes on."""
        return frozenset(self._served)

    async def run(self) -> None:
        """Work until asked to stop and the last deployment has ended; first settle what an earlier life left."""
        try:
            async with (
                self._ports.wakeups.listen(QUEUE_TOPIC) as wakeup,
                beside(heed_requests(self._ports.requests, self._ports.wakeups, self._heed)),
                asyncio.TaskGroup() as tasks,
            ):
                await self._settle_leftovers(tasks)
                while not (self._stopping.is_set() or self._service.lost):
                    if not await self._start_next(tasks):
                        await wakeup.wait(PAUSE)
                if self._service.lost:
                    _log.error(_REPLACED)
        finally:
            self._idle.set()

    async def drain(self, grace: timedelta) -> bool:
        """Take nothing new and end within ``grace``; False when something still runs then: the next life takes it over.

        For half of it deployments may finish; then they are asked to end, urged at three quarters, and killed at
        seven eighths.
        """
        self._stopping.set()
        await self._ports.wakeups.announce(QUEUE_TOPIC)
        start = asyncio.get_running_loop().time()
        for share in (1 / 2, 3 / 4, 7 / 8):
            if await self._idle_before(start + grace.total_seconds() * share):
                return True
            for job in self._jobs.values():
                job.shut_down()
        return await self._idle_before(start + grace.total_seconds())

    async def _idle_before(self, when: float) -> bool:
        try:
            async with asyncio.timeout_at(when):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _start_next(self, tasks: asyncio.TaskGroup) -> bool:
        # Without a lately confirmed claim on the database, another service may have it by now.
        if self._places.locked() or not self._service.certain:
            return False
        await self._places.acquire()  # at once: one is free
        update = await self._next_queued()
        if update is None or update.stack_fqdn is None:
            self._places.release()
            return False
        self._at_work.add(update.id)
        self._busy.add(update.stack_fqdn)
        self._served.add(update.stack_fqdn)
        tasks.create_task(self._see_to([update], update.stack_fqdn), name=f"deploy {update.id}")
        return True

    async def _next_queued(self) -> StackUpdate | None:
        """The next one, in rounds that serve each stack once: many on one stack don't hold up the others."""
        try:
            update = await self._ports.updates.next_queued(self._busy | self._served)
            if update is None and self._served:
                self._served.clear()
                update = await self._ports.updates.next_queued(self._busy)
        except Exception:  # a boundary: the queue is read again after a pause, whatever was wrong
            _log.exception("the queue can't be read; it is tried again")
            return None
        return update

    async def _take_place(self, update: StackUpdate) -> None:
        """Wait for one of the places at work unless the update has one; those who wait come before the queue.

        Returns only when the database is surely ours. Raises _Stopping.
        """
        while True:
            if update.id not in self._at_work:
                await self._places.acquire()
                self._at_work.add(update.id)
            if self._stopping.is_set():
                raise _Stopping
            if self._service.certain:
                return
            await self._pause(update, PAUSE)

    def _leave_place(self, update: StackUpdate) -> None:
        if update.id in self._at_work:
            self._at_work.remove(update.id)
            self._places.release()

    async def _see_to(self, updates: list[StackUpdate], stack: StackFqdn) -> None:
        """Deploy or settle these updates of one stack, one after the other, while the stack is kept from others."""
        try:
            for update in updates:
                await self._persist(update, stack)
        except _Stopping:
            _log.info("%s waits for the next start", stack)
        finally:
            self._busy.discard(stack)
            await self._ports.wakeups.announce(QUEUE_TOPIC)

    async def _persist(self, update: StackUpdate, stack: StackFqdn) -> None:
        """Try until the update is done with; what one try began is settled by the next. Raises _Stopping."""
        try:
            for pause in pauses():
                try:
                    await self._try(update, stack)
                    return
                except LeaseLost as loss:
                    _log.warning("%s: %s", update.id, loss)
                    return
                except _Stopping:
                    raise
                except Exception:  # a boundary: one update's trouble is not the others'
                    _log.exception("%s: it is tried again in %d s; its stack waits", update.id, pause.total_seconds())
                await self._pause(update, pause)
        finally:
            self._leave_place(update)

    async def _try(self, update: StackUpdate, stack: StackFqdn) -> None:
        current = await persistently(lambda: self._ports.updates.get(update.id))
        if current is None:
            _log.warning("%s is gone from the database", update.id)
        elif current.phase is Phase.QUEUED:
            await self._work(current, stack)
        else:
            await self._settle(current, stack)

    async def _pause(self, update: StackUpdate, pause: timedelta) -> None:
        """Wait without a place at work, which another takes meanwhile. Raises _Stopping."""
        self._leave_place(update)
        if self._service.lost:
            raise _Stopping
        await self._ports.wakeups.announce(QUEUE_TOPIC)
        try:
            async with asyncio.timeout(pause.total_seconds()):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise _Stopping

    async def _work(self, update: StackUpdate, stack: StackFqdn) -> None:
        lock = StackLock.of_stack(self._settings.locks, stack)
        async with self._claimed(update, stack) as lease:
            try:
                await self._locked(update, lock)
            except OSError as error:
                await self._refuse(update, lease, _refused(error))
                return
            with lock:
                await self._take_place(update)
                await self._deploy(update, lease, stack, lock)

    async def _refuse(self, update: StackUpdate, lease: Lease, failure: Failure) -> None:
        async with self._turn:
            if record := await self._open_record(update.id, lease):
                await record.finish(Outcome(failure))

    async def _deploy(self, update: StackUpdate, lease: Lease, stack: StackFqdn, lock: StackLock) -> None:
        run = Run(self._settings.runs / update.id)
        async with self._turn:
            record = await self._open_record(update.id, lease)
            if record is None:  # it was cancelled while it waited
                return
            await record.change(StackUpdate.started)
            job = self._taken_up(record, run, lock)
        await self._carry_out(record, run, lock, lambda: self._begin(record, job, run, stack))

    async def _begin(self, record: Record, job: Job, run: Run, stack: StackFqdn) -> None:
        await asyncio.to_thread(run.make)
        await job.deploy(stack, await self._manifest(record), await self._expected(stack))

    async def _resume(self, record: Record, run: Run, stack: StackFqdn, lock: StackLock) -> None:
        """Go on with a deployment that an earlier life of the service began; the lock is held afterwards."""
        job = self._taken_up(record, run, lock)

        async def resume() -> None:
            if not await asyncio.to_thread(run.directory.exists):
                await asyncio.to_thread(run.make)
            await job.resume(stack, await self._manifest(record), await self._expected(stack))

        await self._carry_out(record, run, lock, resume)

    def _taken_up(self, record: Record, run: Run, lock: StackLock) -> Job:
        job = Job(record, run, lock, self._deployer, self._changes, self._settings.jobs)
        self._jobs[record.update.id] = job
        return job

    async def _carry_out(self, record: Record, run: Run, lock: StackLock, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work of a job to the end, whatever comes."""
        id_ = record.update.id
        try:
            await work()
        except LeaseLost:
            raise
        except ForkServerLost as loss:
            _log.warning("%s: %s", id_, loss)
            await self._end_badly(record, run, lock, _START_LOST)
        except Exception as error:  # a boundary: whatever went wrong, such as a full disk, the record says so
            _log.exception("%s: deploying", id_)
            await self._end_badly(record, run, lock, _refused(error) if isinstance(error, OSError) else _BROKEN)
        finally:
            del self._jobs[id_]
        # Its directory stays until it is proven that nothing of it lives; the next start looks again.
        if await run.end_leftover(lock, self._settings.jobs.graces):
            await recovery.remove(run)

    async def _end_badly(self, record: Record, run: Run, lock: StackLock, trouble: Failure) -> None:
        """End what lives of the run; where its files don't say how it ended, it was this trouble."""
        await recovery.end_run(run, lock, self._settings.jobs.graces)
        await recovery.conclude(record, run, self._deployer, self._changes, trouble)

    async def _manifest(self, record: Record) -> str:
        return await persistently(lambda: self._ports.updates.manifest(record.update.id)) or ""

    async def _expected(self, stack: StackFqdn) -> int | None:
        """How many resources the stack had after its last success; None where that is not known."""
        where = StackUpdateFilter(stack_fqdn=stack, statuses=frozenset({Status.SUCCESS}))
        try:
            earlier = await persistently(lambda: self._ports.history.page(Slice(1), where))
        except Exception:  # a boundary: a record that can't be read is not the others' trouble
            _log.exception("the last success on %s can't be read", stack)
            return None
        return earlier[0].progress.left or None if earlier else None  # none is counted in records of older versions

    async def _settle_leftovers(self, tasks: asyncio.TaskGroup) -> None:
        leftovers: dict[StackFqdn, list[StackUpdate]] = {}
        for update in await recovery.unsettled(self._ports.updates, self._ports.history, self._settings.runs):
            # Records that other programs wrote name no stack; each then stands for itself.
            stack = update.stack_fqdn or StackFqdn(f"stack update {update.id}")
            leftovers.setdefault(stack, []).append(update)
            if not (update.ended or self._places.locked()):
                await self._places.acquire()
                self._at_work.add(update.id)
        for stack, updates in leftovers.items():
            self._busy.add(stack)
            tasks.create_task(self._see_to(updates, stack), name=f"settle {stack}")

    async def _settle(self, update: StackUpdate, stack: StackFqdn) -> None:
        """Go on with what an earlier life began, where it left a run; else say that it was lost."""
        run = Run(self._settings.runs / update.id)
        lock = StackLock.of_stack(self._settings.locks, stack)
        is_ours = await self._is_ours(update, stack)
        async with self._claimed(update, stack) as lease:
            record = await self._open_record(update.id, lease)
            try:
                if record is not None and is_ours and await self._can_go_on(record, run):
                    await self._resume(record, run, stack, lock)
                    return
                await recovery.end_run(run, lock, self._settings.jobs.graces)
                if record is not None:
                    await recovery.conclude(record, run, self._deployer, self._changes)
                await recovery.remove(run)
            finally:
                lock.release()

    async def _is_ours(self, update: StackUpdate, stack: StackFqdn) -> bool:
        """Wait as long as it may go on where we can't look; False once an operator says that it does not.

        Whether anything of a run lives is proven by a lock in the data directory that it began in.
        """
        if await self._other_owner(update, stack) is None:
            return True
        given_up = self._elsewhere[update.id] = asyncio.Event()
        clock, reminder = asyncio.get_running_loop().time, 0.0
        try:
            while (owner := await self._other_owner(update, stack)) and not given_up.is_set():
                if clock() >= reminder:
                    reminder = clock() + recovery.REMINDER.total_seconds()
                    _log.error(_ELSEWHERE, update.id, owner, stack, update.id)
                await self._pause(update, PAUSE)
        finally:
            del self._elsewhere[update.id]
        return not given_up.is_set()

    async def _other_owner(self, update: StackUpdate, stack: StackFqdn) -> str | None:
        """The owner of a deployment that was begun elsewhere and not ended there."""
        claim = await persistently(lambda: self._ports.claims.current(stack))
        is_its = claim is not None and claim.update_id == update.id and not claim.ended and not update.ended
        return claim.owner if claim is not None and is_its and claim.owner != self._settings.owner else None

    async def _can_go_on(self, record: Record, run: Run) -> bool:
        """Whether there is a run, or the service died before it made one."""
        if record.update.stack_fqdn is None:  # another program's
            return False
        return await asyncio.to_thread(run.directory.exists) or record.update.phase is Phase.PREPARING

    # --- what others ask

    async def _heed(self, request: Request) -> None:
        """Do what is asked; nothing where it comes too late. May raise LeaseLost."""
        given_up = self._elsewhere.get(request.update_id)
        if given_up is not None and isinstance(request.what, CancelRequest) and request.what.force:
            given_up.set()
            return
        job = self._jobs.get(request.update_id) or await self._heed_queued(request)
        if job is not None and not _supersedes(request.what):  # what is under way is not superseded
            await job.heed(request)

    async def _heed_queued(self, request: Request) -> Job | None:
        """Do what is asked of one that still waits; the job of one that waits no more, if there is one.

        It is nobody's yet, so the claim on the whole database covers it.
        """
        async with self._turn:
            if job := self._jobs.get(request.update_id):
                return job
            record = await self._open_record(request.update_id, self._service)
            if record is not None and record.update.phase is not Phase.QUEUED:
                raise NotYet
            if record is not None:
                await _heed_waiting(record, request.what)
        await self._ports.wakeups.announce(QUEUE_TOPIC)
        return None

    # --- what has to be had first

    @asynccontextmanager
    async def _claimed(self, update: StackUpdate, stack: StackFqdn) -> AsyncIterator[Lease]:
        """The stack's claim once it can be had, held until leaving."""

        def claim() -> Awaitable[Claim | None]:
            return persistently(lambda: claim_stack(self._ports.claims, stack, update.id, self._settings.owner))

        claimed = await self._waiting(update, claim, f"another service works on {stack}")
        async with held(self._ports.claims, claimed) as lease:
            yield lease

    async def _open_record(self, id_: StackUpdateId, lease: Lease) -> Record | None:
        """Its record as it is now; None where it has ended, or is gone.

        Where only its log tells that it has ended, its record is written first.
        """
        update = await persistently(lambda: self._ports.updates.get(id_))
        if update is None or update.ended:
            return None
        log = Log(update, lease, self._ports.events, self._ports.wakeups, self._settings.log_limit)
        await log.open()
        record = Record(update, lease, self._ports.updates, self._ports.wakeups, log)
        if log.closing is None:
            return record
        await record.finish(Outcome(WORKER_LOST))  # what counts is the log's own end
        return None

    async def _locked(self, update: StackUpdate, lock: StackLock) -> None:
        """Take the stack's lock.

        Something that an earlier run started may still hold it, or, where two stacks' names differ only by case, the
        other one's deployment.
        """
        why = (
            f"something that was started on {update.stack_fqdn}, or on a stack whose name differs from it only by "
            "case, still runs"
        )
        await self._waiting(update, lambda: asyncio.to_thread(lock.try_acquire), why)

    async def _waiting(self, update: StackUpdate, attempt: Callable[[], Awaitable[T | None]], why: str) -> T:
        """The attempt's first true answer. Raises _Stopping."""
        while not (answer := await attempt()):
            _log.warning("%s waits: %s", update.id, why)
            await self._pause(update, PAUSE)
        return answer


def _supersedes(what: CancelRequest | ExtendRequest) -> bool:
    return isinstance(what, CancelRequest) and what.reason is CancellationReason.SUPERSEDED


async def _heed_waiting(record: Record, what: CancelRequest | ExtendRequest) -> None:
    if isinstance(what, CancelRequest):
        cancellation = Cancellation(record.now(), what.reason, requested_by=what.requested_by)
        await record.finish(Stop(what.reason).outcome(), cancellation=cancellation)
    elif what.timeout > record.update.timeout:
        await record.change(partial(StackUpdate.extended, timeout=what.timeout))


def _refused(error: OSError) -> Failure:
    """The operating system's own word: a full disk, a directory that can't be written."""
    message = (
        f"The service could not use its data directory: {error.strerror or error}. Free some space or correct its "
        "permissions, then deploy again."
    )
    return Failure(FailureKind.INTERNAL, message, retryable=True)
