"""One deployment: prepare, run Pulumi, read the outcome. It knows nothing of records, claims and the queue."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from graphql_api.domain.errors import InvalidManifest, ModuleInvalid, ModuleNotFound, PulumiNotFound
from graphql_api.domain.manifest import parse, stack_input
from graphql_api.domain.records import Failure, FailureKind, StackFqdn, StackUpdateId, Tail
from runners import pulumi
from runners.engine import read_report
from runners.fork_server import ForkServer
from runners.lock import Holder, StackLock
from runners.outcome import UP, WORKER_LOST, Outcome, Stop, Words, hide
from runners.output import read_tail
from runners.process import identify
from runners.pulumi import PulumiSettings
from runners.runs import Command, CommandEnd, Run, Stage, supervisor_of
from runners.toolchain import PulumiCli
from runners.workspace import Modules

#: How much of the end of stdout and of stderr is kept in the record: a MongoDB document ends at 16 MB.
OUTPUT_LIMIT = 256 * 1024
#: Making a stack or removing its locks takes a fraction of a second; a backend far away a few more.
HOUSEKEEPING_LIMIT = timedelta(seconds=60)

_log = logging.getLogger("stackcast.worker")


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be deployed, and how long that may take."""

    update_id: StackUpdateId
    stack: StackFqdn
    manifest: str
    timeout: timedelta
    graces: tuple[timedelta, timedelta]


class Observer(Protocol):
    """Who wants to know how a deployment goes, and may end it."""

    @property
    def stop(self) -> Stop | None:
        """Why it is to end, once it is; from then on no command is started."""

    async def running(self) -> None:
        """Called as Pulumi is about to start. What it raises keeps Pulumi from that."""

    def ended(self) -> None:
        """Called when Pulumi has ended and no other command follows."""

    def following(self, directory: Path) -> AbstractAsyncContextManager[None]:
        """Entered before a command begins in this directory, and left when it has ended."""


