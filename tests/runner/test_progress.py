"""Following the commands of a run: real files, written while they are read."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphql_api.domain.events import (
    LINE_LIMIT,
    DiagnosticReported,
    Happening,
    LogLine,
    ResourceChanged,
    Severity,
    Stream,
)
from graphql_api.domain.progress import ResourceState
from graphql_api.domain.records import StackOutput
from runners.changes import FileChanges
from runners.lines import LOOKED_AT
from runners.progress import LOOK, NOTED, READ_BYTES, READ_LINES, Batch, Follower, StageReached
from tests.builders import NOON

from .waiting import LIMIT, eventually

SECRET = "hunter2-long"  # noqa: S105 (of nobody)
STACK_URN = "urn:pulumi:dev::shop::pulumi:pulumi:Stack::shop-dev"
FILE_URN = "urn:pulumi:dev::shop::filetest:index:File::"
ANYTHING = settings(deadline=None, database=None, max_examples=40)

Take = Callable[[Batch], Awaitable[None]]


def hide(text: str) -> str:
    return text.replace(SECRET, "[secret]")


class Taken:
    """Takes batches; ``refuse_at`` is the number of one that it refuses."""

    def __init__(self, refuse_at: int | None = None) -> None:
        self.batches: list[Batch] = []
        self.refuse_at = refuse_at

    async def __call__(self, batch: Batch) -> None:
        if len(self.batches) == self.refuse_at:
            raise Refused
        self.batches.append(batch)

    @property
    def happenings(self) -> list[Happening]:
        return [happening for batch in self.batches for happening in batch.happenings]

    @property
    def place(self) -> Mapping[str, Any]:
        return through_json(self.batches[-1].place) if self.batches else {}

    @property
    def stages(self) -> list[StageReached]:
        return [batch.stage for batch in self.batches if batch.stage]

    def texts(self, stream: Stream = Stream.STDOUT) -> list[str]:
        return [one.text for one in self.happenings if isinstance(one, LogLine) and one.stream is stream]


class Refused(Exception):
    """A batch was not taken."""


def through_json(place: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a store makes of a place."""
    loaded: Mapping[str, Any] = json.loads(json.dumps(place))
    return loaded


@pytest.fixture
async def changes() -> AsyncIterator[FileChanges]:
    async with FileChanges() as changes:
        yield changes


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A command's directory."""
    directory = tmp_path / "02-up"
    directory.mkdir()
    return directory


@pytest.fixture
def follow(changes: FileChanges) -> Callable[..., Follower]:
    def follow(take: Take, place: Mapping[str, Any] | None = None) -> Follower:
        return Follower(changes, hide, take, place or {})

    return follow


Follow = Callable[..., Follower]


def append(file: Path, content: str | bytes) -> None:
    with file.open("ab") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def event(**content: Any) -> str:
    """A line of the event log, as the engine writes it."""
    return json.dumps({"sequence": 0, "timestamp": 0, **content}, separators=(",", ":")) + "\n"


def step(kind: str, op: str = "create", name: str = "one") -> str:
    return event(**{kind: {"metadata": {"op": op, "urn": FILE_URN + name, "type": "filetest:index:File"}}})


def diagnostic(severity: str, message: str) -> str:
    return event(diagnosticEvent={"message": message, "severity": severity})


def stack_outputs(**outputs: Any) -> str:
    metadata = {"op": "same", "urn": STACK_URN, "type": "pulumi:pulumi:Stack", "new": {"outputs": outputs}}
    return event(resOutputsEvent={"metadata": metadata})


def reach(directory: Path, stage: str, next_at: float | None = None) -> None:
    """Write a stage as the supervisor does."""
    draft = directory / "stage.json.draft"
    draft.write_text(json.dumps({"stage": stage, "reason": "asked", "at": 1000.1239, "next_at": next_at}))
    draft.rename(directory / "stage.json")


# --- what is handed over


