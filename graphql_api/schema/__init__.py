"""The GraphQL schema: types by noun, and resolvers that only translate."""

from __future__ import annotations

import strawberry
from graphql import GraphQLError
from strawberry.extensions import AddValidationRules, MaxTokensLimiter
from strawberry.types.execution import ExecutionContext

from graphql_api.schema.events import EVENT_TYPES
from graphql_api.schema.limits import ObjectLimit
from graphql_api.schema.mutations import Mutation
from graphql_api.schema.presentation import PresentErrors
from graphql_api.schema.queries import Query
from graphql_api.schema.refusals import ANSWERS
from graphql_api.schema.scalars import CONFIG
from graphql_api.schema.subscriptions import Subscription

#: Enough for GraphiQL's introspection query several times over; a document beyond it is refused unparsed.
TOKEN_LIMIT = 1000


class _Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """PresentErrors logs what deserves it; a client's mistakes would only fill the log."""


SCHEMA = _Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=EVENT_TYPES,  # nothing but their interface names them
    config=CONFIG,
    exception_handlers=ANSWERS,
    extensions=[
        PresentErrors,
        lambda: MaxTokensLimiter(TOKEN_LIMIT),
        lambda: AddValidationRules([ObjectLimit]),
    ],
)
