"""Following a stack update through a server that does what a script says: what is asked, what comes, what is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from graphql_api.cli.client import Batch, EventsExpired, RequestRefused, ServerUnavailable, connect
from graphql_api.cli.following import follow, merged, paced

ID = "6b061977c81259f0ca000001"
CHANGES, EVENTS = "stackUpdateChanged", "stackUpdateEvents"
#: Instead of a push: the subscription completes, it ends with an error of the store, or the connection is cut.
COMPLETE, STORE_AWAY, CUT = object(), object(), object()
PATIENCE = timedelta(seconds=20)

Script = Mapping[str, Iterable[object]]


@dataclass
class Turns:
    """Another answer each time that a field is asked for."""

    answers: list[list[object]]

    def __iter__(self) -> Iterator[object]:
        return iter(self.answers.pop(0))


@dataclass
class Server:
    """A server that gives each connection its script: for each field that is asked for, what it answers."""

    scripts: list[Script]
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    connections: int = 0

    async def answer(self, connection: ServerConnection) -> None:
        script = self.scripts[self.connections]
        self.connections += 1
        async for text in connection:
            message = json.loads(text)
            if message["type"] == "connection_init":
                await connection.send(json.dumps({"type": "connection_ack"}))
            elif message["type"] == "subscribe":
                (name,) = (name for name in script if f"  {name}(" in message["payload"]["query"])
                self.asked.append((name, message["payload"]["variables"]))
                for push in script[name]:
                    await self.push(connection, message["id"], name, push)

    async def push(self, connection: ServerConnection, id_: str, name: str, push: object) -> None:
        if push is CUT:
            connection.transport.abort()
        elif push is COMPLETE:
            await connection.send(json.dumps({"type": "complete", "id": id_}))
        elif push is STORE_AWAY:
            error = {"message": "The store is away.", "extensions": {"code": "STORE_UNAVAILABLE"}}
            await connection.send(json.dumps({"type": "error", "id": id_, "payload": [error]}))
        else:
            await connection.send(json.dumps({"type": "next", "id": id_, "payload": {"data": {name: push}}}))


@asynccontextmanager
async def serving(*scripts: Script) -> AsyncIterator[tuple[str, Server]]:
    server = Server(list(scripts))
    protocols = [Subprotocol("graphql-transport-ws")]
    async with serve(server.answer, "127.0.0.1", 0, subprotocols=protocols, compression=None) as listening:
        yield f"http://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}", server


def push(status: str) -> dict[str, Any]:
    return {"stackUpdate": {"id": ID, "status": status}}


def batch(*seqs: int, finished: bool = False) -> dict[str, Any]:
    events = [{"__typename": "LogLine", "seq": seq, "text": f"line {seq}"} for seq in seqs]
    return {"events": events, "seq": seqs[-1], "caughtUp": True, "finished": finished}


def expired(first: int | None) -> dict[str, Any]:
    return {"message": "They are kept no longer.", "code": "EVENTS_EXPIRED", "firstAvailableSeq": first}


async def followed(address: str, said: list[str], **options: Any) -> list[int | str]:
    """What following gives: the seqs of the events, and the statuses of the pushes."""
    found: list[int | str] = []
    async with aclosing(follow(address, None, ID, said.append, patience=PATIENCE, **options)) as arriving:
        async for news in arriving:
            found += [event["seq"] for event in news.events] if isinstance(news, Batch) else [news["status"]]
    return found


async def test_a_log_goes_on_where_the_connection_was_lost() -> None:
    """After a lost connection the log is asked for after the last seq: no event is missing and none comes twice."""
    said: list[str] = []
    first: Script = {CHANGES: [push("IN_PROGRESS")], EVENTS: [batch(1, 2), batch(3), CUT]}
    second = {CHANGES: [push("SUCCESS"), COMPLETE], EVENTS: [batch(4), batch(5, finished=True), COMPLETE]}
    async with serving(first, second) as (address, server):
        found = await followed(address, said)

    assert [seq for seq in found if isinstance(seq, int)] == [1, 2, 3, 4, 5]
    assert [asked["after"] for name, asked in server.asked if name == EVENTS] == [0, 3]
    assert server.connections == 2
    assert said == [
        f"The connection to {address} was lost (closed). Trying again for 20 s.",
        f"Connected to {address} again.",
    ]


async def test_the_outcome_comes_after_the_last_event() -> None:
    """However early the outcome is pushed, it is given last; and one connection serves both."""
    script = {CHANGES: [push("SUCCESS"), COMPLETE], EVENTS: [batch(1), batch(2, finished=True), COMPLETE]}
    async with serving(script) as (address, server):
        found = await followed(address, [])

    assert found == [1, 2, "SUCCESS"]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("first", "asked_again", "found"),
    [
        ({CHANGES: [push("FAILED"), COMPLETE], EVENTS: [batch(1), CUT]}, EVENTS, [1, 2, "FAILED"]),
        ({CHANGES: [push("IN_PROGRESS")], EVENTS: [batch(1, finished=True), COMPLETE, CUT]}, CHANGES, [1, "FAILED"]),
    ],
)
async def test_what_has_been_read_to_its_end_is_not_asked_for_again(
    first: Script, asked_again: str, found: list[int | str]
) -> None:
    """A connection that is made again asks for the rest alone: for the log, or for the outcome."""
    second = {CHANGES: [push("FAILED"), COMPLETE], EVENTS: [batch(2, finished=True), COMPLETE]}
    async with serving(first, second) as (address, server):
        given = await followed(address, [])

    assert [one for one in given if one != "IN_PROGRESS"] == found
    assert [name for name, _ in server.asked[2:]] == [asked_again]


async def test_a_store_that_is_away_is_waited_for() -> None:
    """An error that says that the store did not answer is an outage like a lost connection."""
    said: list[str] = []
    first: Script = {EVENTS: [batch(1), STORE_AWAY]}
    async with serving(first, {EVENTS: [batch(2, finished=True), COMPLETE]}) as (address, server):
        found = await followed(address, said, changes=False)

    assert found == [1, 2]
    assert said[0] == "The store is away. Trying again for 20 s."
    assert [asked["after"] for _, asked in server.asked] == [0, 1]


async def test_a_server_that_goes_with_its_last_word_is_not_waited_for() -> None:
    """When all has been read, a connection that is lost then is of no account."""
    said: list[str] = []
    script: Script = {CHANGES: [push("SUCCESS")], EVENTS: [batch(1, finished=True), CUT]}
    async with serving(script) as (address, _):
        found = await followed(address, said)

    assert (found, said) == ([1, "SUCCESS"], [])


async def test_a_subscription_that_ends_too_early_is_made_again() -> None:
    """A server that shuts down completes the subscription before the end: that is no end."""
    said: list[str] = []
    async with serving({EVENTS: [batch(1), COMPLETE]}, {EVENTS: [batch(2, finished=True)]}) as (address, _):
        found = await followed(address, said, changes=False)

    assert found == [1, 2]
    assert "ended the subscription early" in said[0]


async def test_a_log_that_is_kept_no_longer_does_not_hide_the_outcome() -> None:
    """Where no log is kept that is said, and the pushes go on; who asked for the log alone is refused."""
    said: list[str] = []
    script = {CHANGES: [push("SUCCESS"), COMPLETE], EVENTS: [expired(None), COMPLETE]}
    async with serving(script, script) as (address, _):
        found = await followed(address, said)
        with pytest.raises(EventsExpired, match="kept no longer"):
            await followed(address, [], changes=False)

    assert found == ["SUCCESS"]
    assert said == [f"No log is kept of the stack update {ID}."]


async def test_a_log_whose_beginning_is_kept_no_longer_is_read_from_where_it_is() -> None:
    """What is missing is said, and the log goes on with the first event that is kept."""
    said: list[str] = []
    answers = Turns([[expired(7), COMPLETE], [batch(7, 8, finished=True), COMPLETE]])
    script: Script = {CHANGES: [push("SUCCESS"), COMPLETE], EVENTS: answers}
    async with serving(script) as (address, server):
        found = await followed(address, said)

    assert found == [7, 8, "SUCCESS"]
    assert said == ["The log's next events are kept no longer; it goes on with number 7."]
    assert [asked["after"] for name, asked in server.asked if name == EVENTS] == [0, 6]


async def test_the_pushes_alone_ask_for_no_log() -> None:
    """Without a seq to begin after, the log is not subscribed to."""
    async with serving({CHANGES: [push("IN_PROGRESS"), push("SUCCESS"), COMPLETE]}) as (address, server):
        found = await followed(address, [], after=None)

    assert found == ["IN_PROGRESS", "SUCCESS"]
    assert [name for name, _ in server.asked] == [CHANGES]


async def test_what_is_not_used_yet_is_not_read() -> None:
    """A server that sends faster than its batches are used is slowed down: nothing piles up in memory."""
    total, used = 200, 0
    ahead, said = list[int](), list[str]()

    def flood() -> Iterator[object]:
        text = "x" * 200_000
        for sent in range(1, total + 1):
            ahead.append(sent - used)
            events = [{"__typename": "LogLine", "seq": sent, "text": text}]
            yield {"events": events, "seq": sent, "caughtUp": False, "finished": sent == total}
        yield COMPLETE

    async with serving({EVENTS: flood()}) as (address, _):
        async for _ in follow(address, None, ID, said.append, changes=False):
            used += 1
            await asyncio.sleep(0.005)  # what using it takes

    assert (used, said) == (total, [])
    assert max(ahead) < total / 2


async def test_a_refusal_is_not_tried_again() -> None:
    """A server that has no such stack update is asked once, and its sentence is what is raised."""
    refusal = {"message": "There is no stack update with this id.", "code": "STACK_UPDATE_NOT_FOUND"}
    async with serving({CHANGES: [refusal, COMPLETE], EVENTS: [refusal, COMPLETE]}) as (address, server):
        with pytest.raises(RequestRefused, match="There is no stack update"):
            await followed(address, [])

    assert server.connections == 1


async def test_what_is_asked_for_reaches_the_server() -> None:
    """Deploying, cancelling and extending pass on what the user said, and answer with the stack update."""
    update = {"id": ID}
    script: Script = {
        "deployCloudResource": [{"joined": True, "stackUpdate": update}, COMPLETE],
        "cancelStackUpdate": [{"stackUpdate": update}, COMPLETE],
        "extendStackUpdateDeadline": [{"stackUpdate": update}, COMPLETE],
    }
    async with serving(script) as (address, server), connect(address, None) as client:
        deployed = await client.deploy("r", timedelta(seconds=9), "JOIN", "once")
        cancelled = await client.cancel(ID, force=True)
        extended = await client.extend(ID, timedelta(minutes=2))

    assert (deployed, cancelled, extended) == ({**update, "joined": True}, update, update)
    assert [asked["input"] for _, asked in server.asked] == [
        {"cloudResourceId": "r", "timeoutSeconds": 9, "whenBusy": "JOIN", "idempotencyKey": "once"},
        {"id": ID, "force": True},
        {"id": ID, "timeoutSeconds": 120},
    ]


# --- several sources, and the time


async def numbers(*values: int, error: Exception | None = None) -> AsyncGenerator[int, None]:
    for value in values:
        yield value
    if error:
        raise error


async def silence(closed: list[str]) -> AsyncGenerator[int, None]:
    """Gives nothing, for ever."""
    try:
        await asyncio.Event().wait()
        yield 0
    finally:
        closed.append("closed")


async def test_sources_are_merged_until_all_have_ended() -> None:
    """Everything that each of them gives comes, in its order."""
    found = [number async for number in merged(numbers(1, 2, 3), numbers(11), numbers())]

    assert [number for number in found if number < 10] == [1, 2, 3]
    assert sorted(found) == [1, 2, 3, 11]


async def test_what_one_source_raises_ends_all() -> None:
    """The others are closed, so that nothing goes on unseen."""
    closed: list[str] = []
    with pytest.raises(ServerUnavailable, match="gone"):
        async for _ in merged(silence(closed), numbers(1, error=ServerUnavailable("gone"))):
            pass

    assert closed == ["closed"]


async def test_time_that_passes_is_told() -> None:
    """Where nothing comes for the pause, None does; what comes then is given, and the end is the end."""
    waited = asyncio.Event()

    async def late() -> AsyncGenerator[int, None]:
        yield 1
        await waited.wait()
        yield 2

    found: list[int | None] = []
    async for news in paced(late(), timedelta(milliseconds=1)):
        found.append(news)
        if found.count(None) == 3:
            waited.set()

    assert found[0] == 1
    assert found[-1] == 2
    assert found.count(None) >= 3


@pytest.mark.parametrize("gives_first", [True, False])
async def test_whoever_leaves_leaves_nothing_behind(gives_first: bool) -> None:
    """A source is closed, whether it has just given something or is being waited for."""
    closed: list[str] = []

    async def source() -> AsyncGenerator[int, None]:
        try:
            if gives_first:
                yield 1
            async for number in silence(closed):
                yield number
        finally:
            closed.append("source")

    async with aclosing(paced(merged(source()), timedelta(milliseconds=1))) as arriving:
        assert await anext(arriving) == (1 if gives_first else None)

    assert closed[-1] == "source"