async def test_what_is_written_is_handed_over_while_the_command_runs(follow: Follow, directory: Path) -> None:
    """Each stream's lines as they come, and what the event log tells."""
    taken = Taken()

    async with follow(taken).following(directory):
        append(directory / "stdout", "one\n")
        await eventually(lambda: taken.texts() == ["one"])
        append(directory / "stderr", "two\n")
        await eventually(lambda: taken.texts(Stream.STDERR) == ["two"])
        append(directory / "events", step("resourcePreEvent") + diagnostic("warning", "three\n"))
        await eventually(lambda: len(taken.happenings) == 4)

    begun, reported = taken.happenings[2:]
    assert isinstance(begun, ResourceChanged)
    assert begun.resource.state is ResourceState.IN_PROGRESS
    assert reported == DiagnosticReported(Severity.WARNING, "three")


async def test_the_directory_may_appear_later(follow: Follow, tmp_path: Path) -> None:
    """A command is followed before it begins."""
    taken, directory = Taken(), tmp_path / "01-init"

    async with follow(taken).following(directory):
        directory.mkdir()
        append(directory / "stdout", "one\n")
        await eventually(lambda: taken.texts() == ["one"])


async def test_half_a_line_waits_for_its_end(follow: Follow, directory: Path) -> None:
    """What a program writes in pieces is one line; at the command's end the rest is one, except an event's half."""
    taken = Taken()

    async with follow(taken).following(directory):
        append(directory / "stdout", "half")
        append(directory / "stderr", "x\n")
        await eventually(lambda: taken.texts(Stream.STDERR) == ["x"])
        assert taken.texts() == []
        append(directory / "stdout", " and half\nrest")
        append(directory / "events", step("resourcePreEvent") + step("resOutputsEvent").strip())
        await eventually(lambda: taken.texts() == ["half and half"])

    assert taken.texts() == ["half and half", "rest"]
    assert sum(isinstance(one, ResourceChanged) for one in taken.happenings) == 1


async def test_all_is_handed_over_by_the_end(follow: Follow, directory: Path) -> None:
    """However much was written just before the command ended, and however short the command was."""
    taken = Taken()

    async with follow(taken).following(directory):
        append(directory / "stdout", "".join(f"{number}\n" for number in range(20_000)))

    assert taken.texts() == [str(number) for number in range(20_000)]


async def test_secrets_and_colours_are_left_out(follow: Follow, directory: Path) -> None:
    """From lines and from messages."""
    taken = Taken()
    append(directory / "stdout", f"a {SECRET}\n\x1b[31mred\x1b[0m\n")
    append(directory / "events", diagnostic("error", f"\x1b[31m{SECRET}\n"))

    await follow(taken).read_rest(directory)

    assert taken.happenings == [
        DiagnosticReported(Severity.ERROR, "[secret]"),
        LogLine(Stream.STDOUT, "a [secret]"),
        LogLine(Stream.STDOUT, "red"),
    ]


async def test_outputs_are_handed_over_when_they_are_new(follow: Follow, directory: Path) -> None:
    """None is no news; what is told again is none either; no outputs at all can be news."""
    taken = Taken()

    async with follow(taken).following(directory):
        for content in (stack_outputs(a=1), stack_outputs(a=1), stack_outputs()):
            append(directory / "events", content + diagnostic("warning", "x"))
            count = len(taken.happenings) + 1
            await eventually(lambda count=count: len(taken.happenings) == count)  # type: ignore[misc]

    assert [batch.stack_outputs for batch in taken.batches] == [(StackOutput("a", 1),), None, ()]


async def test_what_tells_nothing_is_not_handed_over(follow: Follow, directory: Path) -> None:
    """A program's words stand on standard output; that they stand in the event log too is nobody's news."""
    taken = Taken()
    append(directory / "events", diagnostic("info", "words\n\n") * 5000)

    await follow(taken).read_rest(directory)

    assert taken.batches == []


async def test_a_batch_is_bounded(follow: Follow, directory: Path) -> None:
    """However much there is, in many lines or in long ones, a batch can be stored and held in memory."""
    taken = Taken()
    for file in ("stdout", "stderr"):
        append(directory / file, "\n" * 5000 + ("x" * 1000 + "\n") * 1000 + ("y" * 500_000 + "\n") * 10 + "z" * 70_000)
    append(directory / "events", step("resourcePreEvent", name="n") * 10 + diagnostic("warning", "w" * 1000) * 2000)

    await follow(taken).read_rest(directory)

    for batch in taken.batches:
        lines = [one for one in batch.happenings if isinstance(one, LogLine)]
        assert len(batch.happenings) <= 1000
        assert sum(len(line.text) for line in lines) <= 256 * 1024
    assert len(taken.texts()) == len(taken.texts(Stream.STDERR)) == 6011
    assert sum(isinstance(one, DiagnosticReported) for one in taken.happenings) == 2000


