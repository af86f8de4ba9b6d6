"""What clients can watch.

Those who are to be shown the same are given the same object, so that whoever answers them can tell.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated

import strawberry

from graphql_api.domain import errors, records
from graphql_api.domain.ports import DeletedResource
from graphql_api.domain.records import StackUpdateId
from graphql_api.schema.cloud_resources import ById, CloudResource
from graphql_api.schema.context import Info
from graphql_api.schema.events import AfterSeq, StackUpdateEventBatch
from graphql_api.schema.filters import CloudResourceFilter, StackUpdateFilter
from graphql_api.schema.refusals import CursorAhead, EventsExpired, StackUpdateNotFound
from graphql_api.schema.scalars import read_id
from graphql_api.schema.stack_updates import StackUpdate
from graphql_api.service.feed import Ready
from graphql_api.service.watch import UpdateChanged


@strawberry.type(description="The stack update has changed, or is given for the first time.")
class StackUpdateChange:
    stack_update: StackUpdate = strawberry.field(description="As it is now.")

    @classmethod
    def of(cls, update: records.StackUpdate) -> StackUpdateChange:
        return cls(stack_update=StackUpdate.of(update))


StackUpdateChangedPayload = Annotated[
    StackUpdateChange | StackUpdateNotFound,
    strawberry.union("StackUpdateChangedPayload", description="What stackUpdateChanged pushes."),
]


@strawberry.type(
    description="The first push: refetch the list now, and nothing is missed from here. Do so after every reconnection."
)
class StackUpdatesReady:
    at: datetime = strawberry.field(description="When watching began.")


@strawberry.type(description="A stack update is new or has changed.")
class StackUpdatesChange:
    stack_update: StackUpdate = strawberry.field(description="As it is now.")
    matches: bool = strawberry.field(
        description="Whether the filter takes it; false when it did before this change and no longer does, for its "
        "status has changed."
    )


@strawberry.type(
    description="The first push: refetch the list now, and nothing is missed from here. Do so after every reconnection."
)
class CloudResourcesReady:
    at: datetime = strawberry.field(description="When watching began.")


@strawberry.type(description="A cloud resource is new or has changed.")
class CloudResourceChange:
    cloud_resource: CloudResource = strawberry.field(description="As it is now.")
    matches: bool = strawberry.field(
        description="Whether the filter takes it: always true as long as filters ask only for what never changes."
    )


@strawberry.type(description="A cloud resource is kept no longer.")
class CloudResourceDeleted:
    id: strawberry.ID = strawberry.field(description="The id that it had.")
    kind: str = strawberry.field(description="The kind that it had.")
    name: str = strawberry.field(description="The name that it had, which is free again.")
    deleted_at: datetime = strawberry.field(description="When it was deleted.")


StackUpdatesChangedPayload = Annotated[
    StackUpdatesReady | StackUpdatesChange,
    strawberry.union("StackUpdatesChangedPayload", description="What stackUpdatesChanged pushes."),
]
CloudResourcesChangedPayload = Annotated[
    CloudResourcesReady | CloudResourceChange | CloudResourceDeleted,
    strawberry.union("CloudResourcesChangedPayload", description="What cloudResourcesChanged pushes."),
]
StackUpdateEventsPayload = Annotated[
    StackUpdateEventBatch | StackUpdateNotFound | EventsExpired | CursorAhead,
    strawberry.union("StackUpdateEventsPayload", description="What stackUpdateEvents pushes."),
]
WatchedUpdates = Annotated[StackUpdateFilter | None, strawberry.argument(description="Leave out to watch all.")]
WatchedResources = Annotated[CloudResourceFilter | None, strawberry.argument(description="Leave out to watch all.")]


@strawberry.type(description="What clients can watch.")
class Subscription:
    @strawberry.subscription(
        description="The stack update as it is now, then whenever it changes, or its place in the queue does (at most "
        "five times a second, never without the last); completes when it has ended."
    )
    async def stack_update_changed(
        self,
        info: Info,
        id: ById,  # noqa: A002 (the schema's word)
    ) -> AsyncIterator[StackUpdateChangedPayload]:
        update_id = StackUpdateId(read_id(id, "id"))
        try:
            async with aclosing(info.context.services.watch.stack_update(update_id)) as changes:
                async for update in changes:
                    yield update.made(StackUpdateChange.of)
        except errors.StackUpdateNotFound as refusal:
            yield StackUpdateNotFound.of(refusal)

    @strawberry.subscription(
        description="Every event after `after`, without a gap or a double: first those that are there, then each as it "
        "happens. The first batch comes at once, even if it is empty. Completes when the stack update has ended and "
        "all its events are given. After a reconnection go on with the last batch's `seq` as `after`."
    )
    async def stack_update_events(
        self,
        info: Info,
        id: ById,  # noqa: A002 (the schema's word)
        after: AfterSeq = 0,
    ) -> AsyncIterator[StackUpdateEventsPayload]:
        update_id = StackUpdateId(read_id(id, "id"))
        watch, given = info.context.services.events.watch, info.context.after
        try:
            async with aclosing(
                watch(update_id, after) if given is None else watch(update_id, given, interrupted=True)
            ) as batches:
                async for batch in batches:
                    yield batch.made(StackUpdateEventBatch.of)
        except errors.StackUpdateNotFound as refusal:
            yield StackUpdateNotFound.of(refusal)
        except errors.EventsExpired as refusal:
            yield EventsExpired.of(refusal)
        except errors.CursorAhead as refusal:
            yield CursorAhead.of(refusal)

    @strawberry.subscription(
        description="StackUpdatesReady, then each stack update that is new or changes, as the filter asks. Of changes "
        "that follow each other quickly only the last may come. It does not complete."
    )
    async def stack_updates_changed(
        self,
        info: Info,
        filter: WatchedUpdates = strawberry.UNSET,  # noqa: A002 (the schema's word)
    ) -> AsyncIterator[StackUpdatesChangedPayload]:
        where = StackUpdateFilter.of(filter)
        async with aclosing(info.context.services.watch.stack_updates(where)) as changes:
            async for change in changes:
                yield change.made(_updates_push)

    @strawberry.subscription(
        description="CloudResourcesReady, then each cloud resource that is created, changed or deleted, as the filter "
        "asks. Of changes that follow each other quickly only the last may come. It does not complete."
    )
    async def cloud_resources_changed(
        self,
        info: Info,
        filter: WatchedResources = strawberry.UNSET,  # noqa: A002 (the schema's word)
    ) -> AsyncIterator[CloudResourcesChangedPayload]:
        where = CloudResourceFilter.of(filter)
        async with aclosing(info.context.services.watch.cloud_resources(where)) as changes:
            async for change in changes:
                yield change.made(_resources_push)


def _updates_push(change: Ready | UpdateChanged) -> StackUpdatesReady | StackUpdatesChange:
    if isinstance(change, Ready):
        return StackUpdatesReady(at=change.at)
    return StackUpdatesChange(stack_update=StackUpdate.of(change.update), matches=change.matches)


def _resources_push(
    change: Ready | records.CloudResource | DeletedResource,
) -> CloudResourcesReady | CloudResourceChange | CloudResourceDeleted:
    if isinstance(change, Ready):
        return CloudResourcesReady(at=change.at)
    if isinstance(change, records.CloudResource):
        return CloudResourceChange(cloud_resource=CloudResource.of(change), matches=True)
    gone = change.resource
    return CloudResourceDeleted(id=strawberry.ID(gone.id), kind=gone.kind, name=gone.name, deleted_at=change.deleted_at)
