"""The course of a soak: rounds of deployments, and a sample after each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.soak import pulumi
from tests.soak.load import LANES, Load
from tests.soak.samples import Sample, take
from tests.soak.service import asked_service

ROUNDS = 40
#: How long the service may take to let go of what a round needed: connections, threads at work, last writes.
QUIET = 0.5  # seconds


async def run(
    root: Path, deployments: int, variables: Mapping[str, str], report: Callable[[str], None], rounds: int = ROUNDS
) -> tuple[list[Sample], Counter[str]]:
    """Deploy so many times in rounds; a sample after each round, and how the deployments ended."""
    pulumi.install(root / "bin")
    samples: list[Sample] = []
    async with asked_service(root, STACKCAST_MAX_CONCURRENT=str(LANES), **variables) as asked:
        load = Load(asked.service)
        await load.prepare()
        for number in range(1, rounds + 1):
            done = samples[-1].deployments if samples else 0
            await load.deploy(deployments * number // rounds - done)
            await asyncio.sleep(QUIET)
            samples.append(await take(deployments * number // rounds, asked))
            report(f"{samples[-1].deployments:>6} " + _shown(samples[-1]))
    return samples, load.ended


def _shown(sample: Sample) -> str:
    return "  ".join(f"{name} {value:,.0f}" for name, value in sample.values.items())
