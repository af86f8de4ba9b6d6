"""The file of named tokens: what it gives, and the sentences for what can't be used."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from graphql_api.domain.errors import StartRefused
from graphql_api.tokens import read_tokens

ANNS, BOBS = "anns-token-of-24-letters", "bob's: token # is = odd"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that only its owner may read."""
    path = tmp_path / "tokens"
    path.touch(mode=0o600)
    return path


def refusal(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    with pytest.raises(StartRefused) as caught:
        read_tokens(file)
    return caught.value.message


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_each_line_is_a_name_and_its_token(file: Path, end: str) -> None:
    """Remarks and empty lines count for nothing, nor do spaces around a name or a token; a token may hold colons."""
    lines = ["# Überblick: who may ask", "", f"ann:{ANNS}", f"  b.ob_2-x@example : {BOBS} ", "   ", " # end"]
    file.write_bytes(end.join(lines).encode())

    assert read_tokens(file) == {ANNS: "ann", BOBS: "b.ob_2-x@example"}


def test_a_name_may_be_as_long_as_is_said(file: Path) -> None:
    """64 characters are a name, and 65 are none."""
    file.write_text(f"{'a' * 64}:{ANNS}")
    assert read_tokens(file) == {ANNS: "a" * 64}

    assert "begins with no name" in refusal(file, f"{'a' * 65}:{ANNS}".encode())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (ANNS, "has no colon"),
        (f"-ann:{ANNS}", "begins with no name"),
        (f":{ANNS}", "begins with no name"),
        (f"an n:{ANNS}", "begins with no name"),
        (f"änn:{ANNS}", "begins with no name"),
        (f"ann/b:{ANNS}", "begins with no name"),
        ("ann:fifteen-letters", "has no token that can be used"),
        ("ann:", "has no token that can be used"),
        ("ann:token-of-the-sécurité", "has no token that can be used"),
        ("ann:token-with-a-\x00-in-it", "has no token that can be used"),
        (f"bob:{ANNS}", "has the same token as carl"),
        (f"carl:{BOBS}", "names carl for the second time"),
    ],
)
def test_a_wrong_line_is_told_by_its_number(file: Path, line: str, words: str) -> None:
    """The sentence names the line and what to do, and never a token."""
    message = refusal(file, f"# remark\n\ncarl:{ANNS}\n{line}\ndan:{ANNS}\n".encode())

    assert message.startswith(f"STACKCAST_TOKENS_FILE can't be used: line 4 of {file} {words}")
    assert message.endswith(".")
    assert not [secret for secret in (ANNS, BOBS, "fifteen", "token-", "sécurité") if secret in message]


def test_what_is_no_text_is_told_by_its_line(file: Path) -> None:
    """Bytes that are no UTF-8 are no token."""
    assert "line 2" in refusal(file, f"ann:{ANNS}\nbob:".encode() + b"\xff\xfe" * 16)


@pytest.mark.parametrize("content", [b"", b"\n", b"# ann:soon\n"])
def test_a_file_without_a_token_is_refused(file: Path, content: bytes) -> None:
    """It never means that no token is wanted."""
    assert refusal(file, content).startswith(f"STACKCAST_TOKENS_FILE can't be used: {file} holds no token.")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """The sentence names the file and the reason."""
    with pytest.raises(StartRefused, match=r"absent: No such file or directory\. Name a file"):
        read_tokens(tmp_path / "absent")
    with pytest.raises(StartRefused, match="Is a directory"):
        read_tokens(tmp_path)


def test_a_file_beyond_the_limit_is_refused(file: Path) -> None:
    """Each request is compared with every token."""
    lines = "".join(f"name-{number}:{number:064x}\n" for number in range(1000))

    assert "has over 64 KiB" in refusal(file, lines.encode())


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o444, True)])
def test_a_file_that_others_can_read_is_warned_of(
    file: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool
) -> None:
    """The tokens hold, since a container is given its secrets so; whoever can change that is told how."""
    file.write_text(f"ann:{ANNS}\n")
    file.chmod(mode)

    assert read_tokens(file) == {ANNS: "ann"}
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [message.endswith("(chmod o-r)") and str(file) in message for message in said] == [True] * warned
