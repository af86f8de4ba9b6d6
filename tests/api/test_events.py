"""The events of a stack update as clients see them: in pages, pushed, and as the resources that they tell of."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from graphql_api.domain.events import LINE_LIMIT, ResourceChanged, StatusChanged
from graphql_api.domain.ports import Chunk
from graphql_api.domain.progress import ResourceOperation, ResourceProgress, ResourceState
from graphql_api.domain.records import Phase, StackUpdate, Status
from tests.api.parts import Parts, parts
from tests.builders import (
    FAILURE,
    HAPPENINGS,
    NOON,
    PROGRESS,
    SECOND,
    URN,
    a_chunk,
    a_line,
    a_stack_update,
    following,
    kept,
    started,
)
from tests.runner.waiting import eventually
from tests.service import Service, receive

EVENTS = """
fragment Events on StackUpdateEvent {
  __typename seq at
  ... on StatusChanged { status phase }
  ... on LogLine { stream text truncated }
  ... on ResourceChanged { resource { ...Resource } }
  ... on DiagnosticReported { severity message urn }
  ... on CancellationChanged { cancellation { requestedAt requestedBy reason stage nextStageAt lockLeft } }
  ... on DeadlineApproaching { deadline }
  ... on DeadlineChanged { deadline }
  ... on LogOmissionStarted { limit }
  ... on LogOmitted { lines bytes }
  ... on OwnerChanged { epoch }
}
"""
RESOURCE = "fragment Resource on ResourceProgress { id urn name type operation state startedAt endedAt }"
LOG = (
    """
query ($id: ID!, $after: Int! = 0, $first: Int! = 100, $filter: LogFilter) {
  stackUpdate(id: $id) { log(after: $after, first: $first, filter: $filter) { seq hasMore events { ...Events } } }
}"""
    + EVENTS
    + RESOURCE
)
WATCH = (
    """
subscription ($id: ID!, $after: Int! = 0) {
  stackUpdateEvents(id: $id, after: $after) {
    __typename
    ... on StackUpdateEventBatch { seq caughtUp finished events { ...Events } }
    ... on UserError { message code path }
    ... on EventsExpired { firstAvailableSeq }
    ... on CursorAhead { lastSeq }
  }
}"""
    + EVENTS
    + RESOURCE
)
RESOURCES = (
    """
