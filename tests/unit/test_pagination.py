"""Pages, cursors and ids: what clients may hand in, and that a page stays right while a list changes."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import strawberry

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import BadUserInput
from graphql_api.domain.ports import Cursor
from graphql_api.domain.records import CloudResource
from graphql_api.schema.pagination import DEFAULT_FIRST, PAGE_LIMIT, Connection, PageRequest, connection
from graphql_api.schema.scalars import CONFIG, read_id
from tests.builders import a_cloud_resource

TIME = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
ID = "0123456789abcdef01234567"


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


async def none_counted() -> int:
    raise AssertionError("nobody asked for the count")


def cursor_of(record: CloudResource) -> str:
    page = connection(PageRequest.read(1, None), [record], lambda node: node, none_counted)
    return page.edges[0].cursor


# --- what clients may hand in


@pytest.mark.parametrize(("given", "size"), [(None, DEFAULT_FIRST), (1, 1), (20, 20), (PAGE_LIMIT, PAGE_LIMIT)])
def test_the_size_of_a_page(given: int | None, size: int) -> None:
    """From 1 to 100, or 20 when nothing is said; one record more is fetched to see whether more follow."""
    request = PageRequest.read(given, None)

    assert (request.first, request.after, request.rows) == (size, None, size + 1)


@pytest.mark.parametrize("given", [0, -1, 101, 2**31, -(2**31)])
def test_a_size_out_of_range_is_refused(given: int) -> None:
    """Nothing is silently cut: the refusal names the argument and the range."""
    with pytest.raises(BadUserInput, match=rf"^first must be from 1 to 100; it is {given}\.$") as caught:
        PageRequest.read(given, None)

    assert (caught.value.argument, caught.value.code) == ("first", "BAD_USER_INPUT")


def test_no_cursor_is_the_beginning() -> None:
    """Null and leaving it out are the same."""
    assert PageRequest.read(1, None).after is None
    assert PageRequest.read(1, strawberry.UNSET).after is None


@pytest.mark.parametrize(
    "moment", [TIME, datetime(1970, 1, 1, tzinfo=UTC), datetime(2038, 2, 1, microsecond=999000, tzinfo=UTC)]
)
def test_a_cursor_is_the_place_of_its_record(moment: datetime) -> None:
    """What is given out comes back as exactly the place it stands for, to the millisecond."""
    record = a_cloud_resource(created_at=moment)

    assert PageRequest.read(1, cursor_of(record)).after == Cursor(moment, record.id)


def test_a_cursor_can_stand_in_a_url() -> None:
    """Cursors are handed around as they are, without escapes."""
    cursors = {cursor_of(a_cloud_resource(created_at=TIME + timedelta(milliseconds=n))) for n in range(64)}

    assert not set("".join(cursors)) & set("+/ &?#%")


MALFORMED = {
    "empty": "",
    "a word": "begin",
    "no base64": "!!!!",
    "a letter of no alphabet": "é",
    "a lone surrogate": "\ud800",
    "NUL": "\0",
    "padding only": "====",
    "a space inside": encoded(f"1:{ID}")[:4] + " " + encoded(f"1:{ID}")[4:],
    "not text inside": base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "no id": encoded("1767323045678:"),
    "no time": encoded(f":{ID}"),
    "negative time": encoded(f"-1:{ID}"),
    "time with a fraction": encoded(f"1.5:{ID}"),
    "id too short": encoded(f"1:{ID[:-1]}"),
    "id too long": encoded(f"1:{ID}0"),
    "id in capitals": encoded(f"1:{ID.upper()}"),
    "something after": encoded(f"1:{ID}\n"),
    "digits of another script": encoded(f"٣:{ID}"),
    "a time after the last year": encoded(f"253402300800000:{ID}"),
    "a time beyond all years": encoded(f"{'9' * 15}:{ID}"),
    "a number without end": encoded(f"{'9' * 5000}:{ID}"),
    "another API's": base64.b64encode(b"arrayconnection:10").decode(),
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_a_cursor_that_is_none_of_ours_is_refused(text: str) -> None:
    """The refusal names the argument and says where cursors come from."""
    with pytest.raises(BadUserInput, match=r"^after must be a cursor as the API gives them out: ") as caught:
        PageRequest.read(1, text)

    assert caught.value.argument == "after"


def test_an_id_is_taken_as_it_was_given_out() -> None:
    """Ids are 24 hex digits in every store."""
    assert read_id(ID, "id") == ID


@pytest.mark.parametrize(
    "text",
    ["", "x", ID[:-1], ID + "0", ID.upper(), ID + "\n", " " + ID, ID[:-1] + "g", ID[:-1] + "٣", "\ud800", "\0", "../x"],
)
def test_a_malformed_id_is_refused(text: str) -> None:
    """It is the caller's mistake, and says so: never "not found", never an internal error."""
    with pytest.raises(BadUserInput, match=r"^cloudResourceId must be an id of 24 hex digits") as caught:
        read_id(text, "cloudResourceId")

    assert (caught.value.argument, caught.value.code) == ("cloudResourceId", "BAD_USER_INPUT")


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (TIME, "2026-01-02T03:04:05.678Z"),
        (TIME.replace(microsecond=0), "2026-01-02T03:04:05.000Z"),
        (datetime.fromisoformat("2026-01-02T05:04:05.678+02:00"), "2026-01-02T03:04:05.678Z"),
    ],
)
def test_times_are_shown_in_utc_with_milliseconds(moment: datetime, text: str) -> None:
    """One form for every time, whatever zone it was measured in."""
    serialize = CONFIG.scalar_map[datetime].serialize

    assert serialize
    assert serialize(moment) == text


