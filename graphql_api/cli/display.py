"""Showing how a stack update goes: a live picture on a terminal, lines elsewhere, JSON for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from graphql_api.cli.client import Batch
from graphql_api.cli.terminal import (
    STATUS_STYLES,
    Line,
    clean,
    console_for,
    is_interactive,
    json_line,
    print_lines,
    scroll,
)
from graphql_api.cli.wording import (
    cancellation_words,
    duration,
    event_lines,
    moment,
    outcome_lines,
    progress_words,
    queue_words,
    resource_words,
    status_line,
)

Record = dict[str, Any]
#: Is told of each push of a stack update, of each batch of its log, and, with None, that time has passed.
Show = Callable[[Record | Batch | None], None]

#: How often the picture changes at most, and how often a display wants to be told that time has passed.
REFRESH = timedelta(seconds=0.25)
#: How many of the resources in hand the picture names.
_NAMED = 5


@contextmanager
def showing(
    out: TextIO,
    *,
    as_json: bool = False,
    log: bool = True,
    indent: str = "",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Show]:
    """What to call with what there is of a stack update, its outcome last; on leaving, the last picture stays.

    On a terminal it is a picture that changes in place below the lines of the log, elsewhere all of it is lines, each
    of which begins with ``indent``. As JSON it is the pushes alone, each in a line. ``log`` as in ``plain``.
    """
    console = console_for(out)
    if as_json:
        yield lambda news: _write_json(out, [news] if isinstance(news, dict) else [])
    elif is_interactive(console):
        with _Picture(console, now, clock).shown() as show:
            yield show
    else:
        yield plain(lambda lines: print_lines(out, [Line(f"{indent}{line.text}") for line in lines]), log=log)


def show_log(out: TextIO, batch: Batch, *, as_json: bool = False) -> None:
    """Print the events of a log: as lines, or each as JSON in a line."""
    if as_json:
        _write_json(out, batch.events)
    else:
        print_lines(out, event_lines(batch.events))


def plain(say: Callable[[list[Line]], None], *, log: bool = True) -> Show:
    """Says the lines of the log, and what it does not tell: the wait in the queue before it, and the outcome.

    Where no ``log`` is to come, each push is a line whose status or phase is another than before.
    """
    return _Lines(say, log)


class _Lines:
    def __init__(self, say: Callable[[list[Line]], None], log: bool) -> None:
        self._say = say
        self._log = log
        self._begun = False
        self._last = ""

    def __call__(self, news: Record | Batch | None) -> None:
        if isinstance(news, Batch):
            self._begun = self._begun or bool(news.events)
            self._say(list(event_lines(filter(self._is_new, news.events))))
        elif news and news["phase"] == "FINISHED":
            ended = status_line(news["updatedAt"], news["status"], news["phase"])
            self._say([ended, *(Line(f"  {line}") for line in outcome_lines(news))])
        elif news and (not self._log or (news["phase"] == "QUEUED" and not self._begun)):
            self._push(news)

    def _push(self, update: Record) -> None:
        more = queue_words(update["queue"])
        before, self._last = self._last, f"{update['status']} {update['phase']} {more}"
        if before != self._last:
            self._say([status_line(update["updatedAt"], update["status"], update["phase"], more)])

    def _is_new(self, event: Record) -> bool:
        """Whether it says more than a push did, or the outcome will."""
        if event["__typename"] != "StatusChanged":
            return True
        return event["phase"] != "FINISHED" and not (event["phase"] == "QUEUED" and self._last)


class _Picture:
    """The picture, and the lines that are to scroll by above it.

    Both are drawn at most once in REFRESH, however much there is to tell: the terminal would be the slowest of all.
    """

    def __init__(self, console: Console, now: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self._console = console
        self._now = now
        self._clock = clock
        self._drawn = float("-inf")
        self._lines: list[Line] = []
        self._update: Record | None = None
        self._in_hand: dict[str, Record] = {}
        self._warned = False
        # What goes to stderr meanwhile is printed above the picture; where stderr is a file it stays in that file.
        self._live = Live(self, console=console, auto_refresh=False, redirect_stderr=sys.stderr.isatty())

    @contextmanager
    def shown(self) -> Iterator[Show]:
        try:
            yield self._show
        finally:
            if self._lines:
                self._draw()
            self._live.stop()

    def _show(self, news: Record | Batch | None) -> None:
        if isinstance(news, Batch):
            self._lines += event_lines(event for event in news.events if event["__typename"] != "StatusChanged")
            self._heed(news.events)
        elif news is not None:
            self._update = news
            self._live.start()
        if self._clock() - self._drawn >= REFRESH.total_seconds():
            self._draw()

    def _heed(self, events: Iterable[Record]) -> None:
        for event in events:
            match event["__typename"]:
                case "ResourceChanged":
                    resource = event["resource"]
                    self._in_hand.pop(resource["id"], None)
                    if resource["state"] == "IN_PROGRESS":
                        self._in_hand[resource["id"]] = resource
                case "DeadlineApproaching" | "DeadlineChanged" as name:
                    self._warned = name == "DeadlineApproaching"

    def _draw(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            scroll(self._console, lines)  # which draws the picture below them
        elif self._update:
            self._live.refresh()
        self._drawn = self._clock()

    def __rich__(self) -> Group:
        return Group(*(self._parts(self._update, self._now()) if self._update else ()))

    def _parts(self, update: Record, now: datetime) -> Iterator[Text]:
        style = STATUS_STYLES.get(update["status"], "")
        yield Text.assemble(
            (clean(update["status"]), f"bold {style}"),
            f"  {clean(update['phase'].lower())}  {duration(_elapsed(update, now))}",
        )
        yield Text(_place(update), style="dim")
        if progress := progress_words(update["progress"]):
            yield Text(f"  {progress}")
        if update["phase"] != "FINISHED":
            yield from (Text(f"  {line}", style=style) for line, style in self._present(update, now))
        yield from (Text(f"  {line}", style=style if update["failure"] else "") for line in outcome_lines(update))

    def _present(self, update: Record, now: datetime) -> Iterator[Line]:
        """What is so until it has ended."""
        in_hand = list(self._in_hand.values())
        for resource in in_hand[:_NAMED]:
            yield Line(f"  {resource_words(resource)}  {duration(now - moment(resource['startedAt']))}")
        if len(in_hand) > _NAMED:
            yield Line(f"  and {len(in_hand) - _NAMED} more")
        if place := queue_words(update["queue"]):
            yield Line(place)
        if update["cancellation"]:
            yield Line(cancellation_words(update["cancellation"], now), "yellow")
        elif self._warned and update["deadline"]:
            left = duration(moment(update["deadline"]) - now)
            yield Line(f"it is ended in {left} unless `stackcast extend` gives it more time", "yellow")


def _place(update: Record) -> str:
    resource = update["cloudResource"]
    name = f"{resource['kind']}/{resource['name']}  " if resource else ""
    stack = f"{update['stackFqdn']}  " if update["stackFqdn"] else ""
    return clean(f"{name}{stack}{update['id']}")


def _elapsed(update: Record, now: datetime) -> timedelta:
    """Since its acceptance. The server's clock may be ahead of ours, but time never runs backwards."""
    last_known = moment(update["finishedAt"] or update["updatedAt"])
    end = last_known if update["finishedAt"] else max(now, last_known)
    return max(end - moment(update["createdAt"]), timedelta(0))


def _write_json(out: TextIO, records: Iterable[Record]) -> None:
    out.write("".join(f"{json_line(record)}\n" for record in records))
    out.flush()