query ($id: ID!, $first: Int, $after: String) {
  stackUpdate(id: $id) {
    resources(first: $first, after: $after) {
      totalCount
      nodes { ...Resource }
      edges { cursor node { id } }
      pageInfo { startCursor endCursor hasNextPage hasPreviousPage }
    }
    progress { total inProgress done failed interrupted counts { operation state count } }
  }
}
"""
    + RESOURCE
)
UNKNOWN = "0" * 24
END = StatusChanged(Status.FAILED, Phase.FINISHED)
MOMENT = "2026-01-01T12:00:01.123Z"
CREATED = {
    "id": f"{URN}#create",
    "urn": URN,
    "name": "d$e",
    "type": "a:b:C",
    "operation": "CREATE",
    "state": "IN_PROGRESS",
    "startedAt": "2026-01-01T12:00:00.123Z",
    "endedAt": None,
}
CANCELLED = {"requestedAt": CREATED["startedAt"], "requestedBy": None, "lockLeft": False, "nextStageAt": None}
#: What tests/builders.HAPPENINGS are to clients, without seq and time.
SHOWN: list[dict[str, Any]] = [
    {"__typename": "StatusChanged", "status": "IN_PROGRESS", "phase": "QUEUED"},
    {"__typename": "LogLine", "stream": "STDOUT", "text": "Zeile ß \x00 \ud800 🙂", "truncated": False},
    {"__typename": "LogLine", "stream": "STDERR", "text": "", "truncated": True},
    {"__typename": "ResourceChanged", "resource": CREATED},
    {
        "__typename": "ResourceChanged",
        "resource": {**CREATED, "id": f"{URN}#other", "operation": "OTHER", "state": "DONE", "endedAt": MOMENT},
    },
    {"__typename": "DiagnosticReported", "severity": "ERROR", "message": "It's \ud800 wrong.\n", "urn": URN},
    {"__typename": "DiagnosticReported", "severity": "WARNING", "message": "of no resource", "urn": None},
    {
        "__typename": "CancellationChanged",
        "cancellation": {
            **CANCELLED,
            "requestedBy": "ann@example",
            "reason": "ASKED",
            "stage": "INTERRUPTED",
            "nextStageAt": "2026-01-01T12:00:05.123Z",
            "lockLeft": True,
        },
    },
    {"__typename": "CancellationChanged", "cancellation": {**CANCELLED, "reason": "TIMEOUT", "stage": "REQUESTED"}},
    {"__typename": "DeadlineApproaching", "deadline": MOMENT},
    {"__typename": "DeadlineChanged", "deadline": "2026-01-01T12:00:02.123Z"},
    {"__typename": "LogOmissionStarted", "limit": 100_000_000},
    {"__typename": "LogOmitted", "lines": 7, "bytes": 2**40},
    {"__typename": "OwnerChanged", "epoch": 2},
    {"__typename": "StatusChanged", "status": "CANCELLED", "phase": "FINISHED"},
]


async def an_update(made: Parts) -> StackUpdate:
    """One that runs, without a log yet."""
    update = a_stack_update()
    await kept(made.backends.updates, update, started(update))
    return started(update)


async def a_log(made: Parts, *what: Any) -> Chunk:
    """The log of a stack update that runs, so far; by default of all kinds of events."""
    update = await an_update(made)
    return await made.append(a_chunk(*(what or HAPPENINGS), update_id=update.id))


async def log(made: Parts, chunk: Chunk, **arguments: Any) -> dict[str, Any]:
    page: dict[str, Any] = (await made.execute(LOG, id=chunk.update_id, **arguments))["stackUpdate"]["log"]
    return page


def seqs(page: dict[str, Any]) -> list[int]:
    return [event["seq"] for event in page["events"]]


# --- pages


async def test_every_event_is_shown_with_all_that_it_tells() -> None:
    """All kinds of events, in their order, each with its seq and its time."""
    async with parts() as made:
        page = await log(made, await a_log(made))

    assert [event.pop("seq") for event in page["events"]] == list(range(1, len(HAPPENINGS) + 1))
    assert [event.pop("at") for event in page["events"]] == [
        f"2026-01-01T12:00:00.{124 + number}Z" for number in range(len(HAPPENINGS))
    ]
    assert page["events"] == SHOWN


async def test_a_log_is_read_page_by_page() -> None:
    """Each page says where the next begins, and the last that it is the last."""
    async with parts() as made:
        chunk = await a_log(made, *[a_line()] * 7)
        pages = [await log(made, chunk, first=3)]
        while pages[-1]["hasMore"]:
            pages.append(await log(made, chunk, first=3, after=pages[-1]["seq"]))
        beyond = await log(made, chunk, after=9)

    assert [seqs(page) for page in pages] == [[1, 2, 3], [4, 5, 6], [7]]
    assert (beyond["events"], beyond["hasMore"]) == ([], False)


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        (None, list(range(1, 16))),
        ({}, list(range(1, 16))),
        ({"streams": None, "severities": None, "urn": None, "text": None}, list(range(1, 16))),
        ({"streams": ["STDERR"]}, [3]),
        ({"streams": []}, []),
        ({"severities": ["ERROR"]}, [6]),
        ({"streams": ["STDOUT", "STDERR"], "severities": ["WARNING"]}, [2, 3, 7]),
        ({"urn": URN}, [4, 5, 6]),
        ({"text": "ZEILE SS"}, [2]),
        ({"text": "wrong", "severities": ["WARNING", "ERROR"]}, [6]),
    ],
)
async def test_a_log_is_filtered(filter_: dict[str, Any] | None, expected: list[int]) -> None:
    """An event has to satisfy all that is given; null and leaving out are the same."""
    async with parts() as made:
        page = await log(made, await a_log(made), filter=filter_)

    assert (seqs(page), page["seq"], page["hasMore"]) == (expected, 15, False)


async def test_an_update_without_events_has_an_empty_log() -> None:
    """One that waits, and one that an older version of the service wrote."""
    async with parts() as made:
        waiting, old = a_stack_update(), a_stack_update()
        await kept(made.backends.updates, waiting)
        await kept(made.backends.updates, old, old.failed(NOON, FAILURE))
        pages = [(await made.execute(LOG, id=one.id))["stackUpdate"]["log"] for one in (waiting, old)]

    assert pages == [{"events": [], "seq": 0, "hasMore": False}] * 2


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"after": -1}, "after"),
        ({"first": 0}, "first"),
        ({"first": 1001}, "first"),
        ({"filter": {"text": "x" * 1001}}, "text"),
        ({"filter": {"text": "\ud800"}}, "text"),
        ({"filter": {"urn": "\ud800"}}, "urn"),
    ],
)
async def test_bad_arguments_of_a_log_are_errors(arguments: dict[str, Any], argument: str) -> None:
    """With a code and the argument's name."""
    async with parts() as made:
        chunk = await a_log(made)
        errors = await made.errors(LOG, id=chunk.update_id, **arguments)

    assert errors == [{"code": "BAD_USER_INPUT", "argument": argument}]


