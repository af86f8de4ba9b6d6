"""Lines of a file that grows: where they end, and what of them can be stored and shown anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from graphql_api.domain.events import LINE_LIMIT
from runners.output import SECRET_LIMIT, as_text

#: So many bytes of a line are looked at, so that a secret that lies across the cut is known as a whole.
LOOKED_AT = LINE_LIMIT + SECRET_LIMIT
#: A line of so many bytes never has to be cut, whatever they are: one that is not UTF-8 is replaced by three.
_SHORT = LINE_LIMIT // 4


class Line(NamedTuple):
    """A line as text, without its end; ``truncated`` when it was longer than LINE_LIMIT."""

    text: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, in bytes: a line begins there, or, when ``skipping``, the rest of one that was cut."""

    offset: int = 0
    skipping: bool = False


class Splitter:
    r"""Splits the bytes of a file into lines, at ``\n`` only, however they come divided.

    Of a line of more than ``keep`` bytes it gives ``keep + 1``, so that the length tells, as soon as it has them; the
    rest is not kept. It goes on from any ``place`` that another one was at.
    """

    def __init__(self, keep: int, place: Place | None = None) -> None:
        place = place or Place()
        self._keep = keep
        self._begun = bytearray()
        self._skipping = place.skipping
        self.position = place.offset

    @property
    def place(self) -> Place:
        """Where another one can go on; what was fed behind it has to be fed again."""
        return Place(self.position - len(self._begun), self._skipping)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in ``data``, which is what stands in the file from ``position`` on."""
        self.position += len(data)
        first, newline, others = data.partition(b"\n")
        lines = self._go_on(first)
        if newline:
            lines += self._finish()
            *whole, last = others.split(b"\n")
            lines += [line[: self._keep + 1] for line in whole]
            lines += self._go_on(last)
        return lines

    def end(self) -> list[bytes]:
        """What stands behind the last end of a line, once nothing more will come."""
        return self._finish() if self._begun else []

    def _go_on(self, part: bytes) -> list[bytes]:
        if self._skipping:
            return []
        self._begun += part
        if len(self._begun) <= self._keep:
            return []
        del self._begun[self._keep + 1 :]
        line = self._finish()
        self._skipping = True
        return line

    def _finish(self) -> list[bytes]:
        lines = [] if self._skipping else [bytes(self._begun)]
        self._begun.clear()
        self._skipping = False
        return lines


def readable(lines: Sequence[bytes], hide: Callable[[str], str]) -> list[Line]:
    """The lines of a splitter that keeps LOOKED_AT, as text, without secrets.

    ``hide`` replaces the secrets in a text, and gives a text without any back as it is.
    """
    if any(len(line) > _SHORT for line in lines):
        return [_readable(line, hide) for line in lines]
    text = as_text(b"\n".join(lines)).replace("\r\n", "\n").removesuffix("\r")
    texts = text.split("\n") if lines else []
    if hide(text) != text:
        # Only now one by one: a secret of several lines is none of any line, and takes no end of a line along.
        texts = [hide(line) for line in texts]
    return [Line(line) for line in texts]


def _readable(line: bytes, hide: Callable[[str], str]) -> Line:
    text = hide(as_text(line).removesuffix("\r"))
    if len(line) <= LOOKED_AT:
        return cut(text)
    # As far as both agree: not what only looks different because a secret, a character or an escape was cut in half.
    text = _common_start(text, hide(as_text(line[:LINE_LIMIT])))
    return Line(cut(text).text, truncated=True)


def _common_start(one: str, other: str) -> str:
    pairs = zip(one, other, strict=False)
    same = next((index for index, (mine, yours) in enumerate(pairs) if mine != yours), min(len(one), len(other)))
    return one[:same]


def cut(text: str) -> Line:
    """The text up to LINE_LIMIT, cut between two characters."""
    content = text.encode()
    if len(content) <= LINE_LIMIT:
        return Line(text)
    return Line(content[:LINE_LIMIT].decode(errors="ignore"), truncated=True)
