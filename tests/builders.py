"""Records for tests: whatever a test does not name is valid and of no importance to it."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from graphql_api.domain.events import (
    CancellationChanged,
    DeadlineApproaching,
    DeadlineChanged,
    DiagnosticReported,
    Event,
    Happening,
    LogLine,
    LogOmissionStarted,
    LogOmitted,
    OwnerChanged,
    ResourceChanged,
    Severity,
    StatusChanged,
    Stream,
)
from graphql_api.domain.ports import CancelRequest, Chunk, Closing, IdempotencyKey, Request, UpdateStore
from graphql_api.domain.progress import Progress, ProgressCount, ResourceOperation, ResourceProgress, ResourceState
from graphql_api.domain.records import (
    Cancellation,
    CancellationReason,
    CancellationStage,
    Claim,
    CloudResource,
    CloudResourceId,
    Diagnostic,
    Ending,
    Failure,
    FailureKind,
    Phase,
    StackFqdn,
    StackOutput,
    StackUpdate,
    StackUpdateId,
    Status,
    new_id,
    utc_now,
)

STACK = StackFqdn("organization/demo/dev")
NOON = datetime(2026, 1, 1, 12, 0, 0, 123_000, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)

#: With characters that not every store takes as they are.
FAILURE = Failure(
    FailureKind.PROGRAM_ERROR,
    "Line 1 is wrong: 'ß' \x00 \ud800. Correct it.",
    retryable=True,
    diagnostics=(Diagnostic("ß\n\x00 is \ud800", "urn:pulumi:dev::demo::a:b:C::d$e"), Diagnostic("of no resource")),
)
OUTPUTS = (
    StackOutput("big", 2**80),
    StackOutput("dotted.name", {"$ref": [1, 2.5, None, True], "a.b": "ß"}),
    StackOutput("password", None, secret=True),
)

PROGRESS = Progress(
    (
        ProgressCount(ResourceOperation.CREATE, ResourceState.DONE, 3),
        ProgressCount(ResourceOperation.CREATE, ResourceState.INTERRUPTED, 1),
        ProgressCount(ResourceOperation.DELETE_REPLACED, ResourceState.FAILED, 1),
    ),
    total=7,
)
CANCELLATION = Cancellation(
    NOON,
    CancellationReason.ASKED,
    CancellationStage.INTERRUPTED,
    NOON + 5 * SECOND,
    lock_left=True,
    requested_by="ann@example",
)
URN = "urn:pulumi:dev::demo::a:b:C::d$e"
#: One of every kind, and both forms of those that have two.
HAPPENINGS: tuple[Happening, ...] = (
    StatusChanged(Status.IN_PROGRESS, Phase.QUEUED),
    LogLine(Stream.STDOUT, "Zeile ß \x00 \ud800 🙂"),
    LogLine(Stream.STDERR, "", truncated=True),
    ResourceChanged(ResourceProgress(URN, "a:b:C", ResourceOperation.CREATE, ResourceState.IN_PROGRESS, NOON)),
    ResourceChanged(ResourceProgress(URN, "a:b:C", ResourceOperation.OTHER, ResourceState.DONE, NOON, NOON + SECOND)),
    DiagnosticReported(Severity.ERROR, "It's \ud800 wrong.\n", URN),
    DiagnosticReported(Severity.WARNING, "of no resource"),
    CancellationChanged(CANCELLATION),
    CancellationChanged(Cancellation(NOON, CancellationReason.TIMEOUT)),
    DeadlineApproaching(NOON + SECOND),
    DeadlineChanged(NOON + 2 * SECOND),
    LogOmissionStarted(100_000_000),
    LogOmitted(7, 2**40),
    OwnerChanged(2),
    StatusChanged(Status.CANCELLED, Phase.FINISHED),
)

MANIFEST = """\
apiVersion: demo.stackcast.dev/v1
kind: Demo
metadata:
  name: sample
  labels:
    pulumi.project-planton.org/stack.fqdn: organization/demo/dev
spec:
  greeting: hello
