"""A deployment in hand: what is asked of it while it goes on, how it is ended, and what of all that is told."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import pytest

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import StoreUnavailable
from graphql_api.domain.events import (
    CancellationChanged,
    DeadlineApproaching,
    DeadlineChanged,
    EventKind,
    LogLine,
    ResourceChanged,
    StatusChanged,
    Stream,
)
from graphql_api.domain.ports import CancelRequest, Chunk, EventLog, ExtendRequest, LogPage, Request, Span, UpdateStore
from graphql_api.domain.progress import ResourceState
from graphql_api.domain.records import (
    Cancellation,
    CancellationReason,
    CancellationStage,
    FailureKind,
    Phase,
    StackOutput,
    StackUpdate,
    StackUpdateId,
    Status,
    utc_now,
)
from runners.changes import FileChanges
from runners.deployment import Deployer, Observer, Task
from runners.fork_server import ForkServer
from runners.job import ANNOUNCEMENT_PATIENCE, Job, JobSettings
from runners.lease import Lease, LeaseLost
from runners.limits import RunLimits
from runners.lock import StackLock
from runners.log import Log
from runners.outcome import Outcome
from runners.pulumi import PulumiSettings
from runners.record import Record
from runners.runs import Run
from runners.toolchain import PulumiCli
from runners.workspace import Modules
from tests.builders import MANIFEST, SECOND, STACK, a_claim, a_stack_update
from tests.unit import virtual_time

T = TypeVar("T")

CANCEL = CancelRequest(CancellationReason.ASKED, requested_by="ann")
FORCE = CancelRequest(CancellationReason.ASKED, force=True)
SUCCESS = Outcome(None, 0)
HOUR = timedelta(hours=1)
MANY = RunLimits(10**9, 10**12)
SECRET = "hunter2-long"  # noqa: S105 - it is told to nobody


async def nothing(_: object) -> None:
    """What happens on the way to a store that works."""


@dataclass
class Way:
    """Logs, and what is done before an append."""

    events: EventLog
    before_append: Callable[[object], Awaitable[None]] = nothing

    async def append(self, chunk: Chunk) -> bool:
        await self.before_append(chunk)
        return await self.events.append(chunk)

    async def last(self, update_id: StackUpdateId) -> Chunk | None:
        return await self.events.last(update_id)

    async def span(self, update_id: StackUpdateId) -> Span | None:
        return await self.events.span(update_id)

    async def read(
        self, update_id: StackUpdateId, after: int, limit: int, kinds: frozenset[EventKind] | None = None
    ) -> LogPage:
        return await self.events.read(update_id, after, limit, kinds)


@dataclass
class Saving:
    """Stored stack updates, and what is done before one is saved."""

    updates: UpdateStore
    before_save: Callable[[object], Awaitable[object]] = nothing

    async def save(self, update: StackUpdate, output: str | None = None) -> None:
        await self.before_save(update)
        await self.updates.save(update, output)


@dataclass
class FakeRun:
    """A run whose steps and extensions are noted; ``on_hasten`` is called with each step."""

    directory: Path
    extension: timedelta = timedelta()
    steps: int = 0
    on_hasten: Callable[[], None] = lambda: None
    refusals: list[OSError] = field(default_factory=list)

    def hasten(self) -> None:
        self.steps += 1
        self.on_hasten()

    async def extend(self, by: timedelta) -> None:
        if self.refusals:
            raise self.refusals.pop()
        self.extension += by


@dataclass
class FakePulumi:
    """A deployer whose one command is played by the test, from ``running`` until ``end``."""

    directory: Path
    running: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: Outcome | Exception | None = None
    tasks: list[Task] = field(default_factory=list)

    def secrets(self) -> frozenset[str]:
        return frozenset({SECRET})

    async def deploy(self, task: Task, _: Run, __: StackLock, observer: Observer) -> Outcome:
        self.tasks.append(task)
        await observer.running()
        async with observer.following(self.directory):
            self.directory.mkdir(parents=True)
            self.running.set()
            await self.over.wait()
            if isinstance(self.outcome, Exception):
                raise self.outcome
            observer.ended()
        return self.outcome or (observer.stop.outcome() if observer.stop else SUCCESS)

    def end(self, outcome: Outcome | Exception | None = None) -> None:
        """Let the command end; without an outcome as it was told to."""
        self.outcome = outcome
        self.over.set()

    def write(self, name: str, text: str) -> None:
        with (self.directory / name).open("a") as file:
            file.write(text)

    def tell_stage(self, stage: CancellationStage, reason: str = "asked", next_in: timedelta | None = None) -> None:
        """Say as the supervisor does that a step was taken."""
        now = utc_now()
        next_at = (now + next_in).timestamp() if next_in else None
        told = {"stage": stage.value, "reason": reason, "at": now.timestamp(), "next_at": next_at}
        new = self.directory / "stage.new"
        new.write_text(json.dumps(told))
        new.rename(self.directory / "stage.json")

    def tell_resource(self, kind: str, name: str, **more: object) -> None:
        metadata = {"op": "create", "urn": f"urn:pulumi:dev::demo::a:b:C::{name}", "type": "a:b:C", **more}
        self.write("events", json.dumps({kind: {"metadata": metadata}}) + "\n")


class Scene:
    """A job over stores in memory, with a run and a Pulumi that the test plays."""

    def __init__(self, backends: Backends, directory: Path, changes: FileChanges, limits: RunLimits) -> None:
        self.backends = backends
        self.events = Way(backends.events)
        self.updates = Saving(backends.updates)
        self.lease = Lease(a_claim())
        self.update = a_stack_update()
        self.changes = changes
        self.settings = JobSettings((SECOND, SECOND), limits)
        self.lock = StackLock(directory / "lock")
        self.run = FakeRun(directory / "run")
        self.pulumi = FakePulumi(directory / "run" / "01-up")

    async def prepare(self) -> None:
        """Take the stack update up."""
        await self.backends.updates.insert(self.update, MANIFEST)
        log = Log(self.update, self.lease, self.events, self.backends.wakeups, 10**6)
        self.record = Record(self.update, self.lease, cast("UpdateStore", self.updates), self.backends.wakeups, log)
        await self.record.change(StackUpdate.started)
        self.job = self.job_of(cast("Deployer", self.pulumi), cast("Run", self.run))

    def job_of(self, deployer: Deployer, run: Run) -> Job:
        return Job(self.record, run, self.lock, deployer, self.changes, self.settings)

    async def ask(self, what: CancelRequest | ExtendRequest = CANCEL) -> None:
        await self.job.heed(Request("1", self.update.id, utc_now(), what))

    async def told(self, *kinds: type[T]) -> list[T]:
        """What of these kinds its log tells."""
        page = await self.backends.events.read(self.update.id, 0, 1000)
        return [event.what for event in page.events if isinstance(event.what, kinds)]

    async def phases(self) -> list[Phase]:
        return [change.phase for change in await self.told(StatusChanged)]

    @property
    def cancellation(self) -> Cancellation:
        """As the record has it."""
        assert self.record.update.cancellation
        return self.record.update.cancellation

    async def until(self, state: Callable[[], object], limit: float = 10) -> None:
        async with asyncio.timeout(limit):
            while not state():  # noqa: ASYNC110 - neither files nor records set an event of ours
                await asyncio.sleep(0.01)

    async def ended(self, limit: float = 10) -> StackUpdate:
        await self.until(lambda: self.record.update.ended, limit)
        stored = await self.backends.updates.get(self.update.id)
        assert stored == self.record.update
        return stored

    @asynccontextmanager
    async def deploying(self) -> AsyncIterator[None]:
        """The job at work from when Pulumi is known to run until it has ended by itself, as the test has seen to."""
        task = asyncio.create_task(self.job.deploy(STACK, MANIFEST, None))
        try:
            await self.until(lambda: self.record.update.phase is Phase.RUNNING or task.done())
            await self.until(lambda: self.pulumi.running.is_set() or task.done())
            yield
            self.pulumi.end(self.pulumi.outcome)
            async with asyncio.timeout(100):
                await task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def deploy(self) -> None:
        async with asyncio.timeout(100):
            await self.job.deploy(STACK, MANIFEST, None)


@asynccontextmanager
async def a_scene(directory: Path, limits: RunLimits = MANY) -> AsyncIterator[Scene]:
    async with open_backends("sqlite:///:memory:") as backends, FileChanges() as changes:
        scene = Scene(backends, directory, changes, limits)
        await scene.prepare()
        yield scene


# --- cancelling


def test_a_cancellation_is_told_before_the_signal_goes_out(tmp_path: Path) -> None:
    """Whoever sees Pulumi end knows why already, and who asked for it; record and log say the same."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            known: list[Cancellation | None] = []
            scene.run.on_hasten = lambda: known.append(scene.record.update.cancellation)
            async with scene.deploying():
                await scene.ask()

                begun = scene.cancellation
                assert known == [begun]
                assert (begun.reason, begun.stage) == (CancellationReason.ASKED, CancellationStage.REQUESTED)
                assert begun.requested_by == "ann"
                assert scene.record.update.phase is Phase.CANCELLING
                assert await scene.told(CancellationChanged) == [CancellationChanged(begun)]
                assert (await scene.phases())[-1] is Phase.CANCELLING
            ended = await scene.ended()
            assert (ended.status, ended.failure, ended.cancellation) == (Status.CANCELLED, None, begun)

    virtual_time.run(scenario)


