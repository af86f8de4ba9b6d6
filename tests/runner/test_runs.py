from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from runners import process, runs
from runners.fork_server import ForkServer
from runners.lock import Holder, StackLock, Suspect
from runners.output import read_tail
from runners.process import ProcessIdentity
from runners.runs import Command, CommandEnd, Reason, Run, Stage

from . import service
from .children import argv_of, stopped
from .waiting import LIMIT, eventually, has_said

LONG = timedelta(seconds=30)
SHORT = timedelta(seconds=0.3)
MARGIN = timedelta(seconds=1)


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[StackLock]:
    """A stack's lock that is held."""
    lock = StackLock.of_stack(tmp_path / "locks", "organization/demo/dev")
    assert lock.try_acquire()
    with lock:
        yield lock


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A new run; whatever still lives of it after the test is killed."""
    run = Run.create(tmp_path / "runs", "0123456789abcdef01234567")
    yield run
    for pids in run.directory.glob("*/pids.json"):
        for member in process.session_members(json.loads(pids.read_text())["supervisor"]["pid"]):
            process.send_signal(member, signal.SIGKILL)


def command(
    name: str,
    *arguments: object,
    limit: timedelta = LONG,
    graces: tuple[timedelta, timedelta] = (LONG, LONG),
    environment: Mapping[str, str] | None = None,
    quiet_markers: tuple[str, ...] = (),
    extensible: bool = True,
) -> Command:
    """Return a command named "up" that is one of the children."""
    return Command(
        "up", argv_of(name, *arguments), Path("/"), environment or {}, limit, graces, quiet_markers, extensible
    )


def output_of(run: Run, directory: str = "01-up") -> Path:
    return run.directory / directory / "stdout"


async def abandoned(run: Run, lock: StackLock, supervisors: ForkServer, what: Command) -> None:
    """Have a command that nobody waits for any more, as after the death of a service, and that has said "ready"."""
    executing = asyncio.create_task(run.execute(what, lock, supervisors))
    await has_said(output_of(run), "ready")
    executing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await executing
    lock.release()


def kill(run: Run, who: str) -> None:
    """Kill the supervisor or the command of a run's first command, and wait until it is gone."""
    pid = json.loads((run.directory / "01-up" / "pids.json").read_text())[who]["pid"]
    os.kill(pid, signal.SIGKILL)


def _supervisor_pid(run: Run, directory: str = "01-up") -> int:
    return int(json.loads((run.directory / directory / "pids.json").read_text())["supervisor"]["pid"])


def commands_of(run: Run) -> list[ProcessIdentity]:
    """The commands that were started in a run, as its files name them, whether they live or not."""
    recorded = [json.loads(file.read_text()) for file in sorted(run.directory.glob("*/pids.json"))]
    return [
        ProcessIdentity(pids["command"]["pid"], pids["command"]["start_time"], pids["boot_id"]) for pids in recorded
    ]


def stranger_in_a_session() -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv_of("polite"), stdout=subprocess.DEVNULL, start_new_session=True)


def keeper_of(lock: StackLock) -> subprocess.Popen[bytes]:
    """Start a child that holds a copy of a lock until its standard input is closed."""
    script = "import sys; sys.stdin.read()"
    argv = [sys.executable, "-IS", "-c", script]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=(lock.fileno(),))


