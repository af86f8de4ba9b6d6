"""What resolvers are given: the use cases and who asks, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import strawberry

from graphql_api.domain.callers import ANYBODY, Caller
from graphql_api.schema.loaders import Loaders
from graphql_api.service import Services


@dataclass
class Context:
    """One for each operation; a subscription has one for all its events.

    ``after`` is the seq behind which a subscription to a log goes on that was interrupted unknown to its client.
    """

    services: Services
    caller: Caller = ANYBODY
    after: int | None = None

    @cached_property
    def loaders(self) -> Loaders:
        """What gathers the questions of one answer."""
        return Loaders(self.services)


Info = strawberry.Info[Context, None]
