"""What an earlier life of the service left behind: its processes are ended first, its records second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from graphql_api.domain.ports import Cursor, Slice, StackUpdateFilter, UpdateHistory, UpdateStore
from graphql_api.domain.records import Failure, FailureKind, Phase, StackUpdate, StackUpdateId, Status
from runners.deployment import suspect_all
from runners.lock import StackLock
from runners.outcome import Outcome
from runners.record import persistently
from runners.runs import Run

#: How often an operator is reminded of a run that can't be ended.
REMINDER = timedelta(seconds=60)
_PAGE = 100
_LOST = Failure(
    FailureKind.WORKER_LOST,
    "The service that ran this deployment died before its outcome was recorded. Deploy again; Pulumi goes on from "
    "what is there.",
    retryable=True,
)

_log = logging.getLogger("stackcast.recovery")


async def unsettled(updates: UpdateStore, history: UpdateHistory, runs: Path) -> AsyncIterator[StackUpdate]:
    """Every update that an earlier life had begun and not finished, and every ended one whose run is still there."""
    async for update in _in_progress(history):
        if update.phase is not Phase.QUEUED:
            yield update
    for run in await asyncio.to_thread(Run.leftovers, runs):
        id_ = StackUpdateId(run.update_id)
        leftover = await persistently(lambda id_=id_: updates.get(id_))  # type: ignore[misc]
        if leftover is None:
            _log.warning("the run %s belongs to no stack update in this database; it is left alone", run.directory)
        elif leftover.ended:
            yield leftover


async def end_run(run: Run, lock: StackLock, graces: tuple[timedelta, timedelta]) -> None:
    """End what lives of the run, gracefully first, and take the stack's lock, which proves that nothing does.

    As long as that can't be had, nothing may start on the stack: an operator has to end what holds it.
    """
    while not await run.end_leftover(lock, graces):
        _log.error("something that %s started can't be ended; its stack waits until an operator ends it", run.directory)
        await asyncio.sleep(REMINDER.total_seconds())
    await asyncio.to_thread(suspect_all, run, lock)


def outcome_after_loss(found: Outcome | None) -> Outcome:
    """The outcome to record: Pulumi's own if it came to its end by itself, else that the worker was lost."""
    if found is None:
        return Outcome(_LOST)
    return found if found.failure is None else replace(found, failure=_LOST)


async def _in_progress(history: UpdateHistory) -> AsyncIterator[StackUpdate]:
    where = StackUpdateFilter(statuses=frozenset({Status.IN_PROGRESS}))
    slice_ = Slice(_PAGE)
    while True:
        page = await persistently(lambda slice_=slice_: history.page(slice_, where))  # type: ignore[misc]
        for update in page:
            yield update
        if len(page) < _PAGE:
            return
        slice_ = Slice(_PAGE, after=Cursor(page[-1].created_at, page[-1].id))
