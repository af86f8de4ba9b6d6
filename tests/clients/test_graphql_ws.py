"""The real graphql-ws: the README's recipe over connections that break, and operations that are wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests import fake_pulumi
from tests.acceptance.conftest import Start
from tests.acceptance.files import Files
from tests.clients.node import Node, graphql_url
from tests.service import PATIENCE, manifest, running_service

pytestmark = pytest.mark.external

README = (Path(__file__).parents[2] / "README.md").read_text()
LINES = 400
#: How many connections break, and after how many bytes of answers.
BREAKS, BREAK_AFTER = 3, 2_000
FOREVER = 4 * PATIENCE
RESTART = 1012  # the close code with which a service that ends asks its clients to come again


@pytest.fixture
def follow(node: Node) -> str:
    """The recipe is in place; the subscription that it is used with."""
    (node.directory / "follow.js").write_text(re.findall(r"```js\n(.*?)```", README, re.DOTALL)[0])
    documents: list[str] = re.findall(r"```graphql\n(.*?)```", README, re.DOTALL)
    return next(text for text in documents if "stackUpdateEvents" in text)


@asynccontextmanager
async def breaking(address: str) -> AsyncIterator[tuple[str, list[int]]]:
    """An address whose connections lead to the server, the first ones until they break; and what each has carried."""
    host, port = address.split(":")
    carried: list[int] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int | None) -> None:
        while data := await reader.read(4096):
            if number is not None:
                carried[number] += len(data)
                if number < BREAKS and carried[number] > BREAK_AFTER:
                    break
            writer.write(data)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        carried.append(0)
        pumps = [
            asyncio.ensure_future(pump(reader, up_writer, None)),
            asyncio.ensure_future(pump(up_reader, writer, len(carried) - 1)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in pumps:
                one.cancel()
            await asyncio.wait(pumps)
            writer.transport.abort()
            up_writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", carried


async def test_the_recipe_misses_nothing_and_gets_nothing_twice(tmp_path: Path, node: Node, follow: str) -> None:
    """However often the connection breaks, each event comes once and in order, up to the last."""
    fake_pulumi.install(tmp_path / "bin")

    async with running_service(tmp_path) as service, breaking(service.address) as (address, carried):
        service.module("Thing", lines=LINES, every=0.005)
        id_ = await service.deploy(manifest())
        async with node.running("follow_all.js", f"ws://{address}/graphql", follow, id_) as printed:
            *events, sockets = [value async for value in printed]

    assert len(carried) > BREAKS
    assert sockets["wrong"] == []
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    lines = [event["text"] for event in events if event.get("text", "").startswith("line ")]
    assert lines == [f"line {number}" for number in range(LINES)]
    assert events[-1]["phase"] == "FINISHED"


async def test_the_recipe_outlives_a_restart_of_the_service(start: Start, node: Node, follow: str) -> None:
    """Told to come again, the client does, and follows the same deployment to its end without a gap or a double."""
    events = []
    async with AsyncExitStack() as following:
        async with start(STACKCAST_SHUTDOWN="handover") as first:
            files = Files(first.service)
            slow = files.file("slow", create_seconds=FOREVER)
            id_ = await files.deploy(slow)
            url = graphql_url(first.service).replace("http", "ws")
            printed = await following.enter_async_context(node.running("follow_all.js", url, follow, id_))
            async for event in printed:
                events.append(event)
                if event["__typename"] == "ResourceChanged":
                    break
        async with start(STACKCAST_PORT=first.service.address.split(":")[1]):
            slow.go.touch()
            *rest, sockets = [value async for value in printed]
    events += rest

    assert sockets["closed"][0] == RESTART
    assert sockets["opened"] == 2
    assert sockets["wrong"] == []
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (events[-1]["status"], events[-1]["phase"]) == ("SUCCESS", "FINISHED")


async def test_wrong_operations_leave_their_siblings_alone(files: Files, node: Node) -> None:
    """What can't be parsed, is not in the schema or is not named is told for itself; the socket and the rest go on."""
    slow = files.file("slow", create_seconds=FOREVER)
    id_ = await files.deploy(slow)
    await files.begun(slow)
    url = graphql_url(files.service).replace("http", "ws")
    seen = await node.run("siblings.js", url, id_, str(slow.go))

    assert [wrong["given"] for wrong in seen["wrong"]] == [[], [], [], []]
    assert [wrong["error"][0]["extensions"]["code"] for wrong in seen["wrong"]] == [
        "GRAPHQL_PARSE_FAILED",
        "GRAPHQL_VALIDATION_FAILED",
        "GRAPHQL_VALIDATION_FAILED",
        "OPERATION_RESOLUTION_FAILURE",
    ]
    assert seen["right"]["error"] is None
    assert seen["right"]["given"][0]["data"]["stackUpdate"]["status"] == "IN_PROGRESS"
    seqs = [event["seq"] for batch in seen["batches"] for event in batch["events"]]
    assert seqs == list(range(1, len(seqs) + 1))
    assert seen["batches"][-1]["finished"] is True
    assert (seen["sockets"]["opened"], seen["sockets"]["wrong"]) == (1, [])
