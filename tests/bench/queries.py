"""Requests per second of a server's core, over HTTP: a page of ten records, and one record.

Each server has one core, and more requests than it can answer. What counts is the time that it has had of that core,
which it may have to share with what else the machine does. Ours reads from its SQLite file and makes all its checks;
the peers hold the same records in memory, as the very texts to answer. What they answer is compared once.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphql_api.adapters.sqlite.database import open_sqlite
from tests.bench import peers
from tests.bench.history import fill
from tests.bench.load import answer, load, request
from tests.bench.process import CLIENT_CORE, SERVER_CORE, cpu, on_cores, serving
from tests.bench.report import TIMES, Figure, Measure
from tests.bench.stage import Stage
from tests.builders import SECOND

RECORDS = 1000
_NODE = "id status phase createdAt cloudResourceId stackFqdn"
LIST = f"""
query ($first: Int!) {{
  stackUpdates(first: $first) {{ edges {{ cursor node {{ {_NODE} }} }} pageInfo {{ hasNextPage endCursor }} }}
}}"""
SINGLE = f"query ($id: ID!) {{ stackUpdate(id: $id) {{ {_NODE} }} }}"
ALL = f"""
query ($after: String) {{
  stackUpdates(first: 100, after: $after) {{
    edges {{ cursor node {{ {_NODE} }} }} pageInfo {{ hasNextPage endCursor }}
  }}
}}"""
GOALS = {
    ("list", "stock"): Measure("list query: requests per core-second, against stock Strawberry", TIMES, "≥", 8),
    ("single", "stock"): Measure("single query: requests per core-second, against stock Strawberry", TIMES, "≥", 12),
    ("list", "apollo"): Measure("list query: requests per core-second, against Apollo Server", TIMES, "≥", 1),
    ("single", "apollo"): Measure("single query: requests per core-second, against Apollo Server", TIMES, "≥", 1),
}


@dataclass(frozen=True, slots=True)
class Server:
    address: str
    pid: int


async def measure(stage: Stage) -> AsyncIterator[Figure]:
    """Ours and the peers in turn, each under the same sixteen connections."""
    root = stage.directory()
    await make_database(root / "data")
    with on_cores(CLIENT_CORE):
        async with AsyncExitStack() as stack:
            service, pid = await stack.enter_async_context(serving(root, SERVER_CORE))
            servers = {"stackcast": Server(service.address, pid)}
            records = await every_record(service.address)
            file = root / "records.json"
            file.write_text(json.dumps(records))
            starting = {"stock": peers.python("stock", root, str(file))}
            if isinstance(stage.packages, Path):
                starting["apollo"] = peers.node("apollo", stage.packages, root, str(file))
            for name, system in starting.items():
                peer = await stack.enter_async_context(system)
                servers[name] = Server(peer.address, peer.pid)
            rates = {
                "list": await in_turn(stage, servers, LIST, {"first": 10}),
                "single": await in_turn(stage, servers, SINGLE, {"id": records[5]["node"]["id"]}),
            }
    for (query, name), goal in GOALS.items():
        found = {system: rates[query][system] for system in ("stackcast", name) if system in servers}
        yield goal.ratio(**found) if name in found else goal.missing(str(stage.packages))


async def make_database(data: Path) -> None:
    async with open_sqlite(data / "stackcast.db", 600 * SECOND) as opened:
        await fill(opened, RECORDS)


async def every_record(address: str) -> list[dict[str, Any]]:
    """The edges of our whole list."""
    edges: list[dict[str, Any]] = []
    after: str | None = None
    while after is not None or not edges:
        page = (await answer(address, request(address, ALL, {"after": after})))["stackUpdates"]
        edges += page["edges"]
        after = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None
    assert len(edges) == RECORDS
    return edges


async def in_turn(
    stage: Stage, servers: Mapping[str, Server], query: str, variables: dict[str, Any]
) -> dict[str, list[float]]:
    """Requests per core-second of each, once all have been found to answer the same; the first round is the warm-up."""
    requests = {name: request(server.address, query, variables) for name, server in servers.items()}
    answers = [await answer(server.address, requests[name]) for name, server in servers.items()]
    assert all(one == answers[0] for one in answers), answers
    rates: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(stage.scale.rounds + 1):
        for name, server in servers.items():
            before = cpu(server.pid)
            count = await load(server.address, requests[name], stage.scale.load)
            assert count, f"{name} has answered nothing in {stage.scale.load} s"
            rates[name].append(count / (cpu(server.pid) - before))
    return {name: values[1:] for name, values in rates.items()}
