"""The record of one stack update, as the owner of its stack writes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

from graphql_api.domain.errors import RevisionConflict, StoreUnavailable
from graphql_api.domain.ports import UPDATES_TOPIC, UpdateStore, Wakeups
from graphql_api.domain.records import StackUpdate, output_json, utc_now
from runners.lease import Lease
from runners.outcome import Outcome

#: Between two tries at what may come right by itself: a store away, a stack on which somebody works.
PAUSE = timedelta(seconds=1)

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
        """Write the outcome."""
        now = self.now()
        if outcome.failure is None:
            ended = self.update.succeeded(now, outcome.exit_code or 0, outcome.stack_outputs)
        else:
            ended = self.update.failed(now, outcome.failure, outcome.exit_code, outcome.stack_outputs)
        await self.save(ended, output_json(ended, outcome.stdout, outcome.stderr))
        _log.info("%s on %s ended: %s", ended.id, ended.stack_fqdn, ended.failure.kind if ended.failure else "success")

    async def _save(self, update: StackUpdate, output: str | None) -> None:
        if self._lease.lost:
            raise LeaseLost(f"the stack {update.stack_fqdn} was claimed by somebody else")
        try:
            await self._updates.save(update, output)
        except RevisionConflict as conflict:
            raise LeaseLost(conflict.message) from conflict


async def persistently(call: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Make the call until the store answers: an outage of any length delays what is written, and loses nothing."""
    while True:
        try:
            return await call()
        except StoreUnavailable as error:
            _log.warning("waiting for the store: %s", error)
            await asyncio.sleep(PAUSE.total_seconds())
