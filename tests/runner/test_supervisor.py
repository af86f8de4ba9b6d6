from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from runners import process, supervisor
from runners.fork_server import ForkServer
from runners.lock import StackLock
from runners.process import ProcessIdentity

from .children import argv_of, stopped
from .waiting import eventually, has_said

LONG = 30.0  # seconds; no test that passes waits for it
SHORT = 0.3


class Supervised:
    """A supervisor over one command, started as the service starts it."""

    def __init__(self, directory: Path, supervisors: ForkServer) -> None:
        self.directory = directory
        self.supervisors = supervisors
        self.identity: ProcessIdentity | None = None

    def start(
        self,
        argv: Sequence[str],
        limit: float = LONG,
        graces: tuple[float, float] = (LONG, LONG),
        quiet_markers: Sequence[str] = (),
        cwd: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        spec = {
            "argv": list(argv),
            "cwd": str(cwd or self.directory),
            "limit": limit,
            "graces": graces,
            "quiet_markers": quiet_markers,
        }
        (self.directory / "spec.json").write_text(json.dumps(spec))
        lock = StackLock(self.directory.with_name("lock"))
        assert lock.try_acquire()
        with lock:
            variables = {"PATH": os.defpath} if environment is None else environment
            self.identity = self.supervisors.start_supervisor(self.directory, variables, lock)

    @property
    def stdout(self) -> Path:
        return self.directory / "stdout"

    @property
    def log(self) -> Path:
        return self.directory / "supervisor.log"

    def ask(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.identity is not None
        process.send_signal(self.identity, number)

    def extend(self, limit: float) -> None:
        """Give the command this limit from its start on, as the service does."""
        supervisor.write_whole(self.directory / "limit.json", {"limit": limit})
        self.ask(signal.SIGHUP)

    def stage(self) -> dict[str, Any]:
        """Return what is told of the last step; nothing before the first."""
        file = self.directory / "stage.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def pid_of(self, who: str) -> int:
        return int(json.loads((self.directory / "pids.json").read_text())[who]["pid"])

    async def gone(self) -> None:
        """Wait for the supervisor's end."""
        await eventually(lambda: self.identity is None or not process.is_alive(self.identity))

    async def end(self) -> dict[str, Any]:
        """Wait for the supervisor's end and return what it recorded."""
        await self.gone()
        return dict(json.loads((self.directory / "exit.json").read_text()))


@pytest.fixture
def supervised(tmp_path: Path, supervisors: ForkServer) -> Iterator[Supervised]:
    directory = tmp_path / "command"
    directory.mkdir()
    subject = Supervised(directory, supervisors)
    yield subject
    if subject.identity is not None:
        for member in process.session_members(subject.identity.pid):
            process.send_signal(member, signal.SIGKILL)


class TestEnding:
    async def test_success_is_recorded(self, supervised: Supervised) -> None:
        """A command that ends well is recorded with status 0 and nothing else."""
        supervised.start(argv_of("leave", 0))

        assert await supervised.end() == {
            "returncode": 0,
            "reason": None,
            "stage": "none",
            "swept": 0,
            "error": None,
            "errno": None,
        }

    async def test_a_failing_status_is_recorded(self, supervised: Supervised) -> None:
        """The command's own exit status is passed on as it is."""
        supervised.start(argv_of("leave", 255))

        assert (await supervised.end())["returncode"] == 255

    async def test_a_signal_from_outside_is_recorded_as_such(self, supervised: Supervised) -> None:
        """A command that somebody else killed has a negative status and no stage."""
        supervised.start(argv_of("polite"))
        await has_said(supervised.stdout, "ready")
        os.kill(supervised.pid_of("command"), signal.SIGKILL)

        end = await supervised.end()

        assert (end["returncode"], end["reason"], end["stage"]) == (-9, None, "none")

    async def test_signals_other_than_sigterm_change_nothing(self, supervised: Supervised, tmp_path: Path) -> None:
        """What a terminal sends to a service and its children ends neither supervisor nor command."""
        supervised.start(argv_of("wait_for", tmp_path / "go"))
        await has_said(supervised.stdout, "ready")
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            supervised.ask(number)
        (tmp_path / "go").touch()

        end = await supervised.end()

        assert (end["returncode"], end["reason"]) == (0, None)

    async def test_the_record_waits_for_room_on_the_disk(self, supervised: Supervised, tmp_path: Path) -> None:
        """An exit record that cannot be written is written as soon as it can be."""
        supervised.start(argv_of("wait_for", tmp_path / "go"))
        await has_said(supervised.stdout, "ready")
        obstacle = supervised.directory / "exit.json.draft"
        obstacle.mkdir()
        (tmp_path / "go").touch()
        await has_said(supervised.log, "IsADirectoryError")
        obstacle.rmdir()

        assert (await supervised.end())["returncode"] == 0


class TestWhatTheCommandGets:
    async def test_output_goes_to_files_for_the_owner_only(self, supervised: Supervised) -> None:
        """Standard output and standard error are files of mode 0600."""
        supervised.start(argv_of("describe"))
        await supervised.end()

        assert (supervised.directory / "stderr").read_text() == "to stderr\n"
        assert {(supervised.directory / name).stat().st_mode & 0o777 for name in ("stdout", "stderr")} == {0o600}

    async def test_arguments_arrive_as_they_are(self, supervised: Supervised) -> None:
        """No character of an argument means anything to anyone in between."""
        odd = ["", " ", "a b", "$HOME", "`id`", "*", "-x", "--", "'\"", "\n", "é", "\N{PILE OF POO}", "\udcff", "\\"]
        supervised.start(argv_of("describe", *odd))
        await supervised.end()

        assert json.loads(supervised.stdout.read_text())["arguments"] == odd

    async def test_stdin_is_null(self, supervised: Supervised) -> None:
        """A command that reads its input finds the end of it at once."""
        supervised.start(argv_of("describe"))
        await supervised.end()

        assert json.loads(supervised.stdout.read_text())["stdin"] == "/dev/null"

    async def test_the_working_directory_is_the_one_asked_for(self, supervised: Supervised, tmp_path: Path) -> None:
        """The command starts in its own directory, wherever the service is."""
        supervised.start(argv_of("describe"), cwd=tmp_path)
        await supervised.end()

        assert json.loads(supervised.stdout.read_text())["cwd"] == str(tmp_path)

    async def test_its_session_is_the_supervisors(self, supervised: Supervised) -> None:
        """All of a run can be found by the session, whose number is the supervisor's pid."""
        supervised.start(argv_of("describe"))
        await supervised.end()

        assert json.loads(supervised.stdout.read_text())["session"] == supervised.pid_of("supervisor")

    async def test_the_environment_is_exactly_the_one_given(self, supervised: Supervised) -> None:
        """Python adds a locale to its own environment; the command does not get it."""
        supervised.start(["/bin/cat", "/proc/self/environ"], environment={"A": "1=2", "B": ""})
        await supervised.end()

        assert supervised.stdout.read_bytes() == b"A=1=2\0B=\0"

    async def test_no_signal_is_ignored_or_blocked(self, supervised: Supervised) -> None:
        """The command starts with the signals of a fresh process, although Python ignores some itself."""
        supervised.start(["/bin/cat", "/proc/self/status"])
        await supervised.end()

        status = dict(line.split(":\t", 1) for line in supervised.stdout.read_text().splitlines() if ":\t" in line)
        assert [int(status[mask], 16) for mask in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]

    async def test_a_program_is_found_on_the_path_given(self, supervised: Supervised, tmp_path: Path) -> None:
        """A name without a slash is looked up in the command's PATH, not in the service's."""
        program = tmp_path / "bin" / "speak"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\necho found\n")
        program.chmod(0o700)
        supervised.start(["speak"], environment={"PATH": f"/nowhere:{program.parent}"})
        await supervised.end()

        assert supervised.stdout.read_text() == "found\n"


class TestNotStarted:
    async def test_a_missing_program_is_said(self, supervised: Supervised) -> None:
        """There is no status, but an errno and a sentence that names the program."""
        supervised.start(["/nowhere/pulumi", "up"])

        end = await supervised.end()

        assert (end["returncode"], end["errno"]) == (None, errno.ENOENT)
        assert end["error"].startswith("Starting '/nowhere/pulumi' was refused: No such file or directory.")

    async def test_a_program_that_may_not_be_run_is_said(self, supervised: Supervised, tmp_path: Path) -> None:
        """A file that is not executable gives EACCES."""
        (tmp_path / "pulumi").touch(0o600)
        supervised.start([str(tmp_path / "pulumi")])

        assert (await supervised.end())["errno"] == errno.EACCES

    async def test_a_working_directory_that_is_none_is_said(self, supervised: Supervised, tmp_path: Path) -> None:
        """A file in place of the directory gives ENOTDIR, and the sentence names it."""
        (tmp_path / "file").touch()
        supervised.start(argv_of("leave", 0), cwd=tmp_path / "file")

        end = await supervised.end()

        assert (end["returncode"], end["errno"]) == (None, errno.ENOTDIR)
        assert end["error"].startswith("Entering the working directory")

    async def test_an_argument_that_is_too_large_is_said(self, supervised: Supervised) -> None:
        """Linux takes up to 131,071 bytes in one argument; the sentence does not repeat it."""
        supervised.start(argv_of("leave", "0" * 131_072))

        end = await supervised.end()

        assert (end["returncode"], end["errno"]) == (None, errno.E2BIG)
        assert len(end["error"]) < 1000

    async def test_an_argument_with_a_nul_is_said(self, supervised: Supervised) -> None:
        """What cannot be an argument at all is an ending, not a crash."""
        supervised.start(argv_of("leave", "0\0"))

        end = await supervised.end()

        assert (end["returncode"], end["errno"]) == (None, errno.EINVAL)
        assert "null byte" in end["error"]

    async def test_nothing_starts_without_a_trace_on_disk(self, supervised: Supervised, tmp_path: Path) -> None:
        """Where the pids cannot be written the command never begins, and the record says so."""
        (supervised.directory / "pids.json.draft").mkdir()
        supervised.start(["/bin/touch", str(tmp_path / "began")])

        end = await supervised.end()

        assert (end["returncode"], end["errno"]) == (None, errno.EISDIR)
        assert not (tmp_path / "began").exists()

    async def test_a_supervisor_killed_before_the_command_begins_takes_it_along(self, supervised: Supervised) -> None:
        """The forked command waits for its supervisor's word, and leaves when there is none any more."""
        supervised.start(argv_of("leave", 0))
        supervised.ask(signal.SIGKILL)
        await supervised.gone()

        assert supervised.identity is not None
        session = supervised.identity.pid
        await eventually(lambda: not process.session_members(session))


class TestLadder:
    async def test_a_polite_command_stops_at_the_first_sigterm(self, supervised: Supervised) -> None:
        """At the limit comes one SIGTERM; the command's own status is kept."""
        supervised.start(argv_of("polite"), limit=SHORT)

        end = await supervised.end()

        # On a slow machine the signal may come before the child has its handler.
        assert end["returncode"] in (1, -signal.SIGTERM)
        assert (end["reason"], end["stage"]) == ("deadline", "interrupted")

    async def test_a_command_that_ignores_the_first_gets_a_second(self, supervised: Supervised) -> None:
        """After the first grace comes another SIGTERM."""
        supervised.start(argv_of("deaf", 1), graces=(SHORT, LONG))
        await has_said(supervised.stdout, "ready")
        supervised.ask()

        end = await supervised.end()

        assert (end["returncode"], end["reason"], end["stage"]) == (8, "asked", "terminated")

    async def test_a_command_that_ignores_both_is_killed(self, supervised: Supervised) -> None:
        """After the second grace comes SIGKILL, and no third SIGTERM."""
        supervised.start(argv_of("deaf", 9), graces=(SHORT, SHORT))
        await has_said(supervised.stdout, "ready")
        supervised.ask()

        end = await supervised.end()

        assert (end["returncode"], end["reason"], end["stage"]) == (-9, "asked", "killed")
        assert supervised.stdout.read_text().count("SIGTERM") == 2

    async def test_each_request_takes_the_next_step_now(self, supervised: Supervised) -> None:
        """Who asks again does not wait for the graces."""
        supervised.start(argv_of("deaf", 9))
        await has_said(supervised.stdout, "ready")
        for heard in (1, 2):
            supervised.ask()
            await eventually(lambda heard=heard: supervised.stdout.read_text().count("SIGTERM") == heard)  # type: ignore[misc]
        supervised.ask()

        end = await supervised.end()

        assert (end["returncode"], end["stage"]) == (-9, "killed")

    async def test_requests_that_come_together_are_as_many_steps(self, supervised: Supervised) -> None:
        """None of them is lost on the way, and the command hears each SIGTERM, which it would not if they met in it."""
        supervised.start(argv_of("deaf", 9))
        await has_said(supervised.stdout, "ready")
        with stopped(supervised.pid_of("supervisor")):
            for _ in range(3):
                supervised.ask(supervisor.ASK)

        end = await supervised.end()

        assert (end["returncode"], end["reason"], end["stage"]) == (-9, "asked", "killed")
        assert supervised.stdout.read_text().count("SIGTERM") == 2

    async def test_only_the_command_is_signalled(self, supervised: Supervised, tmp_path: Path) -> None:
        """Its children hear nothing of the SIGTERM, not even in the same process group: it stops them itself."""
        supervised.start(argv_of("family", tmp_path / "go"))
        await has_said(supervised.stdout, "ready")
        supervised.ask()
        await has_said(supervised.stdout, "SIGTERM")
        (tmp_path / "go").touch()

        end = await supervised.end()

        assert (end["returncode"], end["stage"]) == (0, "interrupted")
        assert "the child heard 0" in supervised.stdout.read_text()

    @pytest.mark.parametrize("number", [signal.SIGTERM, supervisor.ASK])
    async def test_a_request_at_the_very_start_is_kept(self, supervised: Supervised, number: signal.Signals) -> None:
        """One that arrives before the handlers are there counts, since it is blocked from the beginning."""
        supervised.start(argv_of("polite"))
        supervised.ask(number)

        end = await supervised.end()

        assert (end["reason"], end["stage"]) == ("asked", "interrupted")


class TestStage:
    """The service is told of each step as it is taken, so that it can show how far the end has come."""

    async def test_each_step_is_told_with_the_time_of_the_next(self, supervised: Supervised) -> None:
        """The grace after it says when the next one comes; after the last none does."""
        graces = (LONG, 2 * LONG)
        supervised.start(argv_of("deaf", 9), graces=graces)
        await has_said(supervised.stdout, "ready")
        before = time.time()
        told = []
        for stage in ("interrupted", "terminated", "killed"):
            supervised.ask()
            await eventually(lambda stage=stage: supervised.stage().get("stage") == stage)  # type: ignore[misc]
            told.append(supervised.stage())
        await supervised.end()

        assert {stage["reason"] for stage in told} == {"asked"}
        moments = [before, *(stage["at"] for stage in told), time.time()]
        assert moments == sorted(moments)
        waits = [stage["next_at"] and stage["next_at"] - stage["at"] for stage in told]
        assert waits == [pytest.approx(graces[0]), pytest.approx(graces[1]), None]

    async def test_a_deadline_is_told_as_such(self, supervised: Supervised) -> None:
        """Nobody asked for it."""
        supervised.start(argv_of("polite"), limit=SHORT)
        await supervised.end()

        assert (supervised.stage()["stage"], supervised.stage()["reason"]) == ("interrupted", "deadline")

    async def test_a_command_that_ends_by_itself_has_no_stage(self, supervised: Supervised) -> None:
        """There was no step."""
        supervised.start(argv_of("leave", 0))
        await supervised.end()

        assert not supervised.stage()

    async def test_a_step_that_cannot_be_told_is_taken(self, supervised: Supervised) -> None:
        """Where the disk does not take the news the ladder goes on as before."""
        (supervised.directory / "stage.json.draft").mkdir()
        supervised.start(argv_of("deaf", 9), graces=(SHORT, SHORT))
        await has_said(supervised.stdout, "ready")
        supervised.ask()

        end = await supervised.end()

        assert (end["returncode"], end["stage"]) == (-9, "killed")
        assert not supervised.stage()
        assert supervised.log.read_text().count("IsADirectoryError") == 3


class TestExtension:
    async def test_the_limit_is_read_anew(self, supervised: Supervised) -> None:
        """It counts from the command's start: one that has passed already is the deadline at once."""
        supervised.start(argv_of("polite"))
        await has_said(supervised.stdout, "ready")
        supervised.extend(0.0)

        end = await supervised.end()

        assert (end["returncode"], end["reason"], end["stage"]) == (1, "deadline", "interrupted")

    async def test_an_extension_at_the_very_start_is_kept(self, supervised: Supervised) -> None:
        """One that arrives before the handlers are there counts, since it is blocked from the beginning."""
        supervised.start(argv_of("polite"))
        supervised.extend(0.0)

        assert (await supervised.end())["reason"] == "deadline"


class TestFinishing:
    """An engine that has said its last words gets no signal any more: it would leave its lock."""

    async def test_no_sigterm_while_finishing(self, supervised: Supervised, tmp_path: Path) -> None:
        """The reason is recorded, but no step: the command ends by itself."""
        events = supervised.directory / "events"
        supervised.start(argv_of("finishing", events, tmp_path / "go"), quiet_markers=['"summaryEvent"'])
        await has_said(supervised.stdout, "ready")
        supervised.ask()
        supervised.ask()
        (tmp_path / "go").touch()

        end = await supervised.end()

        assert (end["returncode"], end["reason"], end["stage"]) == (0, "asked", "none")
        assert "SIGTERM" not in supervised.stdout.read_text()
        assert not supervised.stage()

    async def test_asking_again_does_not_kill_while_finishing(self, supervised: Supervised, tmp_path: Path) -> None:
        """Three requests would kill any other command; this one has the time of both graces."""
        events = supervised.directory / "events"
        supervised.start(argv_of("finishing", events, tmp_path / "go"), quiet_markers=['"summaryEvent"'])
        await has_said(supervised.stdout, "ready")
        for _ in range(5):
            supervised.ask(supervisor.ASK)
        await eventually(lambda: _is_waiting(supervised.pid_of("supervisor")))
        (tmp_path / "go").touch()

        assert (await supervised.end())["returncode"] == 0

    async def test_one_that_never_finishes_is_killed_after_both_graces(
        self, supervised: Supervised, tmp_path: Path
    ) -> None:
        """The hard deadline holds for an engine that hangs in its last step, too."""
        events = supervised.directory / "events"
        supervised.start(
            argv_of("finishing", events, tmp_path / "never"),
            graces=(SHORT, SHORT),
            quiet_markers=['"summaryEvent"'],
        )
        await has_said(supervised.stdout, "ready")
        supervised.ask()

        end = await supervised.end()

        assert (end["returncode"], end["stage"]) == (-9, "killed")
        assert "SIGTERM" not in supervised.stdout.read_text()

    @pytest.mark.parametrize(
        ("log", "expected"),
        [
            (b'{"summaryEvent":{}}\n', True),
            (b'{"sequence":16,"timestamp":1795652696,"summaryEvent":{"result":"failed"}}\n', True),
            (b'{"resourcePreEvent":{}}\n{"cancelEvent":{}}\n', True),
            (b'{"summaryEvent":{}}\n{"diagnosticEvent":{}}\n{"resOutputsEvent":{}}\n', True),
            (b'{"summaryEvent":{}}\n' + b'{"diagnosticEvent":{}}\n' * 2_000, True),
            (b'{"cancelEvent":{}}\n{"half":', True),
            (b'{"resourcePreEvent":{}}\n{"cancelEvent":{}}', False),
            (b'{"resourcePreEvent":{}}\n' * 10_000 + b'{"cancelEvent":{}}\n', True),
            (b'{"message":"' + b"x" * supervisor.EVENTS_TAIL + b'{"cancelEvent":{}}\n', False),
            (b'{"message":"\\"cancelEvent\\""}\n', False),
            (
                b'{"sequence":2,"resourcePreEvent":{"metadata":{"new":{"inputs":{"summaryEvent":"cancelEvent"}}}}}\n',
                False,
            ),
            (b"summaryEvent\n\n{}\n", False),
            (b"", False),
        ],
    )
    def test_an_event_near_the_end_decides(self, tmp_path: Path, log: bytes, expected: bool) -> None:
        """Half a line says nothing yet, a later one takes nothing back, and a program's own words are no event."""
        (tmp_path / "events").write_bytes(log)

        assert supervisor.is_finishing(tmp_path / "events", ['"summaryEvent"', '"cancelEvent"']) is expected

    def test_no_log_and_no_markers_mean_no(self, tmp_path: Path) -> None:
        """A command without an event log, or one whose log means nothing, is never spared."""
        (tmp_path / "events").write_text("cancelEvent\n")

        assert not supervisor.is_finishing(tmp_path / "missing", ["cancelEvent"])
        assert not supervisor.is_finishing(tmp_path / "events", [])


def _is_waiting(pid: int) -> bool:
    """Tell whether a process sleeps and has no signal left to handle."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    return status["State"].startswith("S") and int(status["ShdPnd"], 16) == 0


class TestSweep:
    async def test_what_the_command_left_behind_is_killed_and_reaped(
        self, supervised: Supervised, tmp_path: Path
    ) -> None:
        """Grandchildren end before the record is written, in whatever group or session they hide."""
        supervised.start(argv_of("scatter", tmp_path / "pids"))

        end = await supervised.end()

        left = json.loads((tmp_path / "pids").read_text())
        assert (end["returncode"], end["swept"]) == (0, len(left))
        assert [process.identify(pid) for pid in left] == [None, None]

    async def test_the_children_of_a_killed_command_are_swept(self, supervised: Supervised, tmp_path: Path) -> None:
        """A SIGKILL leaves plugins behind, who would go on changing things."""
        supervised.start(argv_of("plugins", tmp_path / "pids"))
        await has_said(supervised.stdout, "ready")
        os.kill(supervised.pid_of("command"), signal.SIGKILL)

        end = await supervised.end()

        assert (end["returncode"], end["swept"]) == (-9, 1)
        assert [process.identify(pid) for pid in json.loads((tmp_path / "pids").read_text())] == [None]


class TestInProcess:
    """The supervisor's parts in this process, with a descriptor in place of its own signals."""

    def watch_deaf(
        self, directory: Path, limit: float, graces: tuple[float, float], *numbers: int
    ) -> tuple[str, float]:
        """Watch a child that only SIGKILL ends, once these signals have come; return the reason and the seconds."""
        spec = {"limit": limit, "graces": graces, "quiet_markers": []}
        readable, writable = os.pipe()
        with subprocess.Popen(argv_of("deaf", 9), stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            os.write(writable, bytes(numbers))
            pidfd = os.pidfd_open(child.pid)
            started = time.monotonic()
            reason, stage = supervisor.watch(pidfd, readable, spec, directory)
        for descriptor in (readable, writable, pidfd):
            os.close(descriptor)
        assert reason is not None
        assert (child.returncode, stage) == (-signal.SIGKILL, "killed")
        return reason, time.monotonic() - started

    def test_signals_that_arrive_together_are_counted(self, tmp_path: Path) -> None:
        """Three requests at once are three steps: the last one kills."""
        numbers = (signal.SIGHUP, signal.SIGTERM, supervisor.ASK, signal.SIGTERM)

        reason, seconds = self.watch_deaf(tmp_path, LONG, (LONG, LONG), *numbers)

        assert reason == "asked"
        assert 2 * supervisor.STEP_PAUSE <= seconds < LONG

    def test_an_extension_at_the_deadline_counts(self, tmp_path: Path) -> None:
        """As long as no step was taken there is time to be had."""
        supervisor.write_whole(tmp_path / "limit.json", {"limit": LONG})

        assert self.watch_deaf(tmp_path, 0, (0, 0), signal.SIGHUP, signal.SIGTERM)[0] == "asked"

    def test_a_sighup_without_a_new_limit_changes_nothing(self, tmp_path: Path) -> None:
        """The deadline stays where it was."""
        assert self.watch_deaf(tmp_path, 0, (0, 0), signal.SIGHUP, signal.SIGHUP)[0] == "deadline"

    def test_an_extension_after_the_first_step_changes_nothing(self, tmp_path: Path) -> None:
        """The graces are what they were, and the reason stays."""
        supervisor.write_whole(tmp_path / "limit.json", {"limit": 10 * LONG})

        reason, seconds = self.watch_deaf(tmp_path, LONG, (0, 0), signal.SIGTERM, signal.SIGHUP)

        assert reason == "asked"
        assert seconds < LONG

    def test_an_ended_command_is_not_signalled_at_its_deadline(self, tmp_path: Path) -> None:
        """A command that ends as its time runs out has ended by itself."""
        spec = {"limit": 0, "graces": [LONG, LONG], "quiet_markers": []}
        readable, writable = os.pipe()
        with subprocess.Popen(argv_of("leave", 0)) as child:
            pidfd = os.pidfd_open(child.pid)
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

            assert supervisor.watch(pidfd, readable, spec, tmp_path) == (None, "none")

        for descriptor in (readable, writable, pidfd):
            os.close(descriptor)

    def test_a_record_that_cannot_be_written_is_given_up_in_the_end(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A supervisor does not stay for ever; what stopped it stands in its log."""
        started = time.monotonic()

        supervisor.write_stubbornly(tmp_path / "missing" / "exit.json", {}, attempts=3)

        assert time.monotonic() - started >= 3 * supervisor.WRITE_PAUSE
        assert capsys.readouterr().err.count("FileNotFoundError") == 3

    def test_a_full_disk_under_its_own_log_ends_no_attempt(self, tmp_path: Path) -> None:
        """The log is on the disk that is full: what it can't take must not keep the record from being tried again."""

        class Full(io.StringIO):
            def write(self, _: str, /) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

        with contextlib.redirect_stderr(Full()):
            supervisor.write_stubbornly(tmp_path / "missing" / "exit.json", {}, attempts=2)

    async def test_the_end_is_recorded_without_a_log(self, supervised: Supervised, tmp_path: Path) -> None:
        """Where a command can't be watched and nobody can be told why, the service still finds the end."""
        (supervised.directory / "reserve").mkdir()
        supervised.log.symlink_to("/dev/full")
        supervised.start(["/bin/touch", str(tmp_path / "began")])

        assert (await supervised.end())["errno"] == errno.EISDIR
        assert not (tmp_path / "began").exists()
