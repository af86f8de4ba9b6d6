"""What the service says of itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from graphql_api.domain.ports import StackUpdateFilter, UpdateHistory
from graphql_api.domain.records import Status

_UNDER_WAY = StackUpdateFilter(statuses=frozenset({Status.IN_PROGRESS}))


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What holds as long as the service runs, and what can be asked at any time.

    ``backend`` is the scheme of Pulumi's backend and ``store`` the database's name: never a URL, which may hold a
    password. ``find_pulumi`` gives the CLI's version, None when there is none; it may raise PulumiNotFound.
    ``at_work`` gives how many deployments the worker has in hand.
    """

    version: str
    backend: str
    store: str
    max_concurrent: int
    timeout: timedelta
    timeout_limit: timedelta
    history: UpdateHistory
    find_pulumi: Callable[[], Awaitable[str | None]]
    at_work: Callable[[], int]

    async def running(self) -> int:
        """How many deployments are taken up and have not ended. May raise StoreUnavailable."""
        return min(self.at_work(), await self.history.count(_UNDER_WAY))  # one that ends is let go of a little later

    async def queued(self) -> int:
        """How many deployments are accepted and not yet taken up. May raise StoreUnavailable."""
        return max(await self.history.count(_UNDER_WAY) - self.at_work(), 0)
