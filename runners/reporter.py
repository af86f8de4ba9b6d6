"""Tells what a run does: to its log at once, and to its record a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from graphql_api.domain.events import ResourceChanged
from graphql_api.domain.progress import Progress, Resources, ResourceState
from graphql_api.domain.records import StackOutput
from runners.changes import FileChanges
from runners.outcome import Outcome, hide, hide_within
from runners.progress import Batch, Follower, StageReached
from runners.record import Record

#: The record shows the progress at most five times a second; the log shows every step.
INTERVAL = timedelta(milliseconds=200)


class Reporter:
    """Follows the commands of one run, hiding the secrets.

    ``expected`` is how many operations on resources there will probably be. ``on_stage`` is called when a step
    towards a command's end was taken. Every method may raise LeaseLost.
    """

    def __init__(
        self,
        record: Record,
        secrets: frozenset[str],
        changes: FileChanges,
        on_stage: Callable[[StageReached], None] | None = None,
        expected: int | None = None,
    ) -> None:
        self._record = record
        self._secrets = secrets
        self._on_stage = on_stage
        self._expected = expected
        self._resources = Resources()
        self._outputs: tuple[StackOutput, ...] = ()
        self._progressed = asyncio.Event()
        self._follower = Follower(changes, lambda text: hide(text, secrets), self._take, record.log.place)

    async def resume(self) -> None:
        """Learn from the log what was told of the resources by an earlier owner."""
        self._resources = await self._record.log.resources()

    def following(self, directory: Path) -> AbstractAsyncContextManager[None]:
        """Follow the command that runs in this directory; leaving waits until all that it left is told."""
        return self._follower.following(directory)

    async def read_rest(self, directory: Path) -> None:
        """Tell what is not yet told of a command that has ended."""
        await self._follower.read_rest(directory)

    async def show_progress(self) -> None:
        """Keep the record's progress and stack outputs up to date, without end."""
        while True:
            await self._progressed.wait()
            self._progressed.clear()
            progress = self._resources.progress(self._expected)
            await self._record.change(lambda update, now: update.progressed(now, progress, self._outputs))  # noqa: B023
            await asyncio.sleep(INTERVAL.total_seconds())

    async def conclude(self, outcome: Outcome) -> Progress:
        """Tell the end of what Pulumi began and did not tell the end of; the progress to which all came."""
        succeeded = outcome.failure is None and not outcome.cancelled
        state = ResourceState.DONE if succeeded else ResourceState.INTERRUPTED
        now = self._record.now()
        ended = [replace(resource, state=state, ended_at=now) for resource in self._resources.unfinished()]
        for resource in ended:
            self._resources.put(resource)
        await self._record.log.append([ResourceChanged(resource) for resource in ended])
        return self._resources.progress(len(self._resources))

    async def _take(self, batch: Batch) -> None:
        await self._record.log.append(batch.happenings, batch.place)
        changed = [what.resource for what in batch.happenings if isinstance(what, ResourceChanged)]
        for resource in changed:
            self._resources.put(resource)
        if batch.stack_outputs is not None:
            self._outputs = tuple(
                replace(output, value=hide_within(output.value, self._secrets)) for output in batch.stack_outputs
            )
        if changed or batch.stack_outputs is not None:
            self._progressed.set()
        if batch.stage is not None and self._on_stage is not None:
            self._on_stage(batch.stage)
