"""Relay connections over keyset cursors: a page stays right while records are added in front of it."""

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
from graphql_api.domain.ports import Cursor

PAGE_LIMIT = 100
_CURSOR = re.compile(r"(\d{1,15}):([0-9a-f]{24})\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

First = Annotated[int | None, strawberry.argument(description=f"How many to give, from 1 to {PAGE_LIMIT}.")]
DEFAULT_FIRST = 20
After = Annotated[str | None, strawberry.argument(description="Begin after this cursor; leave out to begin first.")]


class Listed(Protocol):
    """A record that lists are ordered by."""

    @property
    def id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


Record = TypeVar("Record", bound=Listed)
Node = TypeVar("Node")


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more follow after `endCursor`.")
    has_previous_page: bool = strawberry.field(description="Whether the page begins after a cursor.")
    start_cursor: str | None = strawberry.field(description="The first item's cursor; null on an empty page.")
    end_cursor: str | None = strawberry.field(description="The last item's cursor: pass it as `after` to go on.")


@strawberry.type(description="An item and its place in the list.")
class Edge(Generic[Node]):
    cursor: str = strawberry.field(description="The item's place; it stays valid while the list changes.")
    node: Node = strawberry.field(description="The item.")


@strawberry.type(description="One page of a list, newest first.")
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
    """Checked page arguments."""

    first: int
    after: Cursor | None

    @classmethod
    def read(cls, first: int | None, after: str | None) -> PageRequest:
        """Raises BadUserInput for a size out of range or a cursor that is none of ours."""
        if first is None:
            first = DEFAULT_FIRST
        if not 1 <= first <= PAGE_LIMIT:
            raise BadUserInput(f"first must be from 1 to {PAGE_LIMIT}; it is {first}.", "first")
        return cls(first, None if after is None or after is strawberry.UNSET else _read_cursor(after))

    @property
    def rows(self) -> int:
        """How many records to fetch: one more than the page, to see whether more follow."""
        return self.first + 1


def connection(
    request: PageRequest,
    records: Sequence[Record],
    to_node: Callable[[Record], Node],
    count: Callable[[], Awaitable[int]],
) -> Connection[Node]:
    """The page that was asked for, of the records fetched for it."""
    edges = [Edge(cursor=_write_cursor(record), node=to_node(record)) for record in records[: request.first]]
    return Connection(
        edges=edges,
        page_info=PageInfo(
            has_next_page=len(records) > request.first,
            has_previous_page=request.after is not None,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
        ),
        count=count,
    )


def _write_cursor(record: Listed) -> str:
    milliseconds = (record.created_at - _EPOCH) // timedelta(milliseconds=1)
    return base64.urlsafe_b64encode(f"{milliseconds}:{record.id}".encode()).decode()


def _read_cursor(text: str) -> Cursor:
    try:
        place = _CURSOR.match(base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True).decode("ascii"))
    except (UnicodeError, binascii.Error):
        place = None
    try:
        if place is not None:
            return Cursor(_EPOCH + timedelta(milliseconds=int(place[1])), place[2])
    except OverflowError:  # a time after the year 9999
        pass
    raise BadUserInput("after must be a cursor as the API gives them out: an edge's cursor or endCursor.", "after")
