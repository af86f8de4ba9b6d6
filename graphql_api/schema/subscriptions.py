"""What clients can watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

import strawberry

from graphql_api.domain import errors
from graphql_api.domain.records import StackUpdateId
from graphql_api.schema.cloud_resources import ById
from graphql_api.schema.context import Info
from graphql_api.schema.refusals import StackUpdateNotFound
from graphql_api.schema.scalars import read_id
from graphql_api.schema.stack_updates import StackUpdate


@strawberry.type(description="The stack update has changed, or is given for the first time.")
class StackUpdateChange:
    stack_update: StackUpdate = strawberry.field(description="As it is now.")


StackUpdateChangedPayload = Annotated[
    StackUpdateChange | StackUpdateNotFound,
    strawberry.union("StackUpdateChangedPayload", description="What stackUpdateChanged pushes."),
]


@strawberry.type(description="What clients can watch.")
class Subscription:
    @strawberry.subscription(
        description="The stack update as it is now, then whenever it changes (at most five times a second, never "
        "without the last); completes when it has ended."
    )
    async def stack_update_changed(
        self,
        info: Info,
        id: ById,  # noqa: A002 (the schema's word)
    ) -> AsyncIterator[StackUpdateChangedPayload]:
        update_id = StackUpdateId(read_id(id, "id"))
        try:
            async with aclosing(info.context.watch.stack_update(update_id)) as changes:
                async for update in changes:
                    yield StackUpdateChange(stack_update=StackUpdate.of(update))
        except errors.StackUpdateNotFound as refusal:
            yield StackUpdateNotFound.of(refusal)
