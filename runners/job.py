"""A deployment in hand: what is asked of it is heeded while it goes on, and how it is being ended is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from graphql_api.domain.events import CancellationChanged, DeadlineApproaching, DeadlineChanged
from graphql_api.domain.ports import ExtendRequest, Request
from graphql_api.domain.records import (
    Cancellation,
    CancellationReason,
    CancellationStage,
    Phase,
    StackFqdn,
    StackUpdate,
    utc_now,
)
from runners import recovery
from runners.changes import FileChanges
from runners.deployment import Deployer, Task
from runners.limits import RunLimits, exceeded
from runners.lock import StackLock
from runners.outcome import Outcome, Stop, stop_of
from runners.patience import beside
from runners.progress import StageReached
from runners.record import Record
from runners.reporter import Reporter
from runners.runs import Reason, Run

#: A deployment that has ended and whose output takes longer than this to write down is in phase RECORDING meanwhile.
RECORDING_PATIENCE = timedelta(milliseconds=500)
#: The deadline is announced this long before it, or a tenth of the time-out where that is less.
WARNING = timedelta(seconds=60)
#: How long a signal waits for its announcement, which an outage of the store may hold up.
ANNOUNCEMENT_PATIENCE = timedelta(seconds=2)

_STOPPABLE = frozenset({Phase.PREPARING, Phase.RUNNING, Phase.CANCELLING})


@dataclass(frozen=True, slots=True)
class JobSettings:
    """``graces`` are those between the signals that end a run, ``limits`` what it may use."""

    graces: tuple[timedelta, timedelta]
    limits: RunLimits


class Job:
    """One stack update at work, from its start to its outcome; to the Deployer it is the Observer."""

    def __init__(
        self,
        record: Record,
        run: Run,
        lock: StackLock,
        deployer: Deployer,
        changes: FileChanges,
        settings: JobSettings,
    ) -> None:
        self._record = record
        self._run = run
        self._lock = lock
        self._deployer = deployer
        self._changes = changes
        self._settings = settings
        self._timeout = record.update.timeout
        self._reporter: Reporter | None = None
        self._cancellation = record.update.cancellation
        self._cancelling = asyncio.Event()
        self._announced = asyncio.Event()
        self._extended = asyncio.Event()
        self._running = asyncio.Event()
        self._ended = asyncio.Event()
        self._stop = stop_of(record.update.cancellation)
        self._is_hastened = False

    # --- the deployment

    async def deploy(self, stack: StackFqdn, manifest: str, expected: int | None) -> None:
        """Deploy and record the outcome. When cancelled, Pulumi goes on by itself. May raise LeaseLost."""
        task = Task(self._record.update.id, stack, manifest, self._timeout, self._settings.graces)
        reporter = await self._begin(expected)
        await self._conclude(reporter, lambda: self._deployer.deploy(task, self._run, self._lock, self))

    async def resume(self, stack: StackFqdn, manifest: str, expected: int | None) -> None:
        """Go on with what an earlier life of the service began, and record the outcome; else as ``deploy``.

        The stack's lock is ours afterwards: whatever the run started has ended.
        """
        await self._record.log.take_over()
        task = Task(self._record.update.id, stack, manifest, self._timeout, self._settings.graces)
        reporter = await self._begin(expected)
        await reporter.resume()
        await self._conclude(reporter, lambda: self._resumed(task, reporter))

    async def _begin(self, expected: int | None) -> Reporter:
        secrets = await asyncio.to_thread(self._deployer.secrets)
        self._reporter = Reporter(self._record, secrets, self._changes, self._on_stage, expected)
        return self._reporter

    async def _conclude(self, reporter: Reporter, work: Callable[[], Awaitable[Outcome]]) -> None:
        async with beside(
            reporter.show_progress(),
            self._announce_cancellation(),
            self._announce_deadline(),
            self._store_running(),
            self._announce_recording(),
        ):
            outcome = await work()
            self.ended()
        progress = await reporter.conclude(outcome)
        await self._record.finish(outcome, progress, self._cancellation)

    async def _resumed(self, task: Task, reporter: Reporter) -> Outcome:
        directories = await asyncio.to_thread(self._run.directories)
        for directory in directories[:-1]:
            await reporter.read_rest(directory)
        if self._is_owed_a_signal(directories):
            self._hasten()
        outcome = await self._deployer.resume(task, self._run, self._lock, self)
        await recovery.end_run(self._run, self._lock, self._settings.graces)
        if outcome is not None:
            return outcome
        left = max((self._record.update.deadline or utc_now()) - utc_now(), timedelta(0))
        # By how much it was extended meanwhile, the run says to the deployer as well.
        task = replace(task, timeout=left - self._run.extension)
        return await self._deployer.deploy(task, self._run, self._lock, self)

    def _is_owed_a_signal(self, directories: list[Path]) -> bool:
        """Whether the earlier life had said that it would end the deployment, and died before it did."""
        asked = self._cancellation is not None and self._cancellation.stage is CancellationStage.REQUESTED
        return asked and not any((directory / "stage.json").exists() for directory in directories)

    @property
    def stop(self) -> Stop | None:
        """Why it is to end, once it is."""
        return self._stop

    async def running(self) -> None:
        """Pulumi is about to start: its log tells it first, which only the owner of the stack can write."""
        if self._stop is None:
            await self._record.tell(_running)
        self._running.set()

    @asynccontextmanager
    async def following(self, directory: Path) -> AsyncIterator[None]:
        """Tell what the command in this directory does, and see that it does not use more than it may."""
        if self._reporter is None:
            raise RuntimeError("Nothing can be followed before the deployment has begun.")
        async with beside(self._guard(directory)), self._reporter.following(directory):
            yield

    def ended(self) -> None:
        """Pulumi has ended for good: what is asked from now on comes too late."""
        self._ended.set()
        self._announced.set()  # or whoever asked last waits for what is announced no more, and all others with them

    async def _store_running(self) -> None:
        """Beside Pulumi's start, which need not wait for it."""
        await self._running.wait()
        await self._record.store()

    async def _announce_recording(self) -> None:
        await self._ended.wait()
        await asyncio.sleep(RECORDING_PATIENCE.total_seconds())
        await self._record.change(_recording)

    async def _guard(self, directory: Path) -> None:
        """End a run that uses more than it may; one that goes on to use twice as much is killed."""
        limits = self._settings.limits
        await self._end(Stop(CancellationReason.LIMIT_EXCEEDED, await exceeded(directory, limits)))
        await exceeded(directory, RunLimits(2 * limits.output_bytes, 2 * limits.memory_bytes))
        for _ in (CancellationStage.TERMINATED, CancellationStage.KILLED):
            self._hasten()

    # --- what is asked of it

    async def heed(self, request: Request) -> None:
        """Do what was asked; nothing where it comes too late. May raise LeaseLost, or OSError where that is refused."""
        what = request.what
        if isinstance(what, ExtendRequest):
            await self._extend(what.timeout)
        elif not await self._end(Stop(what.reason, requested_by=what.requested_by)) and what.force:
            self._hasten()

    def shut_down(self) -> None:
        """End it because the service shuts down; when called again, the next step is taken at once."""
        self._begin_to_end(Stop(CancellationReason.SHUTDOWN))
        self._hasten()

    async def _end(self, stop: Stop) -> bool:
        """Begin to end it, and say so before the first signal; False where it is being ended already, or has ended."""
        if not self._begin_to_end(stop):
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(ANNOUNCEMENT_PATIENCE.total_seconds()):
                await self._announced.wait()
        if not self._is_hastened:  # else a second signal would follow at once
            self._hasten()
        return True

    def _begin_to_end(self, stop: Stop) -> bool:
        if self._cancellation is not None or self._ended.is_set():
            return False
        self._stop = stop
        self._cancellation = Cancellation(self._record.now(), stop.reason, requested_by=stop.requested_by)
        self._cancelling.set()
        return True

    def _hasten(self) -> None:
        self._is_hastened = True
        self._run.hasten()

    def _on_stage(self, reached: StageReached) -> None:
        begun = self._cancellation or Cancellation(reached.at, CancellationReason.SHUTDOWN)
        # What came first counts: the deadline may have passed just before somebody asked.
        if reached.reason == Reason.DEADLINE:
            begun = replace(begun, reason=CancellationReason.TIMEOUT, requested_by=None)
        stage = CancellationStage(reached.stage)
        self._cancellation = replace(begun, stage=stage, next_stage_at=reached.next_at)
        self._is_hastened = True
        self._cancelling.set()

    async def _announce_cancellation(self) -> None:
        while True:
            await self._cancelling.wait()
            self._cancelling.clear()
            if cancellation := self._cancellation:
                change = partial(_cancelling, cancellation=cancellation)
                await self._record.change(change, CancellationChanged(cancellation))
            self._announced.set()

    async def _extend(self, timeout: timedelta) -> None:
        update = self._record.update
        longer = timeout - update.timeout
        if longer <= timedelta(0) or self._cancellation is not None or self._ended.is_set():
            return
        await self._run.extend(longer)
        await self._record.change(partial(_extended, timeout=timeout), *_deadline_changed(update, timeout))
        self._extended.set()

    async def _announce_deadline(self) -> None:
        """Say once for each deadline that it comes near."""
        while True:
            deadline = self._record.update.deadline or self._record.now() + self._record.update.timeout
            lead = min(WARNING, self._record.update.timeout / 10)
            if await self._is_extended_within(deadline - lead - utc_now()):
                continue
            if self._cancellation is None and not self._ended.is_set():
                await self._record.log.append([DeadlineApproaching(deadline)])
            await self._is_extended_within(None)

    async def _is_extended_within(self, limit: timedelta | None) -> bool:
        try:
            async with asyncio.timeout(None if limit is None else max(limit.total_seconds(), 0)):
                await self._extended.wait()
        except TimeoutError:
            return False
        self._extended.clear()
        return True


def _running(update: StackUpdate, now: datetime) -> StackUpdate:
    """As it is where an earlier life of the service had come so far."""
    return update.running(now) if update.phase is Phase.PREPARING else update


def _recording(update: StackUpdate, now: datetime) -> StackUpdate:
    """As it is where an earlier life of the service had come so far."""
    return update if update.phase is Phase.RECORDING else update.recording(now)


def _cancelling(update: StackUpdate, now: datetime, cancellation: Cancellation) -> StackUpdate:
    """As it is where that is known already, or Pulumi has ended meanwhile."""
    if update.phase not in _STOPPABLE or update.cancellation == cancellation:
        return update
    return update.cancelling(now, cancellation)


def _extended(update: StackUpdate, now: datetime, timeout: timedelta) -> StackUpdate:
    """As it is where it has ended meanwhile."""
    return update if update.ended else update.extended(now, timeout)


def _deadline_changed(update: StackUpdate, timeout: timedelta) -> list[DeadlineChanged]:
    return [DeadlineChanged(update.started_at + timeout)] if update.started_at else []
