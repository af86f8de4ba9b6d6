"""How a deployment is ended before its time, in the schema."""

from __future__ import annotations

from datetime import datetime

import strawberry

from graphql_api.domain import records
from graphql_api.schema.enums import CancellationReason, CancellationStage


@strawberry.type(description="That a deployment is being ended before it has ended by itself, or was.")
class Cancellation:
    requested_at: datetime = strawberry.field(description="When that began.")
    reason: CancellationReason = strawberry.field(description="Why.")
    stage: CancellationStage = strawberry.field(description="How far it has come.")
    next_stage_at: datetime | None = strawberry.field(
        description="When the next stage begins if Pulumi still runs then; null where none follows."
    )
    lock_left: bool = strawberry.field(
        description="Whether Pulumi had no chance to remove its own lock on the stack. The stack's next deployment "
        "removes it."
    )
    requested_by: str | None = strawberry.field(
        description="The name of the token that asked for it; null when it had none, or nobody asked."
    )

    @classmethod
    def of(cls, cancellation: records.Cancellation) -> Cancellation:
        return cls(
            requested_at=cancellation.requested_at,
            reason=CancellationReason(cancellation.reason),
            stage=CancellationStage(cancellation.stage),
            next_stage_at=cancellation.next_stage_at,
            lock_left=cancellation.lock_left,
            requested_by=cancellation.requested_by,
        )
