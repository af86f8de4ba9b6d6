"""A running service for tests: the real server in this process, and raw clients for it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from graphql_api.server import serving
from graphql_api.settings import Settings

#: How long a test waits for what should happen soon, in seconds.
PATIENCE = 30
PROTOCOL = "graphql-transport-ws"
#: Clients wait in threads of their own: the service, in the same process, needs the loop's own ones to answer them.
_CLIENTS = ThreadPoolExecutor(32, thread_name_prefix="client")

DEPLOY = """
mutation ($id: ID!, $timeout: Int) {
  deployCloudResource(input: {cloudResourceId: $id, timeoutSeconds: $timeout}) {
    __typename
    ... on DeployCloudResourceSuccess { stackUpdate { id status phase stackFqdn timeoutSeconds } }
    ... on UserError { message code path }
  }
}"""
APPLY = """
mutation ($manifest: String!) {
  applyCloudResource(input: {manifest: $manifest}) {
    __typename
    ... on ApplyCloudResourceSuccess { created cloudResource { id kind name manifest } }
    ... on InvalidManifest { message code path problems { message path line column } }
  }
}"""
WATCH = """
subscription ($id: ID!) {
  stackUpdateChanged(id: $id) {
    __typename
    ... on StackUpdateChange {
      stackUpdate {
        id revision status phase output exitCode timeoutSeconds startedAt finishedAt deadline
        failure { kind message retryable }
        stackOutputs { name value secret }
      }
    }
    ... on UserError { message code path }
  }
}"""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The GraphQL errors, each as message, code and what else its extensions hold."""
        return [{"message": error["message"], **error.get("extensions", {})} for error in self.json.get("errors", [])]


@dataclass(frozen=True)
class Service:
    """Where the service is, and where its modules and data are."""

    address: str
    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    def module(self, kind: str, **plan: Any) -> Path:
        """Make a module for the kind; ``plan`` says what the fake Pulumi does with it."""
        directory = self.root / "modules" / kind.lower()
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "Pulumi.yaml").write_text("name: any\nruntime: yaml\n")
        (directory / "fake.yaml").write_text(yaml.safe_dump(plan))
        return directory

    def starts(self) -> list[str]:
        """The commands that the fake Pulumi was started with."""
        file = self.data / "pulumi" / "starts"
        return file.read_text().splitlines() if file.exists() else []

    async def post(
        self, body: bytes | dict[str, Any], headers: Mapping[str, str] | None = None, path: str = "/graphql"
    ) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.request("POST", path, data, {"Content-Type": "application/json", **(headers or {})})

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        def ask() -> Answer:
            connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
            try:
                connection.request(method, path, body, dict(headers or {}))
                response = connection.getresponse()
                return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
            finally:
                connection.close()

        return await asyncio.get_running_loop().run_in_executor(_CLIENTS, ask)

    async def execute(self, query: str, **variables: Any) -> Any:
        """The data of an operation that must have no errors."""
        answer = await self.post({"query": query, "variables": variables})
        assert answer.status == 200, answer.body
        assert "errors" not in answer.json, answer.json["errors"]
        return answer.json["data"]

    async def apply(self, manifest: str) -> str:
        """Keep a manifest; its cloud resource's id."""
        data = await self.execute(APPLY, manifest=manifest)
        assert data["applyCloudResource"]["__typename"] == "ApplyCloudResourceSuccess", data
        id_: str = data["applyCloudResource"]["cloudResource"]["id"]
        return id_

    async def deploy(self, manifest: str, timeout: int | None = None) -> str:
        """Keep a manifest and deploy it; the stack update's id."""
        data = await self.execute(DEPLOY, id=await self.apply(manifest), timeout=timeout)
        assert data["deployCloudResource"]["__typename"] == "DeployCloudResourceSuccess", data
        id_: str = data["deployCloudResource"]["stackUpdate"]["id"]
        return id_

    async def outcome(self, update_id: str) -> dict[str, Any]:
        """The stack update as last pushed, once it has ended."""
        return [change async for change in self.watch(update_id)][-1]

    async def watch(self, update_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """Every push of the subscription, over a plain websocket, until the server completes it."""
        async for change in self.subscribe(WATCH, "stackUpdateChanged", id=update_id):
            yield change.get("stackUpdate", change)

    async def subscribe(self, query: str, field: str, **variables: Any) -> AsyncGenerator[dict[str, Any], None]:
        """What a subscription's field pushes, over a websocket of its own, until the server completes it."""
        async with self.websocket() as socket:
            payload = {"query": query, "variables": variables}
            await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
            while (message := await receive(socket))["type"] in ("next", "ping"):
                if message["type"] == "ping":
                    await socket.send(json.dumps({"type": "pong"}))
                    continue
                assert "errors" not in message["payload"], message
                yield message["payload"]["data"][field]
            assert message == {"type": "complete", "id": "1"}

    @asynccontextmanager
    async def websocket(
        self, init: dict[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[ClientConnection]:
        """An acknowledged graphql-transport-ws socket."""
        async with self.raw_websocket(headers) as socket:
            await socket.send(json.dumps({"type": "connection_init", "payload": init or {}}))
            assert (await receive(socket))["type"] == "connection_ack"
            yield socket

    def raw_websocket(self, headers: Mapping[str, str] | None = None, protocol: str = PROTOCOL) -> connect:
        """A socket before connection_init."""
        url = f"ws://{self.address}/graphql"
        return connect(url, subprotocols=[Subprotocol(protocol)], proxy=None, additional_headers=dict(headers or {}))


async def receive(socket: ClientConnection) -> dict[str, Any]:
    """The next message of a socket."""
    async with asyncio.timeout(PATIENCE):
        message: dict[str, Any] = json.loads(await socket.recv())
    return message


def environment(root: Path, **more: str) -> dict[str, str]:
    """The variables of a service whose data, modules and programs are all below ``root``."""
    coverage = {name: os.environ[name] for name in ("COVERAGE_PROCESS_CONFIG",) if name in os.environ}
    return {
        **coverage,  # so that services which are processes are measured as well
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(root),
        "XDG_CACHE_HOME": str(root / "cache"),
        "STACKCAST_PORT": "0",
        "STACKCAST_DATA_DIR": str(root / "data"),
        "STACKCAST_MODULES": str(root / "modules"),
        "STACKCAST_SHUTDOWN": "drain",
        "STACKCAST_SHUTDOWN_GRACE": "4",
        **more,
    }


@asynccontextmanager
async def running_service(root: Path, **variables: str) -> AsyncIterator[Service]:
    """A service that runs in this process."""
    (root / "modules").mkdir(parents=True, exist_ok=True)
    async with serving(Settings.from_environment(environment(root, **variables))) as address:
        yield Service(address, root)


def manifest(kind: str = "Thing", name: str = "one", stack: str | None = None, spec: str = "{}") -> str:
    """A manifest whose labels name a stack of its own name unless another is given."""
    return (
        f"apiVersion: test/v1\nkind: {kind}\nmetadata:\n  name: {name}\n  labels:\n"
        f"    pulumi.project-planton.org/stack.fqdn: {stack or f'organization/tests/{name}'}\nspec: {spec}\n"
    )
