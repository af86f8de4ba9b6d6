"""What has an id of its own."""

from __future__ import annotations

import strawberry


@strawberry.interface(description="What has an id of its own, under which the query `node` finds it.")
class Node:
    id: strawberry.ID = strawberry.field(description="24 hex digits.")
