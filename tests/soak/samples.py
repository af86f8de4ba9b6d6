"""What a service has at a moment at which nothing goes on, and whether any of it grows with the deployments."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench.process import memory
from tests.soak.service import AskedService

MIB, KIB = 1024 * 1024, 1024
#: By how much each may drift over the last half before it counts as growing, however sure that is.
ALLOWED: Mapping[str, float] = {
    "memory": 2 * MIB,
    "objects": 1000,
    "tasks": 1,
    "descriptors": 1,
    "threads": 1,
    "processes": 1,
    "watches": 1,
    "temporary files": 1,
    "runs": 1,
    "database": 512 * KIB,
    "state": 128 * KIB,
    "elsewhere": 64 * KIB,
}
#: What is kept, which grows unless something is forgotten.
KEPT = ("database", "state")
#: How many standard errors a drift must be away from none.
SURE = 3.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What there was after so many deployments, bytes or numbers."""

    deployments: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trend:
    """How one of the values went over the last half of the samples: by so much for each deployment."""

    name: str
    first: float
    last: float
    each: float
    drift: float
    error: float

    @property
    def grows(self) -> bool:
        """Whether it drifts by more than is allowed, and by more than its own ups and downs explain."""
        return self.drift > ALLOWED[self.name] and self.drift > SURE * self.error


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """One for each value, by least squares over the last half."""
    half = samples[len(samples) // 2 :]
    return [_trend(name, half) for name in half[0].values]


def _trend(name: str, samples: Sequence[Sample]) -> Trend:
    counts = [float(sample.deployments) for sample in samples]
    values = [sample.values[name] for sample in samples]
    each, begin = statistics.linear_regression(counts, values)
    span = counts[-1] - counts[0]
    rest = [value - begin - each * count for count, value in zip(counts, values, strict=True)]
    spread = math.sqrt(sum(one * one for one in rest) / max(len(rest) - 2, 1))
    width = math.sqrt(sum((count - statistics.fmean(counts)) ** 2 for count in counts))
    return Trend(name, values[0], values[-1], each, each * span, spread / width * span)


async def take(deployments: int, asked: AskedService) -> Sample:
    held = await asked.held()
    seen = await asyncio.to_thread(_seen, asked.process.pid, asked.service.root, asked.service.data)
    return Sample(deployments, {**held, **seen})


def _seen(pid: int, root: Path, data: Path) -> dict[str, float]:
    """What can be seen from outside."""
    process = Path(f"/proc/{pid}")
    return {
        "memory": memory(pid) * MIB,
        "descriptors": _count(process / "fd"),
        "threads": _count(process / "task"),
        "processes": sum(1 for _ in _children(pid)),
        "watches": sum(file.read_text().count("inotify wd") for file in (process / "fdinfo").iterdir()),
        "temporary files": _count(root / "tmp"),
        "runs": _count(data / "runs"),
        **_sizes(data),
    }


def _sizes(data: Path) -> dict[str, int]:
    """How many bytes the files in the data directory have."""
    sizes = {"database": 0, "state": 0, "elsewhere": 0}
    for file in data.rglob("*"):
        first = file.relative_to(data).parts[0]
        place = "database" if first.startswith("stackcast.db") else first if first in sizes else "elsewhere"
        with suppress(FileNotFoundError):  # it is just being removed
            if file.is_file() and file.name != "starts":  # which is the stand-in's
                sizes[place] += file.stat().st_size
    return sizes


def _count(directory: Path) -> int:
    return sum(1 for _ in directory.iterdir())


def _children(pid: int) -> Iterator[int]:
    """Its children, also those that it has not reaped."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has just ended
                continue
            if parent == pid:
                yield int(entry.name)
