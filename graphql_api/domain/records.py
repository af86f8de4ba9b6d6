"""The two records, cloud resource and stack update, and the moves that a stack update may make."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NewType

from graphql_api.domain.progress import NO_PROGRESS, Progress

CloudResourceId = NewType("CloudResourceId", str)
StackUpdateId = NewType("StackUpdateId", str)
#: ``organization/project/stack``, already checked against Pulumi's rules.
StackFqdn = NewType("StackFqdn", str)

_process = secrets.token_hex(5)
_counter = itertools.count()


def new_id(now: datetime) -> str:
    """A new id of 24 hex digits that sorts by time, then by order of creation in this process.

    The layout is MongoDB's ObjectId (4 bytes of seconds, 5 random, 3 of a counter), so the same string is an
    ``_id`` there, a GraphQL ``ID`` and an argument on the command line.
    """
    return f"{int(now.timestamp()):08x}{_process}{next(_counter) & 0xFFFFFF:06x}"


def utc_now() -> datetime:
    """The time now, in UTC, cut to milliseconds: what every store and the API can hold without loss."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Status(StrEnum):
    """How a stack update stands; the values are those of the stored record."""

    IN_PROGRESS = "in_progress"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Operation(StrEnum):
    """What a stack update does to its stack."""

    UPDATE = "update"


class Phase(StrEnum):
    """Where a stack update is on its way."""

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    CANCELLING = "cancelling"
    RECORDING = "recording"
    FINISHED = "finished"


#: The only moves between phases. Any phase may finish: a manifest may prove undeployable, a worker may be lost.
PHASE_MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.QUEUED: frozenset({Phase.PREPARING, Phase.FINISHED}),
    Phase.PREPARING: frozenset({Phase.RUNNING, Phase.CANCELLING, Phase.RECORDING, Phase.FINISHED}),
    Phase.RUNNING: frozenset({Phase.CANCELLING, Phase.RECORDING, Phase.FINISHED}),
    Phase.CANCELLING: frozenset({Phase.CANCELLING, Phase.RECORDING, Phase.FINISHED}),
    Phase.RECORDING: frozenset({Phase.FINISHED}),
    Phase.FINISHED: frozenset(),
}