# --- pages


@pytest.mark.parametrize(
    ("fetched", "after", "shown", "more", "before"),
    [
        (0, None, 0, False, False),
        (2, None, 2, False, False),
        (3, None, 3, False, False),
        (4, None, 3, True, False),
        (0, encoded(f"1:{ID}"), 0, False, True),
        (4, encoded(f"1:{ID}"), 3, True, True),
    ],
)
def test_a_page_says_where_it_stands(fetched: int, after: str | None, shown: int, more: bool, before: bool) -> None:
    """Whether more follow, whether it begins after a cursor, and the cursors of its ends."""
    records = [a_cloud_resource(created_at=TIME - timedelta(seconds=number)) for number in range(fetched)]

    page = connection(PageRequest.read(3, after), records, lambda record: record.name, none_counted)

    assert page.nodes() == [record.name for record in records[:shown]]
    assert [edge.node for edge in page.edges] == page.nodes()
    assert (page.page_info.has_next_page, page.page_info.has_previous_page) == (more, before)
    ends = (page.page_info.start_cursor, page.page_info.end_cursor)
    assert ends == ((cursor_of(records[0]), cursor_of(records[shown - 1])) if shown else (None, None))


@pytest.fixture
async def backends() -> AsyncIterator[Backends]:
    async with open_backends("sqlite:///:memory:") as opened:
        yield opened


async def read_page(backends: Backends, first: int, after: str | None) -> Connection[CloudResource]:
    request = PageRequest.read(first, after)
    records = await backends.resources.page(request.rows, request.after)
    return connection(request, records, lambda record: record, backends.resources.count)


async def test_paging_shows_every_record_once_newest_first(backends: Backends) -> None:
    """Also where many were made in the same millisecond, page by page to the end."""
    records = [a_cloud_resource(created_at=TIME + timedelta(milliseconds=number // 5)) for number in range(23)]
    for record in records:
        await backends.resources.insert(record)

    seen, after, more = list[CloudResource](), None, True
    while more:
        page = await read_page(backends, 4, after)
        seen += page.nodes()
        after, more = page.page_info.end_cursor, page.page_info.has_next_page

    assert seen == records[::-1]


async def test_a_page_stays_right_while_records_are_added_in_front(backends: Backends) -> None:
    """What is new meanwhile neither repeats nor hides what comes after the cursor."""
    old = [a_cloud_resource(created_at=TIME + timedelta(seconds=number)) for number in range(6)]
    for record in old:
        await backends.resources.insert(record)
    first = await read_page(backends, 3, None)

    for _ in range(3):
        await backends.resources.insert(a_cloud_resource(created_at=TIME + timedelta(hours=1)))
    second = await read_page(backends, 3, first.page_info.end_cursor)

    assert first.nodes() + second.nodes() == old[::-1]
    assert not second.page_info.has_next_page


async def test_the_whole_list_is_counted_only_when_asked(backends: Backends) -> None:
    """A page of a list is not the list: the count is that of all."""
    for _ in range(3):
        await backends.resources.insert(a_cloud_resource())

    assert (await read_page(backends, 1, None)).edges
    assert await (await read_page(backends, 1, None)).count() == 3
