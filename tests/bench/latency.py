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
from collections.abc import Iterable
from pathlib import Path

from runners.toolchain import PulumiCli
from tests.bench.bare import Bare
from tests.bench.process import serving
from tests.service import DEPLOY, Service, manifest

ROUNDS = 5
LINES, EVERY = 400, 0.01
WORD = "written "
EVENTS = """
subscription ($id: ID!) {
  stackUpdateEvents(id: $id) { ... on StackUpdateEventBatch { events { ... on LogLine { text } } } }
}"""
# What the language host, its parent, finds on its standard error becomes lines of Pulumi's.
PROGRAM = f"""
import os, time
if "PULUMI_STACK" in os.environ:
    with open(f"/proc/{{os.getppid()}}/fd/2", "w", buffering=1) as log:
        for _ in range({LINES}):
            print(f"{WORD}{{time.time_ns()}}", file=log)
            time.sleep({EVERY})
print("outputs: {{}}")
"""


async def main(root: Path, cli: PulumiCli) -> None:
    """Measure in turn, and print the medians and the 99th percentiles."""
    (root / "tmp").mkdir()
    module = write_module(root / "modules" / "thing")
    bare = Bare(cli, root, write_module(root / "bare"))
    await bare.first("lines")
    path = f"{cli.path.parent}{os.pathsep}{os.environ['PATH']}"
    ours: list[float] = []
    theirs: list[float] = []
    async with serving(root, PATH=path, TMPDIR=str(root / "tmp")) as (service, _):
        resource = await service.apply(manifest(kind=module.name))
        for number in range(ROUNDS + 1):
            pushed, printed = await push(service, resource), await read(bare)
            if number:  # the first is the warm-up
                ours += pushed
                theirs += printed
    for name, values in (("websocket client", ours), ("CLI's own stdout", theirs)):
        p50, p99 = statistics.median(values), statistics.quantiles(values, n=100)[98]
        print(f"a line to the {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(values)} lines")  # noqa: T201


async def push(service: Service, resource: str) -> list[float]:
    """How old the lines of a deployment are when our client has them, in milliseconds."""
    answer = await service.execute(DEPLOY, id=resource)
    id_ = answer["deployCloudResource"]["stackUpdate"]["id"]
    found: list[float] = []
    async for batch in service.subscribe(EVENTS, "stackUpdateEvents", id=id_):
        now = time.time_ns()
        found += ages((event.get("text", "") for event in batch["events"]), now)
    return found[:LINES]  # the rest is the CLI's repetition at its end


async def read(bare: Bare) -> list[float]:
    """The same of the peer's lines."""
    found: list[float] = []
    async for line in bare.lines("lines"):
        found += ages([line], time.time_ns())
    return found[:LINES]


def ages(texts: Iterable[str], now: int) -> list[float]:
    written = (text.partition(WORD)[2].strip() for text in texts)
    return [(now - int(number)) / 1e6 for number in written if number.isdigit()]


def write_module(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "program.py").write_text(PROGRAM)
    compiler = shlex.join([sys.executable, "program.py"])
    options = f"runtime:\n  name: yaml\n  options:\n    compiler: {compiler}\n"
    (directory / "Pulumi.yaml").write_text(f"name: replaced\n{options}")
    return directory
