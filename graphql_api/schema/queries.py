"""What clients can ask."""

from __future__ import annotations

import asyncio

import strawberry

from graphql_api.domain.records import CloudResourceId, StackUpdateId
from graphql_api.schema.cloud_resources import ById, CloudResource, CloudResourceQueries
from graphql_api.schema.context import Info
from graphql_api.schema.node import Node
from graphql_api.schema.scalars import read_id
from graphql_api.schema.server_info import ServerQueries
from graphql_api.schema.stack_updates import StackUpdate, StackUpdateQueries


@strawberry.type(description="What clients can ask.")
class Query(CloudResourceQueries, StackUpdateQueries, ServerQueries):
    @strawberry.field(description="The cloud resource or the stack update with this id; null when there is neither.")
    async def node(self, info: Info, id: ById) -> Node | None:  # noqa: A002 (the schema's word)
        id_, services = read_id(id, "id"), info.context.services
        resource, update = await asyncio.gather(
            services.resources.get(CloudResourceId(id_)), services.updates.get(StackUpdateId(id_))
        )
        if resource:
            return CloudResource.of(resource)
        return StackUpdate.of(update) if update else None
