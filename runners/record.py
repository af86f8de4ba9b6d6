"""The record of one stack update, as the owner of its stack writes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from graphql_api.domain.errors import RevisionConflict, StoreUnavailable
from graphql_api.domain.ports import UPDATES_TOPIC, UpdateStore, Wakeups
from graphql_api.domain.records import Failure, FailureKind, StackUpdate, output_json, utc_now
from runners.lease import Lease
from runners.outcome import NO_TEXT, Outcome

#: Between two tries at what may come right by itself: a store away, a stack on which somebody works.
PAUSE = timedelta(seconds=1)
#: Pauses between tries at what may need an operator grow up to this.
LONGEST_PAUSE = timedelta(seconds=60)

_UNSTORED = Failure(
    FailureKind.INTERNAL,
    "The deployment ended, but the database refused to store its outcome; the service's log says why. Look at the "
    "stack with `pulumi stack`, then deploy again.",
    retryable=True,
)

_log = logging.getLogger("stackcast.worker")
_Answer = TypeVar("_Answer")


class LeaseLost(Exception):
    """Somebody else claimed the stack or changed the record; they write from here on."""


class Record:
    """Writes a stack update's changes, each first to the store, then to whoever listens.

    A store that is away is waited for. Raises LeaseLost once the stack is no longer ours.
    """

    def __init__(self, update: StackUpdate, lease: Lease, updates: UpdateStore, wakeups: Wakeups) -> None:
        self.update = update
        self._lease = lease
        self._updates = updates
        self._wakeups = wakeups

    async def save(self, update: StackUpdate, output: str | None = None) -> None:
        """Put ``update``, one revision newer, in the place of the record."""
        await persistently(lambda: self._save(update, output))
        self.update = update
        for topic in (update.id, UPDATES_TOPIC):
            await self._wakeups.announce(topic)

    def now(self) -> datetime:
        """The time, never before the record's last change, even when the clock was set back meanwhile."""
        return max(utc_now(), self.update.updated_at)

    async def finish(self, outcome: Outcome) -> None:
        """Write the outcome; where the store refuses it, at least that there was one.

        Where it refuses that, too, all is tried again until an operator has made it possible, since a record left open
        would have no owner any more.
        """
        for pause in pauses():
            if await self._finished(outcome) or await self._finished(_least(outcome)):
                return
            await asyncio.sleep(pause.total_seconds())

    async def _finished(self, outcome: Outcome) -> bool:
        now = self.now()
        if outcome.failure is None:
            ended = self.update.succeeded(now, outcome.exit_code or 0, outcome.stack_outputs)
        else:
            ended = self.update.failed(now, outcome.failure, outcome.exit_code, outcome.stack_outputs)
        try:
            await self.save(ended, output_json(ended, outcome.stdout, outcome.stderr))
        except LeaseLost:
            raise
        except Exception:  # a boundary: whatever is wrong with what was to be stored, something else may be stored
            _log.exception("%s: storing its outcome was refused", ended.id)
            return False
        _log.info("%s on %s ended: %s", ended.id, ended.stack_fqdn, ended.failure.kind if ended.failure else "success")
        return True

    async def _save(self, update: StackUpdate, output: str | None) -> None:
        if self._lease.lost:
            raise LeaseLost(f"the stack {update.stack_fqdn} was claimed by somebody else")
        try:
            await self._updates.save(update, output)
        except RevisionConflict as conflict:
            raise LeaseLost(conflict.message) from conflict


def _least(outcome: Outcome) -> Outcome:
    return replace(outcome, failure=_UNSTORED, stack_outputs=(), stdout=NO_TEXT, stderr=NO_TEXT)


def pauses() -> Iterator[timedelta]:
    """The pauses between tries at what may need an operator, without end: each twice the one before, up to a limit."""
    pause = PAUSE
    while True:
        yield pause
        pause = min(pause * 2, LONGEST_PAUSE)


async def persistently(call: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Make the call until the store answers: an outage of any length delays what is written, and loses nothing."""
    while True:
        try:
            return await call()
        except StoreUnavailable as error:
            _log.warning("waiting for the store: %s", error)
            await asyncio.sleep(PAUSE.total_seconds())
