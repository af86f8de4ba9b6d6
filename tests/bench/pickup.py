"""From the answer to the mutation to Pulumi's start.

`pulumi` is a stand-in that first writes down the time, and then acts: what is measured ends a few milliseconds after
Pulumi's own process has begun, when the shell that stands in for it has run its first command.
"""

from __future__ import annotations

import shlex
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests import fake_pulumi
from tests.bench.process import serving
from tests.bench.report import Figure, Measure
from tests.bench.stage import Stage
from tests.service import DEPLOY, Service, manifest

MEASURE = Measure("mutation answered → Pulumi started, p99", "ms", "≤", 50)


async def measure(stage: Stage) -> AsyncIterator[Figure]:
    """The 99th percentile, and for comparison the median, of each round."""
    root = stage.directory()
    begun = root / "begun"
    wrap(fake_pulumi.install(root / "bin"), begun)
    p50, p99 = [], []
    async with serving(root) as (service, _):
        service.module("Thing")
        resource = await service.apply(manifest())
        await start(service, resource, begun)  # makes the stack
        for _ in range(stage.scale.rounds):
            waits = [await start(service, resource, begun) for _ in range(stage.scale.deployments)]
            p50.append(statistics.median(waits))
            p99.append(statistics.quantiles(waits, n=100, method="inclusive")[98])
    yield MEASURE.found(p99, p50=p50, p99=p99)


async def start(service: Service, resource: str, begun: Path) -> float:
    """How long a deployment's Pulumi has taken to start, in milliseconds."""
    answer = await service.execute(DEPLOY, id=resource)
    answered = time.time_ns()
    ended = await service.outcome(answer["deployCloudResource"]["stackUpdate"]["id"])
    assert ended["status"] == "SUCCESS", ended
    return (noted(begun) - answered) / 1e6


def noted(begun: Path) -> int:
    """When Pulumi has begun last, in nanoseconds."""
    return int(begun.read_text())


def wrap(pulumi: Path, begun: Path) -> None:
    """Have the stand-in write down when it began with `up`."""
    actor = pulumi.rename(pulumi.with_name("actor"))
    note = f'[ "$1" = up ] && date +%s%N > {shlex.quote(str(begun))}'
    pulumi.write_text(f'#!/bin/sh\n{note}\nexec {shlex.quote(str(actor))} "$@"\n')
    pulumi.chmod(0o755)
