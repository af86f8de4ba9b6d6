"""A Chromium and Playwright, which drives it, and the built page."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from graphql_api.transport.graphiql import DIST
from runners import toolchain
from runners.toolchain import PulumiCli
from tests.clients import npm
from tests.clients.node import Node

_HERE = Path(__file__).parent
_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path. The distribution has it: nothing is installed for it here."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"There is no Chromium on PATH ({', '.join(_NAMES)}): Debian's package is `chromium`.")
    return found


@pytest.fixture
def node(tmp_path: Path, chromium: str) -> Node:
    """A directory of this test's own to run scripts in that use Playwright."""
    assert (DIST / "index.html.gz").exists(), "GraphiQL is not built: `uv sync --reinstall-package stackcast --verbose`"
    packages = npm.install(toolchain.cache_directory(os.environ), os.environ, print, _HERE)
    return Node.prepare(tmp_path / "scripts", packages, _HERE)


@pytest.fixture
def real_pulumi(pulumi_cli: PulumiCli) -> dict[str, str]:
    """The variable by which a service finds the real Pulumi."""
    return {"PATH": f"{pulumi_cli.path.parent}{os.pathsep}{os.environ['PATH']}"}
