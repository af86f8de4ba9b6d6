"""What the doctor finds, and that it touches nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from graphql_api.adapters import open_backends
from graphql_api.adapters.probe import probe
from graphql_api.domain.diagnosis import Check
from runners.doctor import Installation, examine
from runners.pulumi import PulumiSettings
from tests import fake_pulumi

LIMIT = timedelta(seconds=1)


@pytest.fixture
def sound(tmp_path: Path) -> Installation:
    """An installation in which all is well, with a CLI, a language and a module, before the first start."""
    fake_pulumi.install(tmp_path / "bin")
    host = tmp_path / "bin" / "pulumi-language-yaml"
    host.write_text("#!/bin/sh\n")
    host.chmod(0o755)
    module(tmp_path / "modules", "thing")
    data = tmp_path / "data"
    pulumi = PulumiSettings(
        backend_url=(data / "state").as_uri(),
        home=data / "pulumi",
        passphrase=None,
        passphrase_file=data / "passphrase",
        service_environment={},
    )
    return Installation(str(tmp_path / "bin"), tmp_path / "cache", data, pulumi, tmp_path / "modules", None)


def module(root: Path, name: str, text: str = "name: any\nruntime: yaml\n") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "Pulumi.yaml").write_text(text)
    return folder


async def checks(installation: Installation) -> list[Check]:
    return [check async for check in examine(installation)]


async def faults(installation: Installation) -> list[str]:
    return [check.message for check in await checks(installation) if not check.ok]


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Every file below a directory, with its mode and the time of its last change."""
    return {str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in root.rglob("*")}


async def test_all_is_well_and_nothing_is_touched(sound: Installation, tmp_path: Path) -> None:
    """A sound installation gets only ok, one check for each part, and is afterwards as it was."""
    before = tree(tmp_path)
    found = await checks(sound)

    assert [check.subject for check in found if check.ok] == [check.subject for check in found]
    subjects = ["pulumi", "languages", "backend", "data", "passphrase", "modules"]
    assert [check.subject for check in found] == subjects
    assert found[0].path == str(tmp_path / "bin" / "pulumi")
    assert fake_pulumi.VERSION in found[0].message
    assert tree(tmp_path) == before


def without_cli(root: Path, installation: Installation) -> Installation:
    (root / "bin" / "pulumi").unlink()
    return installation


def silent_cli(root: Path, installation: Installation) -> Installation:
    (root / "bin" / "pulumi").write_text("#!/bin/sh\nexit 3\n")
    return installation


def without_language(root: Path, installation: Installation) -> Installation:
    module(root / "modules", "other", "name: any\nruntime: {name: nodejs}\n")
    return installation


def open_data(root: Path, installation: Installation) -> Installation:
    installation.data.mkdir(mode=0o755)
    installation.data.chmod(0o755)
    return installation


def data_is_a_file(root: Path, installation: Installation) -> Installation:
    data = root / "bin" / "pulumi" / "data"
    pulumi = replace(installation.pulumi, passphrase_file=data / "passphrase")
    return replace(installation, data=data, pulumi=pulumi)


def strange_backend(root: Path, installation: Installation) -> Installation:
    return replace(installation, pulumi=replace(installation.pulumi, backend_url="ftp://user:hunter2@host"))


def cloud_without_token(root: Path, installation: Installation) -> Installation:
    return replace(installation, pulumi=replace(installation.pulumi, backend_url="https://api.pulumi.com"))


def lost_passphrase_file(root: Path, installation: Installation) -> Installation:
    return replace(installation, pulumi=replace(installation.pulumi, passphrase_file=root / "lost"))


def empty_passphrase_file(root: Path, installation: Installation) -> Installation:
    (root / "empty").write_text("\n")
    return replace(installation, pulumi=replace(installation.pulumi, passphrase_file=root / "empty"))


def capital_module(root: Path, installation: Installation) -> Installation:
    module(root / "modules", "AwsBucket")
    return installation


def broken_module(root: Path, installation: Installation) -> Installation:
    module(root / "modules", "broken", "{")
    return installation


def no_modules(root: Path, installation: Installation) -> Installation:
    (root / "none").mkdir()
    return replace(installation, modules=root / "none")


def lost_modules(root: Path, installation: Installation) -> Installation:
    return replace(installation, modules=root / "lost")


