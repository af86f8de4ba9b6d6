"""Records for tests: whatever a test does not name is valid and of no importance to it."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import timedelta
from typing import Any

from graphql_api.domain.records import (
    Claim,
    CloudResource,
    CloudResourceId,
    StackFqdn,
    StackUpdate,
    StackUpdateId,
    new_id,
    utc_now,
)

STACK = StackFqdn("organization/demo/dev")

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
