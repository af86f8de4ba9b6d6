"""The data directory: made once, private, and used by one service at a time."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graphql_api.domain.errors import StartRefused
from runners.datadir import open_data_directory


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def refusal(path: Path) -> str:
    with pytest.raises(StartRefused) as caught, open_data_directory(path):
        pass
    return caught.value.message


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_everything_in_it_is_private_from_the_first_moment(tmp_path: Path, mask: int) -> None:
    """Directories have mode 0700 and files 0600, whatever the umask."""
    with umask(mask), open_data_directory(tmp_path / "new" / "data") as directory:
        modes = {entry.name: entry.stat().st_mode & 0o777 for entry in directory.path.iterdir()}
        own = directory.path.stat().st_mode & 0o777

    assert own == 0o700
    assert modes == {
        **dict.fromkeys(("runs", "locks", "state", "pulumi"), 0o700),
        **dict.fromkeys(("service.lock", "passphrase", "owner"), 0o600),
    }


def test_its_places_are_below_it(tmp_path: Path) -> None:
    """What is kept where is settled in one place."""
    with open_data_directory(tmp_path / "data") as directory:
        places = (directory.runs, directory.locks, directory.state, directory.pulumi_home, directory.passphrase)

    assert [place.name for place in places] == ["runs", "locks", "state", "pulumi", "passphrase"]
    assert {place.parent for place in places} == {tmp_path / "data"}
    assert all(place.exists() for place in places)


def test_the_passphrase_is_random_and_kept(tmp_path: Path) -> None:
    """It is made once, or no stack could be read after a restart; another directory has another one."""
    found = []
    for name in ("one", "one", "other"):
        with open_data_directory(tmp_path / name) as directory:
            found.append(directory.passphrase.read_text())

    assert found[0] == found[1] != found[2]
    assert len(found[0]) >= 32
    assert found[0].strip() == found[0]


def test_a_passphrase_that_is_there_is_used(tmp_path: Path) -> None:
    """An operator may bring a passphrase along."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "passphrase").write_text("open sesame\n")

    with open_data_directory(tmp_path / "data") as directory:
        assert directory.passphrase.read_text() == "open sesame\n"


def test_a_crash_while_the_passphrase_was_written_leaves_no_half_one(tmp_path: Path) -> None:
    """What an earlier life had begun to write is thrown away."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "passphrase.new").write_text("ha")

    with open_data_directory(tmp_path / "data") as directory:
        assert len(directory.passphrase.read_text()) >= 32
        assert not (directory.path / "passphrase.new").exists()


def test_the_owner_is_stable(tmp_path: Path) -> None:
    """A service recognizes the claims of its earlier lives; another directory's service is another owner."""
    found = []
    for name in ("one", "one", "other"):
        with open_data_directory(tmp_path / name) as directory:
            found.append(directory.owner)

    assert found[0] == found[1] != found[2]
    assert len(found[0]) == 16


def test_a_second_service_is_refused(tmp_path: Path) -> None:
    """Two services on one directory would run two Pulumis on one stack; the refusal says what to do."""
    with open_data_directory(tmp_path / "data"):
        message = refusal(tmp_path / "data")

    assert message == (
        f"Another stackcast uses the data directory {tmp_path / 'data'}. Stop it, or set STACKCAST_DATA_DIR to another "
        "one."
    )


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """The lock holds between processes, and ends with the one that has it, even when it is killed."""
    lock = tmp_path / "data" / "service.lock"
    with open_data_directory(tmp_path / "data"):
        pass
    script = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('has it', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", script, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"has it\n"
        assert "Another stackcast" in refusal(tmp_path / "data")
        holder.kill()

    with open_data_directory(tmp_path / "data") as directory:
        assert directory.path == tmp_path / "data"


def test_a_child_does_not_keep_the_directory_locked(tmp_path: Path) -> None:
    """A deployment that outlives the service must not keep the next service from starting."""
    with open_data_directory(tmp_path / "data"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)  # noqa: S607 (whichever sleep there is)
    try:
        with open_data_directory(tmp_path / "data") as directory:
            assert directory.path == tmp_path / "data"
    finally:
        child.kill()
        child.wait()


def test_after_closing_it_can_be_opened_again(tmp_path: Path) -> None:
    """Leaving lets go, even when what was done inside failed."""
    with pytest.raises(RuntimeError, match="inside"), open_data_directory(tmp_path / "data"):
        raise RuntimeError("inside")

    with (tmp_path / "data" / "service.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_an_error_of_the_operating_system_inside_is_not_the_directorys(tmp_path: Path) -> None:
    """A port that is taken, a file that is missing: what fails while it is open is not blamed on the directory."""
    with pytest.raises(FileNotFoundError), open_data_directory(tmp_path / "data"):
        raise FileNotFoundError(2, "No such file or directory", "elsewhere")


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o750, 0o755, 0o777])
def test_a_directory_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Secrets are kept in it: it is neither used nor changed, and the refusal says how to close it."""
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(mode)

    message = refusal(path)

    assert f"is open to other users (mode {mode:04o})" in message
    assert f"`chmod 700 {path}`" in message
    assert list(path.iterdir()) == []
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("name", ["file", "file/data"])
def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path, name: str) -> None:
    """The refusal names the directory, the reason and the setting."""
    (tmp_path / "file").touch(mode=0o600)

    message = refusal(tmp_path / name)

    assert message.startswith(f"The data directory {tmp_path / name} can't be used: ")
    assert "STACKCAST_DATA_DIR" in message


@pytest.mark.parametrize("name", ["runs", "state", "passphrase", "service.lock"])
def test_a_directory_with_something_in_the_way_is_refused(tmp_path: Path, name: str) -> None:
    """A file where a folder has to be, or a folder where a file has to be, is told of in the same words."""
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    if name in ("runs", "state"):
        (path / name).touch()
    else:
        (path / name).mkdir()

    assert refusal(path).startswith(f"The data directory {path} can't be used: ")
