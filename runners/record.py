"""The record of one stack update, as the owner of its stack writes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial

from graphql_api.domain.errors import RevisionConflict
from graphql_api.domain.events import CancellationChanged, Happening, StatusChanged
from graphql_api.domain.ports import UPDATES_TOPIC, Closing, UpdateStore, Wakeups
from graphql_api.domain.progress import Progress
from graphql_api.domain.records import (
    Cancellation,
    Ending,
    Failure,
    FailureKind,
    StackUpdate,
    Tail,
    output_json,
    utc_now,
)
from runners.lease import Lease, LeaseLost
from runners.log import Log
from runners.outcome import NO_TEXT, Outcome
from runners.patience import insistently, to_the_end

_UNSTORED = Failure(
    FailureKind.INTERNAL,
    "The deployment ended, but the database refused to store its outcome; the service's log says why. Look at the "
    "stack with `pulumi stack`, then deploy again.",
    retryable=True,
)
_TEXTS_UNSTORED = (
    "stackcast: The database refused to store what was printed and the stack's outputs; the service's log says why. "
    "`pulumi stack output` shows the outputs.\n"
)

_log = logging.getLogger("stackcast.worker")


class Record:
    """Writes a stack update's changes, each first to its log, then to the store, then to whoever listens.

    It may be used by several tasks at once. A store that is away, or refuses, is waited for. Raises LeaseLost once the
    stack is no longer ours.
    """

    def __init__(self, update: StackUpdate, lease: Lease, updates: UpdateStore, wakeups: Wakeups, log: Log) -> None:
        self.update = update
        self.log = log
        self._lease = lease
        self._updates = updates
        self._wakeups = wakeups
        self._turn = asyncio.Lock()
        self._unsure: StackUpdate | None = None

    async def change(self, change: Callable[[StackUpdate, datetime], StackUpdate], *happenings: Happening) -> None:
        """Change the record as it is now; its log tells a new phase, and the ``happenings`` after it.

        Where ``change`` gives the record back as it is, nothing is written and nothing told.
        """
        async with self._turn:
            await self._tell(change, happenings)
            await self._make_sure()

    async def tell(self, change: Callable[[StackUpdate, datetime], StackUpdate]) -> None:
        """Change the record in its log only; ``store``, or else the next change, writes it to the store."""
        async with self._turn:
            await self._tell(change, ())

    async def store(self) -> None:
        """Write to the store what only the log tells."""
        async with self._turn:
            await self._make_sure()

    async def _tell(
        self, change: Callable[[StackUpdate, datetime], StackUpdate], happenings: Iterable[Happening]
    ) -> None:
        await self._make_sure()
        changed = change(self.update, self.now())
        if changed is not self.update:
            moved = [StatusChanged(changed.status, changed.phase)] if changed.phase is not self.update.phase else []
            await self.log.append([*moved, *happenings], taken=partial(self._begin, changed))

    def now(self) -> datetime:
        """The time, never before the record's last change, even when the clock was set back meanwhile."""
        return max(utc_now(), self.update.updated_at)

    async def finish(
        self, outcome: Outcome, progress: Progress | None = None, cancellation: Cancellation | None = None
    ) -> None:
        """Write the outcome; where the store refuses it, at least that there was one.

        ``progress`` and ``cancellation`` are the last ones, where they may be newer than those in the record.

        Where it refuses that, too, all is tried again until an operator has made it possible, since a record left open
        would have no owner any more. Where an earlier owner closed the log, its outcome is written, not this one.
        """
        async with self._turn:
            await self._make_sure()
            last = replace(
                self.update,
                progress=progress or self.update.progress,
                cancellation=cancellation or self.update.cancellation,
            )
            ways = (partial(self._close, last, way) for way in (outcome, _least(outcome)))
            closing = await insistently(f"{last.id}: closing its log", *ways)
            saves = (partial(self._save, way.update, way.output) for way in (closing, _without_texts(closing)))
            await insistently(f"{last.id}: storing its outcome", *saves)
            how = self.update.failure.kind if self.update.failure else self.update.status
            _log.info("%s on %s ended: %s", self.update.id, self.update.stack_fqdn, how)

    async def _close(self, last: StackUpdate, outcome: Outcome) -> Closing:
        ended = _ended(last, outcome, self.now())
        closing = Closing(ended, output_json(ended, outcome.stdout, outcome.stderr))
        told = self.update.cancellation == last.cancellation
        news = [] if told or last.cancellation is None else [CancellationChanged(last.cancellation)]
        return await self.log.close([*news, StatusChanged(ended.status, ended.phase)], closing)

    def _begin(self, changed: StackUpdate) -> None:
        self._unsure = changed

    async def _make_sure(self) -> None:
        """Save what was begun to be saved, also where whoever began it was cancelled."""
        if (unsure := self._unsure) is not None:
            await self.log.append([])  # the log first
            await insistently(f"{unsure.id}: storing it", lambda: self._save(unsure, None))

    async def _save(self, update: StackUpdate, output: str | None) -> None:
        if self._lease.lost:
            raise LeaseLost(f"the stack {update.stack_fqdn} was claimed by somebody else")
        # To the end even if we are cancelled: what is stored and what we know of it must not come apart.
        await to_the_end(self._store(update, output))
        for topic in (update.id, UPDATES_TOPIC):
            await self._wakeups.announce(topic)

    async def _store(self, update: StackUpdate, output: str | None) -> None:
        try:
            await self._updates.save(update, output)
        except RevisionConflict as conflict:
            raise LeaseLost(conflict.message) from conflict
        self.update, self._unsure = update, None


def _ended(update: StackUpdate, outcome: Outcome, now: datetime) -> StackUpdate:
    cancellation = update.cancellation
    if cancellation is not None:
        cancellation = replace(cancellation, next_stage_at=None, lock_left=outcome.lock_left)
    ending = Ending(outcome.exit_code, outcome.stack_outputs, update.progress, cancellation)
    if outcome.failure is not None:
        return update.failed(now, outcome.failure, ending)
    return update.cancelled(now, ending) if outcome.cancelled else update.succeeded(now, ending)


def _least(outcome: Outcome) -> Outcome:
    failure = None if outcome.cancelled else _UNSTORED
    return replace(outcome, failure=failure, stack_outputs=(), stdout=NO_TEXT, stderr=NO_TEXT)


def _without_texts(closing: Closing) -> Closing:
    """The same without all that is long or free, of which something may be what the store refuses."""
    update, failure = closing.update, closing.update.failure
    update = replace(update, failure=failure and replace(failure, diagnostics=()), stack_outputs=())
    return Closing(update, output_json(update, NO_TEXT, Tail(_TEXTS_UNSTORED)))
