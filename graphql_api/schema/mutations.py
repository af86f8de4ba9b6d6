"""What clients can do. Each mutation answers with its success or with a refusal that implements UserError."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import strawberry

from graphql_api.domain.errors import BadUserInput
from graphql_api.domain.records import CloudResourceId, StackUpdateId
from graphql_api.schema.cloud_resources import (
    ApplyCloudResourceInput,
    CloudResource,
    CreateCloudResourceInput,
    DeleteCloudResourceInput,
    UpdateCloudResourceInput,
)
from graphql_api.schema.context import Info
from graphql_api.schema.refusals import (
    CloudResourceBusy,
    CloudResourceExists,
    CloudResourceIdentityChanged,
    CloudResourceNotFound,
    IdempotencyKeyReused,
    InvalidManifest,
    ModuleInvalid,
    ModuleNotFound,
    PulumiNotFound,
    QueueFull,
    StackBusy,
    StackUpdateCancelling,
    StackUpdateEnded,
    StackUpdateNotFound,
)
from graphql_api.schema.scalars import read_id
from graphql_api.schema.stack_updates import (
    CancelStackUpdateInput,
    DeployCloudResourceInput,
    ExtendStackUpdateDeadlineInput,
    StackUpdate,
)
from graphql_api.service.updates import WhenBusy

#: A day of seconds times a hundred: far beyond any limit a server sets, and still a duration everywhere.
_LONGEST_SECONDS = 8_640_000


@strawberry.type(description="The manifest is kept.")
class CreateCloudResourceSuccess:
    cloud_resource: CloudResource = strawberry.field(description="The new cloud resource.")


@strawberry.type(description="The manifest is kept.")
class ApplyCloudResourceSuccess:
    cloud_resource: CloudResource = strawberry.field(description="The cloud resource as it is now.")
    created: bool = strawberry.field(description="Whether it is new.")


@strawberry.type(description="The manifest is kept.")
class UpdateCloudResourceSuccess:
    cloud_resource: CloudResource = strawberry.field(description="The cloud resource as it is now.")


@strawberry.type(description="The cloud resource is kept no longer. What was deployed from it keeps running.")
class DeleteCloudResourceSuccess:
    cloud_resource: CloudResource = strawberry.field(description="The cloud resource as it was last.")
    remaining_stack_updates: int = strawberry.field(description="How many of its stack updates stay in the lists.")


@strawberry.type(description="The deployment is accepted and goes on in the background.")
class DeployCloudResourceSuccess:
    stack_update: StackUpdate = strawberry.field(description="The deployment: watch it with stackUpdateChanged.")
    joined: bool = strawberry.field(
        description="Whether it was there before: one that is joined (JOIN), or the answer to an idempotencyKey that "
        "was used before."
    )


@strawberry.type(
    description="The cancellation is asked for. It takes its time: the stack update ends CANCELLED, unless it succeeds "
    "before."
)
class CancelStackUpdateSuccess:
    stack_update: StackUpdate = strawberry.field(
        description="As it is now; `cancellation` says how far its end has come. Watch it with stackUpdateChanged."
    )


@strawberry.type(description="The time is asked for.")
class ExtendStackUpdateDeadlineSuccess:
    stack_update: StackUpdate = strawberry.field(
        description="As it is now; `timeoutSeconds` says whether it has the time already."
    )


CreateCloudResourcePayload = Annotated[
    CreateCloudResourceSuccess | InvalidManifest | CloudResourceExists,
    strawberry.union("CreateCloudResourcePayload", description="What createCloudResource answers."),
]
ApplyCloudResourcePayload = Annotated[
    ApplyCloudResourceSuccess | InvalidManifest,
    strawberry.union("ApplyCloudResourcePayload", description="What applyCloudResource answers."),
]
UpdateCloudResourcePayload = Annotated[
    UpdateCloudResourceSuccess | InvalidManifest | CloudResourceNotFound | CloudResourceIdentityChanged,
    strawberry.union("UpdateCloudResourcePayload", description="What updateCloudResource answers."),
]
DeleteCloudResourcePayload = Annotated[
    DeleteCloudResourceSuccess | CloudResourceNotFound | CloudResourceBusy,
    strawberry.union("DeleteCloudResourcePayload", description="What deleteCloudResource answers."),
]
DeployCloudResourcePayload = Annotated[
    DeployCloudResourceSuccess
    | CloudResourceNotFound
    | InvalidManifest
    | ModuleNotFound
    | ModuleInvalid
    | PulumiNotFound
    | QueueFull
    | StackBusy
    | IdempotencyKeyReused,
    strawberry.union("DeployCloudResourcePayload", description="What deployCloudResource answers."),
]
CancelStackUpdatePayload = Annotated[
    CancelStackUpdateSuccess | StackUpdateNotFound | StackUpdateEnded,
    strawberry.union("CancelStackUpdatePayload", description="What cancelStackUpdate answers."),
]
ExtendStackUpdateDeadlinePayload = Annotated[
    ExtendStackUpdateDeadlineSuccess | StackUpdateNotFound | StackUpdateEnded | StackUpdateCancelling,
    strawberry.union("ExtendStackUpdateDeadlinePayload", description="What extendStackUpdateDeadline answers."),
]


@strawberry.type(description="What clients can do.")
class Mutation:
    @strawberry.mutation(description="Keeps a new manifest; refuses one whose kind and name are kept already.")
    async def create_cloud_resource(
        self,
        info: Info,
        input: Annotated[CreateCloudResourceInput, strawberry.argument(description="The manifest.")],  # noqa: A002
    ) -> CreateCloudResourcePayload:
        record = await info.context.services.resources.create(input.manifest)
        return CreateCloudResourceSuccess(cloud_resource=CloudResource.of(record))

    @strawberry.mutation(description="Keeps a manifest: a new one, or in place of the one with its kind and name.")
    async def apply_cloud_resource(
        self,
        info: Info,
        input: Annotated[ApplyCloudResourceInput, strawberry.argument(description="The manifest.")],  # noqa: A002
    ) -> ApplyCloudResourcePayload:
        record, created = await info.context.services.resources.apply(input.manifest)
        return ApplyCloudResourceSuccess(cloud_resource=CloudResource.of(record), created=created)

    @strawberry.mutation(
        description="Keeps a manifest in place of the one that the cloud resource has. Its name and kind may not "
        "change. Nothing is deployed."
    )
    async def update_cloud_resource(
        self,
        info: Info,
        input: Annotated[UpdateCloudResourceInput, strawberry.argument(description="The manifest.")],  # noqa: A002
    ) -> UpdateCloudResourcePayload:
        id_ = CloudResourceId(read_id(input.id, "id"))
        record = await info.context.services.resources.update(id_, input.manifest)
        return UpdateCloudResourceSuccess(cloud_resource=CloudResource.of(record))

    @strawberry.mutation(
        description="Deletes the record of a cloud resource, and nothing else: what was deployed from it is not "
        "destroyed. It keeps running, and may keep costing, and Pulumi's backend keeps its stack. The stack updates "
        "stay. Refused while one of them is IN_PROGRESS."
    )
    async def delete_cloud_resource(
        self,
        info: Info,
        input: Annotated[DeleteCloudResourceInput, strawberry.argument(description="Which one.")],  # noqa: A002
    ) -> DeleteCloudResourcePayload:
        id_ = CloudResourceId(read_id(input.id, "id"))
        record, remaining = await info.context.services.resources.delete(id_)
        return DeleteCloudResourceSuccess(cloud_resource=CloudResource.of(record), remaining_stack_updates=remaining)

    @strawberry.mutation(description="Deploys the manifest as it is now. Answers at once; the work goes on.")
    async def deploy_cloud_resource(
        self,
        info: Info,
        input: Annotated[DeployCloudResourceInput, strawberry.argument(description="What to deploy.")],  # noqa: A002
    ) -> DeployCloudResourcePayload:
        id_ = CloudResourceId(read_id(input.cloud_resource_id, "cloudResourceId"))
        accepted = await info.context.services.updates.deploy(
            id_,
            _read_timeout(input.timeout_seconds),
            WhenBusy[input.when_busy.name] if input.when_busy else WhenBusy.QUEUE,
            None if input.idempotency_key is strawberry.UNSET else input.idempotency_key,
            info.context.caller.name,
        )
        return DeployCloudResourceSuccess(stack_update=StackUpdate.of(accepted.update), joined=accepted.joined)

    @strawberry.mutation(
        description="Cancels a stack update. One that waits ends at once. One that runs is interrupted: Pulumi "
        "finishes the resources that it has in hand; what still runs after a grace is terminated, then killed. With "
        "`force` the next of these steps comes at once. Cancelling again without it changes nothing."
    )
    async def cancel_stack_update(
        self,
        info: Info,
        input: Annotated[CancelStackUpdateInput, strawberry.argument(description="Which one.")],  # noqa: A002
    ) -> CancelStackUpdatePayload:
        id_ = StackUpdateId(read_id(input.id, "id"))
        caller = info.context.caller.name
        record = await info.context.services.control.cancel(id_, force=bool(input.force), caller=caller)
        return CancelStackUpdateSuccess(stack_update=StackUpdate.of(record))

    @strawberry.mutation(description="Gives a stack update more time. Refused when it has ended or is being cancelled.")
    async def extend_stack_update_deadline(
        self,
        info: Info,
        input: Annotated[  # noqa: A002
            ExtendStackUpdateDeadlineInput, strawberry.argument(description="Which one, and how much time.")
        ],
    ) -> ExtendStackUpdateDeadlinePayload:
        id_ = StackUpdateId(read_id(input.id, "id"))
        record = await info.context.services.control.extend(id_, _seconds(input.timeout_seconds))
        return ExtendStackUpdateDeadlineSuccess(stack_update=StackUpdate.of(record))


def _read_timeout(seconds: int | None) -> timedelta | None:
    if seconds is None or seconds is strawberry.UNSET:
        return None
    return _seconds(seconds)


def _seconds(seconds: int) -> timedelta:
    if seconds < 1:
        raise BadUserInput(f"timeoutSeconds must be at least 1; it is {seconds}.", "timeoutSeconds")
    return timedelta(seconds=min(seconds, _LONGEST_SECONDS))