class _Stopped(Exception):
    """The deployment was to end before the next command began."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop


@dataclass(frozen=True, slots=True)
class Deployer:
    """Runs Pulumi for one task at a time on each stack; ``find_cli`` gives the CLI, or None when there is none."""

    modules: Modules
    settings: PulumiSettings
    find_cli: Callable[[], Awaitable[PulumiCli | None]]
    supervisors: ForkServer

    async def check(self, kind: str) -> None:
        """Preflight: raises ModuleNotFound, ModuleInvalid or PulumiNotFound when this kind can't be deployed now."""
        module = await asyncio.to_thread(self.modules.find, kind)
        await asyncio.to_thread(module.check)
        await self._cli()

    async def deploy(self, task: Task, run: Run, lock: StackLock, observer: Observer) -> Outcome:
        """Deploy in the run's directory while the stack's lock is held.

        Every ending is an outcome; an exception is a defect, or the observer's. When cancelled, Pulumi goes on, as the
        run's directory says.
        """
        started = asyncio.get_running_loop().time()
        try:
            deployment = await self._prepare(task, run, lock, observer, started)
            await observer.running()
            words = await deployment.up()
        except _Stopped as stopped:
            return stopped.stop.outcome()
        except InvalidManifest as refusal:
            return _refused(FailureKind.INVALID_MANIFEST, refusal.message)
        except ModuleNotFound as refusal:
            return _refused(FailureKind.MODULE_NOT_FOUND, refusal.message)
        except ModuleInvalid as refusal:
            return _refused(FailureKind.MODULE_INVALID, refusal.message)
        except PulumiNotFound as refusal:
            return _refused(FailureKind.PULUMI_NOT_FOUND, refusal.message)
        limit = deployment.timeout if words.end.name == UP else min(deployment.timeout, HOUSEKEEPING_LIMIT)
        return words.outcome(limit, observer.stop).without(deployment.secrets)

    async def resume(self, task: Task, run: Run, lock: StackLock, observer: Observer) -> Outcome | None:
        """Wait for the deployment that an earlier life of the service began in the run's directory.

        None where none has begun, or where it came to nothing, so that ``deploy`` may be tried; the stack's lock is to
        be taken before. When cancelled, Pulumi goes on.
        """
        directories = await asyncio.to_thread(run.directories)
        if not directories:
            return None
        secrets = await asyncio.to_thread(self.secrets)
        if directories[-1].name.endswith(f"-{UP}"):
            await observer.running()
        async with observer.following(directories[-1]):
            end = await run.adopt(directories[-1], lock)
            # A supervisor writes down who it is before its command begins; with the lock in hand none does any more.
            if lock.held and await asyncio.to_thread(supervisor_of, directories[-1]) is None:
                return None
            words = await asyncio.to_thread(read_words, end, secrets)
            if end.name == UP and words.conclusive:
                observer.ended()
        if end.name != UP or not words.conclusive:
            return None
        outcome = words.outcome(task.timeout + run.extension, observer.stop).without(secrets)
        return outcome if end.clean or end.stage is not Stage.NONE else outcome.after(WORKER_LOST)

    def secrets(self) -> frozenset[str]:
        """What is hidden wherever it was printed. Blocking."""
        return self.settings.secrets()

    def outcome_of(self, run: Run, timeout: timedelta, stop: Stop | None) -> Outcome | None:
        """What the files of a run that has ended say; None when it never came to deploy anything. Blocking."""
        ends = run.command_ends()
        if not ends or ends[-1].name != UP:
            return None
        secrets = self.secrets()
        return read_words(ends[-1], secrets).outcome(timeout, stop).without(secrets)

    async def _prepare(self, task: Task, run: Run, lock: StackLock, observer: Observer, started: float) -> _Deployment:
        module = run.directory / "module"
        environment = await asyncio.to_thread(self._lay_out, task, module, run.directory / "stack-input.yaml")
        cli = await self._cli()
        # The shipped modules adapt their program to what this version of Pulumi knows.
        environment["STACKCAST_PULUMI_VERSION"] = cli.version
        secrets = await asyncio.to_thread(self.secrets)
        return _Deployment(task, run, lock, observer, self.supervisors, cli.path, module, environment, secrets, started)

    def _lay_out(self, task: Task, module: Path, input_file: Path) -> dict[str, str]:
        """Copy the manifest's module, write its input, and return Pulumi's environment. Blocking."""
        manifest = parse(task.manifest)
        original = self.modules.find(manifest.kind)
        # What an earlier life of the service had laid out goes first.
        shutil.rmtree(module, ignore_errors=True)
        input_file.unlink(missing_ok=True)
        original.copy(module, task.stack.split("/")[1])
        text = stack_input(manifest)
        _write_private(input_file, text)
        return self.settings.environment(text, input_file)

    async def _cli(self) -> PulumiCli:
        cli = await self.find_cli()
        if cli is None:
            raise PulumiNotFound(
                "No Pulumi CLI is on this machine. Put `pulumi` on the service's PATH, or run `stackcast demo` once, "
                "which builds one."
            )
        return cli


