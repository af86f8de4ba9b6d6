"""Tidying up: what ended long ago is forgotten, a little at a time, beside the work."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from graphql_api.domain.errors import StoreUnavailable
from graphql_api.domain.ports import Retention, UpdateStore
from graphql_api.domain.records import CloudResourceId, StackUpdateId, utc_now
from runners import recovery
from runners.lease import Lease
from runners.past import pasts
from runners.process import session_members
from runners.runs import Run, supervisor_of

#: Between two rounds, unless what is to be kept is kept for less.
INTERVAL = timedelta(hours=1)
#: Between two steps, so that others have their turn at the store and at the disk.
REST = timedelta(milliseconds=20)
_SHORTEST_INTERVAL = timedelta(seconds=1)
_BATCH = 100

_log = logging.getLogger("stackcast.retention")


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """What ended longer than ``age`` ago goes, but for the newest so many of each cloud resource and of each stack.

    ``state`` is Pulumi's state directory where it is the service's own.
    """

    age: timedelta
    newest: int
    runs: Path
    state: Path | None


class _Uncertain(Exception):
    """Another service may have the database by now; the rest is left to the next round."""


class Tidying:
    """Forgets what is kept no longer, in steps with rests between them."""

    def __init__(self, retention: Retention, updates: UpdateStore, settings: RetentionSettings, service: Lease) -> None:
        self._retention = retention
        self._updates = updates
        self._settings = settings
        self._service = service

    async def keep_tidy(self) -> None:
        """Tidy up now, and every INTERVAL again, without end. What goes wrong is logged, and left to the next time."""
        interval = max(min(INTERVAL, self._settings.age), _SHORTEST_INTERVAL)
        while True:
            try:
                await self.tidy_up()
            except _Uncertain:
                _log.warning("tidying up is left to the next time: the claim on the database is not certain")
            except StoreUnavailable as error:
                _log.warning("tidying up is left to the next time: %s", error)
            except Exception:  # a boundary: the next round may go well
                _log.exception("tidying up is left to the next time")
            await asyncio.sleep(interval.total_seconds())

    async def tidy_up(self) -> None:
        """Forget everything that is kept no longer by now, once."""
        before = utc_now() - self._settings.age
        forgotten = await self._forget_updates(before)
        removed = await self._remove_runs(before) + await self._remove_past(before)
        if forgotten or removed:
            _log.info("forgot %d stack updates, removed %d files and run directories", forgotten, removed)

    async def _forget_updates(self, before: datetime) -> int:
        count = 0
        while half := await self._retention.half_forgotten(_BATCH):
            for id_ in half:
                await self._forget(id_)
                count += 1
        resource: CloudResourceId | None = None
        while resources := await self._retention.deployed(resource, _BATCH):
            for resource in resources:
                count += await self._forget_expired(resource, before)
            await self._rest()
        return count

    async def _forget_expired(self, resource: CloudResourceId, before: datetime) -> int:
        count, found = 0, _BATCH
        while found == _BATCH:
            expired = await self._retention.expired(resource, before, self._settings.newest, _BATCH)
            for id_ in expired:
                await self._forget(id_)
            found = len(expired)
            count += found
        return count

    async def _forget(self, id_: StackUpdateId) -> None:
        is_gone = False
        while not is_gone:
            await self._rest()
            is_gone = await self._retention.forget(id_)

    async def _remove_runs(self, before: datetime) -> int:
        """Remove the directories of runs that belong to no stack update any more."""
        count = 0
        for run in await asyncio.to_thread(Run.leftovers, self._settings.runs):
            await self._rest()
            is_known = await self._updates.get(StackUpdateId(run.update_id)) is not None
            if not is_known and await asyncio.to_thread(_is_over, run, before):
                count += await recovery.remove(run)
        return count

    async def _remove_past(self, before: datetime) -> int:
        count = 0
        for past in await asyncio.to_thread(pasts, self._settings.state) if self._settings.state else ():
            await self._rest()
            count += await asyncio.to_thread(past.remove_old, before, self._settings.newest)
        return count

    async def _rest(self) -> None:
        """Give way to others. Raises _Uncertain."""
        if not self._service.certain:
            raise _Uncertain
        await asyncio.sleep(REST.total_seconds())


def _is_over(run: Run, before: datetime) -> bool:
    """Whether nothing was begun in it since the moment, and nothing of it lives. Blocking."""
    try:
        is_old = datetime.fromtimestamp(run.directory.stat().st_mtime, UTC) < before
    except FileNotFoundError:
        return False
    supervisors = [supervisor_of(directory) for directory in run.directories()]
    return is_old and not any(one and session_members(one.pid) for one in supervisors)
