"""One event to many subscribers: deliveries per second of the server's core, and what an idle subscriber costs.

Every system runs on one core, and pushes the same lines at the same pace. Ours reads them from a stand-in for Pulumi,
stores them, and serves its subscribers from the log; the peers push what they are told from memory. A server is started
anew for each round, or its memory would not grow by what the subscribers need.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests import fake_pulumi
from tests.bench import peers
from tests.bench.crowd import crowd
from tests.bench.process import CLIENT_CORE, SERVER_CORE, TICK, System, cpu, memory, on_cores, serving
from tests.bench.report import TIMES, Figure, Measure
from tests.bench.stage import Stage
from tests.service import Service, manifest

SAME = {
    "stock": Measure(
        "deliveries per core-second to subscribers of one update, against stock Strawberry", TIMES, "≥", 8
    ),
    "graphql_ws": Measure("the same against graphql-ws on ws (Node)", TIMES, "≥", 2),
    "broadcast": Measure("the same against websockets.broadcast", TIMES, "≥", 0.75),
}
DIFFERENT = Measure("the same of as many different subscriptions, against stock Strawberry", TIMES, "≥", 1.2)
MEMORY = Measure("memory of an idle subscriber, against stock Strawberry", TIMES, "≤", 0.6)

SUBSCRIPTION = """
subscription ($id: ID!) {
  %sstackUpdateEvents(id: $id) { ... on StackUpdateEventBatch { events { ... on LogLine { text } } } }
}"""
EVERY, WIDTH = 0.1, 150
#: How many subscribers the server has had, and how many lines each of them, before it is measured.
WARM_UP = (10, 3)
#: How long a round may be prepared before its lines begin, in seconds.
PREPARATION = 300

Push = Callable[[], Coroutine[Any, Any, None]]
Operation = dict[str, object]


@dataclass(frozen=True, slots=True)
class Live:
    """A system that runs. ``begin`` gives the id of something to subscribe to, and what has so many lines pushed."""

    address: str
    pid: int
    begin: Callable[[int], Awaitable[tuple[str, Push]]]


@dataclass(frozen=True, slots=True)
class Round:
    """Lines delivered per core-second, and KiB of memory per idle subscriber."""

    rate: float
    memory: float


Start = Callable[[Path], AbstractAsyncContextManager[Live]]


async def measure(stage: Stage) -> AsyncIterator[Figure]:
    """All with the same document, ours and every peer; then each subscriber with its own, ours and stock Strawberry."""
    systems: dict[str, Start] = {
        "stackcast": ours,
        "stock": lambda root: peer(peers.python("stock", root)),
        "broadcast": lambda root: peer(peers.python("broadcast", root)),
    }
    if isinstance(packages := stage.packages, Path):
        systems["graphql_ws"] = lambda root: peer(peers.node("graphql_ws", packages, root))
    same = await in_turn(stage, systems, same_document)
    for name, against in SAME.items():
        yield against.ratio(**rates(same, name)) if name in same else against.missing(str(packages))
    yield MEMORY.ratio(**{f"{name}_KiB": [one.memory for one in same[name]] for name in ("stackcast", "stock")})
    both = {name: systems[name] for name in ("stackcast", "stock")}
    yield DIFFERENT.ratio(**rates(await in_turn(stage, both, document_of_its_own), "stock"))


def same_document(id_: str, _: int) -> Operation:
    return {"query": SUBSCRIPTION % "", "variables": {"id": id_}}


def document_of_its_own(id_: str, number: int) -> Operation:
    """Under a name of its own for the field, so that no two have an execution, or its result, in common."""
    return {"query": SUBSCRIPTION % f"s{number}: ", "variables": {"id": id_}}


def rates(rounds: Mapping[str, list[Round]], name: str) -> dict[str, list[float]]:
    return {system: [one.rate for one in rounds[system]] for system in ("stackcast", name)}


async def in_turn(
    stage: Stage, systems: Mapping[str, Start], operation: Callable[[str, int], Operation]
) -> dict[str, list[Round]]:
    """The rounds of each system."""
    rounds: dict[str, list[Round]] = {name: [] for name in systems}
    with on_cores(CLIENT_CORE):
        for _ in range(stage.scale.rounds):
            for name, start in systems.items():
                async with start(stage.directory()) as live:
                    rounds[name].append(await one_round(stage, live, operation))
    return rounds


async def one_round(stage: Stage, live: Live, operation: Callable[[str, int], Operation]) -> Round:
    await deliver(live, *WARM_UP, same_document)
    return await deliver(live, stage.scale.subscribers, stage.scale.events, operation)


async def deliver(live: Live, subscribers: int, lines: int, operation: Callable[[str, int], Operation]) -> Round:
    id_, push = await live.begin(lines)
    alone = memory(live.pid)
    async with crowd(live.address, [operation(id_, number) for number in range(subscribers)]) as all_of_them:
        grown = memory(live.pid) - alone
        pushing = asyncio.create_task(push())
        await all_of_them.expect(1)  # without what it costs to begin
        earlier, before = all_of_them.lines, cpu(live.pid)
        await all_of_them.expect(lines)
        delivered, spent = all_of_them.lines - earlier, cpu(live.pid) - before
        await pushing
        all_of_them.check(lines)
    return Round(delivered / max(spent, TICK), grown * 1024 / subscribers)


@asynccontextmanager
async def ours(root: Path) -> AsyncIterator[Live]:
    fake_pulumi.install(root / "bin")
    async with serving(root, SERVER_CORE) as (service, pid):
        yield Live(service.address, pid, partial(queue, service))


async def queue(service: Service, lines: int) -> tuple[str, Push]:
    """A deployment that waits for another one of its stack, which ends when the lines are to come."""
    name = f"round{lines}"
    gate = service.root / name
    service.module("Gate", sleep=PREPARATION, until=str(gate))
    service.module("Thing", lines=lines, every=EVERY, width=WIDTH)
    await service.deploy(manifest("Gate", name))
    id_ = await service.deploy(manifest("Thing", name))

    async def push() -> None:
        gate.touch()

    return id_, push


@asynccontextmanager
async def peer(starting: AbstractAsyncContextManager[System]) -> AsyncIterator[Live]:
    async with starting as system:

        async def begin(lines: int) -> tuple[str, Push]:
            async def push() -> None:
                for number in range(lines):
                    system.tell(fake_pulumi.line(number, WIDTH))
                    await asyncio.sleep(EVERY)

            return "0" * 24, push

        yield Live(system.address, system.pid, begin)
