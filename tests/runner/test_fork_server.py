from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from runners import process
from runners.fork_server import ForkServer, ForkServerLost
from runners.lock import StackLock
from runners.process import ProcessIdentity
from runners.runs import Command, Run
from tests.processes import children, parent

from .children import argv_of, stopped
from .waiting import eventually, has_said

LONG = timedelta(seconds=30)


@pytest.fixture
def server() -> Iterator[ForkServer]:
    """One that a test may kill."""
    with ForkServer() as server:
        yield server


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[StackLock]:
    lock = StackLock(tmp_path / "lock")
    assert lock.try_acquire()
    with lock:
        yield lock


def command(name: str, *arguments: object) -> Command:
    return Command("up", argv_of(name, *arguments), Path("/"), {}, LONG, (LONG, LONG))


def supervisor_of(run: Run) -> ProcessIdentity:
    pids = json.loads((run.directory / "01-up" / "pids.json").read_text())
    return ProcessIdentity(**pids["supervisor"], boot_id=pids["boot_id"])


def request_waits() -> bool:
    """Whether this process has written to a socket what nobody has read yet."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as copy:
            if copy.type == socket.SOCK_SEQPACKET and fcntl.ioctl(copy, termios.TIOCOUTQ, b"\0" * 4) != b"\0" * 4:
                return True
    return False


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def server_of(run: Run) -> int:
    """The fork server's pid, once a command of this run is there."""
    await has_said(run.directory / "01-up" / "stdout", "ready")
    pid = parent(supervisor_of(run).pid)
    assert pid is not None
    return pid


def ended(pid: int) -> Callable[[], bool]:
    return lambda: process.identify(pid) is None


class TestForkServer:
    async def test_all_supervisors_are_forked_from_one_process(
        self, tmp_path: Path, server: ForkServer, lock: StackLock
    ) -> None:
        """The second one needs no new start of Python."""
        runs = [Run.create(tmp_path / "runs", name) for name in ("1", "2")]
        executing = [asyncio.create_task(run.execute(command("polite"), lock, server)) for run in runs]
        first, second = [await server_of(run) for run in runs]
        for run in runs:
            run.hasten()
        await asyncio.gather(*executing)

        assert first == second

    async def test_one_that_was_killed_is_started_anew(
        self, tmp_path: Path, server: ForkServer, lock: StackLock
    ) -> None:
        """What it has started goes on, and the next command does not notice."""
        run = Run.create(tmp_path / "runs", "1")
        executing = asyncio.create_task(run.execute(command("wait_for", tmp_path / "go"), lock, server))
        pid = await server_of(run)
        os.kill(pid, signal.SIGKILL)
        await eventually(ended(pid))
        later = await Run.create(tmp_path / "runs", "2").execute(command("leave", 0), lock, server)
        (tmp_path / "go").touch()

        assert (later.returncode, (await executing).returncode) == (0, 0)

    async def test_it_ends_with_the_service_and_the_supervisors_do_not(self, tmp_path: Path, lock: StackLock) -> None:
        """Whatever way the service ends, it closes the socket on which the requests come."""
        run = Run.create(tmp_path / "runs", "1")
        with ForkServer() as server:
            executing = asyncio.create_task(run.execute(command("wait_for", tmp_path / "go"), lock, server))
            pid = await server_of(run)

        assert ended(pid)()
        assert process.is_alive(supervisor_of(run))
        (tmp_path / "go").touch()
        assert (await executing).returncode == 0

    async def test_one_that_dies_before_it_answers_leaves_it_open_what_runs(
        self, tmp_path: Path, server: ForkServer, lock: StackLock
    ) -> None:
        """Nothing is started a second time; whoever asked has to look what lives. The next command runs again."""
        run = Run.create(tmp_path / "runs", "1")
        executing = asyncio.create_task(run.execute(command("polite"), lock, server))
        pid = await server_of(run)
        with stopped(pid):
            asking = asyncio.create_task(Run.create(tmp_path / "runs", "2").execute(command("leave", 0), lock, server))
            await eventually(request_waits)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(ForkServerLost):
                await asking
        run.hasten()
        await executing

        assert (await Run.create(tmp_path / "runs", "3").execute(command("leave", 0), lock, server)).returncode == 0

    async def test_one_that_gives_no_answer_is_done_with(self, tmp_path: Path, lock: StackLock) -> None:
        """Whoever asked is told that it is not known what runs; the next command runs."""
        run = Run.create(tmp_path / "runs", "1")
        with ForkServer(patience=0.5) as server:
            executing = asyncio.create_task(run.execute(command("polite"), lock, server))
            pid = await server_of(run)
            with stopped(pid), pytest.raises(ForkServerLost):
                await Run.create(tmp_path / "runs", "2").execute(command("leave", 0), lock, server)
            assert ended(pid)()
            run.hasten()
            await executing
            last = await Run.create(tmp_path / "runs", "3").execute(command("leave", 0), lock, server)

        assert last.returncode == 0

    async def test_a_supervisor_that_has_ended_is_gone(
        self, tmp_path: Path, server: ForkServer, lock: StackLock
    ) -> None:
        """The fork server, which does not wait for its children, keeps no zombies."""
        run = Run.create(tmp_path / "runs", "1")
        executing = asyncio.create_task(run.execute(command("polite"), lock, server))
        pid = await server_of(run)
        run.hasten()
        await executing

        await eventually(lambda: not children(pid))

    async def test_nobody_reads_the_environment_in_its_process_list(
        self, tmp_path: Path, server: ForkServer, lock: StackLock
    ) -> None:
        """The secrets are in the command's own environment, and not in its supervisor's or the fork server's."""
        run = Run.create(tmp_path / "runs", "1")
        secret = Command("up", argv_of("polite"), Path("/"), {"PASSPHRASE": "s3cret"}, LONG, (LONG, LONG))
        executing = asyncio.create_task(run.execute(secret, lock, server))
        pid = await server_of(run)
        environments = [environment_of(one) for one in (pid, supervisor_of(run).pid)]
        run.hasten()
        await executing

        assert environments == [b"", b""]
