from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from runners import process
from runners.fork_server import ForkServer
from runners.limits import MIB, RunLimits, default_memory_limit, exceeded
from runners.lock import StackLock
from runners.runs import Command, Run

from .children import argv_of
from .waiting import LIMIT, has_said

LONG = timedelta(seconds=30)
PAUSE = timedelta(milliseconds=10)
NO_LIMIT = 2**60


async def excess(directory: Path, output: int = NO_LIMIT, memory: int = NO_LIMIT) -> str:
    """Return the sentence as soon as one of the limits, in bytes, is exceeded."""
    async with asyncio.timeout(LIMIT):
        return await exceeded(directory, RunLimits(output, memory), PAUSE)


async def assert_within(directory: Path, output: int = NO_LIMIT, memory: int = NO_LIMIT) -> None:
    """Assert that many looks find nothing."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20 * PAUSE.total_seconds()):
            await exceeded(directory, RunLimits(output, memory), PAUSE)


@asynccontextmanager
async def running(place: Path, name: str, *arguments: object) -> AsyncIterator[Path]:
    """Have a command that is one of the children, and that has said "ready"; yields its directory."""
    lock = StackLock(place / "lock")
    assert lock.try_acquire()
    with lock, ForkServer() as supervisors:
        run = Run.create(place / "runs", "0123456789abcdef01234567")
        command = Command("up", argv_of(name, *arguments), Path("/"), {}, LONG, (LONG, LONG))
        executing = asyncio.create_task(run.execute(command, lock, supervisors))
        await has_said(run.directory / "01-up" / "stdout", "ready")
        yield run.directory / "01-up"
        run.hasten()
        await executing


class TestOutput:
    async def test_all_that_is_written_counts(self, tmp_path: Path) -> None:
        """Stdout, stderr and the event log together; at the limit nothing is said, and one byte more is too much."""
        for name, size in (("stdout", 2 * MIB), ("stderr", MIB), ("events", 3 * MIB)):
            (tmp_path / name).write_bytes(bytes(size))

        await assert_within(tmp_path, output=6 * MIB)
        assert "written 6 MiB" in await excess(tmp_path, output=6 * MIB - 1)

    async def test_the_sentence_says_how_much_and_what_to_do(self, tmp_path: Path) -> None:
        """Both numbers, and the name of the setting."""
        (tmp_path / "stdout").write_bytes(bytes(3 * MIB + 1))

        assert await excess(tmp_path, output=2 * MIB) == (
            "Pulumi has written 4 MiB, and 2 MiB is the limit. Have the program print less, or set"
            " STACKCAST_OUTPUT_LIMIT, in MiB, higher."
        )

    async def test_it_is_waited_for(self, tmp_path: Path) -> None:
        """A command may still have to begin, and what it writes later counts as well."""
        directory = tmp_path / "01-up"
        waiting = asyncio.create_task(excess(directory, output=MIB))
        await assert_within(directory, output=MIB)
        directory.mkdir()
        (directory / "stdout").write_bytes(bytes(MIB + 1))

        assert "STACKCAST_OUTPUT_LIMIT" in await waiting


class TestMemory:
    async def test_what_a_command_takes_is_said(self, tmp_path: Path) -> None:
        """The command's memory counts, in MiB, and the sentence names the setting."""
        async with running(tmp_path, "hog", 64, 0) as directory:
            said = await excess(directory, memory=60 * MIB)

            found = re.fullmatch(r".* take (\d+) MiB of memory, and 60 MiB is the limit\. .*", said)
            assert found is not None
            assert 64 <= int(found[1]) < 128
            assert "STACKCAST_MEMORY_LIMIT" in said
            await assert_within(directory, memory=128 * MIB)

    async def test_all_processes_of_the_session_count(self, tmp_path: Path) -> None:
        """A plugin has a process group of its own, and its memory is the run's, as its supervisor's is."""
        async with running(tmp_path, "plugins", tmp_path / "pids") as directory:
            session = json.loads((directory / "pids.json").read_text())["supervisor"]["pid"]
            members = process.session_members(session)
            assert len(members) == 3
            largest = max(process.memory([member], precise_above=NO_LIMIT) for member in members)

            assert "STACKCAST_MEMORY_LIMIT" in await excess(directory, memory=largest)

    async def test_shared_memory_counts_once(self, tmp_path: Path) -> None:
        """Four processes that share 64 MiB with a fifth take 64 MiB and not 320."""
        async with running(tmp_path, "hog", 64, 4) as directory:
            session = json.loads((directory / "pids.json").read_text())["supervisor"]["pid"]
            assert process.memory(process.session_members(session), precise_above=NO_LIMIT) > 320 * MIB

            await assert_within(directory, memory=200 * MIB)
            assert "STACKCAST_MEMORY_LIMIT" in await excess(directory, memory=60 * MIB)

    async def test_the_memory_of_others_does_not_count(self, tmp_path: Path) -> None:
        """Another run may take what it may take."""
        other = tmp_path / "other"
        other.mkdir()
        async with running(other, "hog", 128, 0), running(tmp_path, "polite") as directory:
            await assert_within(directory, memory=100 * MIB)

    async def test_a_session_whose_number_was_used_again_does_not_count(self, tmp_path: Path) -> None:
        """Who has the pid of a supervisor of the past is somebody else."""
        async with running(tmp_path, "hog", 64, 0) as directory:
            pids = json.loads((directory / "pids.json").read_text())
            pids["supervisor"]["start_time"] -= 1
            past = tmp_path / "past"
            past.mkdir()
            (past / "pids.json").write_text(json.dumps(pids))

            await assert_within(past, memory=1)


