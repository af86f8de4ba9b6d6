"""1 GB of lines from one run: the service's memory, its pace, and every line read back by hash up to the log's limit.

The lines come from a stand-in for Pulumi, so that nothing but the service is measured.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from tests import fake_pulumi
from tests.bench.process import memory, serving
from tests.service import Service, manifest

BYTES = 1_000_000_000
LIMIT_MIB = 256
WIDTH = 200


async def main(root: Path) -> None:
    """Let them flow once, and print the figures."""
    fake_pulumi.install(root / "bin")
    async with serving(root, STACKCAST_OUTPUT_LIMIT="8192", STACKCAST_LOG_LIMIT=str(LIMIT_MIB)) as (service, pid):
        service.module("Thing", lines=1, width=WIDTH)
        await service.outcome(await service.deploy(manifest()))
        idle = memory(pid)
        count = BYTES // WIDTH
        service.module("Thing", lines=count, width=WIDTH)
        start = time.perf_counter()
        id_ = await service.deploy(manifest())
        ended = await service.outcome(id_)
        took = time.perf_counter() - start
        most = memory(pid, "VmHWM")
        assert ended["status"] == "SUCCESS", ended
        kept = await read_back(service, id_)
    print(  # noqa: T201
        f"1 GB in {count:,} lines: {took:.0f} s, {count / took:,.0f} lines/s; memory {idle:.0f} MiB idle, "
        f"{most:.0f} MiB at most (+{most - idle:.0f}); {kept:,} lines read back by hash"
    )


async def read_back(service: Service, id_: str) -> int:
    """Compare the lines up to the log's limit with those that were printed; how many they are."""
    answer = await service.request("GET", f"/stack-updates/{id_}/log.txt")
    lines = [line for line in answer.body.decode().splitlines() if line.startswith("line ")]
    count = LIMIT_MIB * 1024 * 1024 // (WIDTH + 1) - 1  # an empty line comes before them
    expected, found = hashlib.sha256(), hashlib.sha256()
    for index in range(count):
        expected.update(fake_pulumi.line(index, WIDTH).encode())
        found.update(lines[index].encode())
    assert expected.digest() == found.digest()
    return count