def test_a_second_cancellation_changes_nothing(tmp_path: Path) -> None:
    """Impatience takes no step: Pulumi has the time that it was given."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene, scene.deploying():
            await scene.ask()
            begun = scene.record.update
            for reason in (CancellationReason.ASKED, CancellationReason.SUPERSEDED):
                await scene.ask(CancelRequest(reason))
            await asyncio.sleep(5)

            assert scene.record.update == begun
            assert scene.run.steps == 1

    virtual_time.run(scenario)


def test_force_takes_the_next_step(tmp_path: Path) -> None:
    """Where it is being ended already; where it is not, force begins to end it as gently as any."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene, scene.deploying():
            steps = []
            for what in (FORCE, CANCEL, FORCE, FORCE):
                await scene.ask(what)
                steps.append(scene.run.steps)

            assert steps == [1, 1, 2, 3]

    virtual_time.run(scenario)


def test_a_store_that_is_away_does_not_hold_up_the_signal(tmp_path: Path) -> None:
    """Pulumi is told to end after a short patience; that it was cancelled is recorded when the store is back."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            async with scene.deploying():

                async def away(_: object) -> None:
                    raise StoreUnavailable("The database did not answer.")

                scene.events.before_append = away
                took = await virtual_time.elapsed(scene.ask())
                assert took == pytest.approx(ANNOUNCEMENT_PATIENCE.total_seconds(), abs=0.1)
                assert scene.run.steps == 1
                scene.pulumi.end()
                await asyncio.sleep(60)
                scene.events.before_append = nothing
            assert (await scene.ended()).status is Status.CANCELLED
            assert scene.cancellation.reason is CancellationReason.ASKED

    virtual_time.run(scenario)


def test_a_cancellation_while_it_is_prepared_starts_no_command(tmp_path: Path) -> None:
    """It ends CANCELLED as soon as Pulumi would have been started."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            looked = asyncio.Event()

            async def find_cli() -> PulumiCli:
                await looked.wait()
                return PulumiCli(tmp_path / "pulumi", "3.206.0")

            run = Run.create(tmp_path / "runs", scene.update.id)
            settings = PulumiSettings(tmp_path.as_uri(), tmp_path, None, None, {})
            scene.job = scene.job_of(Deployer(Modules(None, _module(tmp_path)), settings, find_cli, ForkServer()), run)
            deploying = asyncio.create_task(scene.deploy())
            await asyncio.sleep(5)
            await scene.ask()
            assert scene.record.update.phase is Phase.CANCELLING
            looked.set()
            await deploying

            assert (await scene.ended()).status is Status.CANCELLED
            assert await scene.phases() == [Phase.QUEUED, Phase.PREPARING, Phase.CANCELLING, Phase.FINISHED]
            assert not run.command_ends()

    virtual_time.run(scenario)


