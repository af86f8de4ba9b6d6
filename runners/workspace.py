"""Pulumi modules: finding the one for a kind, and a private copy of it for each run.

A module directory is only ever read. Nothing outside it is reachable through the copy: a symlink that leaves the
module is refused.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml
from yaml import CSafeDumper, CSafeLoader
from yaml.nodes import MappingNode, Node, ScalarNode

from graphql_api.domain.errors import ModuleInvalid, ModuleNotFound

PROJECT_FILE = "Pulumi.yaml"
#: A module is a program's source; beyond this it is something else that was put there by mistake.
ENTRIES_LIMIT = 100_000
#: And beyond this many bytes, which each run would copy.
SIZE_LIMIT = 1024**3
#: How many links one link may lead through, as Linux has it; a ring of links has no end.
LINKS_LIMIT = 40
SHIPPED_MODULES = Path(__file__).parent / "modules"


@dataclass(frozen=True, slots=True)
class Module:
    """A directory with a Pulumi.yaml. A shipped one's program is a Python script that comes with the product."""

    path: Path
    shipped: bool = False
    size_limit: int = SIZE_LIMIT

    def check(self) -> None:
        """Raises ModuleInvalid when it can't be copied or its Pulumi.yaml can't be read."""
        with _readable(self.path):
            for entry in self._entries():
                _check_entry(self.path, entry)
        _project(self.path)

    def copy(self, target: Path, project: str) -> None:
        """Copy the module to ``target``, which must not exist, under the project's name. Raises ModuleInvalid."""
        document = _project(self.path)
        target.mkdir(mode=0o700)
        for entry in self._entries():
            with _readable(entry):
                _check_entry(self.path, entry)
            _copy_entry(entry, target / entry.relative_to(self.path))
        _set(document, "name", ScalarNode("tag:yaml.org,2002:str", project))
        if self.shipped:
            # Whatever `python3` on PATH is, the program that comes with the product runs with the product's own.
            compiler = _member(_member(_member(document, "runtime"), "options"), "compiler")
            if isinstance(compiler, ScalarNode):
                compiler.value = shlex.join([sys.executable, *shlex.split(compiler.value)[1:]])
        project_file = target / PROJECT_FILE
        project_file.unlink()  # it may be a link to another file, which stays as it is
        project_file.touch(mode=0o600)
        text = yaml.serialize(document, Dumper=CSafeDumper, allow_unicode=True)
        project_file.write_text(text, encoding="utf-8")

    def _entries(self) -> Iterator[Path]:
        """Everything in it, parents first; version control's own files are no part of a module."""
        count = size = 0
        for folder, folders, files in os.walk(self.path, onerror=_refuse):
            folders[:] = [name for name in folders if name != ".git"]
            for name in (*folders, *(name for name in files if name != ".git")):
                count += 1
                if count > ENTRIES_LIMIT:
                    raise ModuleInvalid(
                        f"The module {self.path} has over {ENTRIES_LIMIT} files. Keep only the program."
                    )
                entry = Path(folder, name)
                size += _size(entry)
                if size > self.size_limit:
                    raise ModuleInvalid(
                        f"The module {self.path} has over {self.size_limit} bytes. Keep only the program; what it "
                        "downloads or builds belongs elsewhere."
                    )
                yield entry


class Modules:
    """Finds the module for a kind: in ``modules``, else ``single`` for every kind, else among the shipped ones."""

    def __init__(self, modules: Path | None, single: Path | None) -> None:
        self._modules = modules
        self._single = single

    def find(self, kind: str) -> Module:
        """Raises ModuleNotFound, which says where a module would have to be."""
        if self._modules is None and self._single is not None:
            return _existing(self._single, kind)
        root = self._modules or SHIPPED_MODULES
        # The kind is looked up among the names that are there: it never becomes part of a path.
        folders = _module_folders(root)
        if kind.lower() not in folders:
            known = ", ".join(sorted(folders)) or "none"
            place = f"{root} (STACKCAST_MODULES)" if self._modules else "the modules that ship with the product"
            raise ModuleNotFound(
                f"No Pulumi module is there for the kind {kind!r}. In {place} there are: {known}. Add a folder named "
                f"after the kind in lower case, with a {PROJECT_FILE} in it"
                + ("." if self._modules else ", to a directory that STACKCAST_MODULES names.")
            )
        return Module(folders[kind.lower()], shipped=self._modules is None)