"""


def a_cloud_resource(**changes: Any) -> CloudResource:
    """A cloud resource under a name of its own."""
    now = changes.get("created_at", utc_now())
    id_ = CloudResourceId(new_id(now))
    resource = CloudResource(id=id_, kind="Demo", name=f"demo-{id_}", manifest=MANIFEST, created_at=now, updated_at=now)
    return replace(resource, **changes)


def a_stack_update(**changes: Any) -> StackUpdate:
    """A queued stack update of some cloud resource."""
    now = changes.get("created_at", utc_now())
    update = StackUpdate(
        id=StackUpdateId(new_id(now)),
        cloud_resource_id=CloudResourceId(new_id(now)),
        stack_fqdn=STACK,
        timeout=timedelta(seconds=600),
        created_at=now,
        updated_at=now,
    )
    return replace(update, **changes)


def started(update: StackUpdate) -> StackUpdate:
    """Taken up one second after its acceptance."""
    return update.started(update.created_at + SECOND)


def to_success(update: StackUpdate) -> list[StackUpdate]:
    """All its revisions on the way, within four seconds."""
    running = started(update).running(update.created_at + 2 * SECOND)
    ended = running.succeeded(update.created_at + 4 * SECOND, Ending(0, OUTPUTS))
    return [update, started(update), running, ended]


def failed(update: StackUpdate) -> StackUpdate:
    """Failed one second after its acceptance."""
    return update.failed(update.created_at + SECOND, FAILURE, Ending(-9, OUTPUTS))


def cancelled(update: StackUpdate) -> StackUpdate:
    """Cancelled two seconds after its acceptance, with something done."""
    cancelling = started(update).cancelling(update.created_at + SECOND, CANCELLATION)
    return cancelling.cancelled(update.created_at + 2 * SECOND, Ending(255, OUTPUTS, PROGRESS, CANCELLATION))


async def kept(updates: UpdateStore, *revisions: StackUpdate) -> None:
    """Bring a stack update through these revisions."""
    await updates.insert(revisions[0], MANIFEST)
    for revision in revisions[1:]:
        await updates.save(revision)


def a_claim(**changes: Any) -> Claim:
    """A first claim of the stack, for half a minute from now."""
    now = utc_now()
    claim = Claim(
        stack=STACK,
        epoch=1,
        owner="service-1",
        nonce=secrets.token_hex(8),
        update_id=StackUpdateId(new_id(now)),
        expires_at=now + timedelta(seconds=30),
    )
    return replace(claim, **changes)


def a_line(text: str = "Updating (dev):") -> LogLine:
    """A line of stdout."""
    return LogLine(Stream.STDOUT, text)


def a_chunk(*what: Happening, first_seq: int = 1, **changes: Any) -> Chunk:
    """The first chunk of the log of some stack update: of these happenings, a millisecond apart, or of one line."""
    events = tuple(
        Event(seq, NOON + seq * MILLISECOND, happening)
        for seq, happening in enumerate(what or (a_line(),), start=first_seq)
    )
    chunk = Chunk(StackUpdateId(new_id(utc_now())), 1, 1, secrets.token_hex(8), events, {"stdout": 0})
    return replace(chunk, **changes)


def following(chunk: Chunk, *what: Happening, **changes: Any) -> Chunk:
    """The chunk after it, by the same writer."""
    same = {"update_id": chunk.update_id, "number": chunk.number + 1, "epoch": chunk.epoch, "nonce": chunk.nonce}
    return a_chunk(*what, first_seq=chunk.events[-1].seq + 1, **{**same, **changes})


def a_closing(update: StackUpdate) -> Closing:
    """Of a stack update that was cancelled."""
    return Closing(cancelled(update), '{"stdout": "ß \x00\\ud800"}')


def a_request(**changes: Any) -> Request:
    """That some stack update be cancelled."""
    now = changes.get("made_at", utc_now())
    update_id = StackUpdateId(new_id(now))
    request = Request(id=new_id(now), update_id=update_id, made_at=now, what=CancelRequest(CancellationReason.ASKED))
    return replace(request, **changes)


def an_idempotency_key(**changes: Any) -> IdempotencyKey:
    """What some caller has asked under the key ``once``."""
    now = changes.get("created_at", utc_now())
    id_ = new_id(now)
    key = IdempotencyKey(f"caller-{id_}", "once", fingerprint="abc", update_id=StackUpdateId(id_), created_at=now)
    return replace(key, **changes)