async def test_nothing_is_read_while_a_batch_is_not_taken(follow: Follow, directory: Path) -> None:
    """A slow store slows the reading, and nothing else: the files keep what comes meanwhile."""
    taken, free, entered = Taken(), asyncio.Event(), asyncio.Event()

    async def slow(batch: Batch) -> None:
        entered.set()
        await free.wait()
        await taken(batch)

    async with follow(slow).following(directory):
        append(directory / "stdout", "one\n")
        await entered.wait()
        for number in range(3):
            append(directory / "stdout", f"{number}\n")
        free.set()
        await eventually(lambda: len(taken.texts()) == 4)

    assert [len(batch.happenings) for batch in taken.batches] == [1, 3]


async def test_several_commands_are_followed_one_after_the_other(follow: Follow, tmp_path: Path) -> None:
    """The place is that of all of them."""
    taken = Taken()
    follower = follow(taken)

    for name in ("01-init", "02-up"):
        async with follower.following(tmp_path / name):
            (tmp_path / name).mkdir()
            append(tmp_path / name / "stdout", f"{name}\n")

    again = Taken()
    successor = follow(again, taken.place)
    for name in ("01-init", "02-up"):
        await successor.read_rest(tmp_path / name)

    assert taken.texts() == ["01-init", "02-up"]
    assert again.batches == []


async def test_a_missing_file_is_empty(follow: Follow, tmp_path: Path) -> None:
    """A command that never began wrote nothing."""
    taken = Taken()

    await follow(taken).read_rest(tmp_path / "missing")
    async with follow(taken).following(tmp_path / "missing"):
        pass

    assert taken.batches == []


# --- when it ends otherwise


async def test_when_the_body_fails_reading_stops_at_once(follow: Follow, directory: Path) -> None:
    """Its error comes out as it is; what was not read is left to who comes after."""
    taken = Taken()

    async def failing() -> None:
        async with follow(taken).following(directory):
            append(directory / "stdout", "one\n")
            await eventually(taken.texts)
            append(directory / "stdout", "two\n")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await failing()
    assert taken.texts() == ["one"]

    await follow(taken, taken.place).read_rest(directory)
    assert taken.texts() == ["one", "two"]


async def test_when_cancelled_it_does_not_wait_for_a_batch_to_be_taken(follow: Follow, directory: Path) -> None:
    """A store that is away does not hold up the end of the service; the batch counts as not taken."""
    taking = asyncio.Event()

    async def stuck(_: Batch) -> None:
        taking.set()
        await asyncio.Event().wait()

    async def following() -> None:
        async with follow(stuck).following(directory):
            append(directory / "stdout", "one\n")
            await asyncio.Event().wait()

    task = asyncio.create_task(following())
    await taking.wait()
    task.cancel()
    await asyncio.wait([task], timeout=LIMIT)

    assert task.cancelled()
    assert not [one for one in asyncio.all_tasks() if one.get_name().startswith("follow")]


async def test_when_cancelled_while_the_rest_is_taken_it_ends(follow: Follow, directory: Path) -> None:
    """After the command's end nothing is left to wait for either."""
    taking = asyncio.Event()

    async def stuck(_: Batch) -> None:
        taking.set()
        await asyncio.Event().wait()

    async def following() -> None:
        async with follow(stuck).following(directory):
            append(directory / "stdout", "one\n")

    task = asyncio.create_task(following())
    await taking.wait()
    task.cancel()
    await asyncio.wait([task], timeout=LIMIT)

    assert task.cancelled()
    assert not [one for one in asyncio.all_tasks() if one.get_name().startswith("follow")]