def _module(directory: Path) -> Path:
    module = directory / "module"
    module.mkdir()
    (module / "Pulumi.yaml").write_text("name: demo\nruntime: yaml\n")
    return module


def test_what_is_asked_before_anything_is_prepared_is_not_lost(tmp_path: Path) -> None:
    """A job can be asked from the moment on that it is there."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            await asyncio.gather(scene.ask(), scene.ask(ExtendRequest(HOUR)))
            scene.pulumi.end()
            await scene.deploy()

            assert (await scene.ended()).status is Status.CANCELLED

    virtual_time.run(scenario)


def test_a_success_is_one_although_it_was_cancelled(tmp_path: Path) -> None:
    """Pulumi did all that it was to do; that somebody had asked to end it stays known."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            async with scene.deploying():
                await scene.ask()
                scene.pulumi.end(SUCCESS)
            ended = await scene.ended()
            assert ended.status is Status.SUCCESS
            assert scene.cancellation.reason is CancellationReason.ASKED

    virtual_time.run(scenario)


@pytest.mark.parametrize("what", [CANCEL, FORCE, ExtendRequest(HOUR)])
def test_what_is_asked_after_pulumi_has_ended_changes_nothing(
    tmp_path: Path, what: CancelRequest | ExtendRequest
) -> None:
    """Its record may still be written: whatever is asked meanwhile, it ends as Pulumi has."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            back = asyncio.Event()

            async def slow(_: object) -> None:
                await back.wait()

            async with scene.deploying():
                scene.pulumi.write("stdout", "the last line\n")
                scene.events.before_append = slow
                scene.pulumi.end()
                await asyncio.sleep(0.1)
                await scene.ask(what)
                back.set()
            ended = await scene.ended()
            assert (ended.status, ended.cancellation, ended.timeout) == (Status.SUCCESS, None, scene.update.timeout)

    virtual_time.run(scenario)


def test_a_cancellation_does_not_wait_for_an_announcement_that_comes_no_more(tmp_path: Path) -> None:
    """A deployment that ends meanwhile holds up nobody who asks after it."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            back = asyncio.Event()

            async def slow(_: object) -> None:
                await back.wait()

            async with scene.deploying():
                scene.events.before_append = slow
                asking = asyncio.create_task(scene.ask())
                await asyncio.sleep(0.1)
                scene.pulumi.end()
                assert await virtual_time.elapsed(asking) < 1
                back.set()

    virtual_time.run(scenario)


