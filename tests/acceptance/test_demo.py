"""The demo, as a newcomer runs it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from graphql import OperationDefinitionNode, OperationType, parse
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from graphql_api.cli.client import connect
from graphql_api.cli.demo import deploy_sample
from graphql_api.cli.display import plain
from runners.toolchain import PulumiCli
from tests.acceptance.conftest import Start
from tests.service import PATIENCE, PROTOCOL, Service

pytestmark = pytest.mark.external


async def demo(directory: Path, environment: dict[str, str], *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "graphql_api", "demo", *options),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=directory,
    )


async def test_the_demo_deploys_and_ends(tmp_path: Path, real: dict[str, str], pulumi_cli: PulumiCli) -> None:
    """`stackcast demo --exit` shows the status until SUCCESS with the stack's outputs, and exits with 0."""
    process = await demo(tmp_path, {**real, "STACKCAST_DATA_DIR": ".stackcast"}, "--exit")
    async with asyncio.timeout(2 * PATIENCE):
        printed = (await process.communicate())[0].decode()

    assert process.returncode == 0, printed
    lines = printed.splitlines()
    assert lines[0] == f"Using Pulumi {pulumi_cli.version} at {pulumi_cli.path}."
    assert any("IN_PROGRESS  queued" in line for line in lines), printed
    assert any("SUCCESS  finished" in line for line in lines), printed
    assert '    message = "Hello, world!"' in lines
    data = tmp_path / ".stackcast"
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "passphrase").stat().st_mode & 0o777 == 0o600


async def test_the_demo_keeps_serving_until_interrupted(tmp_path: Path, real: dict[str, str]) -> None:
    """`stackcast demo` prints its addresses after the deployment, answers there, and Ctrl-C ends it."""
    process = await demo(tmp_path, real)
    assert process.stdout is not None
    address = ""
    async with asyncio.timeout(2 * PATIENCE):
        while not address:
            line = (await process.stdout.readline()).decode()
            assert line, "the demo ended"
            address = line.partition("GraphQL over HTTP:")[2].partition("http://")[2].partition("/")[0]
        others = [(await process.stdout.readline()).decode().split()[-1] for _ in range(2)]
        listed = await Service(address, tmp_path).execute("{ stackUpdates { nodes { status } } }")
        process.send_signal(signal.SIGINT)
        await process.communicate()

    assert others == [f"ws://{address}/graphql", f"http://{address}/graphiql"]
    assert listed == {"stackUpdates": {"nodes": [{"status": "SUCCESS"}]}}
    assert process.returncode == 130


async def test_the_demo_lives_from_its_subscription_alone(tmp_path: Path, start: Start, real: dict[str, str]) -> None:
    """While every query fails, the demo still shows everything: what it prints was pushed."""
    said: list[str] = []
    variables = {"STACKCAST_MODULES": ""}
    show = plain(lambda lines: said.extend(line.text for line in lines), log=False)
    async with start(**variables) as running, without_queries(running.service) as (url, refused):
        async with connect(url, None) as client:
            async for change in deploy_sample(client, said.append):
                show(change)
        async with Client(transport=WebsocketsTransport(url, subprotocols=[PROTOCOL])) as session:
            with pytest.raises(TransportQueryError, match="queries fail"):
                await session.execute(GraphQLRequest("{ stackUpdates { totalCount } }"))

    assert said[-3].endswith("  SUCCESS  finished")
    assert '  message = "Hello, world!"' in said
    assert refused == ["query"]


@asynccontextmanager
async def without_queries(service: Service) -> AsyncIterator[tuple[str, list[str]]]:
    """A way to the service on which every query is answered with an error; its address, and what was refused."""
    refused: list[str] = []

    async def relay(client: ServerConnection) -> None:
        async with service.raw_websocket() as server:

            async def back() -> None:
                async for message in server:
                    await client.send(message)

            answers = asyncio.create_task(back())
            async for text in client:
                message = json.loads(text)
                if message["type"] == "subscribe" and is_query(message["payload"]["query"]):
                    refused.append("query")
                    error = {"type": "error", "id": message["id"], "payload": [{"message": "queries fail"}]}
                    await client.send(json.dumps(error))
                else:
                    await server.send(text)
            answers.cancel()

    async with serve(relay, "127.0.0.1", 0, subprotocols=[Subprotocol(PROTOCOL)]) as proxy:
        port = next(iter(proxy.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/graphql", refused


def is_query(document: str) -> bool:
    operations = [node for node in parse(document).definitions if isinstance(node, OperationDefinitionNode)]
    return any(operation.operation is OperationType.QUERY for operation in operations)