async def test_a_batch_that_is_refused_does_not_disturb_the_command(follow: Follow, directory: Path) -> None:
    """The refusal comes out as it is, once the command has ended; nothing is read after it; it can be given again."""
    taken, ended = Taken(refuse_at=1), False
    follower = follow(taken)

    async def following() -> None:
        nonlocal ended
        async with follower.following(directory):
            append(directory / "stdout", "one\n")
            await eventually(taken.texts)
            append(directory / "stdout", "two\n")
            await eventually(lambda: not any(task.get_name() == "follow 02-up" for task in asyncio.all_tasks()))
            append(directory / "stdout", "three\n")
            ended = True

    with pytest.raises(Refused):
        await following()
    assert ended
    assert taken.texts() == ["one"]

    taken.refuse_at = None
    await follower.read_rest(directory)
    assert taken.texts() == ["one", "two", "three"]


async def test_of_two_errors_the_commands_comes_out(
    follow: Follow, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The other one is logged."""

    async def failing() -> None:
        async with follow(Taken(refuse_at=0)).following(directory):
            append(directory / "stdout", "one\n")
            await eventually(lambda: not any(task.get_name() == "follow 02-up" for task in asyncio.all_tasks()))
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await failing()
    (record,) = caplog.records
    assert record.exc_info
    assert record.exc_info[0] is Refused


@pytest.mark.parametrize("file", ["stdout", "stderr", "events", "stage.json"])
async def test_a_file_that_can_not_be_read_is_an_error(follow: Follow, directory: Path, file: str) -> None:
    """What the operating system says comes out: nobody takes a broken disk for silence."""
    (directory / file).mkdir()

    with pytest.raises(IsADirectoryError):
        await follow(Taken()).read_rest(directory)
    with pytest.raises(IsADirectoryError):
        async with follow(Taken()).following(directory):
            pass


async def test_trouble_that_passes_costs_nothing(follow: Follow, directory: Path) -> None:
    """Where a file can't be read for a while, such as for want of a descriptor, all is told once it can."""
    taken = Taken()
    (directory / "stderr").mkdir()
    async with follow(taken).following(directory):
        (directory / "stdout").write_text("one\ntwo\n")
        await asyncio.sleep(0.1)  # a look, which is refused
        assert taken.texts() == []
        (directory / "stderr").rmdir()
        await eventually(lambda: taken.texts() == ["one", "two"])

    assert taken.texts() == ["one", "two"]


async def test_a_damaged_stage_says_nothing(follow: Follow, directory: Path) -> None:
    """After a power failure it may be empty for ever: what the command printed is handed over all the same."""
    (directory / "stage.json").write_bytes(b"")
    (directory / "stdout").write_bytes(b"said\n")
    taken = Taken()

    await follow(taken).read_rest(directory)

    assert (taken.texts(), taken.stages) == (["said"], [])


# --- stages


async def test_each_stage_is_handed_over_once(follow: Follow, directory: Path) -> None:
    """As soon as it is reached, with its times cut to what is stored; to a successor only the next one."""
    taken, again = Taken(), Taken()

    async with follow(taken).following(directory):
        reach(directory, "interrupted", next_at=2000.5)
        await eventually(lambda: len(taken.stages) == 1)
        append(directory / "stdout", "a line\n")
        await eventually(taken.texts)
        reach(directory, "terminated")
        await eventually(lambda: len(taken.stages) == 2)
    async with follow(again, taken.place).following(directory):
        append(directory / "stdout", "another line\n")
        await eventually(again.texts)
        reach(directory, "killed")

    at = datetime.fromtimestamp(1000.123, UTC)
    assert taken.stages == [
        StageReached("interrupted", "asked", at, datetime.fromtimestamp(2000.5, UTC)),
        StageReached("terminated", "asked", at, None),
    ]
    assert [reached.stage for reached in again.stages] == ["killed"]


async def test_what_was_said_before_a_stage_comes_before_it(follow: Follow, directory: Path) -> None:
    """Also where much was said."""
    taken = Taken()
    append(directory / "stdout", "x\n" * 10 * READ_LINES)
    append(directory / "events", diagnostic("warning", "w") * 10)
    reach(directory, "interrupted")

    await follow(taken).read_rest(directory)

    assert [batch.stage is not None for batch in taken.batches] == [False] * 9 + [True]
    assert len(taken.happenings) == 10 * READ_LINES + 10


async def test_a_stage_does_not_wait_for_what_is_said_after_it(follow: Follow, directory: Path) -> None:
    """A program that never stops talking can't hold it up."""
    taken, reached = Taken(), asyncio.Event()

    async def take(batch: Batch) -> None:
        await taken(batch)
        if batch.stage is not None:
            reached.set()
        elif not reached.is_set():
            append(directory / "stdout", (b"x" * READ_BYTES + b"\n") * 2)
        if len(taken.batches) == 3:
            reach(directory, "interrupted")

    async with follow(take).following(directory):
        append(directory / "stdout", b"x" * 3 * READ_BYTES + b"\n")
        await asyncio.wait_for(reached.wait(), LIMIT)


async def test_a_stage_that_is_reached_before_the_last_one_was_handed_over_is_not_lost(
    follow: Follow, directory: Path
) -> None:
    """One that waits for what was said before it does not hide the next."""
    taken = Taken()

    async def take(batch: Batch) -> None:
        await taken(batch)
        if len(taken.batches) == 1:
            reach(directory, "killed")

    append(directory / "stdout", "x\n" * 3 * READ_LINES)
    reach(directory, "terminated")
    await follow(take).read_rest(directory)

    assert [reached.stage for reached in taken.stages] == ["terminated", "killed"]


# --- going on where another has stopped


async def test_a_successor_knows_when_an_operation_began(follow: Follow, directory: Path) -> None:
    """Its end has the time of the beginning that an earlier life has read, and the beginning is not told again."""
    taken, again = Taken(), Taken()
    append(directory / "events", step("resourcePreEvent"))
    await follow(taken).read_rest(directory)
    append(directory / "events", step("resourcePreEvent") + step("resOutputsEvent"))

    place = json.loads(json.dumps(taken.place).replace(began_at(taken).isoformat(), NOON.isoformat()))
    await follow(again, place).read_rest(directory)

    (ended,) = again.happenings
    assert isinstance(ended, ResourceChanged)
    assert (ended.resource.state, ended.resource.started_at) == (ResourceState.DONE, NOON)


def began_at(taken: Taken) -> datetime:
    (begun,) = taken.happenings
    assert isinstance(begun, ResourceChanged)
    return begun.resource.started_at


async def test_a_place_is_small(follow: Follow, directory: Path) -> None:
    """However many operations are in progress, or never end: the newest are noted."""
    taken = Taken()
    append(directory / "events", "".join(step("resourcePreEvent", name=f"{number}") for number in range(5000)))

    await follow(taken).read_rest(directory)

    noted = taken.place["02-up"]["in_progress"]
    assert [one["urn"] for one in noted] == [f"{FILE_URN}{number}" for number in range(5000 - NOTED, 5000)]


#: What may stand in a stream; among it such as fills more than one batch.
PIECES = {
    "empty": b"\n",
    "return": b"a\r\n",
    "no text": b"\xff\xe2\x82\n",
    "red": b"\x1b[31mred\n",
    "secret": SECRET.encode() + b"\n",
    "no end": b"no end ",
    "many": b"\n" * READ_LINES,
    "long": b"x" * READ_BYTES + b"\n",
    "cut": b"y" * LINE_LIMIT,
    "very long": b"z" * (LOOKED_AT + 1) + b"\n",
}
#: What ends an operation ends the one that the event before it may have begun.
EVENTS = {
    "begin": step("resourcePreEvent", name="HERE"),
    "end": step("resOutputsEvent", name="BEFORE"),
    "failure": step("resOpFailedEvent", name="BEFORE"),
    "warning": diagnostic("warning", "w"),
    "words": diagnostic("info", "i") * READ_LINES,
    "outputs": stack_outputs(a=1),
    "half": "{half",
}
NAMES = ("stdout", "stderr", "events")
Files = Mapping[str, bytes]
FILES = st.tuples(*(st.lists(st.sampled_from(list(of)), max_size=8) for of in (PIECES, PIECES, EVENTS)))


def contents(stdout: Sequence[str], stderr: Sequence[str], events: Sequence[str]) -> Files:
    told = (EVENTS[name].replace("HERE", f"{at}").replace("BEFORE", f"{at - 1}") for at, name in enumerate(events))
    return {
        "stdout": b"".join(PIECES[name] for name in stdout),
        "stderr": b"".join(PIECES[name] for name in stderr),
        "events": "".join(told).encode(),
    }


def by_file(happenings: Sequence[Happening]) -> dict[str, list[object]]:
    """What happened, without the times, by where it was said: between files there is no order."""
    found: dict[str, list[object]] = {name: [] for name in NAMES}
    for one in happenings:
        if isinstance(one, LogLine):
            found[one.stream].append(one)
        elif isinstance(one, ResourceChanged):
            found["events"].append((one.resource.urn, one.resource.operation, one.resource.state))
        else:
            found["events"].append(one)
    return found


@contextmanager
def written(files: Files) -> Iterator[Path]:
    with TemporaryDirectory() as place:
        directory = Path(place, "02-up")
        directory.mkdir()
        for name, content in files.items():
            append(directory / name, content)
        yield directory


async def read_at_once(files: Files) -> dict[str, list[object]]:
    taken = Taken()
    with written(files) as directory:
        await Follower(FileChanges(), hide, taken, {}).read_rest(directory)
    return by_file(taken.happenings)


@ANYTHING
@given(FILES, st.lists(st.integers(0, 3), max_size=6))
def test_any_number_of_lives_hand_over_the_same_as_one(said: Any, lives: list[int]) -> None:
    """Each goes on at the last place that was taken, wherever the one before had to stop.

    Only an end that the engine tells twice may be handed over twice, where one life is over between both.
    """
    files = contents(*said)

    async def scenario() -> None:
        happenings: list[Happening] = []
        place: Mapping[str, Any] = {}
        with written(files) as directory:
            for batches in (*lives, None):
                taken = Taken(refuse_at=batches)
                with suppress(Refused):
                    await Follower(FileChanges(), hide, taken, place).read_rest(directory)
                happenings += taken.happenings
                place = taken.place or place

        assert by_file(happenings) == await read_at_once(files)

    asyncio.run(scenario())


@ANYTHING
@given(FILES, st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 300_000)), max_size=8))
def test_following_hands_over_the_same_as_reading_at_once(said: Any, points: list[tuple[str, int]]) -> None:
    """In whatever pieces the files are written while they are read."""
    files = contents(*said)

    async def scenario() -> None:
        taken = Taken()
        with written({}) as directory:
            async with FileChanges() as changes, Follower(changes, hide, taken, {}).following(directory):
                await asyncio.to_thread(write_in_pieces, directory, files, points)

        assert by_file(taken.happenings) == await read_at_once(files)

    asyncio.run(scenario())


