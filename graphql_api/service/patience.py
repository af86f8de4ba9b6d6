"""Patience with a store that is away: whoever watches waits for it, however long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from graphql_api.domain.errors import StoreUnavailable

#: Announcements may be lost, and stores away: everyone who listens reads again this often.
REREAD_INTERVAL = timedelta(seconds=1)

T = TypeVar("T")

_log = logging.getLogger("stackcast.watch")


async def patiently(what: str, read: Callable[[], Awaitable[T]]) -> T:
    """What is read as soon as the store answers; ``what`` says in the log, once, what waits for it."""
    told = False
    while True:
        try:
            return await read()
        except StoreUnavailable as error:
            if not told:
                _log.warning("watching %s waits for the store: %s", what, error)
            told = True
            await asyncio.sleep(REREAD_INTERVAL.total_seconds())