class FailureKind(StrEnum):
    """Why a stack update failed, for programs; the sentence beside it is for people."""

    INVALID_MANIFEST = "invalid_manifest"
    MODULE_NOT_FOUND = "module_not_found"
    MODULE_INVALID = "module_invalid"
    PULUMI_NOT_FOUND = "pulumi_not_found"
    PLUGIN_NOT_FOUND = "plugin_not_found"
    PASSPHRASE_REFUSED = "passphrase_refused"  # noqa: S105 (a word, not a secret)
    STACK_LOCKED = "stack_locked"
    STACK_REFUSED = "stack_refused"
    PROGRAM_ERROR = "program_error"
    RESOURCE_ERROR = "resource_error"
    TIMEOUT = "timeout"
    LIMIT_EXCEEDED = "limit_exceeded"
    INTERRUPTED = "interrupted"
    SERVICE_STOPPED = "service_stopped"
    WORKER_LOST = "worker_lost"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """An error that Pulumi reported: its own words, and the resource that they are about, if they are about one."""

    message: str
    urn: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a stack update failed: a kind, a sentence that says what to do, and whether trying again can help.

    ``diagnostics`` are the first errors that Pulumi reported, as it worded them.
    """

    kind: FailureKind
    message: str
    retryable: bool = False
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True)
class StackOutput:
    """One output of the stack. ``value`` is None when Pulumi marks it secret."""

    name: str
    value: object
    secret: bool = False


class CancellationReason(StrEnum):
    """Why a deployment is ended before it has ended by itself."""

    ASKED = "asked"
    SUPERSEDED = "superseded"
    TIMEOUT = "timeout"
    LIMIT_EXCEEDED = "limit_exceeded"
    SHUTDOWN = "shutdown"


class CancellationStage(StrEnum):
    """How far ending a deployment has come.

    INTERRUPTED: Pulumi had its first SIGTERM and finishes the resources in hand. TERMINATED: it had the second and
    stops at once. KILLED: it had SIGKILL.
    """

    REQUESTED = "requested"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Cancellation:
    """That a deployment is being ended, or was, and how.

    ``next_stage_at`` is when the next stage begins if Pulumi still runs; None where none follows. ``lock_left`` is
    true when Pulumi had no chance to remove its own lock on the stack; the next deployment of the stack removes it.
    ``requested_by`` is the name of the caller who asked for it; None where nobody did, or the caller has no name.
    """

    requested_at: datetime
    reason: CancellationReason
    stage: CancellationStage = CancellationStage.REQUESTED
    next_stage_at: datetime | None = None
    lock_left: bool = False
    requested_by: str | None = None


@dataclass(frozen=True, slots=True)
class CloudResource:
    """A manifest that the service keeps; (kind, name) is unique."""

    id: CloudResourceId
    kind: str
    name: str
    manifest: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Ending:
    """What a deployment leaves in its record, however it ended. A ``cancellation`` is there if one was begun."""

    exit_code: int | None = None
    stack_outputs: tuple[StackOutput, ...] = ()
    progress: Progress = NO_PROGRESS
    cancellation: Cancellation | None = None


NOTHING_DONE = Ending()


class MoveRefused(ValueError):
    """A stack update was asked to make a move that the table of moves does not have: a defect of the caller."""


@dataclass(frozen=True, slots=True)
class StackUpdate:
    """One deployment of one cloud resource, from its acceptance to its outcome.

    The manifest that was accepted and the output are large and stand beside the record in the store.
    ``revision`` starts at 1 and grows by one with every change. ``timeout`` counts from ``started_at``.
    ``stack_fqdn`` is None only in records that other programs wrote. ``requested_by`` is the name of the caller who
    asked for the deployment; None where the caller has no name.
    """

    id: StackUpdateId
    cloud_resource_id: CloudResourceId
    stack_fqdn: StackFqdn | None
    timeout: timedelta
    created_at: datetime
    updated_at: datetime
    operation: Operation = Operation.UPDATE
    status: Status = Status.IN_PROGRESS
    phase: Phase = Phase.QUEUED
    revision: int = 1
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    failure: Failure | None = None
    stack_outputs: tuple[StackOutput, ...] = ()
    progress: Progress = NO_PROGRESS
    cancellation: Cancellation | None = None
    requested_by: str | None = None

    @property
    def ended(self) -> bool:
        """True once the outcome is known; such a record never changes again."""
        return self.status is not Status.IN_PROGRESS

    @property
    def deadline(self) -> datetime | None:
        """When the deployment is ended if it still runs; None until it has started."""
        return self.started_at + self.timeout if self.started_at else None

    def started(self, now: datetime) -> StackUpdate:
        """The record as a worker takes it from the queue; its time starts to count."""
        return replace(self._moved(Phase.PREPARING, now), started_at=now)

    def running(self, now: datetime) -> StackUpdate:
        """The record as Pulumi is started."""
        return self._moved(Phase.RUNNING, now)

    def cancelling(self, now: datetime, cancellation: Cancellation) -> StackUpdate:
        """The record as the deployment is being ended, or as that has come further."""
        return replace(self._moved(Phase.CANCELLING, now), cancellation=cancellation)

    def recording(self, now: datetime) -> StackUpdate:
        """The record as Pulumi has ended and the rest of what it said is written down."""
        return self._moved(Phase.RECORDING, now)

    def progressed(self, now: datetime, progress: Progress, stack_outputs: Iterable[StackOutput]) -> StackUpdate:
        """The record with what Pulumi has done so far."""
        return replace(self._changed(now), progress=progress, stack_outputs=tuple(stack_outputs))

    def extended(self, now: datetime, timeout: timedelta) -> StackUpdate:
        """The record of a deployment that may run for another time than before."""
        return replace(self._changed(now), timeout=timeout)

    def succeeded(self, now: datetime, ending: Ending) -> StackUpdate:
        """The record of a deployment that did all it was asked to do."""
        return self._ended(now, Status.SUCCESS, ending)

    def failed(self, now: datetime, failure: Failure, ending: Ending = NOTHING_DONE) -> StackUpdate:
        """The record of a deployment that failed, with the reason."""
        return replace(self._ended(now, Status.FAILED, ending), failure=failure)

    def cancelled(self, now: datetime, ending: Ending = NOTHING_DONE) -> StackUpdate:
        """The record of a deployment that was ended because somebody asked for it."""
        return self._ended(now, Status.CANCELLED, ending)

    def _ended(self, now: datetime, status: Status, ending: Ending) -> StackUpdate:
        return replace(
            self._moved(Phase.FINISHED, now),
            status=status,
            finished_at=now,
            exit_code=ending.exit_code,
            stack_outputs=ending.stack_outputs,
            progress=ending.progress,
            cancellation=ending.cancellation,
        )

    def _moved(self, phase: Phase, now: datetime) -> StackUpdate:
        if phase not in PHASE_MOVES[self.phase]:
            raise MoveRefused(f"a stack update in phase {self.phase} can't move to {phase}")
        return replace(self._changed(now), phase=phase)

    def _changed(self, now: datetime) -> StackUpdate:
        if self.ended:
            raise MoveRefused("a stack update that has ended never changes")
        return replace(self, revision=self.revision + 1, updated_at=max(now, self.updated_at))


#: The ``error`` of a stack update that was cancelled, which has no failure.
CANCELLED = "The deployment was cancelled. Deploy again; Pulumi goes on from what is there."


def output_json(update: StackUpdate, stdout: Tail, stderr: Tail) -> str:
    """The ``output`` field of an ended record: one JSON object, with the same keys in every ending.

    ``error`` is there unless the update succeeded; ``stdout_truncated`` and ``stderr_truncated`` only when the
    text is the end of something longer.
    """
    if update.finished_at is None:
        raise MoveRefused("a stack update has an output only when it has ended")
    output: dict[str, object] = {
        "status": update.status.value,
        "timestamp": update.finished_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "stack_fqdn": update.stack_fqdn,
        "stdout": stdout.text,
        "stderr": stderr.text,
        "exit_code": update.exit_code,
    }
    if update.status is not Status.SUCCESS:
        output["error"] = update.failure.message if update.failure else CANCELLED
    if stdout.truncated:
        output["stdout_truncated"] = True
    if stderr.truncated:
        output["stderr_truncated"] = True
    return json.dumps(output, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Tail:
    """The last part of a text, and whether there was more before it."""

    text: str = ""
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to start or end updates of one stack; (stack, epoch) is unique, and the highest epoch counts.

    ``owner`` names the service instance, ``nonce`` this one claim. A claim holds until it is ended or
    ``expires_at`` has passed.
    """

    stack: StackFqdn
    epoch: int
    owner: str
    nonce: str
    update_id: StackUpdateId
    expires_at: datetime
    ended: bool = False
