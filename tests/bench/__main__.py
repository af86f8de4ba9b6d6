"""From the deploy call to the pushed SUCCESS, against bare `pulumi up` on the same module, in turn; then history.py."""

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
from tests.bench import history
from tests.service import DEPLOY, Service, environment, manifest, running_service

EIGHT = [f"eight{number}" for number in range(8)]
BARE_STACK = "organization/bare/{name}"


async def main(rounds: int) -> None:
    cli = await toolchain.find(os.environ.get("PATH"), toolchain.cache_directory(os.environ))
    if cli is None:
        sys.exit("There is no Pulumi CLI: put one on PATH or run `stackcast demo` once.")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "tmp").mkdir()
        write_module(root / "modules")
        path = f"{cli.path.parent}{os.pathsep}{os.environ['PATH']}"
        async with running_service(root, PATH=path, TMPDIR=str(root / "tmp")) as service:
            bare = Bare(cli, root)
            await bare.prepare()
            same, *others = [await service.apply(manifest(name=name)) for name in ("same", *EIGHT)]
            new = [await service.apply(manifest(name=f"new{number}")) for number in range(rounds + 1)]
            await measure("an update", rounds, lambda _: succeed(service, same), lambda _: bare.up("same"))
            await measure(
                "a new stack (bare: init + up)",
                rounds,
                lambda n: succeed(service, new[n]),
                lambda n: bare.first(f"new{n}"),
            )
            await measure("eight at once", rounds, lambda _: all_succeed(service, others), lambda _: bare.eight())


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


async def succeed(service: Service, resource_id: str) -> None:
    """From the deploy call to the pushed SUCCESS."""
    answer = await service.execute(DEPLOY, id=resource_id)
    ended = await service.outcome(answer["deployCloudResource"]["stackUpdate"]["id"])
    assert ended["status"] == "SUCCESS", ended


class Bare:
    """`pulumi` as one would type it, with a state and a home of its own, on the same module."""

    def __init__(self, cli: PulumiCli, root: Path) -> None:
        self._cli = cli
        self._module = write_module(root / "bare")  # Pulumi writes its settings beside the program
        state, home = root / "bare-state", root / "bare-home"
        state.mkdir()
        self._environment = {
            name: value for name, value in environment(root).items() if not name.startswith("STACKCAST")
        } | {
            "PATH": f"{cli.path.parent}{os.pathsep}{os.environ['PATH']}",
            "TMPDIR": str(root / "tmp"),
            "PULUMI_BACKEND_URL": state.as_uri(),
            "PULUMI_HOME": str(home),
            "PULUMI_CONFIG_PASSPHRASE": "bench",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "STACK_INPUT_YAML": "target: {metadata: {name: bare}}",
        }

    async def prepare(self) -> None:
        file = self._module / "Pulumi.yaml"
        file.write_text(file.read_text().replace("name: replaced", "name: bare"))
        for name in ("same", *EIGHT):
            await self.first(name)

    async def first(self, name: str) -> None:
        await self._run("stack", "init", "--stack", BARE_STACK.format(name=name), "--no-select")
        await self.up(name)

    async def up(self, name: str) -> None:
        await self._run("up", "--stack", BARE_STACK.format(name=name), "--yes", "--skip-preview", "--suppress-progress")

    async def eight(self) -> None:
        await asyncio.gather(*(self.up(name) for name in EIGHT))

    async def _run(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(str(self._cli.path), *arguments, "--non-interactive", "--color", "never"),
            env=self._environment,
            cwd=self._module,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        if await process.wait() != 0:
            sys.exit(f"pulumi {' '.join(arguments)} failed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    asyncio.run(main(parser.parse_args().rounds))
    asyncio.run(history.main(rounds=300))
