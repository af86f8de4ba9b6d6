"""The file of named tokens: who may ask, a line for each."""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from graphql_api.domain.errors import StartRefused
from graphql_api.settings import TOKEN_LENGTH

#: Every request's token is compared with each of the file's, so it holds no more than some hundreds.
_FILE_LIMIT = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)

_log = logging.getLogger("stackcast")


def read_tokens(file: Path) -> Mapping[str, str]:
    """The callers' names by their tokens, from lines of ``NAME:TOKEN``; empty lines and those that begin with # count
    for nothing.

    Raises StartRefused, which never quotes a line: the file holds secrets. Where others can read the file that is
    logged, and not refused: containers are given their secrets in files of mode 0444, which none but them sees.
    """
    names = dict[str, str]()
    for number, line in enumerate(_content(file).splitlines(), start=1):
        if (entry := line.strip()) and not entry.startswith(b"#"):
            try:
                name, token = _entry(entry)
                _check_new(name, token, names)
            except ValueError as error:
                raise _refusal(f"line {number} of {file} {error}.") from None
            names[token] = name
    if not names:  # no token at all would open the service to everyone
        raise _refusal(f"{file} holds no token. Add a line of NAME:TOKEN, or unset the variable.")
    return names


def _content(file: Path) -> bytes:
    try:
        with file.expanduser().open("rb") as stream:
            content = stream.read(_FILE_LIMIT + 1)
            readable_by_others = file.expanduser().stat().st_mode & stat.S_IROTH
    except OSError as error:
        raise _refusal(f"reading {file}: {error.strerror}. Name a file that this service's user can read.") from error
    if len(content) > _FILE_LIMIT:
        raise _refusal(f"{file} has over {_FILE_LIMIT // 1024} KiB. Keep only the tokens that are in use.")
    if readable_by_others:
        _log.warning("every user of this machine can read the tokens in %s: take that right away (chmod o-r)", file)
    return content


def _entry(entry: bytes) -> tuple[str, str]:
    """Raises ValueError with what is wrong, to be read after the line's number."""
    name, colon, token = (part.strip() for part in entry.decode(errors="replace").partition(":"))
    if not colon:
        raise ValueError("has no colon. Write NAME:TOKEN, or begin it with # for a remark")
    if not _NAME.fullmatch(name):
        raise ValueError(
            "begins with no name: that has up to 64 letters, digits and . _ @ -, the first of them a letter or a digit"
        )
    if len(token) < TOKEN_LENGTH or not (token.isascii() and token.isprintable()):
        raise ValueError(
            f"has no token that can be used: it must have at least {TOKEN_LENGTH} printable ASCII characters "
            "(`openssl rand -hex 32` makes one)"
        )
    return name, token


def _check_new(name: str, token: str, names: Mapping[str, str]) -> None:
    if name in names.values():
        raise ValueError(f"names {name} for the second time. Give each token a name of its own")
    if token in names:
        raise ValueError(f"has the same token as {names[token]}. Give each name a token of its own")


def _refusal(why: str) -> StartRefused:
    return StartRefused(f"STACKCAST_TOKENS_FILE can't be used: {why}")