def test_a_change_that_is_cancelled_half_way_is_in_record_and_log(tmp_path: Path) -> None:
    """What the log tells the record says as well, so that nothing is told twice at the end."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            back = asyncio.Event()

            async def slow(_: object) -> None:
                await back.wait()

            begun = Cancellation(utc_now(), CancellationReason.ASKED)
            async with scene.deploying():
                scene.events.before_append = slow
                change = partial(StackUpdate.cancelling, cancellation=begun)
                changing = asyncio.create_task(scene.record.change(change, CancellationChanged(begun)))
                await asyncio.sleep(0.1)
                changing.cancel()
                back.set()
                await asyncio.wait([changing])
            ended = await scene.ended()
            assert changing.cancelled()
            assert ended.cancellation == begun
            assert await scene.told(CancellationChanged) == [CancellationChanged(begun)]

    virtual_time.run(scenario)


# --- the steps


def test_each_step_shows_in_record_and_log(tmp_path: Path) -> None:
    """When it was taken and when the next one comes is known from the supervisor; at the end none follows."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            async with scene.deploying():
                await scene.ask()
                for stage in (CancellationStage.INTERRUPTED, CancellationStage.TERMINATED):
                    scene.pulumi.tell_stage(stage, next_in=SECOND)
                    await scene.until(lambda stage=stage: scene.cancellation.stage is stage)  # type: ignore[misc]
                    assert scene.cancellation.next_stage_at
                scene.pulumi.tell_stage(CancellationStage.KILLED)
                await scene.until(lambda: scene.cancellation.stage is CancellationStage.KILLED)
                scene.pulumi.end(Outcome(None, cancelled=True, lock_left=True))
            told = [change.cancellation for change in await scene.told(CancellationChanged)]
            assert [cancellation.stage for cancellation in told] == list(CancellationStage)
            assert {cancellation.reason for cancellation in told} == {CancellationReason.ASKED}
            assert (await scene.ended()).cancellation == replace(told[-1], lock_left=True)
            assert scene.run.steps == 1

    virtual_time.run(scenario)


