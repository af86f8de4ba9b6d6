"""Records for tests: whatever a test does not name is valid and of no importance to it."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from graphql_api.domain.ports import UpdateStore
from graphql_api.domain.records import (
    Claim,
    CloudResource,
    CloudResourceId,
    Diagnostic,
    Failure,
    FailureKind,
    StackFqdn,
    StackOutput,
    StackUpdate,
    StackUpdateId,
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
    ended = running.succeeded(update.created_at + 4 * SECOND, 0, OUTPUTS)
    return [update, started(update), running, ended]


def failed(update: StackUpdate) -> StackUpdate:
    """Failed one second after its acceptance."""
    return update.failed(update.created_at + SECOND, FAILURE, exit_code=-9, stack_outputs=OUTPUTS)


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
