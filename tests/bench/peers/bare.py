"""`pulumi` as one would type it: the peer that stackcast is measured against."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from runners.toolchain import PulumiCli
from tests.service import environment

STACK = "organization/bare/{name}"


class Bare:
    """Deploys a module with a state and a home of its own. The module's directory is written to."""

    def __init__(self, cli: PulumiCli, root: Path, module: Path) -> None:
        self._cli = cli
        self._module = module
        file = module / "Pulumi.yaml"
        file.write_text(file.read_text().replace("name: replaced", "name: bare"))
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

    async def first(self, name: str) -> None:
        """Make a stack and deploy it."""
        await self._run("stack", "init", "--stack", STACK.format(name=name), "--no-select")
        await self.up(name)

    async def up(self, name: str) -> None:
        async for _ in self.lines(name):
            pass

    async def lines(self, name: str) -> AsyncIterator[str]:
        """Deploy, and give each line that is printed as it can be read from a pipe."""
        up = ("up", "--stack", STACK.format(name=name), "--yes", "--skip-preview", "--suppress-progress")
        process = await self._started(*up)
        assert process.stdout is not None
        async for line in process.stdout:
            yield line.decode(errors="replace")
        if await process.wait() != 0:
            sys.exit("pulumi up failed")

    async def _run(self, *arguments: str) -> None:
        process = await self._started(*arguments)
        await process.communicate()
        if process.returncode != 0:
            sys.exit(f"pulumi {' '.join(arguments)} failed")

    async def _started(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(str(self._cli.path), *arguments, "--non-interactive", "--color", "never"),
            env=self._environment,
            cwd=self._module,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=1024 * 1024,
        )
