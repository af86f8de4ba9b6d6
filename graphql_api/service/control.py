"""Control: what others ask of the owner of a stack update, and whether it has heeded that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from graphql_api.domain.errors import BadUserInput, StackUpdateCancelling, StackUpdateEnded, StackUpdateNotFound
from graphql_api.domain.ports import (
    REQUESTS_TOPIC,
    CancelRequest,
    ExtendRequest,
    Request,
    Requests,
    UpdateStore,
    Wakeup,
    Wakeups,
)
from graphql_api.domain.records import (
    CancellationReason,
    CancellationStage,
    StackUpdate,
    StackUpdateId,
    new_id,
    utc_now,
)

#: How long the answer waits for the owner, who may be busy or gone; the request stays either way.
PATIENCE = timedelta(seconds=3)


class Control:
    """Asks the owners of stack updates to end or to go on. Every method may raise StoreUnavailable.

    ``timeout_limit`` is the most that a deployment can get.
    """

    def __init__(self, updates: UpdateStore, requests: Requests, wakeups: Wakeups, timeout_limit: timedelta) -> None:
        self._updates = updates
        self._requests = requests
        self._wakeups = wakeups
        self._timeout_limit = timeout_limit

    async def cancel(self, id_: StackUpdateId, *, force: bool = False, caller: str | None = None) -> StackUpdate:
        """Ask for its end, or with ``force`` for the next stage of an end that has begun; the record as it is then.

        Asking again without force changes nothing. ``caller`` is the caller's name, if they have one. Raises
        StackUpdateNotFound or StackUpdateEnded.
        """
        async with self._wakeups.listen(id_) as wakeup:
            update = await self._under_way(id_)
            begun = update.cancellation
            if begun is not None and (not force or begun.stage is CancellationStage.KILLED):
                return update
            await self._ask(id_, CancelRequest(CancellationReason.ASKED, force, caller))
            stage = begun.stage if begun is not None else CancellationStage.REQUESTED

            def heeded(now: StackUpdate) -> bool:
                return now.ended or (now.cancellation is not None and now.cancellation.stage is not stage)

            return await self._once(id_, wakeup, heeded)

    async def extend(self, id_: StackUpdateId, timeout: timedelta) -> StackUpdate:
        """Ask that it may run for so long from its start, at most for the limit; the record as it is then.

        Raises StackUpdateNotFound, StackUpdateEnded, StackUpdateCancelling, or BadUserInput when it may run for so
        long already.
        """
        async with self._wakeups.listen(id_) as wakeup:
            update = await self._under_way(id_)
            if update.cancellation is not None:
                raise StackUpdateCancelling(update)
            granted = min(timeout, self._timeout_limit)
            if granted <= update.timeout:
                raise BadUserInput(self._not_more(update, timeout), "timeoutSeconds")
            await self._ask(id_, ExtendRequest(granted))

            def heeded(now: StackUpdate) -> bool:
                return now.timeout >= granted or now.ended or now.cancellation is not None

            return await self._once(id_, wakeup, heeded)

    def _not_more(self, update: StackUpdate, timeout: timedelta) -> str:
        given, now, limit = (round(it.total_seconds()) for it in (timeout, update.timeout, self._timeout_limit))
        if now >= limit:
            return f"timeoutSeconds is {now} already, which is the most that this server gives."
        return f"timeoutSeconds must be more than the {now} that it has now, and at most {limit}; it is {given}."

    async def _under_way(self, id_: StackUpdateId) -> StackUpdate:
        update = await self._existing(id_)
        if update.ended:
            raise StackUpdateEnded(update)
        return update

    async def _existing(self, id_: StackUpdateId) -> StackUpdate:
        update = await self._updates.get(id_)
        if update is None:
            raise StackUpdateNotFound(id_)
        return update

    async def _ask(self, id_: StackUpdateId, what: CancelRequest | ExtendRequest) -> None:
        now = utc_now()
        await self._requests.make(Request(new_id(now), id_, now, what))
        await self._wakeups.announce(REQUESTS_TOPIC)

    async def _once(self, id_: StackUpdateId, wakeup: Wakeup, heeded: Callable[[StackUpdate], bool]) -> StackUpdate:
        """The record once the owner has heeded the request, or as it is after PATIENCE."""
        clock = asyncio.get_running_loop().time
        end = clock() + PATIENCE.total_seconds()
        while not heeded(update := await self._existing(id_)) and clock() < end:
            await wakeup.wait(min(timedelta(seconds=1), timedelta(seconds=max(end - clock(), 0))))
        return update
