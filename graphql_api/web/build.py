"""Builds GraphiQL's page when the package is built: a hook of hatch, which needs Node and npm.

``dist`` is laid out as the addresses are: `index.html` is answered at /graphiql, `graphiql/NAME` below it. All is kept
compressed. A wheel is not built without the page. An editable installation is: the service then says what to run.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_STEP_LIMIT = 300  # seconds; both steps together take about ten on 2 cores
_NPM_CI = (
    *("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--prefer-offline"),
    "--fetch-retries=1",  # a machine without a way out is not to wait for minutes
)
_SOURCES = ("package.json", "package-lock.json", "vite.config.js", "index.html", "build.py")
#: In ``dist``: the digest of the sources that it was built from. pyproject.toml's cache-keys name it, too.
_BUILT_FROM = ".built-from"


class PageNotBuilt(Exception):
    """There is no page, with the reason as a sentence that says what to do."""


class PageBuild(BuildHookInterface[Any]):
    """The hook; hatch finds it by its base class."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page unless it is there, built from the sources as they are."""
        try:
            build(Path(self.root, "graphql_api", "web"))
        except PageNotBuilt as reason:
            if version != "editable":
                raise
            self.app.display_warning(f"There will be no GraphiQL. {reason}")


def build(web: Path) -> None:
    """Make ``dist`` in the directory unless it is up to date. Raises PageNotBuilt, and leaves what was there."""
    if is_built(web):
        return
    npm = shutil.which("npm")
    if npm is None:
        raise PageNotBuilt("It is built by npm, which is not on PATH: install Node 20.19 or newer.")
    with tempfile.TemporaryDirectory(prefix="stackcast-web-") as directory:
        place = Path(directory)
        for source in _sources(web):
            copy = place / source.relative_to(web)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
        _run([npm, *_NPM_CI], place)
        _run([npm, "run", "build", "--", "--logLevel", "error"], place)
        _compress(place / "dist")
        (place / "dist" / _BUILT_FROM).write_text(_digest(web))
        _replace(web / "dist", place / "dist")


def is_built(web: Path) -> bool:
    """Whether ``dist`` is there, built from the sources as they are."""
    built_from = web / "dist" / _BUILT_FROM
    return built_from.exists() and built_from.read_text() == _digest(web)


def _sources(web: Path) -> Iterator[Path]:
    yield from (web / name for name in _SOURCES)
    yield from sorted(path for path in (web / "src").rglob("*") if path.is_file())


def _digest(web: Path) -> str:
    digest = hashlib.sha256()
    for source in _sources(web):
        content = source.read_bytes()
        digest.update(f"{source.relative_to(web).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _run(argv: list[str], place: Path) -> None:
    command = " ".join(["npm", *argv[1:3]])
    try:
        done = subprocess.run(  # noqa: S603 - the pinned builder, in a directory of ours
            argv,
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_STEP_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PageNotBuilt(f"`{command}` took over {_STEP_LIMIT} s. Try again.") from error
    if done.returncode:
        raise PageNotBuilt(f"`{command}` in graphql_api/web ended with {done.returncode}:\n{done.stdout[-2000:]}")


def _compress(dist: Path) -> None:
    """Replace each file by its compressed form, whose bytes depend on nothing but the file's."""
    for file in [path for path in dist.rglob("*") if path.is_file()]:
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        file.unlink()


def _replace(dist: Path, built: Path) -> None:
    """Put it in its place whole, from wherever it was built."""
    with tempfile.TemporaryDirectory(dir=dist.parent, prefix=".dist-") as directory:
        new = Path(shutil.copytree(built, Path(directory, "new")))
        if dist.exists():
            dist.rename(Path(directory, "old"))
        new.rename(dist)
