"""Modules: which one a kind gets, what is refused, and the private copy."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from graphql_api.domain.errors import ModuleInvalid, ModuleNotFound
from runners.workspace import SHIPPED_MODULES, Module, Modules

PROJECT = "# a program\nname: original\nruntime: yaml\ndescription: 'some: words'\nconfig:\n  aws:region: no\n"


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A directory with a Pulumi.yaml."""
    return make_module(tmp_path / "modules" / "demo")


def make_module(path: Path, project: str = PROJECT) -> Path:
    path.mkdir(parents=True)
    (path / "Pulumi.yaml").write_text(project)
    return path


def copied(module: Path, target: Path, project: str = "shop") -> Path:
    Module(module).copy(target, project)
    return target


def found_text(directory: Path) -> dict[str, str]:
    return {str(file.relative_to(directory)): file.read_text() for file in directory.rglob("*") if file.is_file()}


# --- which module a kind gets


def test_a_kinds_module_is_the_folder_of_its_name_in_lower_case(tmp_path: Path) -> None:
    """STACKCAST_MODULES has one folder for each kind, whatever the case of the kind."""
    modules = tmp_path / "modules"
    bucket = make_module(modules / "awss3bucket")
    make_module(modules / "other")

    for kind in ("AwsS3Bucket", "awss3bucket", "AWSS3BUCKET"):
        assert Modules(modules, None).find(kind) == Module(bucket)


def test_the_directory_of_modules_comes_before_the_single_one(tmp_path: Path) -> None:
    """Where both are set, a kind without a folder has no module: no program for another kind deploys it."""
    modules, single = tmp_path / "modules", make_module(tmp_path / "single")
    demo = make_module(modules / "demo")

    found = Modules(modules, single)

    assert found.find("Demo") == Module(demo)
    with pytest.raises(ModuleNotFound):
        found.find("Other")


def test_the_single_module_serves_every_kind(tmp_path: Path) -> None:
    """PULUMI_MODULE_DIR is one module for all kinds, and comes before those that ship."""
    single = make_module(tmp_path / "single")

    for kind in ("Demo", "StackcastDemo", "../../etc", ""):
        assert Modules(None, single).find(kind) == Module(single)


def test_the_shipped_modules_serve_when_nothing_is_set() -> None:
    """The product works without any module of one's own."""
    found = Modules(None, None).find("StackcastDemo")

    assert found == Module(SHIPPED_MODULES / "stackcastdemo", shipped=True)
    found.check()


def test_an_unknown_kind_lists_the_known_ones(tmp_path: Path) -> None:
    """The refusal says which kinds there are, where, and what to add; folders that are no modules don't count."""
    modules = tmp_path / "modules"
    for name in ("beta", "alpha"):
        make_module(modules / name)
    (modules / "empty").mkdir()
    (modules / "file").touch()

    with pytest.raises(ModuleNotFound) as caught:
        Modules(modules, None).find("Gamma")

    assert caught.value.message == (
        f"No Pulumi module is there for the kind 'Gamma'. In {modules} (STACKCAST_MODULES) there are: alpha, beta. "
        "Add a folder named after the kind in lower case, with a Pulumi.yaml in it."
    )


def test_an_unknown_kind_without_setting_says_what_to_set() -> None:
    """Whoever has only the shipped modules is told of STACKCAST_MODULES."""
    with pytest.raises(
        ModuleNotFound, match=r"there are: stackcastdemo\..*a directory that STACKCAST_MODULES names\.$"
    ):
        Modules(None, None).find("AwsS3Bucket")


@pytest.mark.parametrize(
    "kind",
    ["../../etc", "..", ".", "", "/", "/etc", "demo/", "demo/../demo", "./demo", "demo\0", "demo\n", "*", "de?o", "~"],
)
def test_a_kind_never_becomes_a_path(tmp_path: Path, kind: str) -> None:
    """A kind is looked up among names; what it would mean as a path does not matter."""
    modules = tmp_path / "a" / "modules"
    make_module(modules / "demo")
    for path in (tmp_path, tmp_path / "a", modules):  # wherever such a path would lead, a module is waiting
        (path / "Pulumi.yaml").write_text(PROJECT)
    make_module(tmp_path / "etc")

    with pytest.raises(ModuleNotFound):
        Modules(modules, None).find(kind)