@pytest.mark.parametrize(
    ("reason", "known"), [("deadline", CancellationReason.TIMEOUT), ("asked", CancellationReason.SHUTDOWN)]
)
def test_an_end_that_nobody_asked_for_here_shows_as_well(
    tmp_path: Path, reason: str, known: CancellationReason
) -> None:
    """The supervisor ends it at its deadline, or because an operator told it to; cancelling comes too late then."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene, scene.deploying():
            scene.pulumi.tell_stage(CancellationStage.INTERRUPTED, reason, next_in=SECOND)
            await scene.until(lambda: scene.record.update.phase is Phase.CANCELLING)
            assert (scene.cancellation.reason, scene.cancellation.stage) == (known, CancellationStage.INTERRUPTED)
            await scene.ask()
            assert scene.cancellation.reason is known
            assert scene.run.steps == 0

    virtual_time.run(scenario)


def test_a_deadline_just_before_a_cancellation_counts(tmp_path: Path) -> None:
    """It ends as a time-out, so that is what its cancellation says, and that nobody asked; and no second signal follows
    the first at once.
    """

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            entered = asyncio.Event()

            async def slow(_: object) -> None:
                if not entered.is_set():
                    entered.set()
                    scene.pulumi.tell_stage(CancellationStage.INTERRUPTED, "deadline", next_in=SECOND)
                    await asyncio.sleep(1)

            async with scene.deploying():
                scene.events.before_append = slow
                await scene.ask()
                await scene.until(lambda: scene.cancellation.stage is CancellationStage.INTERRUPTED)
            assert (scene.cancellation.reason, scene.cancellation.requested_by) == (CancellationReason.TIMEOUT, None)
            assert scene.run.steps == 0

    virtual_time.run(scenario)


def test_a_step_told_while_the_rest_is_recorded_shows_at_the_end(tmp_path: Path) -> None:
    """The phase is RECORDING by then, from which it never goes back."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:

            async def slow(_: object) -> None:
                await asyncio.sleep(5)

            async with scene.deploying():
                await scene.ask()
                scene.events.before_append = slow
                scene.pulumi.write("stdout", "1\n")
                await asyncio.sleep(1)
                scene.pulumi.write("stdout", "2\n")
                scene.pulumi.tell_stage(CancellationStage.INTERRUPTED)
                scene.pulumi.end()
            assert (await scene.phases())[-3:] == [Phase.CANCELLING, Phase.RECORDING, Phase.FINISHED]
            assert (await scene.ended()).status is Status.CANCELLED
            assert scene.cancellation.stage is CancellationStage.INTERRUPTED

    virtual_time.run(scenario)


# --- the service shuts down


def test_a_shutdown_tells_it_to_end_and_urges_it_when_told_again(tmp_path: Path) -> None:
    """Each call takes a step; the record says that the service was shut down."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            async with scene.deploying():
                for steps in (1, 2, 3):
                    scene.job.shut_down()
                    assert scene.run.steps == steps
            failure = (await scene.ended()).failure
            assert failure
            assert failure.kind is FailureKind.SERVICE_STOPPED
            assert scene.cancellation.reason is CancellationReason.SHUTDOWN

    virtual_time.run(scenario)


def test_a_shutdown_while_a_cancellation_is_announced_takes_one_step(tmp_path: Path) -> None:
    """Two signals at once would cost Pulumi the time to finish what it has in hand."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:

            async def slow(_: object) -> None:
                await asyncio.sleep(1)

            async with scene.deploying():
                scene.events.before_append = slow
                asking = asyncio.create_task(scene.ask())
                await asyncio.sleep(0.5)
                scene.job.shut_down()
                await asking
                assert scene.run.steps == 1
            assert scene.cancellation.reason is CancellationReason.ASKED

    virtual_time.run(scenario)


# --- the deadline


