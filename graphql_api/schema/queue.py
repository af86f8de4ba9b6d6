"""The queue in the schema."""

from __future__ import annotations

import strawberry

from graphql_api.schema.cloud_resources import LazyStackUpdate
from graphql_api.schema.enums import QueueReason


@strawberry.type(
    description="Where a stack update stands in the queue. The queue goes round the stacks: first comes the oldest of "
    "each stack, then the second oldest of each, and so on; a stack on which one is under way has had its turn."
)
class QueuePlace:
    position: int = strawberry.field(description="Its number in the queue, from 1.")
    blocked_by: LazyStackUpdate | None = strawberry.field(
        description="The stack update right before it on its stack, which is being deployed or waits as well; null "
        "when there is none."
    )
    reason: QueueReason = strawberry.field(description="Why it still waits.")
