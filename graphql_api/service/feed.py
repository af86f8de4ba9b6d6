"""A feed of changes: what a store says has changed, each change once, for one listener who may take any time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from graphql_api.domain.errors import StoreUnavailable
from graphql_api.domain.ports import Wakeups
from graphql_api.domain.records import utc_now

#: At most five reads a second for one listener.
READ_INTERVAL = timedelta(milliseconds=200)
#: Announcements may be lost: everyone who listens reads again this often.
REREAD_INTERVAL = timedelta(seconds=1)
#: How far behind the newest change known each read begins. Many changes share a millisecond, and one becomes visible
#: later than its time says: by a store's patience (5 s) and a second try, if the store was slow to take it.
OVERLAP = timedelta(seconds=10)
#: How many changes one read brings.
BATCH = 100

Change = TypeVar("Change")

_log = logging.getLogger("stackcast.watch")


@dataclass(frozen=True, slots=True)
class Version:
    """Which change it is, and when it was made."""

    key: Hashable
    moment: datetime


@dataclass(frozen=True, slots=True)
class Ready:
    """The feed has begun: whatever is not in the store by now will come."""

    at: datetime


class Feed(Generic[Change]):
    """Reads a store's ``changed_since`` again and again, and passes on what it has not seen yet.

    ``version`` tells changes apart. Remembered is only what the overlap of the next read can bring again, and only
    one read's changes are held while the listener takes them: a slow listener just reads later.
    """

    def __init__(
        self,
        wakeups: Wakeups,
        topic: str,
        changed_since: Callable[[datetime, int], Awaitable[Sequence[Change]]],
        version: Callable[[Change], Version],
    ) -> None:
        self._wakeups = wakeups
        self._topic = topic
        self._changed_since = changed_since
        self._version = version
        self._newest = utc_now()
        self._seen: set[Hashable] = set()

    async def follow(self) -> AsyncGenerator[Ready | Change, None]:
        """Ready, then every change that is made from then on, without end.

        Of several changes to one record within a read the last comes. When the store is away it waits for it, before
        Ready as after. After the clock was set back, what it had passed on may come again.
        """
        clock = asyncio.get_running_loop().time
        async with self._wakeups.listen(self._topic) as wakeup:
            await self._skip_earlier()
            yield Ready(utc_now())
            while True:
                next_read = clock() + READ_INTERVAL.total_seconds()
                await wakeup.wait(REREAD_INTERVAL)
                await asyncio.sleep(next_read - clock())
                try:
                    async with aclosing(self._unseen()) as changes:
                        async for change in changes:
                            yield change
                except StoreUnavailable as error:
                    _log.warning("watching %s: %s", self._topic, error)

    async def _skip_earlier(self) -> None:
        """See what is there before Ready, as soon as the store answers: whoever reads after Ready finds it there."""
        while True:
            try:
                async with aclosing(self._unseen()) as earlier:
                    async for _ in earlier:
                        pass
            except StoreUnavailable as error:
                _log.warning("watching %s: %s", self._topic, error)
                await asyncio.sleep(REREAD_INTERVAL.total_seconds())
            else:
                return

    async def _unseen(self) -> AsyncGenerator[Change, None]:
        """What one look at the store shows that none before did.

        A look begins behind the newest change, not behind the last look: what the store takes only after an outage
        bears a time from within it. A clock that was ahead must not let it begin in the future.
        """
        since, limit = min(self._newest, utc_now()) - OVERLAP, BATCH
        within = set[Hashable]()
        while True:
            changes = await self._changed_since(since, limit)
            for change in changes:
                version = self._version(change)
                within.add(version.key)
                self._newest = max(self._newest, version.moment)
                if version.key not in self._seen:
                    self._seen.add(version.key)
                    yield change
            if len(changes) < limit:
                break
            last = self._version(changes[-1]).moment
            limit = 2 * limit if last == since else BATCH  # more of them share one moment than a read brings
            since = last
        self._seen = within
