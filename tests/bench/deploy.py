"""From the deploy call to the pushed SUCCESS, against bare `pulumi up` on the same module, in turn.

Nothing is pinned: both are Pulumi's own processes for the most part. The service has places for all of
eight at once.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.acceptance.modules import write_module
from tests.bench.peers.bare import Bare
from tests.bench.process import serving
from tests.bench.report import TIMES, Figure, Measure
from tests.bench.stage import Stage
from tests.service import DEPLOY, Service, manifest

UPDATE = Measure("deploy → pushed SUCCESS, against bare `pulumi up`", TIMES, "≤", 1.05)
NEW = Measure("the same of a new stack, against `pulumi stack init` and `up`", TIMES, "≤", 1.05)
EIGHT = Measure("the same of eight at once, against eight", TIMES, "≤", 1.10)

Work = Callable[[int], Awaitable[object]]


async def measure(stage: Stage) -> AsyncIterator[Figure]:
    """In pairs."""
    if isinstance(cli := stage.pulumi, str):
        for one in (UPDATE, NEW, EIGHT):
            yield one.missing(cli)
        return
    root, rounds = stage.directory(), stage.scale.warm_up + stage.scale.rounds
    names = [f"eight{number}" for number in range(stage.scale.at_once)]
    (root / "tmp").mkdir()
    write_module(root / "modules")
    path = f"{cli.path.parent}{os.pathsep}{os.environ['PATH']}"
    places = str(stage.scale.at_once)
    async with serving(root, PATH=path, TMPDIR=str(root / "tmp"), STACKCAST_MAX_CONCURRENT=places) as (service, _):
        bare = Bare(cli, root, write_module(root / "bare"))
        for name in ("same", *names):
            await bare.first(name)
        same, *others = [await service.apply(manifest(name=name)) for name in ("same", *names)]
        new = [await service.apply(manifest(name=f"new{number}")) for number in range(rounds)]
        yield await compare(UPDATE, stage, lambda _: succeed(service, same), lambda _: bare.up("same"))
        yield await compare(NEW, stage, lambda n: succeed(service, new[n]), lambda n: bare.first(f"new{n}"))
        yield await compare(EIGHT, stage, lambda _: all_succeed(service, others), lambda _: all_up(bare, names))


async def compare(measure: Measure, stage: Stage, ours: Work, theirs: Work) -> Figure:
    rounds = range(stage.scale.warm_up + stage.scale.rounds)
    pairs = [(await timed(ours(number)), await timed(theirs(number))) for number in rounds][stage.scale.warm_up :]
    return measure.ratio(stackcast_s=[our for our, _ in pairs], pulumi_s=[their for _, their in pairs])


async def timed(work: Awaitable[object]) -> float:
    start = time.perf_counter()
    await work
    return time.perf_counter() - start


async def all_succeed(service: Service, resource_ids: list[str]) -> None:
    await asyncio.gather(*(succeed(service, id_) for id_ in resource_ids))


async def all_up(bare: Bare, names: list[str]) -> None:
    await asyncio.gather(*(bare.up(name) for name in names))


async def succeed(service: Service, resource_id: str) -> None:
    """From the deploy call to the pushed SUCCESS."""
    answer = await service.execute(DEPLOY, id=resource_id)
    ended = await service.outcome(answer["deployCloudResource"]["stackUpdate"]["id"])
    assert ended["status"] == "SUCCESS", ended
