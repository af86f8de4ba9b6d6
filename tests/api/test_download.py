"""The log as a file: what it holds, what it is called, what is refused, and that it is read while it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from graphql_api.adapters import open_backends
from graphql_api.domain.errors import StoreUnavailable
from graphql_api.domain.events import DiagnosticReported, EventKind, LogLine, LogOmitted, Severity, Stream
from graphql_api.domain.ports import Chunk, EventLog, LogPage, Span
from graphql_api.domain.records import StackUpdateId
from graphql_api.service.batches import BATCH_EVENTS
from tests.api.parts import CountingHistory, Parts
from tests.api.test_events import SHOWN, UNKNOWN
from tests.builders import FAILURE, HAPPENINGS, NOON, a_chunk, a_line, a_stack_update, following, kept, started
from tests.runner.waiting import eventually
from tests.service import PATIENCE, Service

FORMATS = pytest.mark.parametrize("name", ["log.txt", "log.ndjson"])
TOKEN = "correct-horse-battery"  # noqa: S105 (a test's token)


@dataclass
class CountingLog:
    """The logs, counting how often they are read; they can be away."""

    log: EventLog
    reads: int = 0
    away: bool = False

    async def append(self, chunk: Chunk) -> bool:
        return await self.log.append(chunk)

    async def last(self, update_id: StackUpdateId) -> Chunk | None:
        return await self.log.last(update_id)

    async def span(self, update_id: StackUpdateId) -> Span | None:
        if self.away:
            raise StoreUnavailable("The database did not answer.")
        return await self.log.span(update_id)

    async def read(
        self, update_id: StackUpdateId, after: int, limit: int, kinds: frozenset[EventKind] | None = None
    ) -> LogPage:
        self.reads += 1
        return await self.log.read(update_id, after, limit, kinds)


@asynccontextmanager
async def serving(token: str | None = None) -> AsyncIterator[tuple[Parts, Service]]:
    async with open_backends("sqlite:///:memory:") as backends:
        counting = replace(backends, events=CountingLog(backends.events))
        made = Parts(counting, CountingHistory(backends.history))
        async with made.served(token) as service:
            yield made, service


def counted(made: Parts) -> CountingLog:
    return cast("CountingLog", made.backends.events)


async def a_log(made: Parts, *what: Any) -> Chunk:
    """The log of a stack update that runs, so far."""
    update = a_stack_update()
    await kept(made.backends.updates, update, started(update))
    return await made.append(a_chunk(*what, update_id=update.id))


# --- what it holds


async def test_the_text_holds_what_pulumi_printed() -> None:
    """The lines of both streams in their order, one a line; diagnostics stand in them; what was left out is told."""
    async with serving() as (made, service):
        chunk = await a_log(
            made,
            a_line("one ß"),
            LogLine(Stream.STDERR, "two"),
            DiagnosticReported(Severity.ERROR, "two"),
            a_line(""),
            LogOmitted(7, 2**40),
            a_line("last"),
        )
        answer = await service.request("GET", f"/stack-updates/{chunk.update_id}/log.txt")

    assert answer.status == 200
    assert answer.body.decode() == "one ß\ntwo\n\n[7 lines of 1099511627776 bytes were left out here]\nlast\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="stack-update-{chunk.update_id}.txt"'


async def test_ndjson_holds_every_event_with_the_names_of_the_schema() -> None:
    """One object a line, each with what the API shows of the event, and its type."""
    async with serving() as (made, service):
        chunk = await a_log(made, *HAPPENINGS)
        answer = await service.request("GET", f"/stack-updates/{chunk.update_id}/log.ndjson")

    objects = [json.loads(line) for line in answer.body.decode().splitlines()]
    assert [one.pop("seq") for one in objects] == list(range(1, len(HAPPENINGS) + 1))
    assert objects[0].pop("at") == "2026-01-01T12:00:00.124Z"
    without_time = [{"__typename": one.pop("type"), **one} for one in objects]
    for one in without_time:
        one.pop("at", None)
    half = json.loads(json.dumps(SHOWN).replace("\\ud800 ", "? "))  # half a character can't be sent
    assert without_time == half
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"].endswith(f'"stack-update-{chunk.update_id}.ndjson"')


@FORMATS
async def test_a_browser_keeps_it_to_itself_and_runs_none_of_it(name: str) -> None:
    """It is neither guessed to be a page nor stored anywhere else."""
    async with serving() as (made, service):
        chunk = await a_log(made, a_line("<script>"))
        answer = await service.request("GET", f"/stack-updates/{chunk.update_id}/{name}")

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-disposition"].startswith("attachment")


async def test_it_begins_after_the_seq_that_is_asked_for() -> None:
    """After the last one, and of a stack update without events yet, it is empty."""
    async with serving() as (made, service):
        chunk = await a_log(made, a_line("one"), a_line("two"), a_line("three"))
        waiting = a_stack_update()
        await kept(made.backends.updates, waiting)
        path = f"/stack-updates/{chunk.update_id}/log.txt"
        paths = [f"{path}?after=0", f"{path}?after=2", f"{path}?after=3", f"/stack-updates/{waiting.id}/log.txt"]
        answers = [await service.request("GET", one) for one in paths]

    assert [answer.body for answer in answers] == [b"one\ntwo\nthree\n", b"three\n", b"", b""]
    assert {answer.status for answer in answers} == {200}


@FORMATS
async def test_the_head_alone_can_be_asked_for(name: str) -> None:
    """HEAD answers as GET does, without reading the log."""
    async with serving() as (made, service):
        chunk = await a_log(made, a_line())
        path = f"/stack-updates/{chunk.update_id}/{name}"
        head, whole = [await service.request(method, path) for method in ("HEAD", "GET")]

    assert (head.status, head.body) == (200, b"")
    assert [head.headers[key] for key in ("content-type", "content-disposition")] == [
        whole.headers[key] for key in ("content-type", "content-disposition")
    ]
    assert counted(made).reads == 1


# --- what is refused


@FORMATS
async def test_refusals_look_like_those_of_the_api(name: str) -> None:
    """Each with its status, its code and a sentence, in the form of a GraphQL error."""
    async with serving() as (made, service):
        chunk = await a_log(made, a_line())
        old = a_stack_update()
        await kept(made.backends.updates, old, old.failed(NOON, FAILURE))
        asked = {
            f"{UNKNOWN}/{name}": (404, "STACK_UPDATE_NOT_FOUND"),
            f"x/{name}": (400, "BAD_USER_INPUT"),
            f"{old.id}/{name}": (410, "EVENTS_EXPIRED"),
            f"{chunk.update_id}/{name}?after=2": (400, "CURSOR_AHEAD"),
            **{
                f"{chunk.update_id}/{name}?after={after}": (400, "BAD_USER_INPUT")
                for after in ("-1", "x", "", "1.5", "99999999999", "%D9%A1")
            },
        }
        answers = {path: await service.request("GET", f"/stack-updates/{path}") for path in asked}
        counted(made).away = True
        away = await service.request("GET", f"/stack-updates/{chunk.update_id}/{name}")

    assert {path: (answer.status, answer.errors[0]["code"]) for path, answer in answers.items()} == asked
    assert (away.status, away.errors[0]["code"]) == (503, "STORE_UNAVAILABLE")
    assert all(answer.errors[0]["message"].endswith(".") for answer in [*answers.values(), away])


@FORMATS
async def test_it_is_as_well_guarded_as_the_rest(name: str) -> None:
    """Without the token, from another page, or under another host name nothing is given."""
    async with serving(TOKEN) as (made, service):
        path = f"/stack-updates/{(await a_log(made, a_line())).update_id}/{name}"
        right = {"Authorization": f"Bearer {TOKEN}"}
        answers = [
            await service.request("GET", path, headers=headers)
            for headers in ({}, right, {**right, "Origin": "https://evil.example"}, {**right, "Host": "evil.example"})
        ]

    assert [answer.status for answer in answers] == [401, 200, 403, 421]


async def test_nothing_but_reading_is_answered() -> None:
    """Other methods are refused."""
    async with serving() as (_, service):
        answer = await service.request("POST", f"/stack-updates/{UNKNOWN}/log.txt")

    assert answer.status == 405


# --- how it is sent


async def a_long_log(made: Parts, pages: int) -> StackUpdateId:
    """So many reads of the log, each of about 500 KB of lines."""
    chunk = await a_log(made, *[a_line("x" * 1000)] * BATCH_EVENTS)
    for _ in range(pages - 1):
        chunk = await made.append(following(chunk, *[a_line("x" * 1000)] * BATCH_EVENTS))
    return chunk.update_id


async def test_a_long_log_comes_whole() -> None:
    """Page by page, to what there was when it was asked for."""
    async with serving() as (made, service):
        id_ = await a_long_log(made, 10)
        answer = await service.request("GET", f"/stack-updates/{id_}/log.txt")

    assert answer.body == (b"x" * 1000 + b"\n") * BATCH_EVENTS * 10
    assert counted(made).reads == 10


async def test_no_more_is_read_than_the_client_takes() -> None:
    """One that takes nothing stops the reading; one that goes away ends it."""
    async with serving() as (made, service):
        id_ = await a_long_log(made, 60)
        tasks = asyncio.all_tasks()
        host, port = service.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1000)
        writer.write(f"GET /stack-updates/{id_}/log.txt HTTP/1.1\r\nHost: {service.address}\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            reads = 0
            while reads != counted(made).reads:
                reads = counted(made).reads
                await asyncio.sleep(0.3)
        writer.transport.abort()
        await eventually(lambda: not asyncio.all_tasks() - tasks)

    assert 0 < reads < 60
    assert counted(made).reads <= reads + 1
