"""Logs as text: whatever happens is read as it was written, in few bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphql_api.adapters import open_backends
from graphql_api.adapters.stored_events import (
    closing_text,
    events_text,
    kinds_of,
    mask_of,
    place_text,
    read_closing,
    read_events,
    read_place,
)
from graphql_api.domain.events import (
    CancellationChanged,
    DeadlineApproaching,
    DeadlineChanged,
    DiagnosticReported,
    Event,
    EventKind,
    Happening,
    LogLine,
    LogOmissionStarted,
    LogOmitted,
    OwnerChanged,
    ResourceChanged,
    Severity,
    StatusChanged,
    Stream,
)
from graphql_api.domain.ports import Closing
from graphql_api.domain.progress import Progress, ProgressCount, ResourceOperation, ResourceProgress, ResourceState
from graphql_api.domain.records import (
    Cancellation,
    CancellationReason,
    CancellationStage,
    Diagnostic,
    Ending,
    Failure,
    FailureKind,
    Phase,
    StackOutput,
    StackUpdate,
    Status,
)
from tests.builders import HAPPENINGS, NOON, a_chunk, a_closing, a_line, a_stack_update


def stands_alone(text: str) -> bool:
    """Whether no two halves of one character follow each other: JSON would join them."""
    return text == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def cut(time: datetime) -> datetime:
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


TEXTS = st.text(st.characters()).filter(stands_alone)
NUMBERS = st.integers(0, 2**62)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(cut)  # noqa: DTZ001
RESOURCES = st.builds(
    ResourceProgress,
    TEXTS,
    TEXTS,
    st.sampled_from(ResourceOperation),
    st.sampled_from(ResourceState),
    TIMES,
    st.none() | TIMES,
)
CANCELLATIONS = st.builds(
    Cancellation,
    TIMES,
    st.sampled_from(CancellationReason),
    st.sampled_from(CancellationStage),
    st.none() | TIMES,
    st.booleans(),
    st.none() | TEXTS,
)
HAPPENING: st.SearchStrategy[Happening] = st.one_of(
    st.builds(LogLine, st.sampled_from(Stream), TEXTS, st.booleans()),
    st.builds(StatusChanged, st.sampled_from(Status), st.sampled_from(Phase)),
    st.builds(ResourceChanged, RESOURCES),
    st.builds(DiagnosticReported, st.sampled_from(Severity), TEXTS, st.none() | TEXTS),
    st.builds(CancellationChanged, CANCELLATIONS),
    st.builds(DeadlineApproaching, TIMES),
    st.builds(DeadlineChanged, TIMES),
    st.builds(LogOmissionStarted, NUMBERS),
    st.builds(LogOmitted, NUMBERS, NUMBERS),
    st.builds(OwnerChanged, NUMBERS),
)
HAPPENED = st.lists(st.tuples(TIMES, HAPPENING), min_size=1, max_size=20)
KINDS = st.none() | st.frozensets(st.sampled_from(EventKind))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=10,
)
PLACES = st.dictionaries(TEXTS, JSON, max_size=5)
OUTPUTS = st.lists(st.builds(StackOutput, TEXTS, JSON, st.booleans())).map(tuple)
COUNTS = st.builds(ProgressCount, st.sampled_from(ResourceOperation), st.sampled_from(ResourceState), NUMBERS)
ENDINGS = st.builds(
    Ending,
    st.none() | st.integers(-64, 255),
    OUTPUTS,
    st.builds(Progress, st.lists(COUNTS).map(tuple), st.none() | NUMBERS),
    st.none() | CANCELLATIONS,
)
FAILURES = st.builds(
    Failure,
    st.sampled_from(FailureKind),
    TEXTS,
    st.booleans(),
    st.lists(st.builds(Diagnostic, TEXTS, st.none() | TEXTS)).map(tuple),
)
WITHOUT_LIMIT = settings(database=None, deadline=None)


def events_of(happened: Sequence[tuple[datetime, Happening]], first_seq: int) -> list[Event]:
    return [Event(seq, at, what) for seq, (at, what) in enumerate(happened, start=first_seq)]


@given(HAPPENED, st.integers(1, 2**53), st.integers(-3, 25), KINDS)
@WITHOUT_LIMIT
def test_whatever_happens_is_read_as_it_was_written(
    happened: list[tuple[datetime, Happening]], first_seq: int, skipped: int, kinds: frozenset[EventKind] | None
) -> None:
    """Any events, in any order of time, with any characters, as a database takes text; from any of them on, of any
    kinds.
    """
    events = events_of(happened, first_seq)
    after = max(0, first_seq + skipped - 1)

    text = events_text(events).encode().decode()

    assert "\0" not in text
    assert read_events(text, first_seq) == events
    wanted = [event for event in events if event.seq > after and (kinds is None or event.what.kind in kinds)]
    assert read_events(text, first_seq, after, kinds) == wanted
    assert {kind for kind in EventKind if kinds_of(events) & mask_of([kind])} == {what.kind for _, what in happened}


@given(PLACES)
@WITHOUT_LIMIT
def test_any_place_is_read_as_it_was_written(place: dict[str, Any]) -> None:
    """Whatever a writer notes for its successor, in JSON's values."""
    assert read_place(place_text(place).encode().decode()) == place


