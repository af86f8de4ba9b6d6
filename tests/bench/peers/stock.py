"""Strawberry as its documentation shows it, on uvicorn as it is without extras: asyncio's loop, h11, an access log."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import strawberry
import uvicorn
from strawberry.asgi import GraphQL

from tests.bench.peers import lines

RECORDS: list[dict[str, Any]] = json.loads(Path(sys.argv[1]).read_text()) if len(sys.argv) > 1 else []
NODES = {record["node"]["id"]: record["node"] for record in RECORDS}
_subscribers: set[asyncio.Queue[str]] = set()


@strawberry.type
class StackUpdate:
    id: strawberry.ID
    status: str
    phase: str
    created_at: str
    cloud_resource_id: strawberry.ID
    stack_fqdn: str | None

    @classmethod
    def of(cls, node: dict[str, Any]) -> StackUpdate:
        return cls(
            id=node["id"],
            status=node["status"],
            phase=node["phase"],
            created_at=node["createdAt"],
            cloud_resource_id=node["cloudResourceId"],
            stack_fqdn=node["stackFqdn"],
        )


@strawberry.type
class StackUpdateEdge:
    cursor: str
    node: StackUpdate


@strawberry.type
class PageInfo:
    has_next_page: bool
    end_cursor: str | None


@strawberry.type
class StackUpdateConnection:
    edges: list[StackUpdateEdge]
    page_info: PageInfo


@strawberry.type
class LogLine:
    text: str


@strawberry.type
class StackUpdateEventBatch:
    events: list[LogLine]


@strawberry.type
class Query:
    @strawberry.field
    async def stack_updates(self, first: int) -> StackUpdateConnection:
        page = RECORDS[:first]
        return StackUpdateConnection(
            edges=[StackUpdateEdge(cursor=record["cursor"], node=StackUpdate.of(record["node"])) for record in page],
            page_info=PageInfo(has_next_page=len(RECORDS) > first, end_cursor=page[-1]["cursor"]),
        )

    @strawberry.field
    async def stack_update(self, id: strawberry.ID) -> StackUpdate | None:  # noqa: A002 (the schema's word)
        return StackUpdate.of(NODES[id]) if id in NODES else None


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def stack_update_events(
        self,
        id: strawberry.ID,  # noqa: A002 (the schema's word)
    ) -> AsyncGenerator[StackUpdateEventBatch, None]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        _subscribers.add(queue)
        try:
            yield StackUpdateEventBatch(events=[])
            while True:
                yield StackUpdateEventBatch(events=[LogLine(text=await queue.get())])
        finally:
            _subscribers.discard(queue)


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    app = GraphQL[None, None](strawberry.Schema(Query, subscription=Subscription))
    config = uvicorn.Config(app, loop="asyncio", http="h11", lifespan="off", timeout_graceful_shutdown=1)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/graphql", flush=True)  # noqa: T201
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads the access log
    pushing = asyncio.create_task(push())
    await uvicorn.Server(config).serve(sockets=[listener])
    pushing.cancel()


async def push() -> None:
    async for line in lines():
        for queue in _subscribers:
            queue.put_nowait(line)


if __name__ == "__main__":
    asyncio.run(main())