def test_a_deadline_that_comes_near_is_told_once_and_again_after_an_extension(tmp_path: Path) -> None:
    """A minute before it, or earlier in proportion; the new one is told when it is given."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            begun = scene.record.update.started_at
            assert begun
            first, second = begun + scene.update.timeout, begun + HOUR
            async with scene.deploying():
                await asyncio.sleep(scene.update.timeout.total_seconds() - 70)
                assert await scene.told(DeadlineApproaching) == []
                await asyncio.sleep(20)
                assert await scene.told(DeadlineApproaching) == [DeadlineApproaching(first)]
                await scene.ask(ExtendRequest(HOUR))
                await asyncio.sleep(2 * HOUR.total_seconds())

                assert await scene.told(DeadlineApproaching, DeadlineChanged) == [
                    DeadlineApproaching(first),
                    DeadlineChanged(second),
                    DeadlineApproaching(second),
                ]

    virtual_time.run(scenario)


def test_a_deadline_moved_in_time_is_not_warned_of(tmp_path: Path) -> None:
    """Only the one that counts comes near."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene, scene.deploying():
            await scene.ask(ExtendRequest(2 * HOUR))
            await asyncio.sleep(HOUR.total_seconds())

            assert await scene.told(DeadlineApproaching) == []

    virtual_time.run(scenario)


def test_what_is_being_ended_is_not_warned(tmp_path: Path) -> None:
    """Its deadline matters no more."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene, scene.deploying():
            await scene.ask()
            await asyncio.sleep(HOUR.total_seconds())

            assert await scene.told(DeadlineApproaching) == []

    virtual_time.run(scenario)


def test_an_extension_moves_record_run_and_deadline(tmp_path: Path) -> None:
    """The run gets what is more, the record the whole, and the log the time at which it is up."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene, scene.deploying():
            await scene.ask(ExtendRequest(HOUR))

            stored = await scene.backends.updates.get(scene.update.id)
            assert stored
            assert stored.started_at
            assert (stored.timeout, stored.phase) == (HOUR, Phase.RUNNING)
            assert scene.run.extension == HOUR - scene.update.timeout
            assert await scene.told(DeadlineChanged) == [DeadlineChanged(stored.started_at + HOUR)]

    virtual_time.run(scenario)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_an_extension_that_gives_no_more_or_comes_too_late_changes_nothing(tmp_path: Path, is_cancelled: bool) -> None:
    """What is being ended can't be given time, and nobody's time is shortened."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene, scene.deploying():
            if is_cancelled:
                await scene.ask()
            before = scene.record.update
            await scene.ask(ExtendRequest(HOUR if is_cancelled else scene.update.timeout))

            assert scene.record.update == before
            assert scene.run.extension == timedelta()
            assert await scene.told(DeadlineChanged) == []

    virtual_time.run(scenario)


def test_an_extension_before_the_deployment_has_begun_counts_once(tmp_path: Path) -> None:
    """The deployer is given the time that it had at first, and finds the rest in the run."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            await scene.ask(ExtendRequest(HOUR))
            async with scene.deploying():
                assert [task.timeout + scene.run.extension for task in scene.pulumi.tasks] == [HOUR]
                assert scene.record.update.timeout == HOUR

    virtual_time.run(scenario)


def test_an_extension_that_is_refused_leaves_all_as_it_is(tmp_path: Path) -> None:
    """Whoever asked may ask again, and then it is given once."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene, scene.deploying():
            scene.run.refusals = [OSError(errno.ENOSPC, "No space left on device")]
            with pytest.raises(OSError, match="No space"):
                await scene.ask(ExtendRequest(HOUR))
            assert scene.record.update.timeout == scene.update.timeout

            await scene.ask(ExtendRequest(HOUR))
            assert scene.run.extension == HOUR - scene.update.timeout

    virtual_time.run(scenario)


# --- limits


def test_a_run_that_uses_more_than_it_may_is_ended(tmp_path: Path) -> None:
    """First gently, with the limit in the sentence; where it goes on to twice as much, it is killed."""

    async def scenario() -> None:
        async with a_scene(tmp_path, RunLimits(10_000_000, 10**12)) as scene:
            async with scene.deploying():
                with (scene.pulumi.directory / "stdout").open("wb") as stdout:
                    stdout.truncate(10_000_001)
                await scene.until(lambda: scene.run.steps == 1)
                await asyncio.sleep(10)
                assert scene.cancellation.reason is CancellationReason.LIMIT_EXCEEDED
                assert scene.run.steps == 1
                with (scene.pulumi.directory / "stdout").open("r+b") as stdout:
                    stdout.truncate(20_000_001)
                await scene.until(lambda: scene.run.steps == 3)
            failure = (await scene.ended()).failure
            assert failure
            assert failure.kind is FailureKind.LIMIT_EXCEEDED
            assert "STACKCAST_OUTPUT_LIMIT" in failure.message

    virtual_time.run(scenario)


# --- what is told on the way


def test_what_pulumi_prints_is_told_without_secrets(tmp_path: Path) -> None:
    """Line by line, while it runs, and what was left at its end."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            async with scene.deploying():
                scene.pulumi.write("stdout", f"login {SECRET}\n")
                await asyncio.sleep(1)
                assert await scene.told(LogLine) == [LogLine(Stream.STDOUT, "login [secret]")]
                scene.pulumi.write("stderr", "the end")
            assert (await scene.told(LogLine))[-1] == LogLine(Stream.STDERR, "the end")
            assert (await scene.phases())[-1] is Phase.FINISHED

    virtual_time.run(scenario)


