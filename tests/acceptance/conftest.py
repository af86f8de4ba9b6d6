"""A service with the real Pulumi over each store, and the command `stackcast` as a process."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from runners.toolchain import PulumiCli
from tests.acceptance.modules import write_module
from tests.service import PATIENCE, Service, environment

Start = Callable[..., AbstractAsyncContextManager["ServiceProcess"]]


@dataclass(frozen=True)
class ServiceProcess:
    """`stackcast serve` as a process of its own."""

    process: asyncio.subprocess.Process
    service: Service

    async def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        await self.process.wait()


@pytest.fixture(params=["sqlite", "mongodb"])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of each store."""
    if request.param == "sqlite":
        return {}
    url = request.getfixturevalue("mongodb_url")
    return {"STACKCAST_DATABASE_URL": f"{url}test{secrets.token_hex(6)}"}


@pytest.fixture
def real(tmp_path: Path, pulumi_cli: PulumiCli) -> dict[str, str]:
    """The environment of a service that uses the real Pulumi, with a module for the kind Thing."""
    write_module(tmp_path / "modules")
    (tmp_path / "tmp").mkdir()
    path = f"{pulumi_cli.path.parent}{os.pathsep}{os.environ['PATH']}"
    return environment(tmp_path, PATH=path, TMPDIR=str(tmp_path / "tmp"), STACKCAST_SHUTDOWN_GRACE="20")


@pytest.fixture
def start(tmp_path: Path, real: dict[str, str]) -> Start:
    """Starts the service as a process; leaving terminates it and expects a clean end."""

    @asynccontextmanager
    async def started(**variables: str) -> AsyncIterator[ServiceProcess]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "graphql_api", "serve"),
            env={**real, **variables},
            stdout=asyncio.subprocess.PIPE,
            cwd=tmp_path,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE):
                line = (await process.stdout.readline()).decode()
            assert "/graphql" in line, line
            address = line.split("http://")[1].split("/")[0]
            yield ServiceProcess(process, Service(address, tmp_path))
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(2 * PATIENCE):
                    assert await process.wait() == 0

    return started
