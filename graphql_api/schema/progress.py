"""How far a deployment has come, in the schema."""

from __future__ import annotations

from datetime import datetime

import strawberry

from graphql_api.domain import progress
from graphql_api.domain.progress import ResourceState as State
from graphql_api.schema.enums import ResourceOperation, ResourceState


@strawberry.type(description="How many operations of one kind stand so.")
class ProgressCount:
    operation: ResourceOperation = strawberry.field(description="What is done to the resources.")
    state: ResourceState = strawberry.field(description="How that stands.")
    count: int = strawberry.field(description="How many they are.")


@strawberry.type(description="How far a deployment has come: the operations on its Pulumi resources, counted.")
class Progress:
    total: int | None = strawberry.field(
        description="How many operations there will be. Until the deployment has ended this is a guess from the "
        "stack's last successful one; null when there was none."
    )
    in_progress: int = strawberry.field(description="How many are in hand.")
    done: int = strawberry.field(description="How many have ended well.")
    failed: int = strawberry.field(description="How many have failed.")
    interrupted: int = strawberry.field(description="Of how many Pulumi never told how they ended.")
    counts: list[ProgressCount] = strawberry.field(
        description="The same by operation and state; what there is none of is left out."
    )

    @classmethod
    def of(cls, made: progress.Progress) -> Progress:
        return cls(
            total=made.total,
            in_progress=made.count(State.IN_PROGRESS),
            done=made.count(State.DONE),
            failed=made.count(State.FAILED),
            interrupted=made.count(State.INTERRUPTED),
            counts=[
                ProgressCount(
                    operation=ResourceOperation(entry.operation), state=ResourceState(entry.state), count=entry.count
                )
                for entry in made.counts
            ],
        )


@strawberry.type(description="One operation on one Pulumi resource.")
class ResourceProgress:
    id: strawberry.ID = strawberry.field(
        description="The URN, `#` and the operation as Pulumi writes it: unique within the stack update."
    )
    urn: str = strawberry.field(description="The resource's URN.")
    name: str = strawberry.field(description="The resource's name in its program.")
    type: str = strawberry.field(description="The resource's type.")
    operation: ResourceOperation = strawberry.field(description="What is done to it.")
    state: ResourceState = strawberry.field(description="How that stands.")
    started_at: datetime = strawberry.field(description="When the service first heard of it.")
    ended_at: datetime | None = strawberry.field(
        description="When the service heard of its end; null while it is in progress."
    )

    @classmethod
    def of(cls, resource: progress.ResourceProgress) -> ResourceProgress:
        return cls(
            id=strawberry.ID(f"{resource.urn}#{resource.operation}"),
            urn=resource.urn,
            name=resource.name,
            type=resource.type,
            operation=ResourceOperation(resource.operation),
            state=ResourceState(resource.state),
            started_at=resource.started_at,
            ended_at=resource.ended_at,
        )