@given(TIMES, ENDINGS, st.none() | FAILURES, TEXTS)
@WITHOUT_LIMIT
def test_any_closing_is_read_as_it_was_written(
    now: datetime, ending: Ending, failure: Failure | None, output: str
) -> None:
    """A lost record can be made from it, to the last of its parts."""
    started = a_stack_update(created_at=NOON, requested_by="ann").started(now)
    ended: list[StackUpdate] = [started.failed(now, failure, ending)] if failure else []

    for update in (*ended, started.succeeded(now, ending), started.cancelled(now, ending)):
        text = closing_text(Closing(update, output))
        assert text
        assert read_closing(text.encode().decode()) == Closing(update, output)


def test_a_closing_from_before_callers_had_names_is_read() -> None:
    """A log that was written before an upgrade still makes its record."""
    update = a_stack_update(created_at=NOON)
    stored = json.loads(closing_text(a_closing(update)) or "")
    del stored["update"]["requested_by"]

    assert read_closing(json.dumps(stored)) == a_closing(update)


@given(st.lists(HAPPENED, min_size=1, max_size=5), st.integers(1, 12), KINDS)
@settings(WITHOUT_LIMIT, max_examples=50)
def test_whatever_is_logged_is_read_from_the_store(
    chunks: list[list[tuple[datetime, Happening]]], limit: int, kinds: frozenset[EventKind] | None
) -> None:
    """Any log, read in pages of any size, of any kinds, is what was appended."""

    async def scenario() -> None:
        update_id, seq, wanted = a_stack_update().id, 0, []
        async with open_backends("sqlite:///:memory:") as backends:
            for number, happened in enumerate(chunks, start=1):
                events = events_of(happened, seq + 1)
                seq = events[-1].seq
                wanted += [event for event in events if kinds is None or event.what.kind in kinds]
                chunk = a_chunk(events=tuple(events), update_id=update_id, number=number)
                assert await backends.events.append(chunk)
                assert await backends.events.last(update_id) == chunk

            read, after, has_more = list[Event](), 0, True
            while has_more:
                page = await backends.events.read(update_id, after, limit, kinds)
                assert page.has_more == (len(read) + len(page.events) < len(wanted))
                read, after, has_more = [*read, *page.events], page.seq, page.has_more
            assert (read, after) == (wanted, seq)

    asyncio.run(scenario())


def test_a_line_takes_little_room_beside_its_text() -> None:
    """A log of lines is hardly larger than what was printed."""
    lines = [Event(seq, NOON, a_line("x" * 100)) for seq in range(1, 1001)]

    assert len(events_text(lines)) < 1000 * (100 + 12)


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_is_among_the_examples(kind: EventKind) -> None:
    """What the contract tests store leaves no kind of event out."""
    assert kind in {what.kind for what in HAPPENINGS}


def test_what_is_finer_than_a_millisecond_is_cut_off() -> None:
    """As everywhere: a time is read as every store and the API can hold it."""
    event = Event(1, NOON + timedelta(microseconds=999), a_line())

    assert read_events(events_text([event]), 1) == [Event(1, NOON, a_line())]


@pytest.mark.parametrize("text", ["", "[]", "[1]", '[1,[[0,"no kind",1]]]', '[1,[[0,"status","in_progress"]]]', "7"])
def test_what_is_no_log_is_not_taken_for_one(text: str) -> None:
    """Text of another program, or of another version, is an error and no event."""
    with pytest.raises((ValueError, LookupError, TypeError)):
        read_events(text, 1)