def test_progress_and_outputs_show_in_the_record_a_few_times_a_second(tmp_path: Path) -> None:
    """However fast Pulumi is, the record is written so often only; the log tells every step."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene, scene.deploying():
            before = scene.record.update.revision
            for n in range(200):
                scene.pulumi.tell_resource("resourcePreEvent", f"r{n}")
                await asyncio.sleep(0.01)
            outputs = {"type": "pulumi:pulumi:Stack", "new": {"outputs": {"url": f"x?{SECRET}"}}}
            scene.pulumi.tell_resource("resOutputsEvent", "stack", **outputs)
            await scene.until(lambda: scene.record.update.stack_outputs)

            assert scene.record.update.stack_outputs == (StackOutput("url", "x?[secret]"),)
            assert scene.record.update.progress.count(ResourceState.IN_PROGRESS) == 200
            assert scene.record.update.revision - before <= 12
            assert len(await scene.told(ResourceChanged)) >= 200

    virtual_time.run(scenario)


@pytest.mark.parametrize(
    ("outcome", "state"), [(SUCCESS, ResourceState.DONE), (Outcome(None, cancelled=True), ResourceState.INTERRUPTED)]
)
def test_no_resource_stays_in_progress(tmp_path: Path, outcome: Outcome, state: ResourceState) -> None:
    """Of what Pulumi began and did not tell the end of, the end is told: it was done, or it was interrupted."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            async with scene.deploying():
                for name in ("a", "b"):
                    scene.pulumi.tell_resource("resourcePreEvent", name)
                scene.pulumi.tell_resource("resOutputsEvent", "a")
                scene.pulumi.end(outcome)
            progress = (await scene.ended()).progress
            assert (progress.total, progress.count(ResourceState.IN_PROGRESS)) == (2, 0)
            last = (await scene.told(ResourceChanged))[-1].resource
            assert (last.name, last.state) == ("b", state)
            assert last.ended_at

    virtual_time.run(scenario)


def test_pulumi_does_not_wait_until_it_is_stored_that_it_runs(tmp_path: Path) -> None:
    """The log tells it before all that Pulumi says, and even the shortest deployment was RUNNING."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            stored = asyncio.Event()
            scene.updates.before_save = lambda _: stored.wait()
            deploying = asyncio.create_task(scene.deploy())
            await scene.pulumi.running.wait()
            assert scene.record.update.phase is Phase.PREPARING
            scene.pulumi.write("stdout", "a line\n")
            scene.pulumi.end()
            stored.set()
            await deploying

            assert await told_in_order(scene) == [
                *(Phase.QUEUED, Phase.PREPARING, Phase.RUNNING),
                *("a line", Phase.FINISHED),
            ]

    virtual_time.run(scenario)


def test_what_is_stored_while_it_is_prepared_comes_before_pulumi(tmp_path: Path) -> None:
    """An extension whose storing takes longer than Pulumi does not put the phase behind what Pulumi says."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            scene.updates.before_save = lambda _: asyncio.sleep(2)
            deploying = asyncio.create_task(scene.deploy())
            await asyncio.sleep(0)
            await scene.ask(ExtendRequest(scene.update.timeout + SECOND))
            await scene.pulumi.running.wait()
            scene.pulumi.write("stdout", "a line\n")
            scene.pulumi.end()
            await deploying

            assert await told_in_order(scene) == [
                *(Phase.QUEUED, Phase.PREPARING, Phase.RUNNING),
                *("a line", Phase.FINISHED),
            ]

    virtual_time.run(scenario)


