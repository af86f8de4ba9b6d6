from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from runners import process
from runners.process import ProcessIdentity

from .children import argv_of
from .waiting import eventually, has_said

LONG = timedelta(seconds=30)
SHORT = timedelta(seconds=0.2)


class Child:
    """A child that has said "ready", with its output in a file."""

    def __init__(self, output: Path, argv: list[str]) -> None:
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(argv, stdout=file, start_new_session=True)
        identity = process.identify(self.process.pid)
        assert identity is not None
        self.identity = identity

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


StartChild = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartChild]:
    """Start children by name; they are gone after the test."""
    children: list[Child] = []

    def start_child(name: str, *arguments: object) -> Child:
        children.append(Child(tmp_path / f"output-{len(children)}", argv_of(name, *arguments)))
        return children[-1]

    yield start_child
    for child in children:
        child.end()


def someone_else(identity: ProcessIdentity) -> ProcessIdentity:
    """Return a process of the past whose pid has been used again."""
    return replace(identity, start_time=identity.start_time - 1)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestIdentity:
    def test_a_running_process_is_identified(self) -> None:
        """The same process has the same identity, whenever it is looked at."""
        assert process.identify(os.getpid()) == process.identify(os.getpid()) is not None

    def test_a_process_that_is_not_reaped_is_gone(self, start: StartChild) -> None:
        """One that has ended does nothing any more, whether its parent knows or not."""
        child = start("leave", 0)
        os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOWAIT)

        assert process.identify(child.process.pid) is None
        assert not process.is_alive(child.identity)

    def test_a_pid_that_nobody_has_is_nobody(self, start: StartChild) -> None:
        """A reaped process has no identity."""
        child = start("polite")
        child.end()

        assert process.identify(child.process.pid) is None

    def test_a_name_with_spaces_and_parentheses_misleads_nobody(self, tmp_path: Path) -> None:
        """The kernel prints a program's name as it is; "S 1 1" in it is not the state."""
        program = tmp_path / "a) S 1 (b"
        shutil.copy("/bin/sleep", program)
        with subprocess.Popen([program, "60"], start_new_session=True) as child:
            identity = process.identify(child.pid)
            members = process.session_members(child.pid)
            child.kill()

        assert identity is not None
        assert members == [identity]

    @pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "another"}])
    async def test_a_pid_that_was_used_again_is_neither_alive_nor_signalled(
        self, start: StartChild, change: dict[str, object]
    ) -> None:
        """Another start time or another boot is another process: it is left alone, and the old one is gone."""
        child = start("polite")
        old = replace(child.identity, **change)  # type: ignore[arg-type]

        assert not process.is_alive(old)
        assert not process.send_signal(old, signal.SIGKILL)
        assert await process.wait_until_gone(old, LONG)
        assert await process.end(old, (LONG, LONG))
        assert process.is_alive(child.identity)


class TestSignal:
    async def test_a_live_process_gets_the_signal(self, start: StartChild) -> None:
        """True means that it was sent to exactly this process."""
        child = start("polite")
        await has_said(child.output, "ready")

        assert process.send_signal(child.identity, signal.SIGTERM)
        await asyncio.to_thread(child.process.wait)
        assert child.process.returncode == 1

    def test_a_gone_process_gets_none(self, start: StartChild) -> None:
        """False means that there is nobody to be signalled."""
        child = start("polite")
        child.end()

        assert not process.send_signal(child.identity, signal.SIGTERM)

    def test_a_thread_is_no_process(self) -> None:
        """A number that now belongs to a thread names nobody whom a signal could be meant for."""
        script = "import threading,sys; threading.Thread(target=sys.stdin.read).start(); print(flush=True)"
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            threads = [int(entry.name) for entry in Path(f"/proc/{child.pid}/task").iterdir()]
            thread = next(number for number in threads if number != child.pid)
            identity = process.identify(thread)

            assert identity is None or not process.send_signal(identity, signal.SIGKILL)
            assert process.identify(child.pid) is not None
            child.kill()


class TestWaiting:
    async def test_the_end_is_noticed(self, start: StartChild, tmp_path: Path) -> None:
        """Waiting ends with the process, and needs no parenthood."""
        child = start("wait_for", tmp_path / "go")
        waiting = asyncio.create_task(process.wait_until_gone(child.identity, LONG))
        await has_said(child.output, "ready")
        assert not waiting.done()
        (tmp_path / "go").touch()

        assert await waiting

    async def test_the_limit_ends_the_waiting(self, start: StartChild) -> None:
        """A process that stays is reported as staying, and not touched."""
        child = start("polite")

        assert not await process.wait_until_gone(child.identity, SHORT)
        assert process.is_alive(child.identity)

    async def test_one_that_is_gone_is_not_waited_for(self, start: StartChild) -> None:
        """A reaped process is gone at once."""
        child = start("polite")
        child.end()

        assert await process.wait_until_gone(child.identity, LONG)

    async def test_nothing_stays_open(self, start: StartChild) -> None:
        """Waiting, in vain or not, leaves no descriptor behind."""
        child = start("polite")
        before = open_descriptors()
        await process.wait_until_gone(child.identity, SHORT)
        process.send_signal(child.identity, signal.SIGKILL)
        await process.wait_until_gone(child.identity, LONG)
        process.send_signal(someone_else(child.identity), signal.SIGKILL)

        assert open_descriptors() == before


class TestEnd:
    async def test_a_polite_process_is_asked_once(self, start: StartChild) -> None:
        """SIGTERM is enough for who listens."""
        child = start("deaf", 0)
        await has_said(child.output, "ready")

        assert await process.end(child.identity, (LONG, LONG))
        assert child.process.wait() == 8
        assert child.output.read_text().count("SIGTERM") == 1

    async def test_a_second_sigterm_after_the_first_grace(self, start: StartChild) -> None:
        """Who ignores one is asked again."""
        child = start("deaf", 1)
        await has_said(child.output, "ready")

        assert await process.end(child.identity, (SHORT, LONG))
        assert child.process.wait() == 8

    async def test_sigkill_after_both_graces(self, start: StartChild) -> None:
        """Who ignores both is killed, even when it is stopped."""
        child = start("deaf", 9)
        await has_said(child.output, "ready")
        child.process.send_signal(signal.SIGSTOP)

        assert await process.end(child.identity, (SHORT, SHORT))
        assert child.process.wait() == -signal.SIGKILL

    async def test_one_that_is_to_be_spared_gets_the_time_without_the_signal(self, start: StartChild) -> None:
        """Sparing withholds each SIGTERM, and only that."""
        child = start("deaf", 9)
        await has_said(child.output, "ready")

        assert await process.end(child.identity, (SHORT, SHORT), spare=lambda: True)
        assert child.process.wait() == -signal.SIGKILL
        assert "SIGTERM" not in child.output.read_text()


class TestSession:
    async def test_members_are_found_whatever_their_group(self, start: StartChild, tmp_path: Path) -> None:
        """A session holds its leader and all who did not leave it, in any process group."""
        child = start("plugins", tmp_path / "pids")
        await has_said(child.output, "ready")

        members = process.session_members(child.process.pid)

        assert len(members) == 2
        assert child.identity in members
        for member in members:
            process.send_signal(member, signal.SIGKILL)
        await eventually(lambda: not process.session_members(child.process.pid))

    async def test_open_files_are_seen(self, start: StartChild) -> None:
        """What a process of ours has open tells whether it belongs to a run; who is gone has nothing open."""
        child = start("polite")
        await has_said(child.output, "ready")

        assert child.output in process.open_files(child.identity)
        assert process.open_files(someone_else(child.identity)) == set()