# --- pushed


@asynccontextmanager
async def pushes(service: Service, id_: str, after: int = 0) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Every push, over a plain websocket, until the server completes the subscription."""

    async def each() -> AsyncGenerator[dict[str, Any], None]:
        while (message := await receive(socket))["type"] == "next":
            assert "errors" not in message["payload"], message
            yield message["payload"]["data"]["stackUpdateEvents"]
        assert message == {"type": "complete", "id": "1"}

    async with service.websocket() as socket:
        payload = {"query": WATCH, "variables": {"id": id_, "after": after}}
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        async with aclosing(each()) as batches:
            yield batches


async def test_events_are_pushed_as_they_come_until_the_end() -> None:
    """What is there comes first, then each append; after the last event the subscription completes."""
    async with parts() as made, made.served() as service:
        chunk = await a_log(made, a_line("one"), a_line("two"))
        async with pushes(service, chunk.update_id) as batches:
            first = await anext(batches)
            chunk = await made.append(following(chunk, a_line("three")))
            second = await anext(batches)
            await made.append(following(chunk, a_line("four"), END))
            rest = [batch async for batch in batches]

    assert [seqs(batch) for batch in (first, second, *rest)] == [[1, 2], [3], [4, 5]]
    assert [batch["finished"] for batch in (first, second, *rest)] == [False, False, True]
    assert first["events"][1]["text"] == "two"


async def test_a_client_that_comes_back_goes_on_where_it_was() -> None:
    """With the seq of its last batch it gets everything after that, once."""
    async with parts() as made, made.served() as service:
        chunk = await a_log(made, *[a_line()] * 5)
        async with pushes(service, chunk.update_id) as batches:
            seq = (await anext(batches))["seq"]
        await made.append(following(chunk, *[a_line()] * 3, END))
        async with pushes(service, chunk.update_id, after=seq) as batches:
            got = [batch async for batch in batches]
        async with pushes(service, chunk.update_id, after=got[-1]["seq"]) as batches:
            nothing = [batch async for batch in batches]

    assert [seqs(batch) for batch in got] == [[6, 7, 8, 9]]
    assert [(batch["events"], batch["finished"]) for batch in nothing] == [([], True)]


async def test_a_queued_update_can_be_watched() -> None:
    """An empty batch says at once that the subscription stands."""
    async with parts() as made, made.served() as service:
        update = a_stack_update()
        await kept(made.backends.updates, update)
        async with pushes(service, update.id) as batches:
            assert (await anext(batches))["events"] == []
            await made.append(a_chunk(a_line(), END, update_id=update.id))
            assert [seqs(batch) async for batch in batches] == [[1, 2]]


async def test_long_lines_fit_a_websocket_with_common_limits() -> None:
    """A client that takes messages of one mebibyte gets a log of the longest lines, in whatever letters."""
    async with parts() as made, made.served() as service:
        texts = [letter * (LINE_LIMIT // len(letter.encode())) for letter in ("x", '"', "ß", "€", "🙂")] * 8
        chunk = await a_log(made, *map(a_line, texts), END)
        async with pushes(service, chunk.update_id) as batches:
            got = [event async for batch in batches for event in batch["events"]]

    assert [event["text"] for event in got[:-1]] == texts


async def test_what_can_not_be_watched_is_answered_with_a_type() -> None:
    """An unknown stack update, events that are gone, and a seq that there is not yet."""
    async with parts() as made, made.served() as service:
        old = a_stack_update()
        await kept(made.backends.updates, old, old.failed(NOON, FAILURE))
        running = (await a_log(made, a_line())).update_id
        answers = []
        for id_, after in ((UNKNOWN, 0), (old.id, 0), (running, 2)):
            async with pushes(service, id_, after) as batches:
                answers += [batch async for batch in batches]

    assert [(answer["__typename"], answer["code"]) for answer in answers] == [
        ("StackUpdateNotFound", "STACK_UPDATE_NOT_FOUND"),
        ("EventsExpired", "EVENTS_EXPIRED"),
        ("CursorAhead", "CURSOR_AHEAD"),
    ]
    assert (answers[1]["firstAvailableSeq"], answers[2]["lastSeq"]) == (None, 1)


@pytest.mark.parametrize(("id_", "after", "argument"), [("x", 0, "id"), (UNKNOWN, -1, "after")])
async def test_a_malformed_subscription_is_an_error_with_a_code(id_: str, after: int, argument: str) -> None:
    """It is told under BAD_USER_INPUT, and nobody goes on listening."""
    async with parts() as made, made.served() as service:
        async with service.websocket() as socket:
            payload = {"query": WATCH, "variables": {"id": id_, "after": after}}
            await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
            message = await receive(socket)
        assert made.wakeups.topics == frozenset()

    [error] = message["payload"]["errors"] if message["type"] == "next" else message["payload"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": argument}


async def test_many_watch_while_much_is_written() -> None:
    """Ten clients get each of thousands of events once, in order, while they are appended."""
    async with parts() as made, made.served() as service:
        chunk = await a_log(made, a_line())

        async def watch() -> list[int]:
            async with pushes(service, chunk.update_id) as batches:
                return [seq async for batch in batches for seq in seqs(batch)]

        async def write() -> None:
            last = chunk
            for _ in range(100):
                last = await made.append(following(last, *[a_line()] * 30))
                await asyncio.sleep(0.001)
            await made.append(following(last, END))

        *got, _ = await asyncio.gather(*[watch() for _ in range(10)], write())

    assert got == [list(range(1, 3003))] * 10


# --- resources


async def test_clients_that_leave_while_much_is_pushed_leave_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    """When their connections break, nobody listens for them any more, and the service's log tells of no trouble."""
    async with parts() as made, made.served() as service:
        update_id = (await a_log(made, *[a_line("x" * 1000)] * 5000)).update_id
        for _ in range(10):
            async with service.websocket() as socket:
                payload = {"query": WATCH, "variables": {"id": update_id}}
                for number in range(5):
                    await socket.send(json.dumps({"type": "subscribe", "id": str(number), "payload": payload}))
                await receive(socket)
                socket.transport.abort()
        await eventually(lambda: not made.wakeups.topics)

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def changed(name: str, state: ResourceState) -> ResourceChanged:
    ended = None if state is ResourceState.IN_PROGRESS else NOON + SECOND
    return ResourceChanged(
        ResourceProgress(f"urn:pulumi:a::b::c:d:E::{name}", "c:d:E", ResourceOperation.CREATE, state, NOON, ended)
    )


