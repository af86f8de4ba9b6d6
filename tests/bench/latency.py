"""From a line's being written to its being read by a websocket client, against the CLI's own stdout.

A program under the real Pulumi writes lines that say when they were written. Our client reads them from
`stackUpdateEvents`, the peer from the pipe that bare `pulumi up` prints to: the same program, in turn.
"""

from __future__ import annotations

import os
import shlex
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from tests.bench.peers.bare import Bare
from tests.bench.process import serving
from tests.bench.report import Figure, Measure
from tests.bench.stage import Stage
from tests.service import DEPLOY, Service, manifest

EVERY = 0.01
WORD = "written "
EVENTS = """
subscription ($id: ID!) {
  stackUpdateEvents(id: $id) { ... on StackUpdateEventBatch { events { ... on LogLine { text } } } }
}"""
# What the language host, its parent, finds on its standard error becomes lines of Pulumi's.
PROGRAM = """
import os, time
if "PULUMI_STACK" in os.environ:
    with open("/proc/%d/fd/2" % os.getppid(), "w", buffering=1) as log:
        for _ in range({lines}):
            print("{word}%d" % time.time_ns(), file=log)
            time.sleep({every})
print("outputs: {{}}")
"""


P50 = Measure("line by Pulumi → websocket client, p50", "ms", "≤", 5)
P99 = Measure("line by Pulumi → websocket client, p99", "ms", "≤", 20)


async def measure(stage: Stage) -> AsyncIterator[Figure]:
    """Ours and the peer in turn."""
    if isinstance(cli := stage.pulumi, str):
        for one in (P50, P99):
            yield one.missing(cli)
        return
    root, lines = stage.directory(), stage.scale.lines
    (root / "tmp").mkdir()
    module = write_module(root / "modules" / "thing", lines)
    bare = Bare(cli, root, write_module(root / "bare", lines))
    await bare.first("lines")
    path = f"{cli.path.parent}{os.pathsep}{os.environ['PATH']}"
    async with serving(root, PATH=path, TMPDIR=str(root / "tmp")) as (service, _):
        resource = await service.apply(manifest(kind=module.name))
        rounds = [
            (await push(service, resource, lines), await read(bare, lines))
            for _ in range(stage.scale.warm_up + stage.scale.rounds)
        ]
    for one, share in ((P50, 49), (P99, 98)):
        ours, theirs = zip(
            *([percentile(ages, share) for ages in both] for both in rounds[stage.scale.warm_up :]), strict=True
        )
        yield one.found(ours, websocket_client=ours, stdout_of_the_CLI=theirs)


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100)[share]


async def push(service: Service, resource: str, lines: int) -> list[float]:
    """How old the lines of a deployment are when our client has them, in milliseconds."""
    answer = await service.execute(DEPLOY, id=resource)
    id_ = answer["deployCloudResource"]["stackUpdate"]["id"]
    found: list[float] = []
    async for batch in service.subscribe(EVENTS, "stackUpdateEvents", id=id_):
        now = time.time_ns()
        found += ages((event.get("text", "") for event in batch["events"]), now)
    return found[:lines]  # the rest is the CLI's repetition at its end


async def read(bare: Bare, lines: int) -> list[float]:
    """The same of the peer's lines."""
    found: list[float] = []
    async for line in bare.lines("lines"):
        found += ages([line], time.time_ns())
    return found[:lines]


def ages(texts: Iterable[str], now: int) -> list[float]:
    written = (text.partition(WORD)[2].strip() for text in texts)
    return [(now - int(number)) / 1e6 for number in written if number.isdigit()]


def write_module(directory: Path, lines: int) -> Path:
    directory.mkdir(parents=True)
    (directory / "program.py").write_text(PROGRAM.format(lines=lines, word=WORD, every=EVERY))
    compiler = shlex.join([sys.executable, "program.py"])
    options = f"runtime:\n  name: yaml\n  options:\n    compiler: {compiler}\n"
    (directory / "Pulumi.yaml").write_text(f"name: replaced\n{options}")
    return directory
