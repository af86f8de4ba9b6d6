"""What every measure has at hand."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from runners.toolchain import PulumiCli
from tests.bench.report import Figure


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything. ``rounds`` is how often each measure is taken, after so many that do not count."""

    rounds: int
    warm_up: int
    at_once: int  # deployments
    deployments: int  # in a round, until Pulumi has started
    lines: int  # that are followed to the client
    subscribers: int
    events: int  # that each of them is pushed in a round
    load: float  # seconds of requests to one system in a round
    history: int  # stack updates in the database
    pages: int  # read in a round
    stored: int  # lines that are stored in a round
    flow: int  # bytes of lines while the memory is watched


FULL = Scale(
    rounds=5,
    warm_up=1,
    at_once=8,
    deployments=40,
    lines=400,
    subscribers=1000,
    events=30,
    load=3,
    history=1_000_000,
    pages=100,
    stored=1_000_000,
    flow=1_000_000_000,
)
#: Proves that everything runs. Its figures say little.
SHORT = Scale(
    rounds=1,
    warm_up=0,
    at_once=2,
    deployments=5,
    lines=50,
    subscribers=100,
    events=6,
    load=0.3,
    history=20_000,
    pages=10,
    stored=20_000,
    flow=5_000_000,
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Pulumi and the packages for Node are sentences that say why, where they are not to be had."""

    root: Path
    scale: Scale
    pulumi: PulumiCli | str
    packages: Path | str

    def directory(self) -> Path:
        """A new one."""
        return Path(tempfile.mkdtemp(dir=self.root))


Run = Callable[[Stage], AsyncIterator[Figure]]