async def test_resources_stand_in_pages_that_stay_right_while_more_come() -> None:
    """In the order in which Pulumi began; each page goes on where the one before ended."""
    async with parts() as made:
        chunk = await a_log(made, *[changed(name, ResourceState.IN_PROGRESS) for name in "cab"])
        pages = [(await made.execute(RESOURCES, id=chunk.update_id, first=2))["stackUpdate"]["resources"]]
        await made.append(following(chunk, changed("c", ResourceState.DONE), changed("0", ResourceState.FAILED)))
        while pages[-1]["pageInfo"]["hasNextPage"]:
            after = pages[-1]["pageInfo"]["endCursor"]
            found = await made.execute(RESOURCES, id=chunk.update_id, first=1, after=after)
            pages.append(found["stackUpdate"]["resources"])
        whole = (await made.execute(RESOURCES, id=chunk.update_id))["stackUpdate"]["resources"]

    assert [[node["name"] for node in page["nodes"]] for page in pages] == [["c", "a"], ["b"], ["0"]]
    assert [page["totalCount"] for page in pages] == [3, 4, 4]
    assert [page["pageInfo"]["hasPreviousPage"] for page in pages] == [False, True, True]
    assert [(node["name"], node["state"]) for node in whole["nodes"]] == [
        ("c", "DONE"),
        ("a", "IN_PROGRESS"),
        ("b", "IN_PROGRESS"),
        ("0", "FAILED"),
    ]
    assert [edge["cursor"] for edge in whole["edges"]][::3] == [
        pages[0]["pageInfo"]["startCursor"],
        pages[2]["pageInfo"]["endCursor"],
    ]


