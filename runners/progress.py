"""Following the commands of a run: what they write into their files becomes what happened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from graphql_api.domain.events import Happening, LogLine, Stream
from graphql_api.domain.progress import ResourceOperation
from graphql_api.domain.records import StackOutput, utc_now
from runners import engine
from runners.changes import FileChanges, WatchedDirectory
from runners.engine import LiveReport, OperationKey
from runners.lines import LOOKED_AT, Place, Splitter, readable
from runners.runs import read_json

#: How much of each file one batch brings: of the streams both together 256 KiB of text at most.
READ_BYTES = 64 * 1024
READ_LINES = 330
#: How many operations in progress are noted for a successor, the newest; of others it knows the end only.
NOTED = 100
#: Nothing is lost without it: files are looked at so often even when the kernel tells of no change.
LOOK = timedelta(seconds=10)

#: After a look that the operating system refused.
RETRY = timedelta(seconds=1)

_log = logging.getLogger("stackcast.worker")


@dataclass(frozen=True, slots=True)
class StageReached:
    """A step that the supervisor took to end its command, why ("deadline", "asked"), and when the next one is due."""

    stage: str
    reason: str
    at: datetime
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What was new in a command's files: first the ``happenings``, then the ``stage``; None where there is no news.

    ``place`` says what has been read once this batch is dealt with, of all commands, in JSON's values. No text of the
    happenings holds a secret; the values of the outputs may, beside those that Pulumi marks.
    """

    happenings: tuple[Happening, ...]
    stack_outputs: tuple[StackOutput, ...] | None
    stage: StageReached | None
    place: Mapping[str, Any]

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to tell."""
        return not self.happenings and self.stack_outputs is None and self.stage is None


class Follower:
    """Follows the commands of one run, one after the other, and hands over what they write, in batches.

    It goes on where an earlier one, which had come to ``place``, has stopped. While ``take`` waits nothing is read; a
    batch that it refuses, by raising, is given again by whoever goes on at the place before.
    """

    def __init__(
        self,
        changes: FileChanges,
        hide: Callable[[str], str],
        take: Callable[[Batch], Awaitable[None]],
        place: Mapping[str, Any],
    ) -> None:
        self._changes = changes
        self._hide = hide
        self._take = take
        self._place = place

    @asynccontextmanager
    async def following(self, directory: Path) -> AsyncIterator[None]:
        """Follow the command that runs there, or will, until leaving; by then all that it wrote has been handed over.

        When the body raises or is cancelled, reading stops at once. What ``take`` raises ends the reading at once but
        comes out only when the body has ended: the command is not its business. OSError where a file can't be read
        even then.
        """
        with self._changes.watching(directory) as watched:
            ended = asyncio.Event()
            reading = asyncio.create_task(self._follow(watched, ended), name=f"follow {directory.name}")
            try:
                yield
            except BaseException:
                await _stop(reading)
                raise
            ended.set()
            watched.wake()
            await reading

    async def read_rest(self, directory: Path) -> None:
        """Hand over all that was not read yet of a command that has ended."""
        await self._pass_on(_CommandFiles(directory, self._hide, self._place), at_end=True)

    async def _follow(self, watched: WatchedDirectory, ended: asyncio.Event) -> None:
        files = _CommandFiles(watched.path, self._hide, self._place)
        while not ended.is_set():
            try:
                await self._pass_on(files, at_end=False)
            except OSError as error:  # such as for want of a file descriptor; it counts if it is still so at the end
                _log.warning("what %s writes can't be read now: %s", watched.path, error)
                files = _CommandFiles(watched.path, self._hide, self._place)  # what had been read was not handed over
                await asyncio.sleep(RETRY.total_seconds())
            await watched.wait(LOOK)
        await self._pass_on(files, at_end=True)

    async def _pass_on(self, files: _CommandFiles, *, at_end: bool) -> None:
        """Hand over what is there now; ``at_end`` also what is no whole line."""
        has_more = True
        while has_more:
            batch, has_more = await asyncio.to_thread(files.read, at_end=at_end)
            if not batch.is_empty:
                await self._take(batch)
            self._place = batch.place


async def _stop(reading: asyncio.Task[None]) -> None:
    reading.cancel()
    await asyncio.wait([reading])
    if not reading.cancelled() and (error := reading.exception()):
        _log.warning("%s: reading had failed before", reading.get_name(), exc_info=error)


class _CommandFiles:
    """What a command writes into its directory, and how far that was read. All of it is blocking."""

    def __init__(self, directory: Path, hide: Callable[[str], str], place: Mapping[str, Any]) -> None:
        self._directory = directory
        self._hide = hide
        self._others = place
        mine = place.get(directory.name, {})
        self._report = LiveReport(hide, _in_progress(mine.get("in_progress", ())))
        self._given_outputs = self._report.stack_outputs
        self._given_stage = mine.get("stage")
        self._found_stage: tuple[dict[str, Any], list[int]] | None = None
        keep = {"events": engine.LINE_LIMIT, **{stream.value: LOOKED_AT for stream in Stream}}
        self._files = {name: _GrowingFile(directory / name, keep[name], mine.get(name, {})) for name in keep}

    def read(self, *, at_end: bool) -> tuple[Batch, bool]:
        """What is new, and whether there is more to read at once; ``at_end`` when nothing more will be written."""
        self._look_for_stage()
        happenings = (*self._told(), *self._printed(at_end=at_end))
        has_more = any(file.has_more for file in self._files.values())
        stage = self._reached_stage(has_more=has_more)
        batch = Batch(happenings, self._new_outputs(), stage, {**self._others, self._directory.name: self._place()})
        return batch, has_more or stage is not None

    def _told(self) -> Iterator[Happening]:
        lines, now = self._files["events"].read(), utc_now()
        for line in lines:
            yield from self._report.happenings(line, now)

    def _printed(self, *, at_end: bool) -> Iterator[Happening]:
        for stream in Stream:
            for text, truncated in readable(self._files[stream].read(at_end=at_end), self._hide):
                yield LogLine(stream, text, truncated)

    def _new_outputs(self) -> tuple[StackOutput, ...] | None:
        outputs = self._report.stack_outputs
        is_new, self._given_outputs = outputs != self._given_outputs, outputs
        return outputs if is_new else None

    def _look_for_stage(self) -> None:
        """Note a stage that was not given yet, and how long the files are: what they say until there comes before."""
        if self._found_stage is None:
            stage = read_json(self._directory / "stage.json")
            if stage is not None and stage != self._given_stage:
                self._found_stage = stage, [file.size() for file in self._files.values()]

    def _reached_stage(self, *, has_more: bool) -> StageReached | None:
        if self._found_stage is None:
            return None
        stage, sizes = self._found_stage
        if has_more and any(file.position < size for file, size in zip(self._files.values(), sizes, strict=True)):
            return None
        self._given_stage, self._found_stage = stage, None
        next_at = None if stage["next_at"] is None else _moment(stage["next_at"])
        return StageReached(stage["stage"], stage["reason"], _moment(stage["at"]), next_at)

    def _place(self) -> dict[str, Any]:
        newest = list(self._report.in_progress.items())[-NOTED:]
        return {
            **{name: asdict(file.place) for name, file in self._files.items()},
            "in_progress": [
                {"urn": urn, "operation": operation.value, "started_at": started_at.isoformat()}
                for (urn, operation), started_at in newest
            ],
            "stage": self._given_stage,
        }


class _GrowingFile:
    """A file that others write, read piece by piece; ``has_more`` when the last piece may not have been all."""

    def __init__(self, path: Path, keep: int, place: Mapping[str, Any]) -> None:
        self.has_more = False
        self._path = path
        self._splitter = Splitter(keep, Place(**place))

    @property
    def place(self) -> Place:
        return self._splitter.place

    @property
    def position(self) -> int:
        return self._splitter.position

    def size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, *, at_end: bool = False) -> list[bytes]:
        """The next lines; ``at_end`` also what follows the last end of a line."""
        read = self._read_bytes()
        data = _first_lines(read, READ_LINES)
        self.has_more = len(read) == READ_BYTES or len(data) < len(read)
        lines = self._splitter.feed(data)
        return lines + self._splitter.end() if at_end and not self.has_more else lines

    def _read_bytes(self) -> bytes:
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._splitter.position)
                return file.read(READ_BYTES)
        except FileNotFoundError:
            return b""


def _first_lines(data: bytes, count: int) -> bytes:
    *lines, rest = data.split(b"\n", count)
    return data[: len(data) - len(rest)] if len(lines) == count else data


def _in_progress(noted: Iterable[Mapping[str, str]]) -> dict[OperationKey, datetime]:
    return {
        (one["urn"], ResourceOperation(one["operation"])): datetime.fromisoformat(one["started_at"]) for one in noted
    }


def _moment(seconds: float) -> datetime:
    """A time in seconds since 1970, cut to the milliseconds that are stored."""
    return datetime.fromtimestamp(int(seconds * 1000) / 1000, UTC)
