"""Many lines from one run: how many the service stores and announces per core-second, and its memory while they flow.

The lines come from a stand-in for Pulumi, so that nothing but the service is measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from tests import fake_pulumi
from tests.bench.process import TICK, cpu, memory, serving
from tests.bench.report import Figure, Measure
from tests.bench.stage import Stage
from tests.service import Service, manifest

PACE = Measure("log lines stored and announced per core-second", "lines", "≥", 50_000)
MEMORY = Measure("memory while 1 GB of lines flows, over idle", "MiB", "≤", 30)
LIMIT_MIB = 256
WIDTH = 200


async def measure(stage: Stage) -> AsyncIterator[Figure]:
    """Rounds of lines that are all stored, then one long flow, most of which is beyond the log's limit."""
    rates = [await pace(stage) for _ in range(stage.scale.rounds)]
    yield PACE.found(rates)
    idle, most = await growth(stage)
    yield MEMORY.found([most - idle], idle=[idle], most=[most])


async def pace(stage: Stage) -> float:
    """Lines per second of CPU time; every one is read back by hash."""
    root, count = stage.directory(), stage.scale.stored
    fake_pulumi.install(root / "bin")
    async with serving(root, STACKCAST_LOG_LIMIT=str(LIMIT_MIB)) as (service, pid):
        await flow(service, 1)
        before = cpu(pid)
        id_ = await flow(service, count)
        spent = cpu(pid) - before
        await read_back(service, id_, min(count, stored_at_most()))
    return count / max(spent, TICK)


async def growth(stage: Stage) -> tuple[float, float]:
    """MiB of memory before, and at most while the lines flow; those that are kept are read back by hash."""
    root, count = stage.directory(), stage.scale.flow // WIDTH
    fake_pulumi.install(root / "bin")
    async with serving(root, STACKCAST_OUTPUT_LIMIT="8192", STACKCAST_LOG_LIMIT=str(LIMIT_MIB)) as (service, pid):
        await flow(service, 1)
        idle = memory(pid)
        id_ = await flow(service, count)
        most = memory(pid, "VmHWM")
        await read_back(service, id_, min(count, stored_at_most()))
    return idle, most


async def flow(service: Service, lines: int) -> str:
    """Deploy what prints so many, and watch it to its end."""
    service.module("Thing", lines=lines, width=WIDTH)
    id_ = await service.deploy(manifest())
    ended = await service.outcome(id_)
    assert ended["status"] == "SUCCESS", ended
    return id_


def stored_at_most() -> int:
    return LIMIT_MIB * 1024 * 1024 // (WIDTH + 1) - 1  # an empty line comes before them


async def read_back(service: Service, id_: str, count: int) -> None:
    """Compare the first lines of the log with those that were printed."""
    answer = await service.request("GET", f"/stack-updates/{id_}/log.txt")
    lines = [line for line in answer.body.decode().splitlines() if line.startswith("line ")]
    expected, found = hashlib.sha256(), hashlib.sha256()
    for index in range(count):
        expected.update(fake_pulumi.line(index, WIDTH).encode())
        found.update(lines[index].encode())
    assert expected.digest() == found.digest()
