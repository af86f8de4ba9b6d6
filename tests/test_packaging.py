"""What is installed is pinned, and what is in the repository belongs there."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Any, cast

import pytest
from hatchling.builders.wheel import WheelBuilder

from graphql_api.web.build import PageBuild

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


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What a package is built from, as in a fresh clone: nothing is built yet."""
    place = tmp_path / "copy"
    place.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, place)
    left_out = shutil.ignore_patterns("__pycache__", "dist", "node_modules")
    for package in ("graphql_api", "runners"):
        shutil.copytree(ROOT / package, place / package, ignore=left_out)
    return place


def built(project: Path) -> set[str]:
    """Build a wheel of the project beside it; the names of the files in it."""
    (wheel,) = WheelBuilder(str(project)).build(directory=str(project.parent / "wheel"), versions=["standard"])
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.external
@pytest.mark.timeout(600)  # the page's packages are fetched
def test_the_wheel_holds_what_the_code_reads(copy: Path) -> None:
    """The files beside the code that are no Python are installed with it, and of GraphiQL what was built."""
    packed = built(copy)

    sources = {
        path.relative_to(copy).as_posix()
        for package in ("graphql_api", "runners")
        for path in (copy / package).rglob("*")
        if path.is_file() and "web" not in path.relative_to(copy).parts
    }
    assert sources - packed == set()
    assert {"runners/toolchain/go.mod", "runners/toolchain/go.sum"} <= packed
    page = gzip.decompress((copy / "graphql_api/web/dist/index.html.gz").read_bytes()).decode()
    named = {f"graphql_api/web/dist/{name}.gz" for name in re.findall(r'(?:src|href)="\./([^"]+)"', page)}
    web = {name for name in packed if name.startswith("graphql_api/web/")}
    assert len(named) > 2
    assert {"graphql_api/web/dist/index.html.gz", *named} <= web
    assert {name for name in web if not name.startswith("graphql_api/web/dist/")} == set()


def test_without_node_a_wheel_is_not_built(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package without its page would be found out too late, so that the build says what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Exception, match=r"npm, which is not on PATH: install Node 20\.19"):
        built(copy)


def test_without_node_an_editable_installation_works(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All but GraphiQL works from a clone where there is no Node, and the build says so."""
    monkeypatch.setenv("PATH", str(tmp_path))

    PageBuild(str(copy), {}, None, cast("Any", None), "", "wheel").initialize("editable", {})

    assert "There will be no GraphiQL." in "".join(capfd.readouterr())
    assert not (copy / "graphql_api" / "web" / "dist").exists()


def test_a_page_that_is_up_to_date_is_not_built_again(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was built is used as long as its sources are the same; when one changes, it is built again."""
    web = copy / "graphql_api" / "web"
    log = tmp_path / "npm-ran"
    npm = tmp_path / "npm"
    npm.write_text(f'#!/bin/sh\necho "$1" >> {log}\nmkdir -p dist\necho page > dist/index.html\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for _ in range(2):
        assert "graphql_api/web/dist/index.html.gz" in built(copy)
    assert log.read_text().split() == ["ci", "run"]

    (web / "src" / "main.jsx").write_text("")
    built(copy)

    assert log.read_text().split() == ["ci", "run"] * 2


def test_a_page_that_fails_to_build_leaves_the_last_one(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel is refused with what the builder said, and a page that was there stays whole."""
    page = copy / "graphql_api" / "web" / "dist" / "index.html.gz"
    page.parent.mkdir()
    page.write_bytes(b"the last one")
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho what went wrong >&2\nexit 7\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")

    with pytest.raises(Exception, match=r"`npm ci --ignore-scripts`.* ended with 7:\nwhat went wrong"):
        built(copy)

    assert page.read_bytes() == b"the last one"


@pytest.mark.parametrize("folder", ["graphql_api/web", "tests/browser", "tests/clients"])
def test_javascript_packages_are_exact(folder: str) -> None:
    """A version that works today is the version tomorrow, as with Python's packages."""
    declared = json.loads((ROOT / folder / "package.json").read_text())
    versions = {**declared.get("dependencies", {}), **declared.get("devDependencies", {})}

    assert versions
    assert [name for name, version in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []


def test_the_lock_of_javascript_packages_names_no_address() -> None:
    """Every package is locked by its version and checksum, and is fetched from where the machine's settings say."""
    lock = json.loads((ROOT / "graphql_api" / "web" / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}

    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert "omit-lockfile-registry-resolved=true" in (ROOT / "graphql_api" / "web" / ".npmrc").read_text()


def test_uv_builds_again_when_the_page_s_sources_change(project: dict[str, Any]) -> None:
    """Each source of the page, and the mark of what was built, is among the files that uv looks at."""
    web = ROOT / "graphql_api" / "web"
    patterns = [key["file"] for key in project["tool"]["uv"]["cache-keys"]]
    watched = {path for pattern in patterns for path in ROOT.glob(pattern)}

    assert {path for path in (web / "src").rglob("*") if path.is_file()} <= watched
    assert {web / name for name in ("package.json", "package-lock.json", "vite.config.js", "index.html")} <= watched
    assert {"pyproject.toml", "graphql_api/web/dist/.built-from"} <= set(patterns)