_ORDERED = (StatusChanged, LogLine)


async def told_in_order(scene: Scene) -> list[Phase | str]:
    """The phases and the lines."""
    page = await scene.backends.events.read(scene.update.id, 0, 1000)
    told = (event.what for event in page.events)
    return [what.text if isinstance(what, LogLine) else what.phase for what in told if isinstance(what, _ORDERED)]


@pytest.mark.parametrize("seconds", [0.2, 3.0])
def test_only_a_long_recording_is_a_phase(tmp_path: Path, seconds: float) -> None:
    """Most deployments are written down at once."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:

            async def slow(_: object) -> None:
                await asyncio.sleep(seconds)

            async with scene.deploying():
                scene.events.before_append = slow
                scene.pulumi.write("stdout", "the last line\n")
                scene.pulumi.end()
            assert (Phase.RECORDING in await scene.phases()) == (seconds > 1)
            assert (await scene.ended()).status is Status.SUCCESS

    virtual_time.run(scenario)


# --- trouble


def test_a_lost_lease_comes_out_as_itself(tmp_path: Path) -> None:
    """When a successor writes the log, nothing more is told, and Pulumi is left to it."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:

            async def lose() -> None:
                await scene.pulumi.running.wait()
                log = Log(scene.update, Lease(a_claim(epoch=2)), scene.events, scene.backends.wakeups, 10**6)
                await log.open()
                await log.append([LogLine(Stream.STDOUT, "theirs")])
                scene.pulumi.tell_resource("resourcePreEvent", "ours")
                await scene.ask()

            losing = asyncio.create_task(lose())
            with pytest.raises(LeaseLost):
                await scene.deploy()
            await losing

            assert await scene.told(ResourceChanged) == []
            assert len(asyncio.all_tasks()) <= _TASKS_OF_A_SCENE

    virtual_time.run(scenario)


#: The test itself, and who listens for changes of files.
_TASKS_OF_A_SCENE = 2


def test_pulumi_is_not_started_for_an_owner_that_has_lost_the_stack(tmp_path: Path) -> None:
    """The log that tells that it runs can be written by the owner alone."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            log = Log(scene.update, Lease(a_claim(epoch=2)), scene.events, scene.backends.wakeups, 10**6)
            await log.open()
            await log.append([LogLine(Stream.STDOUT, "theirs")])
            with pytest.raises(LeaseLost):
                await scene.deploy()

            assert not scene.pulumi.running.is_set()

    virtual_time.run(scenario)


def test_a_defect_of_the_deployer_comes_out_as_itself(tmp_path: Path) -> None:
    """So that whoever records it can tell a full disk from a defect; nothing goes on beside it."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            scene.pulumi.end(OSError(errno.EMFILE, "Too many open files"))
            with pytest.raises(OSError, match="Too many"):
                await scene.deploy()

            assert len(asyncio.all_tasks()) <= _TASKS_OF_A_SCENE
            assert not scene.record.update.ended

    virtual_time.run(scenario)


def test_a_cancelled_job_leaves_pulumi_alone(tmp_path: Path) -> None:
    """The service ends before it: no step is taken, nothing is recorded, and nothing goes on here."""

    async def scenario() -> None:
        async with a_scene(tmp_path) as scene:
            deploying = asyncio.create_task(scene.deploy())
            await scene.until(lambda: scene.record.update.phase is Phase.RUNNING)
            deploying.cancel()
            await asyncio.wait([deploying])

            assert deploying.cancelled()
            assert (scene.run.steps, scene.record.update.phase) == (0, Phase.RUNNING)
            assert len(asyncio.all_tasks()) <= _TASKS_OF_A_SCENE

    virtual_time.run(scenario)