def write_in_pieces(directory: Path, files: Files, points: list[tuple[str, int]]) -> None:
    for name, content in files.items():
        places = sorted({0, len(content), *(at % (len(content) + 1) for of, at in points if of == name)})
        for start, end in pairwise(places):
            append(directory / name, content[start:end])


# --- how fast


async def test_a_line_is_handed_over_within_milliseconds(follow: Follow, directory: Path) -> None:
    """Whoever watches sees it as it is written: half of the lines within some milliseconds, on a busy machine too."""
    delays: list[float] = []

    async def take(batch: Batch) -> None:
        delays.extend(time.monotonic() - float(one.text) for one in batch.happenings if isinstance(one, LogLine))

    async with follow(take).following(directory):
        for number in range(100):
            append(directory / "stdout", f"{time.monotonic()}\n")
            await eventually(lambda number=number: len(delays) > number)  # type: ignore[misc]

    assert sorted(delays)[len(delays) // 2] < 0.02


async def test_following_a_silent_command_takes_no_time(follow: Follow, directory: Path) -> None:
    """Nobody looks again and again for what the kernel will tell; nor does the end wait until somebody looks."""
    async with follow(Taken()).following(directory):
        append(directory / "stdout", "one\n")
        await asyncio.sleep(0.2)
        before = time.process_time()
        await asyncio.sleep(1)
        used = time.process_time() - before
        start = time.monotonic()

    assert used < 0.05
    assert time.monotonic() - start < LOOK.total_seconds() / 2
