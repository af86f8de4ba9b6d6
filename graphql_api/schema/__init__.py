"""The GraphQL schema: types by noun, and resolvers that only translate."""

from __future__ import annotations

import strawberry
from graphql import GraphQLSchema

from graphql_api.schema.events import EVENT_TYPES
from graphql_api.schema.mutations import Mutation
from graphql_api.schema.queries import Query
from graphql_api.schema.refusals import ANSWERS
from graphql_api.schema.scalars import CONFIG
from graphql_api.schema.subscriptions import Subscription

SCHEMA = strawberry.Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=EVENT_TYPES,  # nothing but their interface names them
    config=CONFIG,
    exception_handlers=ANSWERS,
)

#: The same for graphql-core, which carries operations out; Strawberry has no public name for it.
GRAPHQL_SCHEMA: GraphQLSchema = SCHEMA._schema  # noqa: SLF001
