"""What every way to the API stands on."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphql_api.schema.operations import Operations, Prepared, prepare
from graphql_api.service import Services
from graphql_api.transport.access import Access
from graphql_api.transport.fanout import FanOut
from graphql_api.transport.persisted import PersistedQueries
from graphql_api.transport.quotas import Quotas
from graphql_api.transport.request import GraphQLRequest


@dataclass(frozen=True, slots=True)
class Api:
    """Who may come in, what they may ask for and how much of it, whichever way they come."""

    access: Access
    operations: Operations
    fanout: FanOut
    persisted: PersistedQueries = field(default_factory=PersistedQueries)
    quotas: Quotas = field(default_factory=Quotas)

    @classmethod
    def of(cls, services: Services, access: Access) -> Api:
        """The API of these use cases."""
        operations = Operations(services)
        return cls(access, operations, FanOut(operations))

    def prepare(self, request: GraphQLRequest) -> Prepared:
        """The operation that a request is about, ready to be carried out. Raises RequestRefused."""
        named = self.persisted.find(request.query, request.extensions)
        prepared = prepare(named.query, request.operation_name)
        named.keep()
        return prepared