@pytest.mark.parametrize("make", [lambda _: None, Path.touch], ids=["missing", "a file"])
def test_a_directory_of_modules_that_cannot_be_read_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """The refusal names the directory and what is wrong with it."""
    make(tmp_path / "modules")

    with pytest.raises(ModuleNotFound, match=r"The modules' directory .*/modules can't be read: (No such|Not a) .*\.$"):
        Modules(tmp_path / "modules", None).find("Demo")


def test_a_single_module_without_project_file_is_refused(tmp_path: Path) -> None:
    """The refusal names the setting, since it is what is wrong."""
    with pytest.raises(ModuleNotFound, match=r"^PULUMI_MODULE_DIR is .*, and no Pulumi\.yaml is there.*Correct"):
        Modules(None, tmp_path).find("Demo")


# --- what is refused


def link_to_a_secret_file(module: Path) -> None:
    (module / "users").symlink_to("/etc/passwd")


def relative_link_outside(module: Path) -> None:
    (module.parent / "secret").write_text("x")
    (module / "link").symlink_to("../secret")


def link_in_a_folder_outside(module: Path) -> None:
    (module / "deep" / "er").mkdir(parents=True)
    (module / "deep" / "er" / "link").symlink_to("../../../secret")


def dangling_link_outside(module: Path) -> None:
    (module / "link").symlink_to("../nothing/here")


def link_to_the_folder_above(module: Path) -> None:
    (module / "link").symlink_to("..")


def absolute_link_inside(module: Path) -> None:
    (module / "link").symlink_to(module / "Pulumi.yaml")


def chain_that_leaves(module: Path) -> None:
    (module / "one").symlink_to("two")
    (module / "two").symlink_to("three")
    (module / "three").symlink_to("../secret")


def chain_through_a_folder_that_leaves(module: Path) -> None:
    (module / "folder").mkdir()
    (module / "way").symlink_to("folder")
    (module / "link").symlink_to("way/../../secret")


def link_out_and_back(module: Path) -> None:
    (module / "file").touch()
    (module / "link").symlink_to(f"../{module.name}/file")


def link_outside_by_another(module: Path) -> None:
    (module / "folder").mkdir()
    (module / "folder" / "top").symlink_to("..")
    (module / "link").symlink_to("folder/top/../secret")


def link_out_and_back_by_another(module: Path) -> None:
    (module / "folder").mkdir()
    (module / "folder" / "top").symlink_to("..")
    (module / "link").symlink_to(f"folder/top/../{module.name}/folder")


def link_to_itself(module: Path) -> None:
    (module / "link").symlink_to("link")


def ring_of_links(module: Path) -> None:
    (module / "one").symlink_to("two")
    (module / "two").symlink_to("one")


def project_file_outside(module: Path) -> None:
    (module / "Pulumi.yaml").rename(module.parent / "Pulumi.yaml")
    (module / "Pulumi.yaml").symlink_to("../Pulumi.yaml")


def project_file_out_and_back(module: Path) -> None:
    (module / "Pulumi.yaml").rename(module / "real.yaml")
    (module / "Pulumi.yaml").symlink_to(f"../{module.name}/real.yaml")


def pipe(module: Path) -> None:
    (module / "folder").mkdir()
    os.mkfifo(module / "folder" / "pipe")


def unix_socket(module: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(module / "socket"))  # an absolute path may be too long for a socket


UNSAFE = [
    link_to_a_secret_file,
    relative_link_outside,
    link_in_a_folder_outside,
    dangling_link_outside,
    link_to_the_folder_above,
    absolute_link_inside,
    chain_that_leaves,
    chain_through_a_folder_that_leaves,
    link_out_and_back,
    link_outside_by_another,
    link_out_and_back_by_another,
    link_to_itself,
    ring_of_links,
    project_file_outside,
    project_file_out_and_back,
    pipe,
    unix_socket,
]


