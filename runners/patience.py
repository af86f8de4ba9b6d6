"""Trying again what may come right by itself or through an operator, and doing things beside one another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

from graphql_api.domain.errors import StoreUnavailable
from runners.lease import LeaseLost

#: Between two tries at what may come right by itself: a store away, a stack on which somebody works.
PAUSE = timedelta(seconds=1)
#: Pauses between tries at what may need an operator grow up to this.
LONGEST_PAUSE = timedelta(seconds=60)

_log = logging.getLogger("stackcast.worker")
_Answer = TypeVar("_Answer")


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


async def insistently(what: str, *ways: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Go these ways in turn until one is not refused, with growing pauses: an operator can correct what is wrong.

    ``what`` names in the service's log what was refused. Raises LeaseLost: then it is somebody else's to do.
    """
    pausing = pauses()
    while True:
        for way in ways:
            try:
                return await persistently(way)
            except LeaseLost:
                raise
            except Exception:  # a boundary: nobody else would do what was to be done
                _log.exception("%s was refused; it is tried again", what)
        await asyncio.sleep(next(pausing).total_seconds())


async def to_the_end(work: Coroutine[Any, Any, _Answer]) -> _Answer:
    """Await work that must not be left half done; a cancellation that comes meanwhile is raised afterwards."""
    task = asyncio.create_task(work, name="to-the-end")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, so that it is not reported as lost; the cancellation is what counts
        raise cancelled
    return task.result()


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do the work beside the body, and end it with the body.

    What any of them raises ends all, and comes out as it is, not in a group.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one) for one in work]
            yield
            for task in running:
                task.cancel()
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