def lost_single_module(root: Path, installation: Installation) -> Installation:
    return replace(installation, modules=None, single_module=root / "lost")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_cli, "There is no Pulumi CLI: install one"),
        (silent_cli, "ended with status 3"),
        (without_language, "written for nodejs, and no pulumi-language-nodejs"),
        (open_data, "run `chmod 700"),
        (data_is_a_file, "is no directory"),
        (strange_backend, "PULUMI_BACKEND_URL names no backend that Pulumi knows: write"),
        (cloud_without_token, "set PULUMI_ACCESS_TOKEN"),
        (lost_passphrase_file, "correct PULUMI_CONFIG_PASSPHRASE_FILE"),
        (empty_passphrase_file, "is empty"),
        (capital_module, "rename the folder to awsbucket"),
        (broken_module, "can't be read as YAML"),
        (no_modules, "add a folder named after a kind"),
        (lost_modules, "correct STACKCAST_MODULES"),
        (lost_single_module, "correct PULUMI_MODULE_DIR"),
    ],
)
async def test_what_is_wrong_is_said_with_what_to_do(
    sound: Installation, tmp_path: Path, change: Callable[[Path, Installation], Installation], words: str
) -> None:
    """Each fault is one sentence, the rest is still checked, and no secret is in it."""
    found = await faults(change(tmp_path, sound))

    assert len(found) == 1
    assert words in found[0]
    assert "hunter2" not in found[0]


async def test_without_any_language_host_nothing_can_run(sound: Installation, tmp_path: Path) -> None:
    """A bare CLI is told to be incomplete; a host's own launcher is none."""
    host = tmp_path / "bin" / "pulumi-language-yaml"
    host.rename(host.with_name("pulumi-language-python-exec"))

    assert "install the complete Pulumi" in (await faults(sound))[0]


async def test_a_host_beside_the_real_cli_counts_when_path_has_a_link(sound: Installation, tmp_path: Path) -> None:
    """Package managers put a link on PATH; Pulumi looks beside the file that it leads to, and so does the doctor."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "pulumi").symlink_to(tmp_path / "bin" / "pulumi")

    assert await faults(replace(sound, search_path=str(tmp_path / "path"))) == []


@pytest.mark.parametrize("url", ["s3://bucket?region=x", "gs://bucket", "https://api.pulumi.com"])
async def test_a_remote_backend_is_not_asked(sound: Installation, url: str) -> None:
    """Of a bucket or a cloud only the kind is told."""
    pulumi = replace(sound.pulumi, backend_url=url, service_environment={"PULUMI_ACCESS_TOKEN": "pul-hunter2"})
    backend = next(check for check in await checks(replace(sound, pulumi=pulumi)) if check.subject == "backend")

    assert backend.ok
    assert "hunter2" not in backend.message


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
async def test_a_place_that_cannot_be_written_is_named(sound: Installation, tmp_path: Path) -> None:
    """Where the data directory can't be made, the directory that lacks the right is named."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)

    assert any(f"in {locked}" in fault for fault in await faults(replace(sound, data=locked / "data")))


# --- the store


async def test_a_database_of_ours_can_be_opened(tmp_path: Path) -> None:
    """Used by a service or not, the probe finds it well, and leaves no file beside it that was not there."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    absent = await probe(url, LIMIT)
    assert tree(tmp_path) == {}
    async with open_backends(url):
        in_use = await probe(url, LIMIT)
    before = tree(tmp_path)
    closed = await probe(url, LIMIT)

    assert absent.ok
    assert "will be made" in absent.message
    assert in_use == closed == Check("store", True, f"The database {tmp_path / 'x.db'} can be opened.")
    assert tree(tmp_path) == before


async def test_other_files_are_refused(tmp_path: Path) -> None:
    """What is no database, or another program's, is not ok."""
    (tmp_path / "text").write_text("no database, but quite some text in it" * 100)
    with closing(sqlite3.connect(tmp_path / "other")) as connection:
        connection.execute("CREATE TABLE x (y)")
    text, other = [await probe(f"sqlite:///{tmp_path / name}", LIMIT) for name in ("text", "other")]

    assert not text.ok
    assert not other.ok
    assert "another program's" in other.message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://root:hunter2@host/x", "names no database"),
        ("mongodb://user:hunter2@127.0.0.1:1/x", "check that it runs"),
        ("mongodb://user:hunt@er2@[/x", "is not an URL"),
    ],
)
async def test_a_database_that_cannot_be_used_is_told_without_its_password(url: str, words: str) -> None:
    """Another program's URL, a server that is away, and an URL that is none."""
    found = await probe(url, timedelta(seconds=0.5))

    assert not found.ok
    assert words in found.message
    assert "hunt" not in found.message


@pytest.mark.external
async def test_a_mongodb_that_answers_is_well(mongodb_url: str) -> None:
    """The probe asks and is content; it makes no collection."""
    assert await probe(f"{mongodb_url}probed") == Check("store", True, "MongoDB answers.")
