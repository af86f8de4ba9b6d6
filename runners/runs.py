"""The run directory: where the commands of one stack update run, what they leave there, and how they are ended.

    <runs>/<update id>/01-init/    spec.json  pids.json  stdout  stderr  events  exit.json  supervisor.log
    <runs>/<update id>/02-up/      ...  limit.json  stage.json

Everything that a later life of the service needs to know about a command stands in these files, and whether anything
of a run still lives is answered without them, by the stack's lock.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from runners import process, supervisor
from runners.fork_server import ForkServer
from runners.lock import StackLock, Suspect
from runners.patience import to_the_end
from runners.process import ProcessIdentity

MARGIN = timedelta(seconds=60)  # for a supervisor to start, to sweep and to write, on a slow machine, beyond its limits
RECORD_LIMIT = timedelta(seconds=10)  # for a supervisor that starts to say who it is
SWEEP_LIMIT = timedelta(seconds=10)
LOCK_LIMIT = timedelta(seconds=10)
POLL = 0.02  # seconds between looks at what cannot be waited for
REMOVE_ATTEMPTS = 10

_COMMAND_DIRECTORY = re.compile(r"\d{2,}-")


class Reason(StrEnum):
    """Why a command was to end before it ended by itself."""

    DEADLINE = "deadline"
    ASKED = "asked"


class Stage(StrEnum):
    """The last step that was taken to end a command; a step withheld from an engine that was finishing is not one."""

    NONE = "none"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    KILLED = "killed"


@dataclass(frozen=True)
class Command:
    """One command of a run.

    ``limit`` is the time until the ladder begins, which extending the run lengthens where the command is
    ``extensible``; ``graces`` are the times after its first and its second SIGTERM. Once the event log holds an event
    with one of ``quiet_markers`` as its key, the command gets no SIGTERM any more, only the time.
    """

    name: str
    argv: Sequence[str]
    cwd: Path
    environment: Mapping[str, str]
    limit: timedelta
    graces: tuple[timedelta, timedelta]
    quiet_markers: tuple[str, ...] = ()
    extensible: bool = True


@dataclass(frozen=True)
class CommandEnd:
    """How a command ended.

    ``returncode`` is negative for a signal, and None when the command never began (``errno`` may say why) or its end is
    unknown; then ``error`` is a sentence.
    """

    directory: Path
    returncode: int | None
    reason: Reason | None
    stage: Stage
    error: str | None
    errno: int | None

    @property
    def name(self) -> str:
        """The command's name."""
        return self.directory.name.partition("-")[2]

    @property
    def stdout(self) -> Path:
        return self.directory / "stdout"

    @property
    def stderr(self) -> Path:
        return self.directory / "stderr"

    @property
    def events(self) -> Path:
        return self.directory / "events"

    @property
    def clean(self) -> bool:
        """Whether the command exited by itself, so that it had the chance to let go of what it held."""
        return self.returncode is not None and self.returncode >= 0 and self.stage is not Stage.KILLED


@dataclass
class _Running:
    """A command that a supervisor runs, with the limit that it has by now."""

    directory: Path
    command: Command
    supervisor: ProcessIdentity | None

    @property
    def longest(self) -> timedelta:
        """How long its supervisor may take by its own limits."""
        return self.command.limit + sum(self.command.graces, timedelta())

    def tell(self, number: signal.Signals) -> None:
        """Send its supervisor a signal; nothing happens when it is gone."""
        if self.supervisor is not None:
            process.send_signal(self.supervisor, number)


@dataclass(frozen=True)
class _Pids:
    supervisor: ProcessIdentity
    command: ProcessIdentity
    hostname: str
    started: float


