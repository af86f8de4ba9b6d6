"""What others ask of the owner of a stack update, brought to it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from graphql_api.domain.ports import REQUESTS_TOPIC, CancelRequest, ExtendRequest, Request, Requests, Wakeups
from graphql_api.domain.records import StackUpdateId
from runners.lease import LeaseLost
from runners.patience import PAUSE, persistently

_AT_ONCE = 1000

_log = logging.getLogger("stackcast.worker")


class NotYet(Exception):
    """What is asked of a stack update can't be done before its deployment is in hand again."""


async def heed_requests(requests: Requests, wakeups: Wakeups, heed: Callable[[Request], Awaitable[None]]) -> None:
    """Bring every request to ``heed``, the oldest first, again and again until that raises nothing; without end.

    What was asked before of a stack update that is not in hand yet is asked once.
    """
    heeded = set[str]()
    postponed = set[tuple[StackUpdateId, CancelRequest | ExtendRequest]]()

    async def settle(request: Request) -> None:
        said = request.update_id, request.what
        if said not in postponed and request.id not in heeded:
            try:
                await heed(request)
            except NotYet:
                postponed.add(said)
                raise
            heeded.add(request.id)
        await persistently(lambda: requests.settle(request.id))
        heeded.discard(request.id)

    async with wakeups.listen(REQUESTS_TOPIC) as wakeup:
        while True:
            postponed.clear()
            for request in await _open(requests):
                await _try(settle, request)
            await wakeup.wait(PAUSE)


async def _open(requests: Requests) -> Sequence[Request]:
    try:
        return await persistently(lambda: requests.open(_AT_ONCE))
    except Exception:  # a boundary: they are read again after a pause, whatever was wrong
        _log.exception("what is asked can't be read; it is tried again")
        return ()


async def _try(settle: Callable[[Request], Awaitable[None]], request: Request) -> None:
    try:
        await settle(request)
    except NotYet:
        return
    except LeaseLost as loss:
        _log.warning("what was asked of %s is tried again: %s", request.update_id, loss)
    except Exception:  # a boundary: one request that can't be heeded is not the others' trouble
        _log.exception("what was asked of %s can't be done; it is tried again", request.update_id)
