"""What the clients share: their packages, a place to run scripts, and a service with the real Pulumi."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runners import toolchain
from runners.toolchain import PulumiCli, ToolchainError
from tests import provider
from tests.acceptance.conftest import real as real  # fixtures: a service that is a process, to be restarted
from tests.acceptance.conftest import start as start
from tests.acceptance.files import Files
from tests.clients import npm
from tests.clients.node import Node
from tests.conftest import reporting
from tests.service import running_service

_PACKAGES = pytest.StashKey[Path | ToolchainError]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install what is needed before the first test, and so outside any test's time limit."""
    config = session.config
    if config.option.collectonly or not any("packages" in getattr(item, "fixturenames", ()) for item in session.items):
        return
    try:
        config.stash[_PACKAGES] = npm.install(toolchain.cache_directory(os.environ), os.environ, reporting(config))
    except ToolchainError as error:
        config.stash[_PACKAGES] = error


@pytest.fixture(scope="session")
def packages(pytestconfig: pytest.Config) -> Path:
    """The `node_modules` of package.json."""
    installed = pytestconfig.stash[_PACKAGES]
    if isinstance(installed, ToolchainError):
        pytest.fail(installed.message, pytrace=False)
    return installed


@pytest.fixture
def node(tmp_path: Path, packages: Path) -> Node:
    """A directory of this test's own to run scripts in."""
    return Node.prepare(tmp_path / "scripts", packages)


@pytest.fixture
def real_pulumi(pulumi_cli: PulumiCli) -> dict[str, str]:
    """The variable by which a service finds the real Pulumi."""
    return {"PATH": f"{pulumi_cli.path.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
async def files(tmp_path: Path, real_pulumi: dict[str, str]) -> AsyncIterator[Files]:
    """A service with the real Pulumi, which deploys one file for any manifest unless a test deploys others."""
    async with running_service(tmp_path, **real_pulumi) as service:
        files = Files(service)
        provider.module(tmp_path / "modules" / "thing", [files.file("one")])
        yield files
