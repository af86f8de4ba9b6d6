"""Cloud resources in the schema."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from graphql_api.domain import errors, records
from graphql_api.schema.context import Info
from graphql_api.schema.filters import CloudResourceFilter, CloudResourceStackUpdateFilter
from graphql_api.schema.node import Node
from graphql_api.schema.pagination import After, Before, Connection, First, Last, PageRequest, connection
from graphql_api.schema.scalars import read_id

if TYPE_CHECKING:
    from graphql_api.schema.stack_updates import StackUpdate

ById = Annotated[strawberry.ID, strawberry.argument(description="24 hex digits.")]
Filter = Annotated[CloudResourceFilter | None, strawberry.argument(description="Leave out to list all.")]
UpdateFilter = Annotated[
    CloudResourceStackUpdateFilter | None, strawberry.argument(description="Leave out to list all.")
]
#: Cloud resources and stack updates lead to each other: one of the two has to name the other before it is there.
LazyStackUpdate = Annotated["StackUpdate", strawberry.lazy("graphql_api.schema.stack_updates")]


@strawberry.type(description="A label of a manifest.")
class Label:
    name: str = strawberry.field(description="The label's name, its prefix included.")
    value: str = strawberry.field(description="The label's value, as it was written.")


@strawberry.type(description="One thing wrong with a manifest.")
class ManifestProblem:
    message: str = strawberry.field(description="What is wrong and what to write.")
    path: str | None = strawberry.field(description="The place in the document; null for the whole.")
    line: int | None = strawberry.field(description="The line, from 1.")
    column: int | None = strawberry.field(description="The column, from 1.")

    @classmethod
    def of(cls, problem: errors.ManifestProblem) -> ManifestProblem:
        return cls(message=problem.message, path=problem.path, line=problem.line, column=problem.column)


@strawberry.type(description="A manifest that the service keeps. Kind and name together are unique.")
class CloudResource(Node):
    id: strawberry.ID = strawberry.field(description="24 hex digits.")
    name: str = strawberry.field(description="The manifest's `metadata.name`.")
    kind: str = strawberry.field(description="The manifest's `kind`.")
    manifest: str = strawberry.field(description="The YAML as it was given.")
    created_at: datetime = strawberry.field(description="When it was first kept.")
    updated_at: datetime = strawberry.field(description="When its manifest last changed.")
    record: strawberry.Private[records.CloudResource]

    @strawberry.field(description="The manifest's labels, in its order.")
    async def labels(self, info: Info) -> list[Label]:
        found = await info.context.services.resources.examine(self.record)
        return [Label(name=name, value=value) for name, value in found.labels.items()]

    @strawberry.field(description="`organization/project/stack`; null while the labels name no stack for Pulumi.")
    async def stack_fqdn(self, info: Info) -> str | None:
        return (await info.context.services.resources.examine(self.record)).stack_fqdn

    @strawberry.field(description="Why the manifest can't be deployed as it is; empty when its labels name a stack.")
    async def problems(self, info: Info) -> list[ManifestProblem]:
        found = await info.context.services.resources.examine(self.record)
        return [ManifestProblem.of(problem) for problem in found.problems]

    @strawberry.field(description="Its newest stack update; null when it was never deployed.")
    async def latest_stack_update(self, info: Info) -> LazyStackUpdate | None:
        record = await info.context.loaders.latest_stack_update.load(self.record.id)
        return _stack_update(record) if record else None

    @strawberry.field(description="Its stack updates, newest first.")
    async def stack_updates(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        filter: UpdateFilter = strawberry.UNSET,  # noqa: A002 (the schema's word)
    ) -> Connection[LazyStackUpdate]:
        updates, where = info.context.services.updates, CloudResourceStackUpdateFilter.of(filter, self.record.id)
        return await connection(
            PageRequest.read(first, after, last, before),
            lambda slice_: updates.page(slice_, where),
            _stack_update,
            lambda: updates.count(where),
        )

    @classmethod
    def of(cls, record: records.CloudResource) -> CloudResource:
        return cls(
            id=strawberry.ID(record.id),
            name=record.name,
            kind=record.kind,
            manifest=record.manifest,
            created_at=record.created_at,
            updated_at=record.updated_at,
            record=record,
        )


@strawberry.type
class CloudResourceQueries:
    @strawberry.field(description="The cloud resource with this id; null when there is none.")
    async def cloud_resource(self, info: Info, id: ById) -> CloudResource | None:  # noqa: A002 (the schema's word)
        record = await info.context.services.resources.get(records.CloudResourceId(read_id(id, "id")))
        return CloudResource.of(record) if record else None

    @strawberry.field(description="Cloud resources, newest first.")
    async def cloud_resources(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        last: Last = strawberry.UNSET,
        before: Before = strawberry.UNSET,
        filter: Filter = strawberry.UNSET,  # noqa: A002 (the schema's word)
    ) -> Connection[CloudResource]:
        resources, where = info.context.services.resources, CloudResourceFilter.of(filter)
        return await connection(
            PageRequest.read(first, after, last, before),
            lambda slice_: resources.page(slice_, where),
            CloudResource.of,
            lambda: resources.count(where),
        )


def _stack_update(record: records.StackUpdate) -> StackUpdate:
    from graphql_api.schema.stack_updates import StackUpdate  # which is there by now

    return StackUpdate.of(record)


@strawberry.input(description="A manifest to keep for the first time.")
class CreateCloudResourceInput:
    manifest: str = strawberry.field(description="One YAML document with kind and metadata.name, up to 256 KiB.")


@strawberry.input(description="A manifest to keep.")
class ApplyCloudResourceInput:
    manifest: str = strawberry.field(description="One YAML document with kind and metadata.name, up to 256 KiB.")


@strawberry.input(description="A manifest to keep in place of the one that a cloud resource has.")
class UpdateCloudResourceInput:
    id: strawberry.ID = strawberry.field(description="The cloud resource's id.")
    manifest: str = strawberry.field(description="One YAML document of the same kind and metadata.name, up to 256 KiB.")


@strawberry.input(description="A cloud resource to keep no longer.")
class DeleteCloudResourceInput:
    id: strawberry.ID = strawberry.field(description="The cloud resource's id.")