class TestExecute:
    async def test_a_command_runs_to_its_end(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """Its status and the paths of what it wrote are the answer."""
        end = await run.execute(command("describe", "a b"), lock, supervisors)

        directory = run.directory / "01-up"
        assert end == CommandEnd(directory, 0, reason=None, stage=Stage.NONE, error=None, errno=None)
        assert end.clean
        assert json.loads(end.stdout.read_text())["arguments"] == ["a b"]
        assert end.stderr.read_text() == "to stderr\n"
        assert end.events == directory / "events"

    async def test_a_failing_command_is_an_ending(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """A failure of Pulumi is not an error of the run."""
        end = await run.execute(command("leave", 7), lock, supervisors)

        assert (end.returncode, end.error, end.clean) == (7, None, True)

    async def test_commands_of_a_run_are_numbered(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """Each has a directory of its own, known before it runs, in the order in which they ran."""
        (run.directory / "module").mkdir()
        expected = [run.next_directory("up")]
        ends = [await run.execute(command("leave", 0), lock, supervisors)]
        expected.append(run.next_directory("up"))
        ends.append(await run.execute(command("leave", 0), lock, supervisors))

        assert [end.directory for end in ends] == expected == [run.directory / "01-up", run.directory / "02-up"]
        assert [end.name for end in ends] == ["up", "up"]
        assert run.command_ends() == ends
        assert len(commands_of(run)) == 2

    async def test_the_environment_reaches_the_command_and_no_file(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """Secrets stand in the environment, so it is handed over and not written down."""
        what = Command(
            "up", ["/bin/cat", "/proc/self/environ"], Path("/"), {"PASSPHRASE": "s3cret"}, LONG, (LONG, LONG)
        )
        end = await run.execute(what, lock, supervisors)

        assert end.stdout.read_bytes() == b"PASSPHRASE=s3cret\0"
        others = [path for path in end.directory.iterdir() if path != end.stdout]
        assert not any(b"s3cret" in path.read_bytes() for path in others)

    async def test_all_files_are_the_owners(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """Directories have mode 0700 and files 0600."""
        end = await run.execute(command("leave", 0), lock, supervisors)

        assert {path.stat().st_mode & 0o777 for path in (run.directory, end.directory)} == {0o700}
        assert {path.stat().st_mode & 0o777 for path in end.directory.iterdir()} == {0o600}

    async def test_no_record_of_the_service_is_inherited(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """Of all that the service has open, a command gets the lock and nothing else."""
        end = await run.execute(command("descriptors"), lock, supervisors)

        assert json.loads(end.stdout.read_text()) == ["/dev/null", str(end.stdout), str(end.stderr), str(lock.path)]

    async def test_a_time_out_is_told(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """The limit begins the ladder, and the end says how far it went."""
        end = await run.execute(command("deaf", 9, limit=SHORT, graces=(SHORT, SHORT)), lock, supervisors)

        assert (end.returncode, end.reason, end.stage) == (-9, Reason.DEADLINE, Stage.KILLED)
        assert not end.clean

    async def test_a_missing_program_is_an_ending(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """There is no status, but an errno and a sentence."""
        end = await run.execute(
            Command("up", ["/nowhere/pulumi"], Path("/"), {}, LONG, (LONG, LONG)), lock, supervisors
        )

        assert (end.returncode, end.errno, end.clean) == (None, errno.ENOENT, False)
        assert end.error is not None
        assert "'/nowhere/pulumi'" in end.error

    async def test_a_value_that_is_too_large_is_an_ending(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """Linux takes up to 131,071 bytes in one variable, its name included; more is refused with a sentence."""
        end = await run.execute(command("leave", 0, environment={"A": "x" * 131_072}), lock, supervisors)

        assert (end.returncode, end.errno) == (None, errno.E2BIG)
        assert end.error is not None
        assert "131,071" in end.error

    async def test_the_largest_value_possible_arrives(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """One byte less is no trouble."""
        end = await run.execute(command("leave", 0, environment={"A": "x" * (131_071 - len("A="))}), lock, supervisors)

        assert end.returncode == 0

    async def test_a_nul_in_the_environment_is_an_ending(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """What no environment can hold is refused with a sentence."""
        end = await run.execute(command("leave", 0, environment={"A": "\0"}), lock, supervisors)

        assert (end.returncode, end.errno) == (None, errno.EINVAL)

    async def test_nothing_runs_without_the_lock(self, run: Run, tmp_path: Path, supervisors: ForkServer) -> None:
        """A lock that is not held is a mistake of the caller, found before anything starts."""
        with pytest.raises(RuntimeError, match="not held"):
            await run.execute(command("leave", 0), StackLock(tmp_path / "lock"), supervisors)

    async def test_a_killed_supervisor_is_an_ending_without_a_status(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """The command and all in its session are ended in the supervisor's place, and the end is said to be unknown."""
        executing = asyncio.create_task(run.execute(command("plugins", run.directory / "pids"), lock, supervisors))
        await has_said(output_of(run), "ready")
        kill(run, "supervisor")

        end = await executing

        assert (end.returncode, end.stage, end.clean) == (None, Stage.NONE, False)
        assert end.error is not None
        assert "unknown" in end.error
        assert process.session_members(_supervisor_pid(run)) == []
        lock.release()
        assert lock.try_acquire()

    async def test_a_stuck_supervisor_does_not_hold_us_up_for_ever(
        self, tmp_path: Path, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """One that is over its own limits by more than the margin is killed, and its command ended from here."""
        run = Run(Run.create(tmp_path / "runs", "stuck").directory, margin=MARGIN)
        what = command("polite", limit=SHORT, graces=(SHORT, SHORT))
        executing = asyncio.create_task(run.execute(what, lock, supervisors))
        await eventually(lambda: commands_of(run))
        os.kill(_supervisor_pid(run), signal.SIGSTOP)

        end = await executing

        assert end.returncode is None
        assert not process.is_alive(commands_of(run)[0])


class TestHasten:
    async def test_each_call_takes_the_next_step(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """Twice is two SIGTERMs, without the grace between them."""
        executing = asyncio.create_task(run.execute(command("deaf", 1), lock, supervisors))
        await has_said(output_of(run), "ready")
        run.hasten()
        await has_said(output_of(run), "SIGTERM")
        run.hasten()

        end = await executing

        assert (end.returncode, end.reason, end.stage) == (8, Reason.ASKED, Stage.TERMINATED)

    async def test_calls_in_a_row_are_as_many_steps(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """Twice at once is two SIGTERMs, even if both wait for the supervisor, and the command hears both."""
        executing = asyncio.create_task(run.execute(command("deaf", 1), lock, supervisors))
        await has_said(output_of(run), "ready")
        with stopped(_supervisor_pid(run)):
            run.hasten()
            run.hasten()

        async with asyncio.timeout(LIMIT):
            end = await executing

        assert (end.returncode, end.reason, end.stage) == (8, Reason.ASKED, Stage.TERMINATED)

    async def test_a_call_before_the_supervisor_runs_is_not_lost(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """Asked while the command is only being started, it is interrupted as soon as it runs."""
        executing = asyncio.create_task(run.execute(command("polite"), lock, supervisors))
        await asyncio.sleep(0)  # execute has begun, and its thread has not answered
        run.hasten()

        end = await executing

        assert (end.reason, end.stage) == (Reason.ASKED, Stage.INTERRUPTED)

    async def test_a_finishing_engine_is_not_interrupted(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """The quiet markers reach the supervisor."""
        events, go = run.next_directory("up") / "events", run.directory / "go"
        what = command("finishing", events, go, quiet_markers=('"summaryEvent"',))
        executing = asyncio.create_task(run.execute(what, lock, supervisors))
        await has_said(output_of(run), "ready")
        run.hasten()
        go.touch()

        end = await executing

        assert (end.returncode, end.reason, end.stage) == (0, Reason.ASKED, Stage.NONE)

    async def test_a_run_that_was_hastened_between_two_commands_stays_so(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """The next command is interrupted as it begins: what was asked for is not lost with the one before."""
        await run.execute(command("leave", 0), lock, supervisors)
        run.hasten()

        end = await run.execute(command("polite"), lock, supervisors)

        assert (end.reason, end.stage) == (Reason.ASKED, Stage.INTERRUPTED)


class TestExtend:
    @pytest.mark.parametrize("is_starting", [True, False])
    async def test_a_command_outlives_its_first_limit(
        self, tmp_path: Path, lock: StackLock, is_starting: bool, supervisors: ForkServer
    ) -> None:
        """Whether it runs or is only being started, it has the new time, and its supervisor does not count as stuck."""
        run = Run(Run.create(tmp_path / "runs", "extended").directory, margin=SHORT)
        go, limit = run.directory / "go", timedelta(seconds=3)
        what = command("wait_for", go, limit=limit, graces=(timedelta(), timedelta()))
        executing = asyncio.create_task(run.execute(what, lock, supervisors))
        if is_starting:
            await asyncio.sleep(0)  # execute has begun, and its thread has not answered
        else:
            await has_said(output_of(run), "ready")
        begun = time.monotonic()
        await run.extend(LONG)
        first_end = begun + (limit + 2 * SHORT).total_seconds()
        await eventually(lambda: time.monotonic() > first_end)
        go.touch()

        end = await executing

        assert (end.returncode, end.reason, end.stage) == (0, None, Stage.NONE)
        assert run.extension == LONG

    async def test_a_command_that_may_not_be_extended_keeps_its_limit(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """The time is for those that come later."""
        executing = asyncio.create_task(
            run.execute(command("polite", limit=SHORT, extensible=False), lock, supervisors)
        )
        await asyncio.sleep(0)  # execute has begun, and its thread has not answered
        await run.extend(LONG)

        async with asyncio.timeout(LIMIT):
            assert (await executing).reason is Reason.DEADLINE
        assert run.extension == LONG

    async def test_an_extension_that_cannot_be_written_changes_nothing(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """It is told, and may be asked for again."""
        executing = asyncio.create_task(run.execute(command("polite"), lock, supervisors))
        await has_said(output_of(run), "ready")
        obstacle = run.directory / "01-up" / "limit.json.draft"
        obstacle.mkdir()
        with pytest.raises(IsADirectoryError):
            await run.extend(LONG)

        assert run.extension == timedelta()
        obstacle.rmdir()
        await run.extend(LONG)
        assert run.extension == LONG
        run.hasten()
        assert (await executing).stage is Stage.INTERRUPTED

    @pytest.mark.parametrize(("extensible", "reason"), [(True, None), (False, Reason.DEADLINE)])
    async def test_an_extension_between_two_commands_reaches_the_second(
        self, run: Run, lock: StackLock, extensible: bool, reason: Reason | None, supervisors: ForkServer
    ) -> None:
        """Asked while the first one ran, written after it has ended: the second was not told by its caller."""
        first, second = run.directory / "first", run.directory / "second"
        executing = asyncio.create_task(run.execute(command("wait_for", first), lock, supervisors))
        await has_said(output_of(run), "ready")
        slow_disk = run.directory / "01-up" / "limit.json.draft"
        os.mkfifo(slow_disk)  # whoever writes to it waits for a reader
        extending = asyncio.create_task(run.extend(LONG))
        first.touch()
        await executing
        what = command("wait_for", second, limit=timedelta(), extensible=extensible)
        executing = asyncio.create_task(run.execute(what, lock, supervisors))
        await asyncio.sleep(0)  # execute has begun
        with slow_disk.open("rb"):
            await extending
        second.touch()

        assert (await executing).reason is reason

    async def test_extensions_add_up(self, run: Run) -> None:
        """Without a command they are for those that come."""
        await asyncio.gather(run.extend(LONG), run.extend(SHORT))

        assert run.extension == LONG + SHORT


class TestCancelling:
    async def test_a_cancelled_wait_leaves_the_command_running(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """It ends by itself, its end is recorded, and the lock stays taken until then."""
        go = run.directory / "go"
        await abandoned(run, lock, supervisors, command("wait_for", go))

        assert not lock.try_acquire()
        go.touch()
        await eventually(lock.try_acquire)
        assert json.loads((run.directory / "01-up" / "exit.json").read_text())["returncode"] == 0
        assert output_of(run).read_text() == "ready\ndone\n"
        assert await run.end_leftover(lock, (LONG, LONG))

    async def test_a_cancel_during_the_start_does_not_lose_the_lock(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """When the cancellation comes out the child has its copy, so that releasing ours opens no gap."""
        executing = asyncio.create_task(run.execute(command("polite"), lock, supervisors))
        await asyncio.sleep(0)  # execute has begun, and its thread has not answered
        executing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await executing
        lock.release()

        assert not lock.try_acquire()
        assert await run.end_leftover(lock, (LONG, LONG))


def small_service(runs_dir: Path, lock: StackLock, argv: list[str]) -> subprocess.Popen[bytes]:
    """Start a small service that executes a command; the test kills it."""
    environment = {"PYTHONPATH": str(Path(runs.__file__).parents[1])}
    return subprocess.Popen([sys.executable, service.__file__, runs_dir, lock.path, *argv], env=environment)


async def leftover_of_killed_service(tmp_path: Path, lock: StackLock, argv: list[str]) -> Run:
    """Return the run, and its child that has said "ready", of a service that was killed by kill -9."""
    with small_service(tmp_path / "runs", lock, argv) as doomed:
        await has_said(tmp_path / "runs" / "update" / "01-up" / "stdout", "ready")
        doomed.kill()
    (run,) = Run.leftovers(tmp_path / "runs")
    return run


class TestServiceDeath:
    async def test_a_command_outlives_a_killed_service(self, tmp_path: Path) -> None:
        """After kill -9 it goes on, finishes, is recorded, and holds its stack's lock until then."""
        lock = StackLock(tmp_path / "lock")
        run = await leftover_of_killed_service(tmp_path, lock, argv_of("wait_for", tmp_path / "go"))

        assert not lock.try_acquire()
        (tmp_path / "go").touch()
        await eventually(lock.try_acquire)
        with lock:
            assert json.loads((run.directory / "01-up" / "exit.json").read_text())["returncode"] == 0
            assert output_of(run).read_text() == "ready\ndone\n"

    async def test_the_next_life_ends_what_the_last_one_left(self, tmp_path: Path) -> None:
        """All that it needs to know stands in the run's directory."""
        lock = StackLock(tmp_path / "lock")
        run = await leftover_of_killed_service(tmp_path, lock, argv_of("plugins", tmp_path / "pids"))
        alive = process.session_members(_supervisor_pid(run))

        assert await run.end_leftover(lock, (LONG, LONG))
        with lock:
            assert len(alive) == 3
            assert not any(process.is_alive(identity) for identity in alive)

    async def test_a_service_killed_with_its_supervisor_is_cleaned_up_after(self, tmp_path: Path) -> None:
        """A machine that runs out of memory may kill more than one; the command is ended from here."""
        lock = StackLock(tmp_path / "lock")
        run = await leftover_of_killed_service(tmp_path, lock, argv_of("plugins", tmp_path / "pids"))
        kill(run, "supervisor")

        assert await run.end_leftover(lock, (LONG, LONG))
        with lock:
            assert process.session_members(_supervisor_pid(run)) == []


def next_life(run: Run) -> Run:
    """The same run, as a restarted service finds it."""
    return Run(run.directory)


class TestAdopt:
    async def test_a_command_that_goes_on_is_waited_for(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """Its own end is returned, and it is not disturbed."""
        go = run.directory / "go"
        await abandoned(run, lock, supervisors, command("wait_for", go))
        adopting = asyncio.create_task(next_life(run).adopt(run.directory / "01-up", lock))
        await asyncio.sleep(0)
        go.touch()

        async with asyncio.timeout(LIMIT):
            end = await adopting
        assert (end.returncode, end.reason, end.stage, end.name) == (0, None, Stage.NONE, "up")
        assert await run.end_leftover(lock, (LONG, LONG))

    async def test_one_that_had_ended_is_told_at_once(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """Also without anybody who waited for it; the lock is ours then."""
        await abandoned(run, lock, supervisors, command("polite"))
        assert await run.end_leftover(lock, (LONG, LONG))
        lock.release()

        end = await next_life(run).adopt(run.directory / "01-up", lock)

        assert (end.reason, end.stage) == (Reason.ASKED, Stage.INTERRUPTED)
        assert lock.held

    async def test_it_can_be_hastened(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """Each call is a step, as for a command of ours."""
        await abandoned(run, lock, supervisors, command("deaf", 1))
        adopted = next_life(run)
        adopting = asyncio.create_task(adopted.adopt(run.directory / "01-up", lock))
        adopted.hasten()
        await eventually((run.directory / "01-up" / "stage.json").exists)
        adopted.hasten()

        async with asyncio.timeout(LIMIT):
            end = await adopting
        assert (end.returncode, end.reason, end.stage) == (8, Reason.ASKED, Stage.TERMINATED)
        assert await run.end_leftover(lock, (LONG, LONG))

    @pytest.mark.parametrize("is_adopting", [True, False])
    async def test_it_can_be_extended(
        self, run: Run, lock: StackLock, is_adopting: bool, supervisors: ForkServer
    ) -> None:
        """The new limit counts from the command's beginning, over both lives, also where it was asked for before."""
        go, limit = run.directory / "go", run.directory / "01-up" / "limit.json"
        await abandoned(run, lock, supervisors, command("wait_for", go, limit=LONG))
        adopted = next_life(run)
        if not is_adopting:
            await adopted.extend(LONG)
        adopting = asyncio.create_task(adopted.adopt(run.directory / "01-up", lock))
        await asyncio.sleep(0)  # adopting has begun
        if is_adopting:
            await adopted.extend(LONG)
        await eventually(limit.exists)
        told = json.loads(limit.read_text())
        go.touch()

        async with asyncio.timeout(LIMIT):
            await adopting
        assert told == {"limit": 60.0}
        assert await run.end_leftover(lock, (LONG, LONG))

    async def test_without_its_supervisor_the_command_is_ended(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """Nobody keeps its deadline or learns its status any more: its end is unknown, and nothing of it lives."""
        await abandoned(run, lock, supervisors, command("polite", graces=(SHORT, SHORT)))
        kill(run, "supervisor")

        async with asyncio.timeout(LIMIT):
            end = await next_life(run).adopt(run.directory / "01-up", lock)

        assert end.returncode is None
        assert end.error
        assert await run.end_leftover(lock, (LONG, LONG))
        assert not any(process.is_alive(one) for one in commands_of(run))

    async def test_a_cancelled_wait_leaves_it_running(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """As with one of ours, a later life may adopt it again."""
        await abandoned(run, lock, supervisors, command("polite"))
        adopted = next_life(run)
        adopting = asyncio.create_task(adopted.adopt(run.directory / "01-up", lock))
        await asyncio.sleep(0)  # adopting has begun
        adopting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adopting

        assert all(process.is_alive(one) for one in commands_of(run))
        assert await run.end_leftover(lock, (LONG, LONG))


class TestEndLeftover:
    async def test_a_live_supervisor_ends_its_command(self, run: Run, lock: StackLock, supervisors: ForkServer) -> None:
        """It walks the ladder when asked, and the stack's lock is ours then."""
        await abandoned(run, lock, supervisors, command("deaf", 1, graces=(SHORT, LONG)))

        assert await run.end_leftover(lock, (LONG, LONG))
        assert lock.held
        end = json.loads((run.directory / "01-up" / "exit.json").read_text())
        assert (end["returncode"], end["reason"], end["stage"]) == (8, "asked", "terminated")

    async def test_without_a_supervisor_the_command_is_ended_from_here(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """The same steps are taken, and what remains in the session is killed."""
        await abandoned(run, lock, supervisors, command("plugins", run.directory / "pids"))
        kill(run, "supervisor")

        assert await run.end_leftover(lock, (SHORT, SHORT))
        assert lock.held
        assert process.session_members(_supervisor_pid(run)) == []

    async def test_a_finishing_command_without_a_supervisor_is_spared(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """It is given the time of both graces to finish, without a signal, as its supervisor would have done."""
        events, never = run.next_directory("up") / "events", run.directory / "never"
        await abandoned(run, lock, supervisors, command("finishing", events, never, quiet_markers=('"summaryEvent"',)))
        kill(run, "supervisor")

        assert await run.end_leftover(lock, (SHORT, SHORT))
        assert output_of(run).read_text() == "ready\n"

    async def test_plugins_without_supervisor_and_command_are_killed(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """They hold the lock and would go on changing things; the session's number leads to them."""
        await abandoned(run, lock, supervisors, command("plugins", run.directory / "pids"))
        kill(run, "supervisor")
        kill(run, "command")

        assert await run.end_leftover(lock, (SHORT, SHORT))
        assert process.session_members(_supervisor_pid(run)) == []

    async def test_an_end_that_nobody_recorded_is_among_the_ends(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """Or the command before, which went well, would seem to be the last word."""
        await run.execute(command("leave", 0), lock, supervisors)
        executing = asyncio.create_task(run.execute(command("polite"), lock, supervisors))
        await has_said(output_of(run, "02-up"), "ready")
        executing.cancel()
        os.kill(_supervisor_pid(run, "02-up"), signal.SIGKILL)
        assert await run.end_leftover(lock, (LONG, LONG))

        first, second = run.command_ends()

        assert first.returncode == 0
        assert (second.returncode, second.clean) == (None, False)
        assert second.error is not None

    async def test_a_run_that_is_all_dead_gives_the_lock(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """Nothing is waited for when nothing lives."""
        await abandoned(run, lock, supervisors, command("polite"))
        kill(run, "supervisor")
        kill(run, "command")
        await eventually(lambda: not process.is_alive(commands_of(run)[0]))

        assert await run.end_leftover(lock, (LONG, LONG))

    async def test_a_run_that_never_began_gives_the_lock(self, run: Run, lock: StackLock) -> None:
        """A service that died between making the directory and starting the supervisor left nobody."""
        (run.directory / "01-up").mkdir()

        assert await run.end_leftover(lock, (LONG, LONG))

    async def test_a_session_that_is_not_the_runs_is_left_alone(self, run: Run, lock: StackLock) -> None:
        """When the pids of a dead run have been used again, nobody is signalled."""
        with stranger_in_a_session() as stranger:
            identity = process.identify(stranger.pid)
            assert identity is not None
            directory = run.next_directory("up")
            directory.mkdir()
            old = {"pid": identity.pid, "start_time": identity.start_time - 1}
            who = {"hostname": "host", "started": 0}
            pids = {**who, "boot_id": identity.boot_id, "supervisor": old, "command": old}
            (directory / "pids.json").write_text(json.dumps(pids))

            assert await run.end_leftover(lock, (LONG, LONG))
            assert process.is_alive(identity)
            stranger.kill()

    async def test_a_lock_that_somebody_keeps_is_told(self, run: Run, lock: StackLock) -> None:
        """False means that nothing may be started on this stack."""
        with keeper_of(lock):
            kept = Run(run.directory, lock_limit=SHORT)

            assert not await kept.end_leftover(lock, (SHORT, SHORT))
            assert not lock.held


class TestDirectories:
    def test_a_run_is_made_once(self, tmp_path: Path) -> None:
        """A second run of one update would mix two outputs."""
        run = Run.create(tmp_path / "runs", "update")

        assert run.update_id == "update"
        with pytest.raises(FileExistsError):
            Run.create(tmp_path / "runs", "update")

    async def test_leftovers_are_what_was_not_removed(self, tmp_path: Path) -> None:
        """Each run stays until it is removed; before the first there is none."""
        assert Run.leftovers(tmp_path / "runs") == []
        first, second = (Run.create(tmp_path / "runs", name) for name in ("1", "2"))

        assert [run.update_id for run in Run.leftovers(tmp_path / "runs")] == ["1", "2"]
        await first.remove()
        await first.remove()
        assert [run.update_id for run in Run.leftovers(tmp_path / "runs")] == ["2"]
        await second.remove()

    def test_a_run_without_commands_has_no_identities(self, tmp_path: Path) -> None:
        """Neither an empty run nor one that is gone is an error."""
        assert commands_of(Run.create(tmp_path, "update")) == []
        assert commands_of(Run(tmp_path / "missing")) == []


class TestStackLock:
    def test_one_at_a_time(self, tmp_path: Path) -> None:
        """Two locks of one stack exclude each other, in one process, too."""
        first, second = (StackLock.of_stack(tmp_path, "organization/demo/dev") for _ in range(2))

        assert first.try_acquire()
        assert not second.try_acquire()
        first.release()
        assert second.try_acquire()
        second.release()

    def test_stacks_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        """Each stack has a lock of its own."""
        first, second = (StackLock.of_stack(tmp_path, f"organization/demo/{name}") for name in ("dev", "prod"))

        assert first.try_acquire()
        assert second.try_acquire()
        first.release()
        second.release()

    def test_a_child_keeps_it(self, tmp_path: Path) -> None:
        """Releasing our copy does not unlock for a child that was given one."""
        lock = StackLock(tmp_path / "lock")
        assert lock.try_acquire()
        with keeper_of(lock):
            lock.release()
            assert not lock.try_acquire()

        assert lock.try_acquire()
        lock.release()

    def test_its_misuse_is_told(self, tmp_path: Path) -> None:
        """Taking it twice or using it without having it is a mistake; releasing it twice is none."""
        lock = StackLock(tmp_path / "lock")
        with pytest.raises(RuntimeError, match="not held"):
            lock.fileno()
        with pytest.raises(RuntimeError, match="not held"):
            lock.suspect(Suspect("host", 1, 0, 1))
        assert lock.try_acquire()
        with pytest.raises(RuntimeError, match="held already"):
            lock.try_acquire()
        lock.release()
        lock.release()

    def test_it_is_the_owners_only(self, tmp_path: Path) -> None:
        """File and directory are closed to others."""
        lock = StackLock.of_stack(tmp_path / "locks", "organization/demo/dev")
        assert lock.try_acquire()
        with lock:
            assert lock.path.stat().st_mode & 0o777 == 0o600
            assert lock.path.parent.stat().st_mode & 0o777 == 0o700

    def test_suspects_stay_until_one_is_the_only_one(self, tmp_path: Path) -> None:
        """They outlive the lock's holder, each is named once, and reading needs no lock."""
        one, other, last = (Suspect("host", pid, 1.5, 2.5) for pid in (4711, 42, 7))
        lock = StackLock(tmp_path / "lock")
        assert lock.suspects() == frozenset()
        assert lock.try_acquire()
        with lock:
            for suspect in (one, other, one):
                lock.suspect(suspect)
        reader = StackLock(tmp_path / "lock")
        assert reader.suspects() == {one, other}
        assert reader.try_acquire()
        with reader:
            reader.suspect_only(last)
        assert lock.suspects() == {last}

    @pytest.mark.parametrize(
        ("holder", "is_one"),
        [
            (Holder("host", 7, 100), True),
            (Holder("host", 7, 160), True),
            (Holder("host", 7, 99), False),
            (Holder("host", 7, 161), False),
            (Holder("host", 7, None), False),
            (Holder("host", 8, 130), False),
            (Holder("other", 7, 130), False),
        ],
    )
    def test_only_a_lock_taken_in_a_suspects_life_is_its(self, holder: Holder, is_one: bool) -> None:
        """Another machine may have the same name and the same pid in use: only the time tells the two apart."""
        assert holder.is_one_of([Suspect("host", 7, 100.9, 160)]) is is_one

    async def test_suspects_name_the_host_and_the_time_of_the_run(
        self, tmp_path: Path, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """What the run's own files say, whatever the host's name is when they are read."""
        before = time.time()
        run = Run.create(tmp_path / "runs", "update")
        await run.execute(command("leave", 0), lock, supervisors)
        os.utime(run.directory / "01-up" / "exit.json", (before + 60, before + 60))

        (suspect,) = run.suspects()

        assert suspect.hostname == socket.gethostname()
        assert suspect.pid == commands_of(run)[0].pid
        assert before <= suspect.started <= time.time()
        assert suspect.ended == pytest.approx(before + 60)

    async def test_a_suspect_without_a_recorded_end_has_ended_by_now(
        self, run: Run, lock: StackLock, supervisors: ForkServer
    ) -> None:
        """Where the supervisor was killed nobody knows the moment, but that it is over."""
        await run.execute(command("leave", 0), lock, supervisors)
        (run.directory / "01-up" / "exit.json").unlink()
        before = time.time()

        assert before <= run.suspects()[0].ended <= time.time()

    @pytest.mark.parametrize("content", ["", "[", "{}", '[{"pid": 1}]', "[1]", "1", "\0"])
    def test_a_damaged_list_accuses_nobody(self, tmp_path: Path, content: str) -> None:
        """On a doubt no lock of Pulumi's is removed."""
        lock = StackLock(tmp_path / "lock")
        lock.path.write_text(content)

        assert lock.suspects() == frozenset()


class TestReadTail:
    def tail(self, directory: Path, content: bytes, limit: int = 100) -> tuple[str, bool]:
        (directory / "file").write_bytes(content)
        return read_tail(directory / "file", limit)

    def test_a_short_file_is_whole(self, tmp_path: Path) -> None:
        """What fits is returned as it is, up to the last byte."""
        assert self.tail(tmp_path, b"x" * 99 + b"\n") == ("x" * 99 + "\n", False)

    def test_only_the_end_of_a_long_one(self, tmp_path: Path) -> None:
        """The beginning is left out, and that is said."""
        assert self.tail(tmp_path, b"begin" + b"x" * 100) == ("x" * 100, True)

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7, 8])
    def test_no_character_is_cut_in_half(self, tmp_path: Path, limit: int) -> None:
        """A cut inside a character leaves it out."""
        text = "\N{PILE OF POO}" * 3

        assert self.tail(tmp_path, text.encode(), limit) == ("\N{PILE OF POO}" * (limit // 4), True)

    def test_bytes_that_are_no_text_are_replaced(self, tmp_path: Path) -> None:
        """Invalid UTF-8 can be stored and shown, NULs and lone surrogates do not come through."""
        assert self.tail(tmp_path, b"a\xff\0b\xed\xa0\x80") == (
            "a\N{REPLACEMENT CHARACTER}b" + "\N{REPLACEMENT CHARACTER}" * 3,
            False,
        )

    def test_bytes_that_continue_nothing_are_not_lost(self, tmp_path: Path) -> None:
        """A cut removes the rest of one character at most."""
        assert self.tail(tmp_path, b"\x80" * 200, 10) == ("\N{REPLACEMENT CHARACTER}" * 10, True)

    @pytest.mark.parametrize(
        "escape",
        [
            "\x1b[31;1m",
            "\x1b[K",
            "\x1b[?25l",
            "\x1b]0;title\x07",
            "\x1b]8;;http://x\x1b\\",
            "\x1b(B",
            "\x1bM",
            "\x1bP1$r\x1b\\",
        ],
    )
    def test_escape_sequences_are_left_out(self, tmp_path: Path, escape: str) -> None:
        """Colours, cursor movements and titles are for terminals."""
        assert self.tail(tmp_path, f"a{escape}b".encode()) == ("ab", False)

    def test_an_unfinished_escape_takes_no_text_along(self, tmp_path: Path) -> None:
        """What follows on the next line stays."""
        assert self.tail(tmp_path, b"a\x1b]0;title\nb\x1b") == ("a\nb", False)

    def test_a_missing_file_is_empty(self, tmp_path: Path) -> None:
        """A command that never began wrote nothing."""
        assert read_tail(tmp_path / "missing", 10) == ("", False)

    @pytest.mark.parametrize("cut", range(1, 14))
    def test_a_secret_at_the_cut_is_left_out(self, tmp_path: Path, cut: int) -> None:
        """However much of it lies within the limit, no part of it comes through, and all that follows does."""
        secret, rest = "hunter2-hunter", " was the password"
        (tmp_path / "file").write_text("x" * 500 + secret + rest)

        tail = read_tail(tmp_path / "file", len(rest) + cut, lambda text: text.replace(secret, "[secret]"))

        assert tail == (rest, True)

    def test_secrets_after_the_cut_are_hidden(self, tmp_path: Path) -> None:
        """What lies wholly in the tail is replaced; a short file is hidden as a whole."""
        (tmp_path / "file").write_text("x" * 500 + "a hunter2 b")

        assert read_tail(tmp_path / "file", 20, lambda text: text.replace("hunter2", "[secret]")) == (
            "x" * 9 + "a [secret] b",
            True,
        )
