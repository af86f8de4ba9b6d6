"""Measures stackcast against named peers in turn; prints, and writes as JSON, Markdown and SVG, what is found."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

import uvloop

from runners import toolchain
from tests.bench import deploy, fanout, flood, history, latency, peers, pickup, queries, start
from tests.bench.picture import draw
from tests.bench.report import Figure, table, to_json
from tests.bench.stage import FULL, SHORT, Run, Scale, Stage

MEASURES: dict[str, Run] = {
    "deploy": deploy.measure,
    "pickup": pickup.measure,
    "latency": latency.measure,
    "fanout": fanout.measure,
    "queries": queries.measure,
    "history": history.measure,
    "flood": flood.measure,
    "start": start.measure,
}


async def main(output: Path, scale: Scale, names: Collection[str]) -> None:
    """Take the measures of these names, and write what is found after each."""
    _raise_descriptor_limit()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        stage = await _stage(Path(directory), scale)
        circumstances = _circumstances(stage)
        for name, measure in MEASURES.items():
            if name not in names:
                continue
            begun = time.monotonic()
            async for figure in measure(stage):
                figures.append(figure)
                say(f"{name}: {figure}")
            say(f"{name} took {time.monotonic() - begun:.0f} s")
            (output / "bench.json").write_text(to_json(figures, circumstances))
            (output / "bench.md").write_text(table(figures, circumstances))
            (output / "bench.svg").write_text(draw(figures))
    say(f"written: {output}/bench.json, bench.md and bench.svg")


async def _stage(root: Path, scale: Scale) -> Stage:
    cli = await toolchain.find(os.environ.get("PATH"), toolchain.cache_directory(os.environ))
    packages = root / "packages"
    packages.mkdir()
    missing = await peers.install(packages)
    pulumi = cli or "there is no Pulumi CLI: put one on PATH or run `stackcast demo` once"
    return Stage(root, scale, pulumi, missing or packages)


def _circumstances(stage: Stage) -> dict[str, object]:
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "scale": "short: proves that it runs, the figures say little" if stage.scale is SHORT else "full",
        "sizes": str(stage.scale),
        "cores": len(os.sched_getaffinity(0)),
        "load before": os.getloadavg()[0],
        "Python": platform.python_version(),
        "Pulumi": stage.pulumi if isinstance(stage.pulumi, str) else stage.pulumi.version,
        "Node": stage.packages if isinstance(stage.packages, str) else "yes",
    }


def _raise_descriptor_limit() -> None:
    """A thousand connections need more than many a shell allows; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--output", type=Path, help="a directory for what is written; a temporary one by default")
    parser.add_argument("--short", action="store_true", help="under a minute, to prove that everything runs")
    parser.add_argument("--only", action="append", choices=MEASURES, help="take this measure; may be repeated")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = arguments()
    place = chosen.output or Path(tempfile.mkdtemp(prefix="bench-"))
    place.mkdir(parents=True, exist_ok=True)
    uvloop.run(main(place.absolute(), SHORT if chosen.short else FULL, chosen.only or list(MEASURES)))
