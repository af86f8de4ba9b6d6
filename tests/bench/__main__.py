"""From the deploy call to the pushed SUCCESS, against bare `pulumi up` on the same module, in turn; then the others."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from runners import toolchain
from runners.toolchain import PulumiCli
from tests.acceptance.modules import write_module
from tests.bench import flood, history, latency
from tests.bench.bare import Bare
from tests.service import DEPLOY, Service, manifest, running_service

EIGHT = [f"eight{number}" for number in range(8)]


async def main(rounds: int) -> None:
    cli = await toolchain.find(os.environ.get("PATH"), toolchain.cache_directory(os.environ))
    if cli is None:
        sys.exit("There is no Pulumi CLI: put one on PATH or run `stackcast demo` once.")
    with tempfile.TemporaryDirectory() as directory:
        await deployments(Path(directory), cli, rounds)
    with tempfile.TemporaryDirectory() as directory:
        await latency.main(Path(directory), cli)
    with tempfile.TemporaryDirectory() as directory:
        await flood.main(Path(directory))
    await history.main(rounds=300)


async def deployments(root: Path, cli: PulumiCli, rounds: int) -> None:
    """How long a deployment takes."""
    (root / "tmp").mkdir()
    write_module(root / "modules")
    path = f"{cli.path.parent}{os.pathsep}{os.environ['PATH']}"
    async with running_service(root, PATH=path, TMPDIR=str(root / "tmp")) as service:
        bare = Bare(cli, root, write_module(root / "bare"))
        for name in ("same", *EIGHT):
            await bare.first(name)
        same, *others = [await service.apply(manifest(name=name)) for name in ("same", *EIGHT)]
        new = [await service.apply(manifest(name=f"new{number}")) for number in range(rounds + 1)]
        await measure("an update", rounds, lambda _: succeed(service, same), lambda _: bare.up("same"))
        await measure(
            "a new stack (bare: init + up)", rounds, lambda n: succeed(service, new[n]), lambda n: bare.first(f"new{n}")
        )
        await measure("eight at once", rounds, lambda _: all_succeed(service, others), lambda _: all_up(bare, EIGHT))


async def measure(
    title: str, rounds: int, ours: Callable[[int], Awaitable[object]], theirs: Callable[[int], Awaitable[object]]
) -> None:
    """Print the medians in seconds, and the ratio of each pair: its median and range."""
    pairs = [(await timed(ours(number)), await timed(theirs(number))) for number in range(-1, rounds)][1:]
    ratios = sorted(our / their for our, their in pairs)
    our, their = (statistics.median(column) for column in zip(*pairs, strict=True))
    spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
    print(f"{title}: stackcast {our:.3f} s, pulumi {their:.3f} s, ratio {spread}, {rounds} rounds")  # noqa: T201


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    asyncio.run(main(parser.parse_args().rounds))
