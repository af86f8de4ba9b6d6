"""What is installed is pinned, and what is in the repository belongs there."""

from __future__ import annotations

import re
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {
    "Dockerfile",
    "README.md",
    "docker-compose.yml",
    "graphql_api",
    "pyproject.toml",
    "runners",
    "schema.graphql",
    "tests",
}
#: In parts, so that this file does not name what no file may name.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("crates", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("docker", "io"),
        ("gcr", "io"),
        ("deb", "debian", "org"),
    )
]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files of the repository, those included that are about to be added; none outside a checkout."""
    if not (ROOT / ".git").exists():
        return []
    argv = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    output = subprocess.run(argv, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [name for name in output.split("\0") if name and (ROOT / name).exists()]


def requirements(project: dict[str, Any]) -> list[str]:
    tool = project["tool"]["uv"]
    return [
        *project["project"]["dependencies"],
        *(requirement for group in project["dependency-groups"].values() for requirement in group),
        *project["build-system"]["requires"],
        *tool["constraint-dependencies"],
        *tool["build-constraint-dependencies"],
    ]


def test_every_requirement_is_exact(project: dict[str, Any]) -> None:
    """A version that works today is the version tomorrow."""
    loose = [line for line in requirements(project) if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)]
    assert loose == []


def test_nothing_is_pinned_twice(project: dict[str, Any]) -> None:
    """A package's version stands in one place, and a build tool's in two equal ones."""
    tool = project["tool"]["uv"]
    build = {*project["build-system"]["requires"], *tool["build-constraint-dependencies"]}
    run = [line for line in requirements(project) if line not in build] + [
        line for line in tool["constraint-dependencies"] if line in build
    ]
    names = [line.split("==")[0] for line in run]
    assert sorted(set(names)) == sorted(names)
    assert set(project["build-system"]["requires"]) <= set(tool["build-constraint-dependencies"])


def test_every_installed_package_is_pinned(project: dict[str, Any]) -> None:
    """The environment, resolved for every platform, holds only what pyproject.toml pins, and no pin is idle."""
    lock = ROOT / "uv.lock"
    if not lock.exists():
        pytest.skip("there is no uv.lock: the environment was not made by uv")
    locked = {
        f"{package['name']}=={package['version']}"
        for package in tomllib.loads(lock.read_text())["package"]
        if package["name"] != project["project"]["name"]
    }
    build_only = set(project["build-system"]["requires"]) | set(project["tool"]["uv"]["build-constraint-dependencies"])
    pinned = {line.lower() for line in requirements(project)}
    assert locked - pinned == set()
    assert pinned - build_only - locked == set()


def test_the_top_level_holds_what_was_agreed(tracked: list[str]) -> None:
    """Visible entries of the repository are the agreed ones; dot-files may come beside them."""
    top = {name.split("/")[0] for name in tracked}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def test_no_file_names_a_registry(tracked: list[str]) -> None:
    """Where packages come from is set on each machine, not in the repository."""
    found = [
        f"{name}: {host}"
        for name in tracked
        for host in REGISTRY_HOSTS
        if host in (ROOT / name).read_bytes().decode(errors="replace").lower()
    ]
    assert found == []


def test_the_wheel_holds_what_the_code_reads(tmp_path: Path) -> None:
    """The files beside the code that are no Python are installed with it."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    packed = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(path.relative_to(ROOT))
        for package in ("graphql_api", "runners")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources - packed == set()
    assert {"runners/toolchain/go.mod", "runners/toolchain/go.sum"} <= packed
