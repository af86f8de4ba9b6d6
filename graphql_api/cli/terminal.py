"""Printing what a server sends: as text, as a table, as JSON for programs; and nothing that drives the terminal.

Whatever comes from a server goes through ``clean`` (or JSON's own escapes) before it is printed: the name in a manifest
or what a program printed must not move the cursor, change colours or rename the window.
"""

from __future__ import annotations

import itertools
import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TextIO

from rich.console import Console
from rich.segment import Segment, Segments
from rich.text import Text

STATUS_STYLES = {"IN_PROGRESS": "cyan", "SUCCESS": "green", "FAILED": "red", "CANCELLED": "yellow"}
#: Controls, formats (which turn the direction of writing), lone surrogates, the unassigned, and other line ends.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class Line(NamedTuple):
    """A line that may be printed as it is; on a terminal it has a style."""

    text: str
    style: str = ""


def clean(text: str) -> str:
    r"""The text in one line, with every character that could drive a terminal as its escape, such as ``\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(character) if unicodedata.category(character) in _UNSAFE else character for character in text
    )


def clean_lines(text: str) -> list[str]:
    """The lines of a text, each as ``clean`` gives it, with blanks for tabs."""
    return [clean(line.expandtabs().rstrip()) for line in text.strip().splitlines()]


def json_line(value: object) -> str:
    """The value as JSON in one line of plain ASCII."""
    return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")


def print_lines(out: TextIO, lines: Iterable[Line]) -> None:
    """Print lines, all at once; on a terminal each in its style."""
    console = console_for(out)
    if is_interactive(console):
        scroll(console, lines)
    else:
        out.write("".join(f"{line.text}\n" for line in lines))
    out.flush()


def scroll(console: Console, lines: Iterable[Line]) -> None:
    """Print lines on a terminal, which breaks those that are too long; a live picture stays below them."""
    parts = [
        Segment("".join(f"{line.text}\n" for line in alike), console.get_style(style) if style else None)
        for style, alike in itertools.groupby(lines, key=lambda line: line.style)
    ]
    if parts:
        console.print(Segments(parts), end="", crop=False)  # laying out thousands of lines would take seconds


def table(out: TextIO, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, each as wide as its longest text; a status has its colour on a terminal."""
    cells = [list(headers), *([clean(text) for text in row] for row in rows)]
    widths = [max(Text(row[column]).cell_len for row in cells) for column in range(len(headers))]
    console = console_for(out)
    for number, row in enumerate(cells):
        line = Text(style="bold" if number == 0 else "")
        for text, width in zip(row, widths, strict=True):
            line.append(text, style=STATUS_STYLES.get(text, ""))
            line.append(" " * (width - Text(text).cell_len + 2))
        line.rstrip()
        if is_interactive(console):
            console.print(line, soft_wrap=True)
        else:
            out.write(f"{line.plain}\n")
    out.flush()


def note(sentence: str) -> None:
    """Say a sentence beside the results, on stderr. Its lines stay lines: what they tell to write can be pasted."""
    sys.stderr.write("".join(f"{line}\n" for line in clean_lines(sentence)))
    sys.stderr.flush()


def console_for(out: TextIO) -> Console:
    """A console that prints what it is given and finds nothing in it to mark up."""
    return Console(file=out, highlight=False, markup=False, emoji=False)


def is_interactive(console: Console) -> bool:
    """True on a terminal that can move its cursor. FORCE_COLOR makes no terminal of a file."""
    return console.file.isatty() and console.is_interactive


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
