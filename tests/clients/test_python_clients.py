"""Python's `gql`, and `websockets` without any GraphQL client, with the real service and the real Pulumi."""

from __future__ import annotations

import json

import pytest
from gql import Client, GraphQLRequest, gql
from gql.transport.websockets import WebsocketsTransport

from tests.acceptance.files import Files
from tests.service import APPLY, DEPLOY, PROTOCOL, WATCH, manifest, receive

pytestmark = pytest.mark.external


async def test_gql_follows_a_deployment(files: Files) -> None:
    """It accepts the schema that introspection gives, and speaks for all its operations over one socket."""
    transport = WebsocketsTransport(
        url=f"ws://{files.service.address}/graphql", subprotocols=[PROTOCOL], ping_interval=1, pong_timeout=1
    )
    async with Client(transport=transport, fetch_schema_from_transport=True) as session:
        applied = await session.execute(GraphQLRequest(APPLY, variable_values={"manifest": manifest()}))
        id_ = applied["applyCloudResource"]["cloudResource"]["id"]
        deployed = await session.execute(GraphQLRequest(DEPLOY, variable_values={"id": id_}))
        id_ = deployed["deployCloudResource"]["stackUpdate"]["id"]
        watching = session.subscribe(GraphQLRequest(WATCH, variable_values={"id": id_}))
        seen = [push["stackUpdateChanged"]["stackUpdate"] async for push in watching]
        again = await session.execute(gql("query { serverInfo { version } }"))

    assert [update["status"] for update in seen][-1] == "SUCCESS"
    assert again["serverInfo"]["version"]


async def test_plain_websockets_follow_a_deployment(files: Files) -> None:
    """The messages of the protocol, written by hand, start a deployment and show it to its end on one socket."""
    async with files.service.websocket() as socket:

        async def ask(id_: str, query: str, **variables: str) -> None:
            payload = {"query": query, "variables": variables}
            await socket.send(json.dumps({"type": "subscribe", "id": id_, "payload": payload}))

        async def answer(id_: str) -> list[dict[str, dict[str, dict[str, str]]]]:
            given = []
            while (message := await receive(socket))["type"] == "next":
                assert message["id"] == id_
                given.append(message["payload"]["data"])
            assert message == {"type": "complete", "id": id_}
            return given

        await ask("apply", APPLY, manifest=manifest())
        (applied,) = await answer("apply")
        await ask("deploy", DEPLOY, id=applied["applyCloudResource"]["cloudResource"]["id"])
        (deployed,) = await answer("deploy")
        await ask("watch", WATCH, id=deployed["deployCloudResource"]["stackUpdate"]["id"])
        seen = await answer("watch")

    assert [push["stackUpdateChanged"]["stackUpdate"]["status"] for push in seen][-1] == "SUCCESS"
