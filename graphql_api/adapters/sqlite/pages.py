# ruff: noqa: S608 (only names of columns and placeholders are put together here; every value is a parameter)
"""Lists of a table that has indexes ending in (created_at, id), newest first.

Wherever a page lies, and from whichever end it is read, its place is found by a search in such an index.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from graphql_api.adapters.sqlite.database import Query, Row, SqliteDatabase
from graphql_api.adapters.sqlite.rows import milliseconds_up
from graphql_api.adapters.stored import milliseconds
from graphql_api.domain.ports import Cursor, Slice

_Place = tuple[int, str]
_BEYOND = "\U0010ffff"  # behind every id
_NEWEST, _OLDEST = (2**62, ""), (-(2**62), "")  # also an unbounded page is a search between two places
_BETWEEN = "(created_at, id) > (?, ?) AND (created_at, id) < (?, ?)"


#: How rows are read: ``rows`` or ``few`` of a database.
ReadRows = Callable[[str, Row], Awaitable[list[Row]]]


@dataclass(frozen=True, slots=True)
class List:
    """The rows of a table in which, by one search at least, the named columns have these values.

    No row may be found by two of the searches. The times exclude the moment itself.
    """

    table: str
    searches: Sequence[Mapping[str, str]]
    created_after: datetime | None = None
    created_before: datetime | None = None


async def read_page(read: ReadRows, list_: List, columns: str, slice_: Slice) -> Sequence[Row]:
    if not list_.searches:
        return []
    found = await read(*page_query(list_, columns, slice_))
    return found[::-1] if slice_.from_end else found


async def read_count(database: SqliteDatabase, list_: List) -> int:
    return await database.number(*count_query(list_)) if list_.searches else 0


def page_query(list_: List, columns: str, slice_: Slice) -> Query:
    """One index search for each of the searches, of which there must be one; SQLite merges them."""
    between = (
        *max(_place(slice_.before, _OLDEST), _oldest(list_.created_after)),
        *min(_place(slice_.after, _NEWEST), _newest(list_.created_before)),
    )
    arms = [f"SELECT {columns} FROM {list_.table} WHERE {_equal(search)}{_BETWEEN}" for search in list_.searches]
    parameters = [value for search in list_.searches for value in (*search.values(), *between)]
    direction = "ASC" if slice_.from_end else "DESC"
    order = f"ORDER BY created_at {direction}, id {direction} LIMIT ?"
    return f"{' UNION ALL '.join(arms)} {order}", (*parameters, slice_.limit)


def count_query(list_: List) -> Query:
    """The sum of one count for each of the searches, of which there must be one."""
    between: Row = (*_oldest(list_.created_after), *_newest(list_.created_before))
    condition = "true" if between == (*_OLDEST, *_NEWEST) else _BETWEEN  # without it SQLite counts ten times faster
    between = () if condition == "true" else between
    arms = [f"(SELECT count(*) FROM {list_.table} WHERE {_equal(search)}{condition})" for search in list_.searches]
    parameters = [value for search in list_.searches for value in (*search.values(), *between)]
    return f"SELECT {' + '.join(arms)}", tuple(parameters)


def _equal(search: Mapping[str, str]) -> str:
    return "".join(f"{column} = ? AND " for column in search)


def _place(cursor: Cursor | None, otherwise: _Place) -> _Place:
    return (milliseconds(cursor.created_at), cursor.id) if cursor else otherwise


def _oldest(created_after: datetime | None) -> _Place:
    return (milliseconds(created_after), _BEYOND) if created_after else _OLDEST


def _newest(created_before: datetime | None) -> _Place:
    return (milliseconds_up(created_before), "") if created_before else _NEWEST
