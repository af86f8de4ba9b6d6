"""Showing stack updates: live on a terminal, as lines elsewhere, as JSON for programs; and nothing that drives it.

Whatever comes from a server goes through ``clean`` (or JSON's own escapes) before it is printed: the name in a manifest
or what a program printed must not move the cursor, change colours or rename the window.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

Record = dict[str, Any]
Show = Callable[[Record], None]

_STYLES = {"IN_PROGRESS": "cyan", "SUCCESS": "green", "FAILED": "red", "CANCELLED": "yellow"}
#: Controls, formats (which turn the direction of writing), lone surrogates, the unassigned, and other line ends.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_REFRESHES = 4  # a second: the elapsed time is shown in whole seconds


def clean(text: str) -> str:
    r"""The text in one line, with every character that could drive a terminal as its escape, such as ``\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(character) if unicodedata.category(character) in _UNSAFE else character for character in text
    )


def json_line(value: object) -> str:
    """The value as JSON in one line of plain ASCII."""
    return json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f")


@contextmanager
def showing(
    out: TextIO,
    *,
    as_json: bool = False,
    indent: str = "",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Show]:
    """What to call with a stack update each time that it is pushed; on leaving, the last picture stays.

    On a terminal it is a picture that changes in place, elsewhere each push is a line; every line begins with
    ``indent``.
    """
    console = console_for(out)
    if as_json:
        yield lambda change: _write(out, json_line(change))
    elif is_interactive(console):
        with _live(console, now) as show:
            yield show
    else:
        yield plain(lambda line: _write(out, f"{indent}{line}"))


def plain(say: Callable[[str], None]) -> Show:
    """Says a line for each push, and further ones for what an outcome brings."""

    def show(change: Record) -> None:
        say(f"{clean(change['updatedAt'])}  {clean(change['status'])}  {clean(change['phase'].lower())}")
        for line in _details(change):
            say(f"  {line}")

    return show


def table(out: TextIO, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, each as wide as its longest text; a status has its colour on a terminal."""
    cells = [list(headers), *([clean(text) for text in row] for row in rows)]
    widths = [max(Text(row[column]).cell_len for row in cells) for column in range(len(headers))]
    console = console_for(out)
    for number, row in enumerate(cells):
        line = Text(style="bold" if number == 0 else "")
        for text, width in zip(row, widths, strict=True):
            line.append(text, style=_STYLES.get(text, ""))
            line.append(" " * (width - Text(text).cell_len + 2))
        line.rstrip()
        if is_interactive(console):
            console.print(line, soft_wrap=True)
        else:
            out.write(f"{line.plain}\n")
    out.flush()


def note(sentence: str) -> None:
    """Say a sentence beside the results, on stderr. Its lines stay lines: what they tell to write can be pasted."""
    for line in sentence.strip().splitlines():
        _write(sys.stderr, clean(line.expandtabs().rstrip()))


def console_for(out: TextIO) -> Console:
    """A console that prints what it is given and finds nothing in it to mark up."""
    return Console(file=out, highlight=False, markup=False, emoji=False)


def is_interactive(console: Console) -> bool:
    """True on a terminal that can move its cursor. FORCE_COLOR makes no terminal of a file."""
    return console.file.isatty() and console.is_interactive


def _write(out: TextIO, line: str) -> None:
    out.write(f"{line}\n")
    out.flush()


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _details(change: Record) -> list[str]:
    """Why it failed, and the stack's outputs."""
    lines = []
    if change["failure"]:
        first, *more = f"{change['failure']['kind']}: {change['failure']['message']}".rstrip().splitlines()
        lines += [clean(first), *(f"  {clean(line.expandtabs())}" for line in more)]
    for output in change["stackOutputs"]:
        value = "[secret]" if output["secret"] else json.dumps(output["value"], ensure_ascii=False)
        lines.append(clean(f"{output['name']} = {value}"))
    return lines


@contextmanager
def _live(console: Console, now: Callable[[], datetime]) -> Iterator[Show]:
    last: Record | None = None
    # What goes to stderr meanwhile is printed above the picture; where stderr is a file it stays in that file.
    live = Live(
        console=console,
        get_renderable=lambda: _picture(last, now()) if last else "",
        refresh_per_second=_REFRESHES,
        redirect_stderr=sys.stderr.isatty(),
    )

    def show(change: Record) -> None:
        nonlocal last
        last = change
        live.start()
        live.refresh()

    try:
        yield show
    finally:
        live.stop()


def _picture(change: Record, now: datetime) -> Group:
    style = _STYLES.get(change["status"], "")
    headline = Text.assemble(
        (clean(change["status"]), f"bold {style}"),
        f"  {clean(change['phase'].lower())}  {_duration(_elapsed(change, now))}",
    )
    resource = change.get("cloudResource")
    name = f"{resource['kind']}/{resource['name']}  " if resource else ""
    stack = f"{change['stackFqdn']}  " if change["stackFqdn"] else ""
    place = Text(clean(f"{name}{stack}{change['id']}"), style="dim")
    details = [Text(f"  {line}", style=style if change["failure"] else "") for line in _details(change)]
    return Group(headline, place, *details)


def _elapsed(change: Record, now: datetime) -> timedelta:
    """Since its acceptance. The server's clock may be ahead of ours, but time never runs backwards."""
    accepted = datetime.fromisoformat(change["createdAt"])
    last_known = datetime.fromisoformat(change["finishedAt"] or change["updatedAt"])
    end = last_known if change["finishedAt"] else max(now, last_known)
    return max(end - accepted, timedelta(0))


def _duration(time: timedelta) -> str:
    minutes, seconds = divmod(int(time.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