class TestDefaultMemoryLimit:
    def machine(self, root: Path, groups: str, limits: dict[str, str]) -> int:
        """Return the default, in MiB, on a machine with 10,000 MiB, these cgroups, and files of limits."""
        files = {"proc/meminfo": "MemTotal: 10240000 kB\nMemFree: 1 kB\n", "proc/self/cgroup": groups, **limits}
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return default_memory_limit(root) // MIB

    def test_of_the_machine(self, tmp_path: Path) -> None:
        """Without a limit on the cgroup it is 80 % of all there is."""
        limits = {"sys/fs/cgroup/a/memory.max": "max\n"}

        assert self.machine(tmp_path, "0::/a\n", limits) == 8_000

    def test_of_the_cgroup(self, tmp_path: Path) -> None:
        """Where that is less it is 80 % of it."""
        limits = {"sys/fs/cgroup/a/memory.max": f"{1_000 * MIB}\n"}

        assert self.machine(tmp_path, "0::/a\n", limits) == 800

    def test_of_a_cgroup_above(self, tmp_path: Path) -> None:
        """The tightest of them all holds for us."""
        limits = {"sys/fs/cgroup/a/b/memory.max": f"{2_000 * MIB}", "sys/fs/cgroup/a/memory.max": f"{1_000 * MIB}"}

        assert self.machine(tmp_path, "0::/a/b\n", limits) == 800

    def test_of_the_cgroup_of_a_container(self, tmp_path: Path) -> None:
        """In a container the cgroup may be found at the top, whatever the host calls it."""
        limits = {"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{1_000 * MIB}\n"}

        assert self.machine(tmp_path, "5:cpu:/x\n4:hugetlb,memory:/docker/0123\n0::/docker/0123\n", limits) == 800

    def test_where_there_are_no_cgroups(self, tmp_path: Path) -> None:
        """Then the machine's memory is all that is known."""
        assert self.machine(tmp_path, "", {}) == 8_000

    def test_of_this_machine(self) -> None:
        """It is a part of what is really there."""
        assert 64 * MIB < default_memory_limit() < NO_LIMIT
