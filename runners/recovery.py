"""What an earlier life of the service left behind. Where nobody goes on with it, its processes are ended first, its
record second.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from graphql_api.domain.ports import Cursor, Slice, StackUpdateFilter, UpdateHistory, UpdateStore
from graphql_api.domain.records import Failure, Phase, StackUpdate, StackUpdateId, Status
from runners.changes import FileChanges
from runners.deployment import Deployer, suspect_all
from runners.lock import StackLock
from runners.outcome import WORKER_LOST, Outcome, stop_of
from runners.patience import pauses, persistently
from runners.record import Record
from runners.reporter import Reporter
from runners.runs import Run

#: How often an operator is reminded of a run that can't be ended.
REMINDER = timedelta(seconds=60)
_PAGE = 100

_log = logging.getLogger("stackcast.recovery")


async def unsettled(updates: UpdateStore, history: UpdateHistory, runs: Path) -> list[StackUpdate]:
    """Every update that an earlier life had begun and not finished, and every ended one whose run is still there.

    Each once, the oldest first. A record that can't be read is logged and passed over: it doesn't hold up the others.
    """
    found = {update.id: update for update in await _in_progress(history)}
    for run in await asyncio.to_thread(Run.leftovers, runs):
        if run.update_id not in found and (update := await _of_run(run, updates)):
            found[update.id] = update
    begun = [update for update in found.values() if update.phase is not Phase.QUEUED]
    return sorted(begun, key=lambda update: (update.created_at, update.id))


async def _of_run(run: Run, updates: UpdateStore) -> StackUpdate | None:
    try:
        update = await persistently(lambda: updates.get(StackUpdateId(run.update_id)))
    except Exception:  # a boundary: one record that can't be read is not the others' trouble
        _log.exception("the record of the run %s can't be read; the run is left alone", run.directory)
        return None
    if update is None:
        _log.warning("the run %s belongs to no stack update in this database; it is left alone", run.directory)
    return update


async def end_run(run: Run, lock: StackLock, graces: tuple[timedelta, timedelta]) -> None:
    """End what lives of the run, gracefully first, and take the stack's lock, which proves that nothing does.

    As long as that can't be had, nothing may start on the stack: an operator has to end what holds it.
    Where the operating system refuses a step, such as for want of a file descriptor, all steps are taken again.
    """
    for pause in pauses():
        try:
            await _end(run, lock, graces)
        except OSError:
            _log.exception("ending what %s started was refused; it is tried again", run.directory)
        else:
            return
        await asyncio.sleep(pause.total_seconds())


async def _end(run: Run, lock: StackLock, graces: tuple[timedelta, timedelta]) -> None:
    while not await run.end_leftover(lock, graces):
        _log.error("something that %s started can't be ended; its stack waits until an operator ends it", run.directory)
        await asyncio.sleep(REMINDER.total_seconds())
    await asyncio.to_thread(suspect_all, run, lock)


async def remove(run: Run) -> bool:
    """Remove the run's directory; False where that is refused, for which nobody has to wait."""
    try:
        await run.remove()
    except OSError:
        _log.exception("%s can't be removed; it is tried again later, or remove it", run.directory)
        return False
    return True


async def conclude(
    record: Record, run: Run, deployer: Deployer, changes: FileChanges, loss: Failure = WORKER_LOST
) -> None:
    """Tell what is not yet told of a run of which nothing lives, and record how it ended. May raise LeaseLost."""
    reporter = Reporter(record, await asyncio.to_thread(deployer.secrets), changes)
    await reporter.resume()
    for directory in await asyncio.to_thread(run.directories):
        try:
            await reporter.read_rest(directory)
        except OSError:
            _log.exception("what %s left can't be read; its log ends here", directory)
    update = record.update
    found = await asyncio.to_thread(deployer.outcome_of, run, update.timeout, stop_of(update.cancellation))
    outcome = found.after(loss) if found else Outcome(loss)
    await record.finish(outcome, await reporter.conclude(outcome))


async def _in_progress(history: UpdateHistory) -> list[StackUpdate]:
    newest_first, is_whole = await _readable(history, from_end=False)
    if is_whole:
        return newest_first
    # What lies behind a record that can't be read is reached from the other end.
    oldest_first, _ = await _readable(history, from_end=True)
    return [*newest_first, *oldest_first]


async def _readable(history: UpdateHistory, *, from_end: bool) -> tuple[list[StackUpdate], bool]:
    """The updates in progress from one end of the list to the other, or to the first that can't be read: then False."""
    found: list[StackUpdate] = []
    where = StackUpdateFilter(statuses=frozenset({Status.IN_PROGRESS}))
    slice_ = Slice(_PAGE, from_end=from_end)
    while True:
        try:
            page = await persistently(lambda slice_=slice_: history.page(slice_, where))  # type: ignore[misc]
        except Exception:  # a boundary: one record that can't be read is not the others' trouble
            if slice_.limit > 1:
                slice_ = replace(slice_, limit=slice_.limit // 2)
                continue
            _log.exception("a stack update in progress can't be read and is passed over; correct it or delete it")
            return found, False
        found.extend(page)
        if len(page) < slice_.limit:
            return found, True
        last = page[0] if from_end else page[-1]
        place = Cursor(last.created_at, last.id)
        slice_ = replace(slice_, before=place) if from_end else replace(slice_, after=place)
