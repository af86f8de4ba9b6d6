"""Waiting for changes of files: none is missed, nobody waits for nothing, and it works without the kernel too."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from asyncinotify import Event, Inotify, Mask, Watch

from runners.changes import PAUSE, FileChanges, WatchedDirectory

from .waiting import LIMIT, eventually

LONG = timedelta(seconds=LIMIT)
SHORT = timedelta(seconds=0.2)


@pytest.fixture
async def changes() -> AsyncIterator[FileChanges]:
    async with FileChanges() as changes:
        yield changes


async def returns_at_once(watched: WatchedDirectory) -> bool:
    """Whether a wait returns because of a change, and not because of its limit."""
    start = time.monotonic()
    await watched.wait(LONG)
    return time.monotonic() - start < LIMIT / 2


async def returns_at_the_limit(watched: WatchedDirectory) -> bool:
    start = time.monotonic()
    await watched.wait(SHORT)
    return time.monotonic() - start >= SHORT.total_seconds() * 0.99


def write(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def create(path: Path) -> None:
    path.with_name("new").touch()


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed"))


def put_in_its_place(path: Path) -> None:
    draft = path.parent.with_name("draft")
    draft.touch()
    draft.rename(path)


CHANGES = [write, create, rename, put_in_its_place]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_ends_the_wait(changes: FileChanges, tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Whatever happens to a file in the directory, whoever waits for it goes on."""
    file = tmp_path / "watched" / "file"
    file.parent.mkdir()
    file.touch()

    with changes.watching(file.parent) as watched:
        waiting = asyncio.create_task(returns_at_once(watched))
        await asyncio.sleep(0)
        change(file)

        assert await waiting


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_between_two_waits_ends_the_next_one(
    changes: FileChanges, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Nothing is lost while nobody waits, whether before the first wait or after a return, by a change or not."""
    file = tmp_path / "watched" / "file"
    file.parent.mkdir()

    with changes.watching(file.parent) as watched:
        file.touch()
        assert await returns_at_once(watched)
        change(file)
        assert await returns_at_once(watched)
        assert await returns_at_the_limit(watched)
        write(file)
        assert await returns_at_once(watched)


async def test_without_a_change_a_wait_takes_as_long_as_it_may(changes: FileChanges, tmp_path: Path) -> None:
    """Nothing happens until the limit, and what happened before is not told again."""
    write(tmp_path / "file")

    with changes.watching(tmp_path) as watched:
        assert await returns_at_the_limit(watched)
        assert await returns_at_the_limit(watched)


async def test_many_changes_are_one(changes: FileChanges, tmp_path: Path) -> None:
    """However often a program writes while nobody looks, there is one thing to wake for."""
    with (
        changes.watching(tmp_path) as watched,
        (tmp_path / "one").open("ab", buffering=0) as one,
        (tmp_path / "other").open("ab", buffering=0) as other,
    ):
        for _ in range(10_000):
            one.write(b"x")
            other.write(b"x")
        assert await returns_at_once(watched)
        assert await returns_at_the_limit(watched)


async def test_directories_are_told_apart(changes: FileChanges, tmp_path: Path) -> None:
    """A change in one wakes all who wait for that one, and nobody else."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()

    with (
        changes.watching(tmp_path / "one") as first,
        changes.watching(tmp_path / "one") as second,
        changes.watching(tmp_path / "two") as other,
    ):
        write(tmp_path / "one" / "file")

        assert await returns_at_once(first)
        assert await returns_at_once(second)
        assert await returns_at_the_limit(other)


async def test_a_directory_may_appear_later(changes: FileChanges, tmp_path: Path) -> None:
    """Until then it is looked for; then its changes are told."""
    directory = tmp_path / "later"

    with changes.watching(directory) as watched:
        await watched.wait(LONG)
        directory.mkdir()
        await eventually_watched(watched)
        write(directory / "file")
        assert await returns_at_once(watched)
        assert await returns_at_the_limit(watched)


async def test_a_directory_may_be_made_anew(changes: FileChanges, tmp_path: Path) -> None:
    """What is watched is what has the name."""
    directory = tmp_path / "again"
    directory.mkdir()

    with changes.watching(directory) as watched:
        directory.rmdir()
        assert await returns_at_once(watched)
        directory.mkdir()
        await eventually_watched(watched)
        write(directory / "file")
        assert await returns_at_once(watched)


async def eventually_watched(watched: WatchedDirectory) -> None:
    async with asyncio.timeout(LIMIT):
        while watched.watch is None:
            await watched.wait(LONG)


async def test_whoever_waits_can_be_woken(changes: FileChanges, tmp_path: Path) -> None:
    """Without any change, at once or in the next wait; its changes are told all the same."""
    with changes.watching(tmp_path) as watched:
        watched.wake()
        assert await returns_at_once(watched)
        waiting = asyncio.create_task(returns_at_once(watched))
        await asyncio.sleep(0)
        watched.wake()
        assert await waiting
        assert await returns_at_the_limit(watched)
        write(tmp_path / "file")
        assert await returns_at_once(watched)


async def test_changes_without_number_wake_everybody(tmp_path: Path) -> None:
    """Where the kernel had to drop changes nobody knows whose they were."""

    class Overflowing(Inotify):
        dropped = False

        async def get(self) -> Event:
            event = await super().get()
            if Overflowing.dropped:
                return event
            Overflowing.dropped = True
            return Event(watch=None, mask=Mask.Q_OVERFLOW, cookie=0, name=None)

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with FileChanges(Overflowing) as changes:
        with changes.watching(tmp_path / "one") as one, changes.watching(tmp_path / "two") as other:
            write(tmp_path / "one" / "file")

            assert await returns_at_once(one)
            assert await returns_at_once(other)
            write(tmp_path / "two" / "file")
            assert await returns_at_once(other)


# --- without the kernel


class NoWatchesLeft(Inotify):
    def add_watch(self, path: object, mask: Mask) -> Watch:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_instances_left() -> Inotify:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize("refusing", [NoWatchesLeft, no_instances_left])
async def test_where_the_kernel_refuses_a_wait_is_short(
    tmp_path: Path, refusing: Callable[[], Inotify], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits looks again soon, without a busy loop; that it is so is said once, with what can be done."""
    async with FileChanges(refusing) as changes:
        with changes.watching(tmp_path) as one, changes.watching(tmp_path) as other:
            for watched in (one, other, one):
                start = time.monotonic()
                await watched.wait(LONG)
                assert PAUSE.total_seconds() * 0.99 <= time.monotonic() - start < LIMIT / 2
            start = time.monotonic()
            await one.wait(PAUSE / 5)
            assert time.monotonic() - start < PAUSE.total_seconds()
            one.wake()
            assert await returns_at_once(one)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "fs.inotify.max_user_watches" in record.getMessage()


async def test_a_watch_is_taken_as_soon_as_there_is_one(tmp_path: Path) -> None:
    """What the kernel has refused it may grant later."""

    class OneTooMany(Inotify):
        refused = False

        def add_watch(self, path: os.PathLike[str] | bytes | str, mask: Mask) -> Watch:
            if not OneTooMany.refused:
                OneTooMany.refused = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().add_watch(path, mask)

    async with FileChanges(OneTooMany) as changes:
        with changes.watching(tmp_path) as watched:
            await watched.wait(LONG)

            assert await returns_at_the_limit(watched)


# --- leaving


async def test_nothing_is_watched_that_nobody_waits_for(tmp_path: Path) -> None:
    """Watches are few: each is given back, those of directories that are gone, or have told a change, as well."""
    opened: list[Inotify] = []

    def open_inotify() -> Inotify:
        opened.append(Inotify())
        return opened[-1]

    async with FileChanges(open_inotify) as changes:
        for number in range(20):
            directory = tmp_path / f"{number}"
            directory.mkdir()
            with changes.watching(directory) as watched, changes.watching(directory):
                write(directory / "file")
                await watched.wait(LONG)
                if number % 2:
                    write(directory / "file")
                if number % 3:
                    (directory / "file").unlink()
                    directory.rmdir()

        await eventually(lambda: not opened[0].watches)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_kernels_instance_is_given_back(tmp_path: Path) -> None:
    """Also when the body fails, whose error comes out as it is; who still waits then waits for the limit only."""
    before = open_descriptors()
    seen: list[WatchedDirectory] = []

    async def failing() -> None:
        async with FileChanges() as changes:
            with changes.watching(tmp_path) as watched:
                seen.append(watched)
                raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await failing()

    assert open_descriptors() == before
    assert await returns_at_the_limit(seen[0])