@pytest.mark.parametrize("spoil", UNSAFE)
def test_a_module_that_reaches_outside_is_refused(module: Path, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """Before a deployment and again while copying, the refusal names the entry and says what to do about it."""
    spoil(module)

    for attempt in (Module(module).check, lambda: Module(module).copy(tmp_path / "copy", "shop")):
        with pytest.raises(ModuleInvalid, match=r"(Replace it by what it points to|Remove it)\.$"):
            attempt()


@pytest.mark.parametrize("spoil", UNSAFE)
def test_nothing_outside_can_be_reached_through_a_copy(
    module: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Whatever was copied before the refusal, each link in it stays inside it."""
    spoil(module)
    target = tmp_path / "copy"

    with pytest.raises(Exception):  # noqa: B017, PT011 (which one is asked above)
        Module(module).copy(target, "shop")

    for entry in target.rglob("*"):
        assert entry.resolve().is_relative_to(target)


BROKEN = {
    "no YAML": (b"name: [x\n", "can't be read as YAML: "),
    "no text": (b"name: \xff\n", "can't be read as YAML: "),
    "NUL": (b"name: a\0\nruntime: yaml\n", "can't be read as YAML: "),
    "two documents": (b"name: x\nruntime: yaml\n---\nname: y\n", "can't be read as YAML: "),
    "too deep": (b"[" * 100_000, "can't be read as YAML: "),
    "empty": (b"", "is no Pulumi project: it needs at least 'name' and 'runtime'."),
    "no mapping": (b"- runtime\n", "is no Pulumi project"),
    "no runtime": (b"name: x\n", "is no Pulumi project"),
}


@pytest.mark.parametrize(("content", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_project_file_is_refused(module: Path, tmp_path: Path, content: bytes, words: str) -> None:
    """The refusal names the file and what is wrong with it, in one line."""
    (module / "Pulumi.yaml").write_bytes(content)

    for attempt in (Module(module).check, lambda: Module(module).copy(tmp_path / "copy", "shop")):
        with pytest.raises(ModuleInvalid) as caught:
            attempt()
        assert f"{module / 'Pulumi.yaml'} {words}" in caught.value.message
        assert "\n" not in caught.value.message


def test_a_project_file_that_is_gone_is_refused(module: Path) -> None:
    """A module that vanished since it was found is told of, like a broken one."""
    (module / "Pulumi.yaml").unlink()

    with pytest.raises(ModuleInvalid, match=r"Pulumi\.yaml can't be read"):
        Module(module).check()


# --- the copy


def test_the_copy_has_everything_that_the_module_has(module: Path, tmp_path: Path) -> None:
    """Files, folders, even empty ones, and hidden ones."""
    (module / "src" / "deep").mkdir(parents=True)
    (module / "src" / "deep" / "main.py").write_text("print(1)\n")
    (module / "empty").mkdir()
    (module / ".hidden").write_text("x")
    (module / "blob").write_bytes(bytes(range(256)))

    copy = copied(module, tmp_path / "copy")

    names = {str(entry.relative_to(copy)) for entry in copy.rglob("*")}
    assert names == {"Pulumi.yaml", "src", "src/deep", "src/deep/main.py", "empty", ".hidden", "blob"}
    assert (copy / "blob").read_bytes() == bytes(range(256))
    assert (copy / "src/deep/main.py").read_text() == "print(1)\n"


def test_links_that_stay_inside_are_kept(module: Path, tmp_path: Path) -> None:
    """A relative link, to a file, a folder or through a chain, points to the copy of what it pointed to."""
    (module / "src").mkdir()
    (module / "src" / "main.py").write_text("original")
    (module / "main.py").symlink_to("src/main.py")
    (module / "again.py").symlink_to("main.py")
    (module / "src" / "up").symlink_to("../main.py")
    (module / "folder").symlink_to("src")

    copy = copied(module, tmp_path / "copy")

    (copy / "src" / "main.py").write_text("of the copy")
    for name in ("main.py", "again.py", "src/up", "folder/main.py"):
        assert (copy / name).read_text() == "of the copy"
    assert (copy / "folder").readlink() == Path("src")


def test_a_project_file_may_be_a_link_inside(module: Path, tmp_path: Path) -> None:
    """The name is set in the copy, and the module's own file stays as it was."""
    (module / "Pulumi.yaml").rename(module / "real.yaml")
    (module / "Pulumi.yaml").symlink_to("real.yaml")

    copy = copied(module, tmp_path / "copy")

    assert yaml.safe_load((copy / "Pulumi.yaml").read_text())["name"] == "shop"
    assert (module / "real.yaml").read_text() == (copy / "real.yaml").read_text() == PROJECT


def test_a_repository_is_not_copied(module: Path, tmp_path: Path) -> None:
    """Version control's folder is no part of a module: it is large, may hold credentials, and is not looked into."""
    (module / ".git" / "objects").mkdir(parents=True)
    (module / ".git" / "config").write_text("secret")
    (module / ".git" / "link").symlink_to("/etc/passwd")
    (module / "sub" / ".git").mkdir(parents=True)
    (module / ".gitignore").write_text("x")

    Module(module).check()
    copy = copied(module, tmp_path / "copy")

    assert {str(entry.relative_to(copy)) for entry in copy.rglob("*")} == {"Pulumi.yaml", "sub", ".gitignore"}


def test_a_reference_to_a_repository_is_not_copied(module: Path, tmp_path: Path) -> None:
    """In a worktree or a submodule, version control's own entry is a file."""
    (module / ".git").write_text("gitdir: ../.git/modules/sub")

    copy = copied(module, tmp_path / "copy")

    assert not (copy / ".git").exists()


def test_the_copy_is_private(module: Path, tmp_path: Path) -> None:
    """Only the service's user can look into it, whatever the modes of the original and the umask; programs stay so."""
    (module / "bin").mkdir(mode=0o755)
    (module / "bin" / "tool").write_text("#!/bin/sh\n")
    (module / "bin" / "tool").chmod(0o755)
    (module / "data").write_text("x")
    (module / "data").chmod(0o666)
    (module / "frozen").write_text("x")
    (module / "frozen").chmod(0o444)
    before = os.umask(0)
    try:
        copy = copied(module, tmp_path / "copy")
    finally:
        os.umask(before)

    modes = {str(entry.relative_to(copy)): entry.stat().st_mode & 0o7777 for entry in (copy, *copy.rglob("*"))}
    assert modes == {".": 0o700, "Pulumi.yaml": 0o600, "bin": 0o700, "bin/tool": 0o700, "data": 0o600, "frozen": 0o600}


def test_the_copy_has_the_projects_name_and_the_other_members(module: Path, tmp_path: Path) -> None:
    """The project is the one that the stack's labels name; everything else of Pulumi.yaml is as it was written."""
    text = (copied(module, tmp_path / "copy") / "Pulumi.yaml").read_text()

    assert yaml.safe_load(text) == {**yaml.safe_load(PROJECT), "name": "shop"}
    assert "aws:region: no\n" in text


@pytest.mark.parametrize("project", ["012", "no", "1e3", "null", "2026-01-01", ".5", "a.b_c-d"])
def test_a_projects_name_is_a_text_whatever_it_looks_like(module: Path, tmp_path: Path, project: str) -> None:
    """A project named like a number stays a name."""
    copy = copied(module, tmp_path / "copy", project)

    assert yaml.safe_load((copy / "Pulumi.yaml").read_text())["name"] == project


def test_a_project_file_without_a_name_gets_one(tmp_path: Path) -> None:
    """The module need not be named: each stack's labels say what its project is called."""
    module = make_module(tmp_path / "module", "runtime:\n  name: python\n  options: {virtualenv: venv}\n")

    document = yaml.safe_load((copied(module, tmp_path / "copy") / "Pulumi.yaml").read_text())

    assert document == {"name": "shop", "runtime": {"name": "python", "options": {"virtualenv": "venv"}}}


def test_the_module_is_never_written_to(module: Path, tmp_path: Path) -> None:
    """Bytes, modes and times of the original are the same after a check and a copy."""
    (module / "src").mkdir()
    (module / "src" / "main.py").write_text("print(1)\n")
    (module / "link").symlink_to("src/main.py")
    for entry in (*module.rglob("*"), module):
        os.utime(entry, ns=(1_000_000_007, 1_000_000_009), follow_symlinks=False)
    before = snapshot(module)

    Module(module).check()
    copied(module, tmp_path / "copy")

    assert snapshot(module) == before


def snapshot(directory: Path) -> dict[str, object]:
    def of(entry: Path) -> object:
        status = entry.lstat()
        content = entry.readlink() if entry.is_symlink() else entry.read_bytes() if entry.is_file() else None
        return (status.st_mode, status.st_mtime_ns, status.st_ino, content)

    return {str(entry): of(entry) for entry in (directory, *directory.rglob("*"))}


def test_a_copy_never_goes_over_something_that_is_there(module: Path, tmp_path: Path) -> None:
    """Two runs can't share a directory."""
    copied(module, tmp_path / "copy")

    with pytest.raises(FileExistsError):
        copied(module, tmp_path / "copy")


# --- the shipped module's program

PROJECT_WITH_COMPILER = "name: x\nruntime:\n  name: yaml\n  options:\n    compiler: python3 generate.py --flag 'a b'\n"


def compiler(copy: Path) -> list[str]:
    return shlex.split(yaml.safe_load((copy / "Pulumi.yaml").read_text())["runtime"]["options"]["compiler"])


def test_a_shipped_program_runs_with_the_services_python(tmp_path: Path) -> None:
    """Whatever `python3` on PATH is, the product's program runs with the product's own interpreter."""
    module = make_module(tmp_path / "module", PROJECT_WITH_COMPILER)

    Module(module, shipped=True).copy(tmp_path / "shipped", "shop")
    Module(module).copy(tmp_path / "own", "shop")

    assert compiler(tmp_path / "shipped") == [sys.executable, "generate.py", "--flag", "a b"]
    assert compiler(tmp_path / "own") == ["python3", "generate.py", "--flag", "a b"]


def test_a_shipped_program_runs_with_a_python_in_a_folder_with_spaces(tmp_path: Path) -> None:
    """A real interpreter under an awkward path is written so that it is read back as one word."""
    module = make_module(tmp_path / "module", PROJECT_WITH_COMPILER)
    python = tmp_path / "it's a folder" / "python 3"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    script = (
        "import sys; from pathlib import Path; from runners.workspace import Module\n"
        "Module(Path(sys.argv[1]), shipped=True).copy(Path(sys.argv[2]), 'shop')"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])

    subprocess.run(
        [python, "-c", script, module, tmp_path / "copy"], env={**os.environ, "PYTHONPATH": paths}, check=True
    )

    assert compiler(tmp_path / "copy") == [str(python), "generate.py", "--flag", "a b"]


def test_a_shipped_module_without_a_compiler_is_left_as_it_is(tmp_path: Path) -> None:
    """Not every shipped module has a generator."""
    module = make_module(tmp_path / "module")

    Module(module, shipped=True).copy(tmp_path / "copy", "shop")

    assert yaml.safe_load((tmp_path / "copy" / "Pulumi.yaml").read_text())["runtime"] == "yaml"


@pytest.mark.parametrize("module", sorted(SHIPPED_MODULES.iterdir()), ids=lambda path: path.name)
def test_every_shipped_module_can_be_copied(module: Path, tmp_path: Path) -> None:
    """What ships is what the service accepts."""
    if module.name != "__pycache__":
        Module(module, shipped=True).check()
        Module(module, shipped=True).copy(tmp_path / "copy", "shop")
        assert compiler(tmp_path / "copy")[0] == sys.executable


# --- what can't be copied


def test_a_module_that_is_too_large_is_refused(module: Path, tmp_path: Path) -> None:
    """What each run would have to copy first has a limit; a file with holes counts with its length."""
    with (module / "data").open("wb") as file:
        file.truncate(10_000_000)

    for use in (
        Module(module, size_limit=10**6).check,
        lambda: Module(module, size_limit=10**6).copy(tmp_path / "c", "x"),
    ):
        with pytest.raises(ModuleInvalid, match="has over 1000000 bytes"):
            use()


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["folder", "folder/file"])
def test_what_cannot_be_read_is_refused(module: Path, tmp_path: Path, name: str) -> None:
    """A program without a part of it would do something else than it was written for."""
    (module / "folder").mkdir()
    (module / "folder" / "file").touch()
    (module / name).chmod(0)
    try:
        with pytest.raises(ModuleInvalid, match=f"{name} can't be read: Permission denied"):
            copied(module, tmp_path / "copy")
    finally:
        (module / name).chmod(0o700)


def test_a_folder_that_cannot_be_listed_is_refused(module: Path) -> None:
    """A module that vanishes under our hands is a matter of the module, not of the service."""
    missing = Module(module / "missing")

    with pytest.raises(ModuleInvalid, match="missing can't be read: No such file"):
        missing.check()
