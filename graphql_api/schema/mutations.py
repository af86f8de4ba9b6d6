"""What clients can do. Each mutation answers with its success or with a refusal that implements UserError."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import strawberry

from graphql_api.domain.errors import BadUserInput
from graphql_api.domain.records import CloudResourceId
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
    InvalidManifest,
    ModuleInvalid,
    ModuleNotFound,
    PulumiNotFound,
    QueueFull,
)
from graphql_api.schema.scalars import read_id
from graphql_api.schema.stack_updates import DeployCloudResourceInput, StackUpdate

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
    | QueueFull,
    strawberry.union("DeployCloudResourcePayload", description="What deployCloudResource answers."),
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
        update = await info.context.services.updates.deploy(id_, _read_timeout(input.timeout_seconds))
        return DeployCloudResourceSuccess(stack_update=StackUpdate.of(update))


def _read_timeout(seconds: int | None) -> timedelta | None:
    if seconds is None or seconds is strawberry.UNSET:
        return None
    if seconds < 1:
        raise BadUserInput(f"timeoutSeconds must be at least 1; it is {seconds}.", "timeoutSeconds")
    return timedelta(seconds=min(seconds, _LONGEST_SECONDS))
