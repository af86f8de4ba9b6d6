"""The contract of EventLog, over every store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from graphql_api.domain.events import LINE_LIMIT, Event, EventKind, LogLine, StatusChanged, Stream
from graphql_api.domain.ports import READ_LIMIT, Chunk, Closing, EventLog, LogPage, Span
from graphql_api.domain.records import Phase, StackUpdateId, Status
from tests.builders import HAPPENINGS, NOON, SECOND, a_chunk, a_closing, a_line, a_stack_update, following

STATUS = StatusChanged(Status.IN_PROGRESS, Phase.RUNNING)
STATUSES = frozenset({EventKind.STATUS_CHANGED})
WHOLE = 10_000


async def logged(events: EventLog, *chunks: Chunk) -> tuple[Event, ...]:
    """Append them, and give what happened in them."""
    for chunk in chunks:
        assert await events.append(chunk)
    return tuple(event for chunk in chunks for event in chunk.events)


def a_log(*chunks: Sequence[LogLine | StatusChanged]) -> list[Chunk]:
    """A log of a chunk for each of these."""
    log = [a_chunk(*chunks[0])]
    for what in chunks[1:]:
        log.append(following(log[-1], *what))
    return log


async def read_to_the_end(
    events: EventLog, update_id: StackUpdateId, limit: int, kinds: frozenset[EventKind] | None = None
) -> list[LogPage]:
    """Page by page, each from where the one before says."""
    pages = [await events.read(update_id, 0, limit, kinds)]
    while pages[-1].has_more:
        pages.append(await events.read(update_id, pages[-1].seq, limit, kinds))
        assert len(pages) < 1000
    return pages


def of(pages: Sequence[LogPage]) -> tuple[Event, ...]:
    return tuple(event for page in pages for event in page.events)


async def test_a_log_that_nobody_wrote_is_empty(events: EventLog) -> None:
    """There is no last chunk and no span; a read gives nothing and stays where it was."""
    unknown = a_stack_update().id

    assert await events.last(unknown) is None
    assert await events.span(unknown) is None
    assert await events.read(unknown, 7, WHOLE) == LogPage([], 7, has_more=False)
    assert await events.read(unknown, 0, WHOLE, STATUSES) == LogPage([], 0, has_more=False)


async def test_a_chunk_comes_back_as_it_went_in(events: EventLog) -> None:
    """Every field, and every kind of event with whatever characters; the writer's place to the last of its values."""
    place = {"stdout": [2**40, {"part": "ß \x00 \ud800 🙂"}], "events": None, "ok": True, "share": 0.5, "a.b": "$c"}
    chunk = a_chunk(*HAPPENINGS, epoch=3, place=place)

    assert await events.append(chunk)

    assert await events.last(chunk.update_id) == chunk
    assert (await events.read(chunk.update_id, 0, WHOLE)).events == list(chunk.events)


async def test_a_closing_comes_back_as_it_went_in(events: EventLog) -> None:
    """The record with all its parts, and the output, of the size that it may have, to the character."""
    update = a_stack_update(created_at=NOON, stack_fqdn=None)
    small = a_chunk(closing=a_closing(update), update_id=update.id)
    large = a_chunk(closing=Closing(a_closing(update).update, "\x00ß🙂\n" * 100_000))

    for chunk in (small, large):
        assert await events.append(chunk)

        assert await events.last(chunk.update_id) == chunk


async def test_events_keep_their_times_whatever_the_clock_does(events: EventLog) -> None:
    """Events of one millisecond, of many days, and from before the first one of their chunk."""
    times = [NOON, NOON, NOON + 1_000_000 * SECOND, NOON - SECOND, NOON - SECOND, NOON]
    chunk = a_chunk(events=tuple(Event(seq, time, a_line()) for seq, time in enumerate(times, start=1)))

    assert await logged(events, chunk) == tuple((await events.read(chunk.update_id, 0, WHOLE)).events)


async def test_of_concurrent_appends_of_one_number_exactly_one_is_kept(events: EventLog) -> None:
    """Of fifty writers that append one number at once, one is told that it did, and it did."""
    first = a_chunk()
    await events.append(first)
    rivals = [following(first, a_line(f"of {number}"), nonce=f"nonce-{number}") for number in range(50)]

    answers = await asyncio.gather(*map(events.append, rivals))

    winners = [chunk for chunk, won in zip(rivals, answers, strict=True) if won]
    assert [await events.last(first.update_id)] == winners
    assert (await events.read(first.update_id, 1, WHOLE)).events == list(winners[0].events)


