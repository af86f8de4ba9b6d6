"""Watching a stack update until it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

from graphql_api.domain.errors import StackUpdateNotFound
from graphql_api.domain.ports import UpdateStore, Wakeups
from graphql_api.domain.records import StackUpdate, StackUpdateId

#: At most five pushes a second to one watcher; the last is never held back.
PUSH_INTERVAL = timedelta(milliseconds=200)
#: Announcements may be lost: everyone who listens reads again this often.
REREAD_INTERVAL = timedelta(seconds=1)


class Watch:
    """Follows stack updates for as many watchers as there are."""

    def __init__(self, updates: UpdateStore, wakeups: Wakeups) -> None:
        self._updates = updates
        self._wakeups = wakeups

    async def stack_update(self, id_: StackUpdateId) -> AsyncGenerator[StackUpdate, None]:
        """The update as it is now, then as it changes, each revision newer than the one before; ends when it has.

        Changes that follow each other within PUSH_INTERVAL come as one. Raises StackUpdateNotFound.
        """
        clock = asyncio.get_running_loop().time
        interval = PUSH_INTERVAL.total_seconds()
        seen, next_push = 0, 0.0
        async with self._wakeups.listen(id_) as wakeup:
            while True:
                update = await self._updates.get(id_)
                if update is None:
                    raise StackUpdateNotFound(id_)
                held_back = update.revision > seen and not update.ended and clock() < next_push
                if update.revision > seen and not held_back:
                    yield update
                    seen, next_push = update.revision, clock() + interval
                if update.ended:
                    return
                limit = timedelta(seconds=max(next_push - clock(), 0)) if held_back else REREAD_INTERVAL
                await wakeup.wait(limit)