class Run:
    """The commands of one stack update, one after the other, in one directory.

    ``margin`` is how much longer than its own limits a supervisor may take before it counts as stuck, ``lock_limit``
    how long after everything known has ended the stack's lock may stay taken.
    """

    def __init__(self, directory: Path, margin: timedelta = MARGIN, lock_limit: timedelta = LOCK_LIMIT) -> None:
        self.directory = directory.absolute()
        self._margin = margin
        self._lock_limit = lock_limit
        self._running: _Running | None = None
        self._is_hastened = False
        self._extension = timedelta()
        self._turn = asyncio.Lock()  # of who begins a command, tells one that it has more time, or removes all

    @classmethod
    def create(cls, runs_dir: Path, update_id: str) -> Self:
        """Make the directory of a new run, for its owner's eyes only. Blocking. FileExistsError if there was one."""
        run = cls(runs_dir / update_id)
        run.make()
        return run

    def make(self) -> None:
        """Make its directory, for its owner's eyes only. Blocking. FileExistsError if there was one."""
        self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.mkdir(mode=0o700)

    @classmethod
    def leftovers(cls, runs_dir: Path) -> list[Self]:
        """Return the runs whose directories are still there. Blocking."""
        if not runs_dir.is_dir():
            return []
        return [cls(directory) for directory in sorted(runs_dir.iterdir()) if directory.is_dir()]

    @property
    def update_id(self) -> str:
        return self.directory.name

    @property
    def extension(self) -> timedelta:
        """By how much the run has been extended in all; whoever sets the limit of a command has to add it."""
        return self._extension

    def next_directory(self, name: str) -> Path:
        """Return where the next command will run if it has this name; its argv may need the path. Blocking."""
        return self.directory / f"{len(self.directories()) + 1:02}-{name}"

    def suspects(self) -> list[Suspect]:
        """Return the commands of this run, of which nothing lives any more, as suspects. Blocking."""
        recorded = ((_read_pids(directory), _ended(directory)) for directory in self.directories())
        return [Suspect(pids.hostname, pids.command.pid, pids.started, ended) for pids, ended in recorded if pids]

    def command_ends(self) -> list[CommandEnd]:
        """Return how the commands of this run ended, in their order, once nothing of it lives any more. Blocking.

        One whose end nobody recorded is among them, with an unknown end, so that the last one here was the last one.
        """
        return [_read_end(directory) or _unknown_end(directory) for directory in self.directories()]

    async def execute(self, command: Command, lock: StackLock, supervisors: ForkServer) -> CommandEnd:
        """Run a command under the stack's lock, which must be held, and return how it ended; one at a time.

        Its limit holds the run's extension as it is at the moment of this call.
        A command that fails, or cannot be started, is an ending; OSError is raised where its directory cannot be made,
        and ForkServerLost where it is not known whether it was started.
        Cancelling leaves the command running: it ends by itself, by its deadline or through ``end_leftover``. By the
        time the CancelledError comes out, it has been started and has a copy of the lock, or it never will be.
        """
        known = self.extension
        async with self._turn:
            if command.extensible:
                command = replace(command, limit=command.limit + self.extension - known)
            # To the end even if we are cancelled: the thread uses a descriptor which our caller would close by then.
            begun = await to_the_end(self._begin(command, lock, supervisors))
        return await self._wait(begun, lock) if isinstance(begun, _Running) else begun

    async def adopt(self, directory: Path, lock: StackLock) -> CommandEnd:
        """Wait for a command that an earlier life of the service began here, and return how it ended.

        It can be hastened and extended like one of ours, also before it is found. The stack's lock, which we must not
        hold, is the command's until its end; it is ours afterwards where the command had ended before. Cancelling
        leaves the command running. OSError where an extension asked for before cannot be written down.
        """
        async with self._turn:
            pids = await _recorded(directory, lock)
            if pids is not None and not lock.held:
                command = await asyncio.to_thread(_read_command, directory)
                self._running = _Running(directory, command, pids.supervisor)
                if self._extension:
                    await _lengthen(self._running, self._extension)
                if self._is_hastened:
                    self.hasten()
        if self._running is not None:
            return await self._wait(self._running, lock)
        return await asyncio.to_thread(_read_end, directory) or _unknown_end(directory)

    def hasten(self) -> None:
        """Have the running command's next step towards its end taken now; each call is one step further.

        Once hastened, a run stays so: a command that begins later gets its first SIGTERM at once, so that nobody has
        to know whether one was just running when they asked.
        """
        self._is_hastened = True
        if self._running is not None:
            self._running.tell(supervisor.ASK)

    async def extend(self, by: timedelta) -> None:
        """Give the run more time: the running command, where it may be extended, and through ``extension`` later ones.

        It helps no command whose ladder has begun. OSError where it cannot be written down; then nothing has changed.
        """
        await to_the_end(self._extend(by))

    async def end_leftover(self, lock: StackLock, graces: tuple[timedelta, timedelta]) -> bool:
        """End what still lives of a run that nobody waits for any more, gracefully, and take the stack's lock.

        A live supervisor is asked and does it; without one the same steps are taken from here, and what remains in
        its session is killed. False when something still holds the lock after all limits: then nothing may be started
        on the stack. Our own copy of the lock, if we have one, is released first: with it we could not tell.
        """
        lock.release()
        for directory in await asyncio.to_thread(self._unfinished):
            pids = await _recorded(directory, lock)
            if pids is not None:
                await self._end_recorded(directory, pids, lock, graces)
        is_free = await _acquire(lock, self._lock_limit)
        if is_free:
            self._running = None
        return is_free

    async def remove(self) -> None:
        """Delete the directory with all that is in it; nothing happens when it is gone, or half gone, already."""
        async with self._turn:
            await asyncio.to_thread(_remove, self.directory)

    def directories(self) -> list[Path]:
        """Return where its commands run or ran, in their order. Blocking."""
        if not self.directory.is_dir():
            return []
        return sorted(entry for entry in self.directory.iterdir() if _COMMAND_DIRECTORY.match(entry.name))

    def _unfinished(self) -> list[Path]:
        return [directory for directory in self.directories() if _read_end(directory) is None]

    async def _begin(self, command: Command, lock: StackLock, supervisors: ForkServer) -> _Running | CommandEnd:
        begun = await asyncio.to_thread(self._start, command, lock, supervisors)
        if isinstance(begun, _Running):
            self._running = begun
            if self._is_hastened:
                self.hasten()
        return begun

    def _start(self, command: Command, lock: StackLock, supervisors: ForkServer) -> _Running | CommandEnd:
        """In a thread: make the command's directory and start its supervisor; where that was refused, it has ended."""
        directory = self.next_directory(command.name)
        directory.mkdir(mode=0o700)
        _write_spec(directory, command)
        try:
            identity = supervisors.start_supervisor(directory, command.environment, lock)
        except OSError as refusal:
            return _never_began(directory, refusal)
        return _Running(directory, command, identity)

    async def _extend(self, by: timedelta) -> None:
        async with self._turn:
            if self._running is not None:
                await _lengthen(self._running, by)
            self._extension += by

    async def _wait(self, running: _Running, lock: StackLock) -> CommandEnd:
        directory, identity = running.directory, running.supervisor
        if identity is not None and not await self._ends_in_time(identity, running):
            running.tell(signal.SIGKILL)
            await process.wait_until_gone(identity, process.KILL_LIMIT)
        self._running = None
        if end := await asyncio.to_thread(_read_end, directory):
            return end
        if pids := await asyncio.to_thread(_read_pids, directory):
            await self._end_recorded(directory, pids, lock, running.command.graces)
        return _unknown_end(directory)

    async def _ends_in_time(self, identity: ProcessIdentity, running: _Running) -> bool:
        """Wait for a supervisor's end; False once it is stuck. Its time may be extended while we wait."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (left := running.longest + self._margin - timedelta(seconds=loop.time() - began)) > timedelta():
            if await process.wait_until_gone(identity, left):
                return True
        return False

    async def _end_recorded(
        self, directory: Path, pids: _Pids, lock: StackLock, graces: tuple[timedelta, timedelta]
    ) -> None:
        """End a command through its supervisor, or in its place when that is gone or stuck."""
        if process.send_signal(pids.supervisor, signal.SIGTERM):
            limit = sum(graces, timedelta()) + self._margin
            if not await process.wait_until_gone(pids.supervisor, limit):
                process.send_signal(pids.supervisor, signal.SIGKILL)
        spec = await asyncio.to_thread(read_json, directory / "spec.json") or {}
        events, markers = directory / "events", spec.get("quiet_markers", ())
        await process.end(pids.command, graces, spare=lambda: supervisor.is_finishing(events, markers))
        await _sweep_session(pids.supervisor.pid, (self.directory.resolve(), lock.path.resolve()))


def _write_spec(directory: Path, command: Command) -> None:
    """Write what the supervisor needs to know; not the environment, which holds secrets and is handed over directly."""
    spec = {
        "argv": list(command.argv),
        "cwd": str(command.cwd),
        "limit": command.limit.total_seconds(),
        "graces": [grace.total_seconds() for grace in command.graces],
        "quiet_markers": list(command.quiet_markers),
        "extensible": command.extensible,
    }
    # Not durably: after a power failure nothing lives that it would be read for.
    supervisor.write_whole(directory / "spec.json", spec)


def _read_command(directory: Path) -> Command:
    """Read back what a supervisor was told, as far as it matters to whoever waits for it. Blocking."""
    spec = read_json(directory / "spec.json") or {}
    limit = (read_json(directory / "limit.json") or spec).get("limit", 0)
    first, second = spec.get("graces", (0, 0))
    return Command(
        name=directory.name.partition("-")[2],
        argv=spec.get("argv", ()),
        cwd=Path(spec.get("cwd", directory)),
        environment={},
        limit=timedelta(seconds=limit),
        graces=(timedelta(seconds=first), timedelta(seconds=second)),
        quiet_markers=tuple(spec.get("quiet_markers", ())),
        extensible=spec.get("extensible", True),
    )


async def _lengthen(running: _Running, by: timedelta) -> None:
    """Give a command more time where it may be extended. OSError where that cannot be written down."""
    if running.command.extensible:
        longer = replace(running.command, limit=running.command.limit + by)
        limit = {"limit": longer.limit.total_seconds()}
        await asyncio.to_thread(supervisor.write_whole, running.directory / "limit.json", limit)
        running.command = longer
        running.tell(signal.SIGHUP)


def _never_began(directory: Path, refusal: OSError) -> CommandEnd:
    advice = "Find out what the service lacks, such as processes, memory or file descriptors, and deploy again."
    error = f"Starting the supervisor of {directory.name} was refused: {refusal.strerror or refusal}. {advice}"
    return CommandEnd(directory, returncode=None, reason=None, stage=Stage.NONE, error=error, errno=refusal.errno)


def _unknown_end(directory: Path) -> CommandEnd:
    error = (
        f"The supervisor of {directory.name} ended and left no record, so what still ran was ended and its outcome is"
        f" unknown. Look at the stack before deploying it again; {directory / 'supervisor.log'} may tell more."
    )
    return CommandEnd(directory, returncode=None, reason=None, stage=Stage.NONE, error=error, errno=None)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a file that is renamed into place; None when it is not there, or damaged. Blocking."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _read_end(directory: Path) -> CommandEnd | None:
    if (end := read_json(directory / "exit.json")) is None:
        return None
    return CommandEnd(
        directory,
        returncode=end["returncode"],
        reason=Reason(end["reason"]) if end["reason"] else None,
        stage=Stage(end["stage"]),
        error=end["error"],
        errno=end["errno"],
    )


def _ended(directory: Path) -> float:
    """When a command ended, in seconds since 1970; now, where its supervisor could not record it."""
    try:
        return (directory / "exit.json").stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _read_pids(directory: Path) -> _Pids | None:
    if (pids := read_json(directory / "pids.json")) is None:
        return None
    return _Pids(
        supervisor=ProcessIdentity(**pids["supervisor"], boot_id=pids["boot_id"]),
        command=ProcessIdentity(**pids["command"], boot_id=pids["boot_id"]),
        hostname=pids["hostname"],
        started=pids["started"],
    )


def supervisor_of(directory: Path) -> ProcessIdentity | None:
    """Return who supervises the command in this directory; None as long as nobody is written down. Blocking."""
    pids = _read_pids(directory)
    return pids.supervisor if pids else None


async def _recorded(directory: Path, lock: StackLock) -> _Pids | None:
    """Return who runs in a directory; where nobody is written down yet, wait as long as somebody holds the lock."""
    deadline = asyncio.get_running_loop().time() + RECORD_LIMIT.total_seconds()
    while True:
        is_free = await _acquire(lock, timedelta())
        # Read after the look at the lock: a supervisor could write, start its command and die between the two.
        pids = await asyncio.to_thread(_read_pids, directory)
        if pids is not None or is_free or asyncio.get_running_loop().time() > deadline:
            return pids
        await asyncio.sleep(POLL)


async def _acquire(lock: StackLock, limit: timedelta) -> bool:
    """Take the lock as soon as it is free, trying at least once; True also when we hold it already."""
    deadline = asyncio.get_running_loop().time() + limit.total_seconds()
    while not lock.held and not await to_the_end(asyncio.to_thread(lock.try_acquire)):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(POLL)
    return True


async def _sweep_session(session_id: int, run_files: tuple[Path, ...]) -> None:
    """Kill what is left in the session of a supervisor that is gone, until nothing is or the limit has passed.

    The supervisor's pid may name another session by now, but not as long as one process of the old one lives. One that
    has a file of the run open proves that, for all members; without such a proof none is touched.
    """
    deadline = asyncio.get_running_loop().time() + SWEEP_LIMIT.total_seconds()
    is_ours = False
    while members := await asyncio.to_thread(process.session_members, session_id):
        is_ours = is_ours or await asyncio.to_thread(_any_has_open, members, run_files)
        if not is_ours or asyncio.get_running_loop().time() > deadline:
            return
        for member in members:
            process.send_signal(member, signal.SIGKILL)
        await asyncio.sleep(POLL)


def _any_has_open(members: list[ProcessIdentity], places: tuple[Path, ...]) -> bool:
    return any(
        file.is_relative_to(place) for member in members for file in process.open_files(member) for place in places
    )


def _remove(directory: Path) -> None:
    for _ in range(REMOVE_ATTEMPTS):
        if not directory.exists():
            return
        # Something in it was removed by someone else between listing and removing; look again.
        with suppress(FileNotFoundError):
            shutil.rmtree(directory)