@dataclass(frozen=True, slots=True)
class _Deployment:
    """A prepared deployment: a private copy of the module, an environment, and the time that is left."""

    task: Task
    run: Run
    lock: StackLock
    observer: Observer
    supervisors: ForkServer
    cli: Path
    directory: Path
    environment: dict[str, str]
    secrets: frozenset[str]
    started: float

    @property
    def timeout(self) -> timedelta:
        """How long it may take by now."""
        return self.task.timeout + self.run.extension

    async def up(self) -> Words:
        """``pulumi up``, with what may have to come first: making the stack, removing a dead run's lock."""
        if await asyncio.to_thread(self._surely_missing):
            words = await self._init()
            if words.end.returncode != 0 and not words.stack_exists:
                return words
        words = await self._up()
        if words.stack_missing:
            made = await self._init()
            if made.end.returncode != 0 and not made.stack_exists:
                return made
            words = await self._up()
        if await self._removed_stale_lock(words):
            words = await self._up()
        return words

    def _surely_missing(self) -> bool:
        """True when a file backend shows that the stack is not there, which saves being refused by Pulumi. Blocking."""
        scheme, _, path = self._backend().partition("://")
        _, project, stack = self.task.stack.split("/")
        state = Path(path.partition("?")[0], ".pulumi", "stacks", project)
        return scheme == "file" and not any((state / f"{stack}.json{end}").exists() for end in ("", ".gz"))

    def _backend(self) -> str:
        return self.environment["PULUMI_BACKEND_URL"]

    async def _up(self) -> Words:
        directory = await asyncio.to_thread(self.run.next_directory, UP)
        return await self._execute(UP, pulumi.up(self.cli, self.task.stack, directory / "events", self.task.update_id))

    async def _init(self) -> Words:
        return await self._execute("init", pulumi.stack_init(self.cli, self.task.stack), HOUSEKEEPING_LIMIT)

    async def _removed_stale_lock(self, words: Words) -> bool:
        """Remove Pulumi's lock if all who hold it are processes of ours that are proven gone.

        That they are gone is proven by the stack's own lock, which we hold and which they would hold while alive.
        """
        holders = words.lock_holders()
        ours = await asyncio.to_thread(self.lock.suspects)
        if not holders or not all(holder.is_one_of(ours) and not _may_live(holder) for holder in holders):
            return False
        _log.warning("removing the lock that a dead run left on %s", self.task.stack)
        removed = await self._execute("cancel", pulumi.cancel(self.cli, self.task.stack), HOUSEKEEPING_LIMIT)
        return removed.end.returncode == 0

    async def _execute(self, name: str, argv: tuple[str, ...], at_most: timedelta | None = None) -> Words:
        if self.observer.stop is not None:
            raise _Stopped(self.observer.stop)
        async with self.observer.following(await asyncio.to_thread(self.run.next_directory, name)):
            end = await self.run.execute(self._command(name, argv, at_most), self.lock, self.supervisors)
            words = await asyncio.to_thread(read_words, end, self.secrets)
            if words.conclusive:
                self.observer.ended()
        await asyncio.to_thread(_note_suspects, self.run, self.lock, words)
        return words

    def _command(self, name: str, argv: tuple[str, ...], at_most: timedelta | None) -> Command:
        """The command as it is to run now, in the time that is left."""
        passed = timedelta(seconds=asyncio.get_running_loop().time() - self.started)
        left = max(self.timeout - passed, timedelta(0))
        return Command(
            name=name,
            argv=argv,
            cwd=self.directory,
            environment=self.environment,
            limit=min(left, at_most) if at_most else left,
            graces=self.task.graces,
            quiet_markers=pulumi.QUIET_MARKERS,
            extensible=at_most is None,
        )


def _may_live(holder: Holder) -> bool:
    """True when a Pulumi on this host has its pid now; in a container pids are soon used again."""
    if holder.hostname != socket.gethostname():
        return False  # it is a suspect, so it ran in this data directory, when this host had another name
    try:
        name = Path(f"/proc/{holder.pid}/comm").read_text()
    except OSError:  # gone
        return False
    return "pulumi" in name and identify(holder.pid) is not None


def read_words(end: CommandEnd, secrets: frozenset[str]) -> Words:
    """Read what a finished command left in its files, without the secrets. Blocking."""

    def without_secrets(text: str) -> str:
        return hide(text, secrets)

    return Words(
        end=end,
        report=read_report(end.events, without_secrets),
        stdout=Tail(*read_tail(end.stdout, OUTPUT_LIMIT, without_secrets)),
        stderr=Tail(*read_tail(end.stderr, OUTPUT_LIMIT, without_secrets)),
    )


def _note_suspects(run: Run, lock: StackLock, words: Words) -> None:
    """Who may have left Pulumi's lock: this command too when it ended by itself, as it may have failed to remove it."""
    if words.report.summarized and (last := run.suspects()[-1:]):
        lock.suspect_only(last[0])  # its engine ran, so it had the lock, and no other is left
    elif not words.end.clean:
        suspect_all(run, lock)


def suspect_all(run: Run, lock: StackLock) -> None:
    """Remember the run's processes as possible holders of a lock that Pulumi left behind. Blocking."""
    lock.suspect(*run.suspects())


def _refused(kind: FailureKind, message: str) -> Outcome:
    return Outcome(Failure(kind, message))


def _write_private(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
