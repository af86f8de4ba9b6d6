"""The worker: takes queued stack updates in their order, runs each, and records what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from graphql_api.domain.ports import QUEUE_TOPIC, Claims, UpdateHistory, UpdateStore, Wakeups
from graphql_api.domain.records import Claim, Failure, FailureKind, Phase, StackFqdn, StackUpdate, StackUpdateId
from runners import recovery
from runners.deployment import Deployer, Task
from runners.lease import Lease, claim_stack, held
from runners.lock import StackLock
from runners.outcome import Outcome
from runners.record import PAUSE, LeaseLost, Record, pauses, persistently
from runners.runs import Run

_BROKEN = Failure(FailureKind.INTERNAL, "The service failed while deploying; its log says more. Deploy again.", True)
_REPLACED = "another service took over this database; nothing is started here any more. Stop this service."

_log = logging.getLogger("stackcast.worker")
T = TypeVar("T")


class _Stopping(Exception):
    """The service is asked to stop while a stack update still waits; it stays as it is, for the next life."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """``owner`` is the data directory's name; ``graces`` are those between the signals that end a run."""

    owner: str
    runs: Path
    locks: Path
    graces: tuple[timedelta, timedelta]
    max_concurrent: int


class Worker:
    """Works on queued stack updates: one at a time on each stack, so many in all, the rest in order."""

    def __init__(
        self,
        updates: UpdateStore,
        history: UpdateHistory,
        claims: Claims,
        wakeups: Wakeups,
        deployer: Deployer,
        settings: WorkerSettings,
        service: Lease,
    ) -> None:
        self._updates = updates
        self._history = history
        self._claims = claims
        self._wakeups = wakeups
        self._deployer = deployer
        self._settings = settings
        self._service = service
        self._busy: set[StackFqdn] = set()
        self._runs: dict[StackUpdateId, Run] = {}
        self._places = asyncio.Semaphore(settings.max_concurrent)
        self._at_work: set[StackUpdateId] = set()
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()

    @property
    def at_work(self) -> int:
        """How many deployments are in hand now."""
        return len(self._at_work)

    async def run(self) -> None:
        """Work until asked to stop and the last deployment has ended; first settle what an earlier life left."""
        try:
            async with self._wakeups.listen(QUEUE_TOPIC) as wakeup, asyncio.TaskGroup() as tasks:
                await self._settle_leftovers(tasks)
                while not (self._stopping.is_set() or self._service.lost):
                    if not await self._start_next(tasks):
                        await wakeup.wait(PAUSE)
                if self._service.lost:
                    _log.error(_REPLACED)
        finally:
            self._idle.set()

    async def stop(self, grace: timedelta) -> bool:
        """Take nothing new and end within ``grace``; False when something still runs then, for the next life to end.

        For half of it deployments may finish; then they are asked to end, urged at three quarters, and killed at
        seven eighths.
        """
        self._stopping.set()
        await self._wakeups.announce(QUEUE_TOPIC)
        start = asyncio.get_running_loop().time()
        for share in (1 / 2, 3 / 4, 7 / 8):
            if await self._idle_before(start + grace.total_seconds() * share):
                return True
            for run in self._runs.values():
                run.hasten()
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
        tasks.create_task(self._see_to([update], update.stack_fqdn), name=f"deploy {update.id}")
        return True

    async def _next_queued(self) -> StackUpdate | None:
        try:
            return await self._updates.next_queued(self._busy)
        except Exception:  # a boundary: the queue is read again after a pause, whatever was wrong
            _log.exception("the queue can't be read; it is tried again")
            return None

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
            await self._wakeups.announce(QUEUE_TOPIC)

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
        current = await persistently(lambda: self._updates.get(update.id))
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
        await self._wakeups.announce(QUEUE_TOPIC)
        try:
            async with asyncio.timeout(pause.total_seconds()):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise _Stopping

    async def _work(self, update: StackUpdate, stack: StackFqdn) -> None:
        lock = StackLock.of_stack(self._settings.locks, stack)
        async with self._claimed(update, stack) as record:
            try:
                await self._locked(update, lock)
            except OSError as error:
                await record.finish(Outcome(_refused(error)))
                return
            with lock:
                await self._take_place(update)
                await self._deploy(record, stack, lock)

    async def _deploy(self, record: Record, stack: StackFqdn, lock: StackLock) -> None:
        await record.save(record.update.started(record.now()))
        run = Run(self._settings.runs / record.update.id)
        self._runs[record.update.id] = run
        try:
            outcome = await self._execute(record, run, stack, lock)
        except LeaseLost:
            raise
        except Exception as error:  # a boundary: whatever went wrong, such as a full disk, the record says so
            _log.exception("%s: deploying", record.update.id)
            await recovery.end_run(run, lock, self._settings.graces)
            outcome = await self._after_trouble(record.update, run, error)
        finally:
            del self._runs[record.update.id]
        await record.finish(outcome)
        # Its directory stays until it is proven that nothing of it lives; the next start looks again.
        if await run.end_leftover(lock, self._settings.graces):
            await run.remove()

    async def _execute(self, record: Record, run: Run, stack: StackFqdn, lock: StackLock) -> Outcome:
        async def on_running() -> None:
            await record.save(record.update.running(record.now()))

        manifest = await persistently(lambda: self._updates.manifest(record.update.id))
        task = Task(record.update.id, stack, manifest or "", record.update.timeout, self._settings.graces)
        await asyncio.to_thread(run.make)
        return await self._deployer.deploy(task, run, lock, on_running)

    async def _after_trouble(self, update: StackUpdate, run: Run, error: Exception) -> Outcome:
        """Pulumi's own success if it came to one while we were in trouble, else the trouble."""
        trouble = _refused(error) if isinstance(error, OSError) else _BROKEN
        found = await asyncio.to_thread(self._deployer.outcome_of, run, update.timeout)
        return recovery.outcome_after_loss(found, trouble)

    async def _settle_leftovers(self, tasks: asyncio.TaskGroup) -> None:
        leftovers: dict[StackFqdn, list[StackUpdate]] = {}
        for update in await recovery.unsettled(self._updates, self._history, self._settings.runs):
            # Records that other programs wrote name no stack; each then stands for itself.
            stack = update.stack_fqdn or StackFqdn(f"stack update {update.id}")
            leftovers.setdefault(stack, []).append(update)
        for stack, updates in leftovers.items():
            self._busy.add(stack)
            tasks.create_task(self._see_to(updates, stack), name=f"settle {stack}")

    async def _settle(self, update: StackUpdate, stack: StackFqdn) -> None:
        run = Run(self._settings.runs / update.id)
        lock = StackLock.of_stack(self._settings.locks, stack)
        async with self._claimed(update, stack) as record:
            await recovery.end_run(run, lock, self._settings.graces)
            with lock:
                if not update.ended:
                    found = await asyncio.to_thread(self._deployer.outcome_of, run, update.timeout)
                    await record.finish(recovery.outcome_after_loss(found))
                await run.remove()

    @asynccontextmanager
    async def _claimed(self, update: StackUpdate, stack: StackFqdn) -> AsyncIterator[Record]:
        """The update's record once the stack is claimed, for as long as the claim is held."""

        def claim() -> Awaitable[Claim | None]:
            return persistently(lambda: claim_stack(self._claims, stack, update.id, self._settings.owner))

        claimed = await self._waiting(update, claim, f"another service works on {stack}")
        async with held(self._claims, claimed) as lease:
            yield Record(update, lease, self._updates, self._wakeups)

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


def _refused(error: OSError) -> Failure:
    """The operating system's own word: a full disk, a directory that can't be written."""
    message = (
        f"The service could not use its data directory: {error.strerror or error}. Free some space or correct its "
        "permissions, then deploy again."
    )
    return Failure(FailureKind.INTERNAL, message, retryable=True)
