"""The README's JavaScript, with the real graphql-ws, over connections that break again and again."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests import fake_pulumi
from tests.service import PATIENCE, manifest, running_service

pytestmark = pytest.mark.external

HERE = Path(__file__).parent
LINES = 400
#: How many connections break, and after how many bytes of answers.
BREAKS, BREAK_AFTER = 3, 2_000
MAIN = """
import WebSocket from 'ws'
import { follow } from './follow.js'
globalThis.WebSocket = WebSocket
const [url, query, id] = process.argv.slice(2)
follow(url, query, id, (event) => console.log(JSON.stringify([event.seq, event.text ?? event.phase])))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the packages that the clients need, by their pinned versions."""
    return tmp_path_factory.mktemp("packages")


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


async def run(directory: Path, *command: str) -> str:
    """What a command prints; it must succeed."""
    process = await asyncio.create_subprocess_exec(*command, cwd=directory, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(PATIENCE):
            printed = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return printed


async def test_the_recipe_misses_nothing_and_gets_nothing_twice(tmp_path: Path, packages: Path) -> None:
    """However often the connection breaks, each event comes once and in order, up to the last."""
    readme = (HERE.parents[1] / "README.md").read_text()
    shutil.copy(HERE / "package.json", packages)
    (packages / "follow.js").write_text(re.findall(r"```js\n(.*?)```", readme, re.DOTALL)[0])
    (packages / "main.js").write_text(MAIN)
    await run(packages, "npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent")
    query = next(text for text in re.findall(r"```graphql\n(.*?)```", readme, re.DOTALL) if "stackUpdateEvents" in text)
    fake_pulumi.install(tmp_path / "bin")

    async with running_service(tmp_path) as service, breaking(service.address) as (address, carried):
        service.module("Thing", lines=LINES, every=0.005)
        id_ = await service.deploy(manifest())
        url = f"ws://{address}/graphql"
        printed = await run(packages, "node", "main.js", url, query, id_)

    events = [json.loads(line) for line in printed.splitlines()]
    assert len(carried) > BREAKS
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
    assert [text for _, text in events if str(text).startswith("line ")] == [
        f"line {number}" for number in range(LINES)
    ]
    assert events[-1][1] == "FINISHED"
