"""Pages, cursors and ids: what clients may hand in, and that a page stays right while a list changes."""

from __future__ import annotations

import base64
import itertools
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
import strawberry

from graphql_api.adapters import Backends, open_backends
from graphql_api.domain.errors import BadUserInput
from graphql_api.domain.ports import EVERY_RESOURCE, Cursor, Slice
from graphql_api.domain.records import CloudResource
from graphql_api.schema.pagination import DEFAULT_SIZE, PAGE_LIMIT, Connection, PageRequest, connection
from graphql_api.schema.scalars import CONFIG, read_id
from tests.builders import a_cloud_resource

TIME = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
ID = "0123456789abcdef01234567"


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


async def none_counted() -> int:
    raise AssertionError("nobody asked for the count")


async def cursor_of(record: CloudResource) -> str:
    async def fetch(_: Slice) -> Sequence[CloudResource]:
        return [record]

    page = await connection(PageRequest.read(1), fetch, lambda node: node, none_counted)
    return page.edges[0].cursor


# --- what clients may hand in


@pytest.mark.parametrize(("given", "size"), [(None, DEFAULT_SIZE), (1, 1), (20, 20), (PAGE_LIMIT, PAGE_LIMIT)])
def test_the_size_of_a_page(given: int | None, size: int) -> None:
    """From 1 to 100, or 20 when nothing is said; one record more is fetched to see whether there are more."""
    assert PageRequest.read(first=given).slice == Slice(size + 1)
    assert PageRequest.read(last=given).slice == Slice(size + 1, from_end=given is not None)


@pytest.mark.parametrize("given", [0, -1, 101, 2**31, -(2**31)])
@pytest.mark.parametrize("argument", ["first", "last"])
def test_a_size_out_of_range_is_refused(argument: str, given: int) -> None:
    """Nothing is silently cut: the refusal names the argument and the range."""
    with pytest.raises(BadUserInput, match=rf"^{argument} must be from 1 to 100; it is {given}\.$") as caught:
        PageRequest.read(**{argument: given})  # type: ignore[arg-type]  # a size, under either name

    assert (caught.value.argument, caught.value.code) == (argument, "BAD_USER_INPUT")


def test_two_sizes_are_refused() -> None:
    """Nobody knows what the first of the last would be."""
    with pytest.raises(BadUserInput, match="leave one of them out"):
        PageRequest.read(first=1, last=1)


def test_no_cursor_is_the_beginning_and_the_end() -> None:
    """Null and leaving it out are the same."""
    left_out = PageRequest.read(strawberry.UNSET, strawberry.UNSET, strawberry.UNSET, strawberry.UNSET)

    assert left_out == PageRequest.read(None, None, None, None) == PageRequest(DEFAULT_SIZE)


@pytest.mark.parametrize(
    "moment", [TIME, datetime(1970, 1, 1, tzinfo=UTC), datetime(2038, 2, 1, microsecond=999000, tzinfo=UTC)]
)
async def test_a_cursor_is_the_place_of_its_record(moment: datetime) -> None:
    """What is given out comes back as exactly the place it stands for, to the millisecond."""
    record = a_cloud_resource(created_at=moment)
    cursor = await cursor_of(record)

    request = PageRequest.read(after=cursor, before=cursor)

    assert request.after == request.before == Cursor(moment, record.id)


async def test_a_cursor_can_stand_in_a_url() -> None:
    """Cursors are handed around as they are, without escapes."""
    cursors = {await cursor_of(a_cloud_resource(created_at=TIME + timedelta(milliseconds=n))) for n in range(64)}

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
@pytest.mark.parametrize("argument", ["after", "before"])
def test_a_cursor_that_is_none_of_ours_is_refused(argument: str, text: str) -> None:
    """The refusal names the argument and says where cursors come from."""
    with pytest.raises(BadUserInput, match=rf"^{argument} must be a cursor as the API gives them out: ") as caught:
        PageRequest.read(**{argument: text})  # type: ignore[arg-type]  # a cursor, under either name

    assert caught.value.argument == argument


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


@pytest.fixture
async def backends() -> AsyncIterator[Backends]:
    async with open_backends("sqlite:///:memory:") as opened:
        yield opened