def _existing(path: Path, kind: str) -> Module:
    if not (path / PROJECT_FILE).is_file():
        raise ModuleNotFound(
            f"PULUMI_MODULE_DIR is {path}, and no {PROJECT_FILE} is there, so the kind {kind!r} has no module. "
            "Correct the setting."
        )
    return Module(path)


def _module_folders(root: Path) -> dict[str, Path]:
    try:
        return {entry.name: entry for entry in root.iterdir() if (entry / PROJECT_FILE).is_file()}
    except OSError as error:
        raise ModuleNotFound(f"The modules' directory {root} can't be read: {error.strerror}.") from error


def _check_entry(root: Path, entry: Path) -> None:
    mode = entry.lstat().st_mode
    if stat.S_ISLNK(mode):
        if not _stays_inside(root, entry):
            raise ModuleInvalid(
                f"In the module {root} the link {entry.relative_to(root)} leaves the module. Replace it by what it "
                "points to."
            )
    elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ModuleInvalid(f"In the module {root}, {entry.relative_to(root)} is neither file nor folder. Remove it.")


def _stays_inside(root: Path, link: Path) -> bool:
    """Follow the link step by step, through the links on its way; True when no step is outside the module.

    That it ends inside is not enough: beside the copy, what a detour passes is not there, or is something else.
    """
    place, steps, links = link.parent, [*reversed(link.readlink().parts)], 1
    while steps:
        step = steps.pop()
        place = place.parent if step == ".." else place / step
        if not place.is_relative_to(root):
            return False
        if place.is_symlink():
            links += 1
            if links > LINKS_LIMIT:
                return False
            steps.extend(reversed(place.readlink().parts))
            place = place.parent
    return True


def _copy_entry(entry: Path, target: Path) -> None:
    if entry.is_symlink():
        with _readable(entry):
            points_to = entry.readlink()
        target.symlink_to(points_to)
    elif entry.is_dir():
        target.mkdir(mode=0o700)
    else:
        with _readable(entry):
            content = entry.open("rb")
        with content, target.open("xb") as copy:
            shutil.copyfileobj(content, copy)
            target.chmod(0o700 if os.fstat(content.fileno()).st_mode & stat.S_IXUSR else 0o600)


@contextmanager
def _readable(place: Path) -> Iterator[None]:
    """What can't be read in a module, or vanishes under our hands, is the module's trouble; a full disk is not."""
    try:
        yield
    except OSError as error:
        _refuse(error, place)


def _refuse(error: OSError, place: Path | None = None) -> NoReturn:
    raise ModuleInvalid(
        f"{error.filename or place} can't be read: {error.strerror}. Let the service's user read the whole module, "
        "and change it only while nothing is deployed."
    ) from error


def _size(entry: Path) -> int:
    with _readable(entry):
        return entry.lstat().st_size


def _project(module: Path) -> MappingNode:
    file = module / PROJECT_FILE
    try:
        _check_entry(module, file)
        document = yaml.compose(file.read_text(encoding="utf-8"), Loader=CSafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModuleInvalid(f"{file} can't be read as YAML: {' '.join(str(error).split())}.") from error
    runtime = _member(document, "runtime")
    if not isinstance(document, MappingNode) or runtime is None or runtime.value in ("", "null", "~"):
        raise ModuleInvalid(f"{file} is no Pulumi project: it needs at least 'name' and 'runtime'.")
    return document


def _member(node: Node | None, key: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if isinstance(name, ScalarNode) and name.value == key), None)


def _set(document: MappingNode, key: str, value: ScalarNode) -> None:
    others = [(name, old) for name, old in document.value if not (isinstance(name, ScalarNode) and name.value == key)]
    document.value = [(ScalarNode("tag:yaml.org,2002:str", key), value), *others]
