"""The worker: takes queued stack updates in their order, runs each, and records what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from graphql_api.domain.errors import StackcastError
from graphql_api.domain.ports import QUEUE_TOPIC, Claims, UpdateHistory, UpdateStore, Wakeups
from graphql_api.domain.records import Claim, Failure, FailureKind, StackFqdn, StackUpdate, StackUpdateId
from runners import recovery
from runners.deployment import Deployer, Task
from runners.lease import Lease, claim_stack, held
from runners.lock import StackLock
from runners.outcome import Outcome
from runners.record import PAUSE, LeaseLost, Record, persistently
from runners.runs import Run

_BROKEN = Failure(FailureKind.INTERNAL, "The service failed while deploying; its log says more. Deploy again.", True)
_REPLACED = "another service took over this database; nothing is started here any more. Stop this service."

_log = logging.getLogger("stackcast.worker")


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
        self._at_work = 0
        self._stopping = False
        self._idle = asyncio.Event()

    @property
    def at_work(self) -> int:
        """How many deployments are in hand now."""
        return self._at_work

    async def run(self) -> None:
        """Work until asked to stop and the last deployment has ended; first settle what an earlier life left."""
        async with self._wakeups.listen(QUEUE_TOPIC) as wakeup, asyncio.TaskGroup() as tasks:
            await self._settle_leftovers(tasks)
            while not (self._stopping or self._service.lost):
                if not await self._start_next(tasks):
                    await wakeup.wait(PAUSE)
            if self._service.lost:
                _log.error(_REPLACED)
        self._idle.set()

    async def stop(self, grace: timedelta) -> bool:
        """Take nothing new and end within ``grace``; False when something still runs then, for the next life to end.

        For half of it deployments may finish; then they are asked to end, urged at three quarters, and killed at
        seven eighths.
        """
        self._stopping = True
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
        if self._at_work >= self._settings.max_concurrent:
            return False
        try:
            update = await self._updates.next_queued(self._busy)
        except StackcastError as error:
            _log.warning("the queue can't be read: %s", error)
            return False
        if update is None or update.stack_fqdn is None:
            return False
        self._busy.add(update.stack_fqdn)
        self._at_work += 1
        tasks.create_task(self._work(update, update.stack_fqdn), name=f"deploy {update.id}")
        return True

    async def _work(self, update: StackUpdate, stack: StackFqdn) -> None:
        lock = StackLock.of_stack(self._settings.locks, stack)
        try:
            async with self._claimed(update, stack) as record:
                try:
                    await _acquire(lock, update)
                except OSError as error:
                    await record.finish(_refused(error))
                    return
                with lock:
                    await self._deploy(record, stack, lock)
        except LeaseLost as loss:
            _log.warning("%s: %s", update.id, loss)
        except Exception:  # a boundary: one deployment's trouble is not the others'
            _log.exception("%s: recording; the next start settles it", update.id)
            await asyncio.sleep(PAUSE.total_seconds())  # it may be queued still, and be taken again at once
        finally:
            self._at_work -= 1
            await self._free(stack)

    async def _deploy(self, record: Record, stack: StackFqdn, lock: StackLock) -> None:
        await record.save(record.update.started(record.now()))
        run = Run(self._settings.runs / record.update.id)
        try:
            outcome = await self._execute(record, stack, lock)
        except LeaseLost:
            raise
        except Exception as error:  # a boundary: whatever went wrong, such as a full disk, the record says so
            _log.exception("%s: deploying", record.update.id)
            await recovery.end_run(run, lock, self._settings.graces)
            outcome = _refused(error) if isinstance(error, OSError) else Outcome(_BROKEN)
        await record.finish(outcome)
        await run.remove()

    async def _execute(self, record: Record, stack: StackFqdn, lock: StackLock) -> Outcome:
        async def on_running() -> None:
            await record.save(record.update.running(record.now()))

        manifest = await persistently(lambda: self._updates.manifest(record.update.id))
        task = Task(record.update.id, stack, manifest or "", record.update.timeout, self._settings.graces)
        run = await asyncio.to_thread(Run.create, self._settings.runs, record.update.id)
        self._runs[record.update.id] = run
        try:
            return await self._deployer.deploy(task, run, lock, on_running)
        finally:
            del self._runs[record.update.id]

    async def _settle_leftovers(self, tasks: asyncio.TaskGroup) -> None:
        async for update in recovery.unsettled(self._updates, self._history, self._settings.runs):
            # Records that other programs wrote name no stack; each then stands for itself.
            stack = update.stack_fqdn or StackFqdn(f"stack update {update.id}")
            self._busy.add(stack)
            tasks.create_task(self._settle(update, stack), name=f"settle {update.id}")

    async def _settle(self, update: StackUpdate, stack: StackFqdn) -> None:
        run = Run(self._settings.runs / update.id)
        lock = StackLock.of_stack(self._settings.locks, stack)
        try:
            async with self._claimed(update, stack) as record:
                await recovery.end_run(run, lock, self._settings.graces)
                with lock:
                    if not update.ended:
                        found = await asyncio.to_thread(self._deployer.outcome_of, run, update.timeout)
                        await record.finish(recovery.outcome_after_loss(found))
                    await run.remove()
        except LeaseLost as loss:
            _log.warning("%s: %s", update.id, loss)
        except Exception:  # a boundary: one run's trouble is not the others'
            _log.exception("%s: settling what an earlier life left; the next start tries again", update.id)
        finally:
            await self._free(stack)

    @asynccontextmanager
    async def _claimed(self, update: StackUpdate, stack: StackFqdn) -> AsyncIterator[Record]:
        """The update's record once the stack is claimed, for as long as the claim is held."""
        while (claim := await self._claim(update, stack)) is None:
            _log.warning("%s waits: another service works on %s", update.id, stack)
            await asyncio.sleep(PAUSE.total_seconds())
        async with held(self._claims, claim) as lease:
            yield Record(update, lease, self._updates, self._wakeups)

    async def _claim(self, update: StackUpdate, stack: StackFqdn) -> Claim | None:
        return await persistently(lambda: claim_stack(self._claims, stack, update.id, self._settings.owner))

    async def _free(self, stack: StackFqdn) -> None:
        self._busy.discard(stack)
        await self._wakeups.announce(QUEUE_TOPIC)


def _refused(error: OSError) -> Outcome:
    """The operating system's own word: a full disk, a directory that can't be written."""
    message = (
        f"The service could not use its data directory: {error.strerror or error}. Free some space or correct its "
        "permissions, then deploy again."
    )
    return Outcome(Failure(FailureKind.INTERNAL, message, retryable=True))


async def _acquire(lock: StackLock, update: StackUpdate) -> None:
    """Take the stack's lock, which something that an earlier run started may still hold, or, where two stacks' names
    differ only by case, the other one's deployment.
    """
    while not await asyncio.to_thread(lock.try_acquire):
        _log.warning(
            "%s waits: something that was started on %s, or on a stack whose name differs from it only by case, still "
            "runs",
            *(update.id, update.stack_fqdn),
        )
        await asyncio.sleep(PAUSE.total_seconds())
