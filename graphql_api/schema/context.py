"""What resolvers are given: the use cases, nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import strawberry

from graphql_api.schema.loaders import Loaders
from graphql_api.service import Services


@dataclass
class Context:
    """One for each HTTP request and one for each websocket.

    ``authorization`` is the header that the request or the handshake came with, ``connection_params`` what the
    websocket began with.
    """

    services: Services
    authorization: str | None = None
    connection_params: dict[str, Any] | None = None
    loaders: Loaders = field(init=False)

    def __post_init__(self) -> None:
        self.loaders = Loaders(self.services)


Info = strawberry.Info[Context, None]
