"""Relay connections over keyset cursors: a page stays right while records are added around it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Generic, Protocol, TypeVar

import strawberry

from graphql_api.domain.errors import BadUserInput
from graphql_api.domain.ports import Cursor, Slice

PAGE_LIMIT = 100
DEFAULT_SIZE = 20
#: How many events a page of a log holds at most, and how many where nothing is asked for.
EVENT_LIMIT = 1000
DEFAULT_EVENTS = 100
_CURSOR = re.compile(r"(\d{1,15}):([0-9a-f]{24})\Z")
_NUMBER = re.compile(r"\d{1,9}\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

First = Annotated[
    int | None,
    strawberry.argument(
        description=f"How many to give from the beginning, from 1 to {PAGE_LIMIT}; {DEFAULT_SIZE} when neither this "
        "nor `last` is given."
    ),
]
FirstOnly = Annotated[
    int | None,
    strawberry.argument(description=f"How many to give, from 1 to {PAGE_LIMIT}; {DEFAULT_SIZE} when it is left out."),
]
FirstEvents = Annotated[
    int, strawberry.argument(description=f"How many events to give at most, from 1 to {EVENT_LIMIT}.")
]
After = Annotated[str | None, strawberry.argument(description="Only what comes after this cursor.")]
Last = Annotated[
    int | None,
    strawberry.argument(
        description=f"How many to give from the end, from 1 to {PAGE_LIMIT}, in the list's order; not with `first`."
    ),
]
Before = Annotated[str | None, strawberry.argument(description="Only what comes before this cursor.")]


class Listed(Protocol):
    """A record that lists are ordered by."""

    @property
    def id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


Record = TypeVar("Record", bound=Listed)
Node = TypeVar("Node")
T = TypeVar("T")


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    start_cursor: str | None = strawberry.field(
        description="The first item's cursor: pass it as `before`, with `last`, to go back where the list can. Null on "
        "an empty page."
    )
    end_cursor: str | None = strawberry.field(
        description="The last item's cursor: pass it as `after`, with `first`, to go on. Null on an empty page."
    )
    anything_after: strawberry.Private[Callable[[], Awaitable[bool]]]
    anything_before: strawberry.Private[Callable[[], Awaitable[bool]]]

    @strawberry.field(description="Whether the list goes on after this page.")
    async def has_next_page(self) -> bool:
        return await self.anything_after()

    @strawberry.field(description="Whether the list has something before this page.")
    async def has_previous_page(self) -> bool:
        return await self.anything_before()


@strawberry.type(description="An item and its place in the list.")
class Edge(Generic[Node]):
    cursor: str = strawberry.field(description="The item's place; it stays valid while the list changes.")
    node: Node = strawberry.field(description="The item.")


@strawberry.type(description="One page of a list.")
class Connection(Generic[Node]):
    edges: list[Edge[Node]] = strawberry.field(description="The items with their cursors.")
    page_info: PageInfo = strawberry.field(description="Where this page stands.")
    count: strawberry.Private[Callable[[], Awaitable[int]]]

    @strawberry.field(description="The items alone.")
    def nodes(self) -> list[Node]:
        return [edge.node for edge in self.edges]

    @strawberry.field(description="How many there are in the whole list; counted only when asked for.")
    async def total_count(self) -> int | None:
        return await self.count()


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Checked page arguments: so many from the beginning, or from the end, of what lies between two cursors."""

    size: int
    after: Cursor | None = None
    before: Cursor | None = None
    from_end: bool = False

    @classmethod
    def read(
        cls,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> PageRequest:
        """Null and leaving out are the same. Raises BadUserInput for what can't be a page."""
        from_start, from_end = read_size(first, "first"), read_size(last, "last")
        if from_start is not None and from_end is not None:
            raise BadUserInput("first and last can't be asked for together: leave one of them out.", "last")
        return cls(
            size=from_end or from_start or DEFAULT_SIZE,
            after=_read_cursor(after, "after"),
            before=_read_cursor(before, "before"),
            from_end=from_end is not None,
        )

    @property
    def slice(self) -> Slice:
        """What to fetch: one record more than the page, to see whether there are more on that side."""
        return Slice(self.size + 1, self.after, self.before, self.from_end)


async def connection(
    request: PageRequest,
    fetch: Callable[[Slice], Awaitable[Sequence[Record]]],
    to_node: Callable[[Record], Node],
    count: Callable[[], Awaitable[int]],
) -> Connection[Node]:
    """The page that was asked for, of the list that ``fetch`` reads and ``count`` counts.

    Where a page does not begin or end with the list itself, what lies behind the cursor is asked of the store: it may
    have come or gone since the cursor was given out.
    """
    fetched = await fetch(request.slice)
    more = len(fetched) > request.size
    page = fetched[-request.size :] if request.from_end else fetched[: request.size]
    edges = [Edge(cursor=_write_cursor(record), node=to_node(record)) for record in page]

    async def anything_after() -> bool:
        if more and not request.from_end:
            return True
        end = _place(page[-1]) if page else request.after
        return request.before is not None and bool(await fetch(Slice(1, after=end)))

    async def anything_before() -> bool:
        if more and request.from_end:
            return True
        start = _place(page[0]) if page else request.before
        return request.after is not None and bool(await fetch(Slice(1, before=start, from_end=True)))

    return Connection(
        edges=edges,
        page_info=PageInfo(
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
            anything_after=anything_after,
            anything_before=anything_before,
        ),
        count=count,
    )


def page_of(items: Sequence[T], first: int | None, after: str | None, to_node: Callable[[T], Node]) -> Connection[Node]:
    """The page that was asked for, of a list that is at hand whole and only ever grows at its end."""
    size, start = read_size(first, "first") or DEFAULT_SIZE, _read_number(after)
    page = items[start : start + size]
    end = start + len(page)

    async def anything_after() -> bool:
        return end < len(items)

    async def anything_before() -> bool:
        return min(start, len(items)) > 0

    async def count() -> int:
        return len(items)

    return Connection(
        edges=[Edge(cursor=_encode(str(number)), node=to_node(item)) for number, item in enumerate(page, start + 1)],
        page_info=PageInfo(
            start_cursor=_encode(str(start + 1)) if page else None,
            end_cursor=_encode(str(end)) if page else None,
            anything_after=anything_after,
            anything_before=anything_before,
        ),
        count=count,
    )


def read_size(size: int | None, argument: str, limit: int = PAGE_LIMIT) -> int | None:
    """How many to give; None when it is left out. Raises BadUserInput."""
    if size is None or size is strawberry.UNSET:
        return None
    if not 1 <= size <= limit:
        raise BadUserInput(f"{argument} must be from 1 to {limit}; it is {size}.", argument)
    return size


def _place(record: Listed) -> Cursor:
    return Cursor(record.created_at, record.id)


def _write_cursor(record: Listed) -> str:
    milliseconds = (record.created_at - _EPOCH) // _MILLISECOND
    return _encode(f"{milliseconds}:{record.id}")


def _read_cursor(text: str | None, argument: str) -> Cursor | None:
    if text is None or text is strawberry.UNSET:
        return None
    place = _CURSOR.match(_decode(text))
    try:
        if place is not None:
            return Cursor(_EPOCH + int(place[1]) * _MILLISECOND, place[2])
    except OverflowError:  # a time after the year 9999
        pass
    raise _no_cursor(argument)


def _read_number(after: str | None) -> int:
    """How many items stand up to the cursor and with it."""
    if after is None or after is strawberry.UNSET:
        return 0
    number = _NUMBER.match(_decode(after))
    if number is None:
        raise _no_cursor("after")
    return int(number[0])


def _encode(cursor: str) -> str:
    return base64.urlsafe_b64encode(cursor.encode()).decode()


def _decode(text: str) -> str:
    """What stands in a cursor; nothing where it is none."""
    try:
        return base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (UnicodeError, binascii.Error):
        return ""


def _no_cursor(argument: str) -> BadUserInput:
    return BadUserInput(
        f"{argument} must be a cursor as the API gives them out: an edge's cursor, startCursor or endCursor.", argument
    )
