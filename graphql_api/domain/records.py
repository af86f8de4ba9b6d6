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
    FINISHED = "finished"


#: The only moves between phases. Any phase may finish: a manifest may prove undeployable, a worker may be lost.
PHASE_MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.QUEUED: frozenset({Phase.PREPARING, Phase.FINISHED}),
    Phase.PREPARING: frozenset({Phase.RUNNING, Phase.FINISHED}),
    Phase.RUNNING: frozenset({Phase.FINISHED}),
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


@dataclass(frozen=True, slots=True)
class CloudResource:
    """A manifest that the service keeps; (kind, name) is unique."""

    id: CloudResourceId
    kind: str
    name: str
    manifest: str
    created_at: datetime
    updated_at: datetime


class MoveRefused(ValueError):
    """A stack update was asked to make a move that the table of moves does not have: a defect of the caller."""


@dataclass(frozen=True, slots=True)
class StackUpdate:
    """One deployment of one cloud resource, from its acceptance to its outcome.

    The manifest that was accepted and the output are large and stand beside the record in the store.
    ``revision`` starts at 1 and grows by one with every change. ``timeout`` counts from ``started_at``.
    ``stack_fqdn`` is None only in records that other programs wrote.
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

    def succeeded(self, now: datetime, exit_code: int, stack_outputs: Iterable[StackOutput]) -> StackUpdate:
        """The record of a deployment that did all it was asked to do."""
        return replace(
            self._moved(Phase.FINISHED, now),
            status=Status.SUCCESS,
            finished_at=now,
            exit_code=exit_code,
            stack_outputs=tuple(stack_outputs),
        )

    def failed(
        self,
        now: datetime,
        failure: Failure,
        exit_code: int | None = None,
        stack_outputs: Iterable[StackOutput] = (),
    ) -> StackUpdate:
        """The record of a deployment that failed, with the reason."""
        return replace(
            self._moved(Phase.FINISHED, now),
            status=Status.FAILED,
            finished_at=now,
            exit_code=exit_code,
            failure=failure,
            stack_outputs=tuple(stack_outputs),
        )

    def _moved(self, phase: Phase, now: datetime) -> StackUpdate:
        if phase not in PHASE_MOVES[self.phase]:
            raise MoveRefused(f"a stack update in phase {self.phase} can't move to {phase}")
        return replace(self, phase=phase, revision=self.revision + 1, updated_at=max(now, self.updated_at))


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
    if update.failure:
        output["error"] = update.failure.message
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