async def test_appending_again_with_the_same_nonce_changes_nothing(events: EventLog) -> None:
    """A writer that did not hear the answer may ask again, also when others follow already; what is there stays."""
    first, second = log = a_log([a_line("first")], [a_line("second")])
    await logged(events, *log)

    assert await events.append(first)
    assert await events.append(replace(first, events=(Event(1, NOON, a_line("another")),)))
    assert not await events.append(replace(first, nonce="another"))

    assert (await events.read(first.update_id, 0, WHOLE)).events == [*first.events, *second.events]
    assert await events.last(first.update_id) == second


async def test_a_lost_writer_is_fenced_by_the_next_one(events: EventLog) -> None:
    """Once the successor has appended, the next append of the one before it is refused, and again."""
    first = a_chunk()
    await events.append(first)
    theirs, late = following(first, epoch=2, nonce="successor"), following(first, a_line("late"))
    assert await events.append(theirs)

    assert not await events.append(late)
    assert not await events.append(late)

    assert await events.last(first.update_id) == theirs


async def test_chunks_are_ordered_by_number(events: EventLog) -> None:
    """Numbers and seqs are compared as numbers: ten comes after nine."""
    log = a_log(*[[a_line(f"{number}")] for number in range(12)])

    happened = await logged(events, *log)

    assert await events.last(log[0].update_id) == log[-1]
    assert of(await read_to_the_end(events, log[0].update_id, 5)) == happened


async def test_logs_are_kept_apart(events: EventLog) -> None:
    """The log of one stack update has nothing of another's."""
    log, other = a_log([a_line("a")], [a_line("b")]), a_chunk(STATUS)
    happened = await logged(events, *log)
    await logged(events, other)

    assert await events.last(log[0].update_id) == log[1]
    assert await events.span(log[0].update_id) == Span(1, 2)
    assert await events.read(log[0].update_id, 0, WHOLE) == LogPage(list(happened), 2, has_more=False)
    assert await events.read(log[0].update_id, 0, WHOLE, STATUSES) == LogPage([], 2, has_more=False)


async def test_a_log_whose_beginning_is_kept_no_longer(events: EventLog) -> None:
    """The span tells where what is kept begins, and a read from before it begins there."""
    kept = a_chunk(a_line(), a_line(), number=5, first_seq=101)
    more = following(kept)

    happened = await logged(events, kept, more)

    assert await events.span(kept.update_id) == Span(101, 103)
    assert await events.read(kept.update_id, 0, WHOLE) == LogPage(list(happened), 103, has_more=False)
    assert await events.read(kept.update_id, 0, 1) == LogPage(list(happened[:1]), 101, has_more=True)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 9, 10, 11])
