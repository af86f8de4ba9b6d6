"""Which commands a deployment runs, one after the other, and what its observer is told on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from graphql_api.domain.records import CancellationReason, FailureKind, StackUpdateId
from runners.deployment import HOUSEKEEPING_LIMIT, Deployer, Task
from runners.fork_server import ForkServer
from runners.lock import StackLock, Suspect
from runners.outcome import WORKER_LOST, Outcome, Stop
from runners.pulumi import PulumiSettings
from runners.runs import Command, CommandEnd, Run, Stage
from runners.toolchain import PulumiCli
from runners.workspace import Modules
from tests.builders import MANIFEST, SECOND, STACK
from tests.unit import virtual_time

NO_STACK = (6, f"error: no stack named '{STACK}' found\n")
DONE = (0, "")
FAILED = (255, "error: update failed\n")
TIMEOUT = timedelta(seconds=600)
HOUR = timedelta(hours=1)


@dataclass
class FakeRun:
    """A run whose commands end as told, each after a second: with a status, and what they said on standard error."""

    directory: Path
    answers: list[tuple[int, str]]
    extension: timedelta = timedelta()
    commands: list[Command] = field(default_factory=list)

    def next_directory(self, name: str) -> Path:
        return self.directory / f"{len(self.commands) + 1:02}-{name}"

    async def execute(self, command: Command, _lock: StackLock, _supervisors: ForkServer) -> CommandEnd:
        directory = self.next_directory(command.name)
        directory.mkdir()
        self.commands.append(command)
        status, said = self.answers.pop(0)
        (directory / "stderr").write_text(said)
        await asyncio.sleep(1)
        return CommandEnd(directory, status, None, Stage.NONE, None, None)

    def suspects(self) -> list[Suspect]:
        return []

    @property
    def names(self) -> list[str]:
        return [command.name for command in self.commands]


@dataclass
class FakeObserver:
    """Notes what it is told, and does something as it begins to follow a command."""

    on_following: Callable[[str], None] = lambda _: None
    stop: Stop | None = None
    told: list[str] = field(default_factory=list)

    async def running(self) -> None:
        self.told.append("running")

    def ended(self) -> None:
        self.told.append("ended")

    @asynccontextmanager
    async def following(self, directory: Path) -> AsyncIterator[None]:
        self.told.append(directory.name)
        self.on_following(directory.name)
        yield
        self.told.append(f"after {directory.name}")


@dataclass
class Scene:
    directory: Path
    answers: list[tuple[int, str]]
    observer: FakeObserver = field(default_factory=FakeObserver)
    manifest: str = MANIFEST

    def __post_init__(self) -> None:
        self.run = FakeRun(self.directory / "run", self.answers)
        self.run.directory.mkdir()

    @property
    def lock(self) -> StackLock:
        return StackLock(self.directory / "lock")

    @property
    def task(self) -> Task:
        return Task(StackUpdateId("1"), STACK, self.manifest, TIMEOUT, (SECOND, SECOND))

    async def deploy(self) -> Outcome:
        return await self.deployer().deploy(self.task, cast("Run", self.run), self.lock, self.observer)

    def deployer(self) -> Deployer:
        module = self.directory / "module"
        module.mkdir()
        (module / "Pulumi.yaml").write_text("name: demo\nruntime: yaml\n")
        # Of a backend that is no directory nobody can see whether it has the stack.
        settings = PulumiSettings("s3://bucket", self.directory, None, None, {})
        return Deployer(Modules(None, module), settings, self._find_cli, ForkServer())

    async def _find_cli(self) -> PulumiCli:
        return PulumiCli(self.directory / "pulumi", "3.206.0")


def test_the_observer_is_told_when_pulumi_starts_and_when_it_has_ended(tmp_path: Path) -> None:
    """It is told of the end before the rest of what was said is followed."""
    scene = Scene(tmp_path, [DONE])

    outcome = virtual_time.run(scene.deploy)

    assert (outcome.failure, outcome.exit_code) == (None, 0)
    assert scene.observer.told == ["running", "01-up", "ended", "after 01-up"]


def test_a_refusal_that_another_command_mends_is_not_the_end(tmp_path: Path) -> None:
    """Where the stack is missing it is made, and Pulumi deploys: only then nothing can be cancelled any more."""
    scene = Scene(tmp_path, [NO_STACK, DONE, FAILED])

    outcome = virtual_time.run(scene.deploy)

    assert outcome.failure
    assert outcome.failure.kind is FailureKind.PROGRAM_ERROR
    assert scene.observer.told == [
        *("running", "01-up", "after 01-up", "02-init", "after 02-init"),
        *("03-up", "ended", "after 03-up"),
    ]


@pytest.mark.parametrize(
    ("reason", "kind"), [(CancellationReason.ASKED, None), (CancellationReason.SHUTDOWN, FailureKind.SERVICE_STOPPED)]
)
@pytest.mark.parametrize("at", ["", "01-up", "02-init"])
def test_once_it_is_to_end_no_command_begins(
    tmp_path: Path, at: str, reason: CancellationReason, kind: FailureKind | None
) -> None:
    """Between two commands nothing has to be interrupted; it ends as if Pulumi had been."""

    def stop(directory: str) -> None:
        if directory == at:
            scene.observer.stop = Stop(reason)

    scene = Scene(tmp_path, [NO_STACK, DONE, DONE], FakeObserver(stop))
    stop("")

    outcome = virtual_time.run(scene.deploy)

    assert (outcome.cancelled, outcome.failure and outcome.failure.kind) == (kind is None, kind)
    assert scene.run.names == ["up", "init", "up"][: int(at[:2] or 0)]


def test_an_extension_counts_for_commands_that_begin_later(tmp_path: Path) -> None:
    """Also where it comes at the last moment. Making a stack has a limit of its own, which nothing extends."""

    def extend(directory: str) -> None:
        if directory == "01-up":
            scene.run.extension += HOUR

    scene = Scene(tmp_path, [NO_STACK, DONE, DONE], FakeObserver(extend))

    virtual_time.run(scene.deploy)

    first, init, second = scene.run.commands
    assert (first.limit, first.extensible) == (TIMEOUT + HOUR, True)
    assert (init.limit, init.extensible) == (HOUSEKEEPING_LIMIT, False)
    assert (second.limit, second.extensible) == (TIMEOUT + HOUR - 2 * SECOND, True)


def test_a_manifest_that_cannot_be_deployed_starts_nothing(tmp_path: Path) -> None:
    """That is an outcome, too, with the reason; Pulumi is not even about to start."""
    scene = Scene(tmp_path, [], manifest="kind: [")

    outcome = virtual_time.run(scene.deploy)

    assert outcome.failure
    assert outcome.failure.kind is FailureKind.INVALID_MANIFEST
    assert scene.observer.told == []


async def test_a_command_that_never_began_is_nothing_to_wait_for(tmp_path: Path) -> None:
    """The service died between making its directory and starting it: nothing was done, so all may be done anew."""
    scene = Scene(tmp_path, [])
    run = Run.create(tmp_path / "runs", "1")
    run.next_directory("up").mkdir()
    lock = scene.lock

    outcome = await scene.deployer().resume(scene.task, run, lock, scene.observer)

    assert outcome is None
    assert lock.held
    assert "ended" not in scene.observer.told
    lock.release()


async def test_a_command_that_began_and_left_no_end_is_not_begun_anew(tmp_path: Path) -> None:
    """Once its supervisor had written down who it is, nobody knows how far it came."""
    scene = Scene(tmp_path, [])
    run = Run.create(tmp_path / "runs", "1")
    directory = run.next_directory("up")
    directory.mkdir()
    gone = {"pid": 2**22 + 1, "start_time": 1}  # more than any pid
    pids = {"supervisor": gone, "command": gone, "boot_id": "another", "hostname": "here", "started": 1.0}
    (directory / "pids.json").write_text(json.dumps(pids))
    lock = scene.lock

    outcome = await scene.deployer().resume(scene.task, run, lock, scene.observer)

    assert outcome is not None
    assert outcome.failure == WORKER_LOST
    lock.release()