async def read_page(backends: Backends, **arguments: object) -> Connection[CloudResource]:
    return await connection(
        PageRequest.read(**arguments),  # type: ignore[arg-type]  # page arguments, as clients name them
        lambda slice_: backends.resources.page(slice_, EVERY_RESOURCE),
        lambda record: record,
        backends.resources.count,
    )


async def test_paging_shows_every_record_once_newest_first(backends: Backends) -> None:
    """Also where many were made in the same millisecond, page by page to the end, and back to the beginning."""
    records = [a_cloud_resource(created_at=TIME + timedelta(milliseconds=number // 5)) for number in range(23)]
    for record in records:
        await backends.resources.insert(record)

    page = await read_page(backends, first=4)
    forth = page.nodes()
    while await page.page_info.has_next_page():
        page = await read_page(backends, first=4, after=page.page_info.end_cursor)
        forth += page.nodes()
    page = await read_page(backends, last=4)
    back = page.nodes()
    while await page.page_info.has_previous_page():
        page = await read_page(backends, last=4, before=page.page_info.start_cursor)
        back = page.nodes() + back

    assert forth == back == records[::-1]


async def test_a_page_says_where_it_stands_whatever_was_asked(backends: Backends) -> None:
    """For every combination of arguments on a short list: the items, and truly whether there are more on each side."""
    records = [a_cloud_resource(created_at=TIME - timedelta(seconds=number)) for number in range(4)]
    for record in records:
        await backends.resources.insert(record)
    cursors = [None, *[await cursor_of(record) for record in records]]

    for size, from_end, after, before in itertools.product([1, 2, 3, 9], [False, True], cursors, cursors):
        name = "last" if from_end else "first"
        page = await read_page(backends, **{name: size, "after": after, "before": before})
        begin = cursors.index(after) if after else 0
        end = cursors.index(before) - 1 if before else 4
        between = records[begin:end]
        shown = between[-size:] if from_end else between[:size]

        assert page.nodes() == [edge.node for edge in page.edges] == shown
        found = await page.page_info.has_previous_page(), await page.page_info.has_next_page()
        if shown:
            assert found == (shown[0] != records[0], shown[-1] != records[-1])
            ends = page.page_info.start_cursor, page.page_info.end_cursor
            assert ends == (await cursor_of(shown[0]), await cursor_of(shown[-1]))
        else:  # a page of nothing still knows what lies up to `after` and from `before` on
            assert found == (after is not None and begin > 0 and end > 0, before is not None and begin < 4)
            assert (page.page_info.start_cursor, page.page_info.end_cursor) == (None, None)


async def test_nobody_pays_for_what_is_not_asked() -> None:
    """A page is one question; what lies behind its cursors, and how many there are, is asked only when selected."""
    questions = list[Slice]()

    async def fetch(slice_: Slice) -> Sequence[CloudResource]:
        questions.append(slice_)
        return [a_cloud_resource()]

    cursor = await cursor_of(a_cloud_resource())
    page = await connection(PageRequest.read(first=3, after=cursor), fetch, lambda node: node, none_counted)
    assert len(page.nodes()) == len(questions) == 1

    assert not await page.page_info.has_next_page()
    assert len(questions) == 1
    assert await page.page_info.has_previous_page()
    assert [slice_.limit for slice_ in questions] == [4, 1]


async def test_a_page_stays_right_while_records_are_added_in_front(backends: Backends) -> None:
    """What is new meanwhile neither repeats nor hides what comes after the cursor."""
    old = [a_cloud_resource(created_at=TIME + timedelta(seconds=number)) for number in range(6)]
    for record in old:
        await backends.resources.insert(record)
    first = await read_page(backends, first=3)

    for _ in range(3):
        await backends.resources.insert(a_cloud_resource(created_at=TIME + timedelta(hours=1)))
    second = await read_page(backends, first=3, after=first.page_info.end_cursor)

    assert first.nodes() + second.nodes() == old[::-1]
    assert not await second.page_info.has_next_page()


async def test_the_whole_list_is_counted_only_when_asked(backends: Backends) -> None:
    """A page of a list is not the list: the count is that of all."""
    for _ in range(3):
        await backends.resources.insert(a_cloud_resource())

    assert (await read_page(backends, first=1)).edges
    assert await (await read_page(backends, first=1)).count() == 3