async def test_an_update_without_resources_has_an_empty_list() -> None:
    """Without cursors."""
    async with parts() as made:
        update = await an_update(made)
        found = (await made.execute(RESOURCES, id=update.id))["stackUpdate"]["resources"]

    empty = {"startCursor": None, "endCursor": None, "hasNextPage": False, "hasPreviousPage": False}
    assert found == {"totalCount": 0, "nodes": [], "edges": [], "pageInfo": empty}


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [({"first": 0}, "first"), ({"first": 101}, "first"), ({"after": "x"}, "after"), ({"after": "LTE="}, "after")],
)
async def test_bad_arguments_of_resources_are_errors(arguments: dict[str, Any], argument: str) -> None:
    """With a code and the argument's name; a cursor must be one that was given out."""
    async with parts() as made:
        update = await an_update(made)
        errors = await made.errors(RESOURCES, id=update.id, **arguments)

    assert errors == [{"code": "BAD_USER_INPUT", "argument": argument}]


async def test_progress_counts_by_operation_and_state() -> None:
    """The sums by state stand beside the counts that they are made of."""
    async with parts() as made:
        update = await an_update(made)
        running = update.running(NOON)
        await made.backends.updates.save(running)
        await made.backends.updates.save(running.progressed(NOON, PROGRESS, ()))
        progress = (await made.execute(RESOURCES, id=update.id))["stackUpdate"]["progress"]

    assert progress == {
        "total": 7,
        "inProgress": 0,
        "done": 3,
        "failed": 1,
        "interrupted": 1,
        "counts": [
            {"operation": "CREATE", "state": "DONE", "count": 3},
            {"operation": "CREATE", "state": "INTERRUPTED", "count": 1},
            {"operation": "DELETE_REPLACED", "state": "FAILED", "count": 1},
        ],
    }
