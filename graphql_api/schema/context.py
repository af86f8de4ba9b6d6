"""What resolvers are given: the use cases, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import strawberry

from graphql_api.service.resources import Resources
from graphql_api.service.updates import Updates
from graphql_api.service.watch import Watch


@dataclass
class Context:
    """One for each HTTP request and one for each websocket.

    ``authorization`` is the header that the request or the handshake came with, ``connection_params`` what the
    websocket began with.
    """

    resources: Resources
    updates: Updates
    watch: Watch
    authorization: str | None = None
    connection_params: dict[str, Any] | None = None


Info = strawberry.Info[Context, None]