async def test_a_log_is_read_in_pages_of_any_size(events: EventLog, limit: int) -> None:
    """Whatever the chunks are, pages hold ``limit`` events, in order, each once; the last one says that it is that."""
    log = a_log(*[[a_line(f"{chunk} {line}") for line in range(chunk)] for chunk in (1, 4, 3, 2)])
    happened = await logged(events, *log)

    pages = await read_to_the_end(events, log[0].update_id, limit)

    assert of(pages) == happened
    assert [len(page.events) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert pages[-1].events
    assert [page.seq for page in pages] == [page.events[-1].seq for page in pages]


@pytest.mark.parametrize("after", range(6))
async def test_a_read_begins_behind_any_event(events: EventLog, after: int) -> None:
    """In the middle of a chunk too, and behind the last one, where it stays."""
    log = a_log([a_line(), STATUS, a_line()], [a_line(), STATUS])
    happened = await logged(events, *log)

    assert await events.read(log[0].update_id, after, WHOLE) == LogPage(list(happened[after:]), 5, has_more=False)
    assert await events.read(log[0].update_id, 9, WHOLE) == LogPage([], 9, has_more=False)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
async def test_only_the_kinds_that_are_asked_for_are_read(events: EventLog, limit: int) -> None:
    """They come each once, in order; ``has_more`` is true exactly when there is another one of them."""
    log = a_log(
        [a_line()], [STATUS, a_line(), STATUS], [a_line()] * 3, [a_line(), STATUS], [STATUS, a_line()], [a_line()]
    )
    happened = await logged(events, *log)
    wanted = tuple(event for event in happened if event.what is STATUS)

    pages = await read_to_the_end(events, log[0].update_id, limit, STATUSES)

    assert of(pages) == wanted
    assert [len(page.events) for page in pages] == [len(wanted[at : at + limit]) for at in range(0, 4, limit)]
    assert pages[-1].seq == happened[-1].seq


async def test_where_the_rest_is_not_asked_for_a_read_goes_to_the_end(events: EventLog) -> None:
    """What was looked at and passed over is not looked at again: the page ends with the log."""
    log = a_log([a_line(), STATUS, a_line()], [a_line()])
    await logged(events, *log)
    of_both = STATUSES | {EventKind.LOG_LINE}

    assert await events.read(log[0].update_id, 2, 1, STATUSES) == LogPage([], 4, has_more=False)
    assert await events.read(log[0].update_id, 0, WHOLE, frozenset({EventKind.OWNER_CHANGED})) == LogPage([], 4, False)
    assert await events.read(log[0].update_id, 0, WHOLE, frozenset()) == LogPage([], 4, has_more=False)
    assert await events.read(log[0].update_id, 0, 3, of_both) == await events.read(log[0].update_id, 0, 3)


@pytest.mark.parametrize("kind", EventKind)
async def test_every_kind_can_be_asked_for(events: EventLog, kind: EventKind) -> None:
    """From a chunk of all kinds, and from one that holds nothing else."""
    of_kind = [what for what in HAPPENINGS if what.kind is kind]
    mixed = a_chunk(*HAPPENINGS)
    pure = following(mixed, *of_kind)
    await logged(events, mixed, pure)

    page = await events.read(mixed.update_id, 0, WHOLE, frozenset({kind}))

    assert [event.what for event in page.events] == of_kind * 2


def long_lines(count: int) -> list[LogLine]:
    """Of the greatest length, with characters that JSON or UTF-8 makes longer."""
    texts = ["x" * LINE_LIMIT, "ß" * (LINE_LIMIT // 2), '"\\' * (LINE_LIMIT // 2), "🙂" * (LINE_LIMIT // 4)]
    return [LogLine(Stream.STDERR, texts[number % 4], truncated=True) for number in range(count)]


async def test_the_longest_lines_come_back_in_pages_of_bounded_size(events: EventLog) -> None:
    """However many events are asked for, a page brings READ_LIMIT of bytes or so, and all pages bring everything."""
    log = a_log(*[long_lines(4)] * 20)
    happened = await logged(events, *log)

    pages = await read_to_the_end(events, log[0].update_id, WHOLE)

    assert of(pages) == happened
    assert max(size(page) for page in pages) < 1.1 * READ_LIMIT
    assert len(pages) < 2 * sum(map(size, pages)) / READ_LIMIT + 1


async def test_a_chunk_that_is_larger_than_a_page_comes_in_several(events: EventLog) -> None:
    """What was written at once need not be read at once; nothing is lost between the pages."""
    chunk = a_chunk(*long_lines(60), STATUS)
    await logged(events, chunk)

    pages = await read_to_the_end(events, chunk.update_id, WHOLE)

    assert of(pages) == chunk.events
    assert max(size(page) for page in pages) < 1.1 * READ_LIMIT
    status = chunk.events[-1]
    assert await events.read(chunk.update_id, 0, WHOLE, STATUSES) == LogPage([status], status.seq, has_more=False)


def size(page: LogPage) -> int:
    return sum(len(event.what.text.encode()) for event in page.events if isinstance(event.what, LogLine))


async def test_a_reader_beside_the_writer_gets_every_event_once(events: EventLog) -> None:
    """Whatever is appended between two reads, and during one, is neither passed over nor given twice."""
    log = a_log(*[[a_line(f"{number}")] * 2 + [STATUS] for number in range(40)])
    last = log[-1].events[-1]

    async def follow(kinds: frozenset[EventKind] | None) -> tuple[Event, ...]:
        pages = [LogPage([], 0, has_more=True)]
        while pages[-1].seq < last.seq:
            pages.append(await events.read(log[0].update_id, pages[-1].seq, 7, kinds))
        return of(pages)

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        everything, statuses = tasks.create_task(follow(None)), tasks.create_task(follow(STATUSES))
        happened = await logged(events, *log)

    assert everything.result() == happened
    assert statuses.result() == happened[2::3]
