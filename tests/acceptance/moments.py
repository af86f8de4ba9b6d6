"""What the tests of hard edges share: catching a deployment at a moment, and starts that are refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runners.process import ProcessIdentity, identify
from tests.processes import children
from tests.runner.waiting import eventually
from tests.service import PATIENCE, Service

STACK = "organization/tests/one"


def mark(service: Service, moment: str, name: str = "one") -> Path:
    """The file that a module's program makes when it is called: `discovered` at first, `ran` after that."""
    return service.root / "tmp" / f"{moment}-{name}"


async def reached(service: Service, moment: str, name: str = "one") -> None:
    """Wait for that call, and forget it, so that the next one can be waited for."""
    await eventually(mark(service, moment, name).exists)
    mark(service, moment, name).unlink()


def directory_of_up(service: Service, update_id: str) -> Path | None:
    return next((service.data / "runs" / update_id).glob("*-up"), None)


def pids_of_up(service: Service, update_id: str) -> dict[str, int] | None:
    """The pids of Pulumi and its supervisor, once they are written down."""
    directory = directory_of_up(service, update_id)
    try:
        content: dict[str, Any] = json.loads((directory / "pids.json").read_bytes()) if directory else {}
    except FileNotFoundError:
        return None
    return {who: content[who]["pid"] for who in ("command", "supervisor")} if content else None


async def signal_at(service: Service, update_id: str, moment: Callable[[], object]) -> None:
    """SIGTERM Pulumi as soon as ``moment`` is true, within a fraction of a millisecond; nothing when it has ended."""

    def watch() -> None:
        end = time.monotonic() + PATIENCE
        pids = None
        while time.monotonic() < end:
            pids = pids or pids_of_up(service, update_id)
            if pids and moment():
                break
            if pids and identify(pids["command"]) is None:
                return
            time.sleep(0.0002)
        assert pids
        try:
            os.kill(pids["command"], signal.SIGTERM)
        except ProcessLookupError:
            return

    await asyncio.to_thread(watch)


def children_by_name(pid: int) -> dict[str, ProcessIdentity]:
    """The processes whose parent this is, as far as they run."""
    found = {one: identify(one) for one in children(pid)}
    return {Path(f"/proc/{one}/comm").read_text().strip(): identity for one, identity in found.items() if identity}


async def refused_start(environment: Mapping[str, str], cwd: Path) -> str:
    """What `stackcast serve` says as it refuses to start: one line on standard error, with exit code 2."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "graphql_api", "serve"),
        env=dict(environment),
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
    )
    async with asyncio.timeout(PATIENCE):
        said = (await process.communicate())[1].decode()
    assert process.returncode == 2, said
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]
