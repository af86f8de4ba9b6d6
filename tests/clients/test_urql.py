"""urql with the real service and the real Pulumi."""

from __future__ import annotations

import pytest

from tests.acceptance.files import Files
from tests.clients.node import Node, graphql_url
from tests.service import manifest

pytestmark = pytest.mark.external


async def test_a_deployment_is_started_and_followed_to_its_end(files: Files, node: Node) -> None:
    """Mutations and queries go over HTTP, the subscription over graphql-ws."""
    seen = await node.run("urql.js", graphql_url(files.service), manifest())

    assert seen["before"]["status"] == "IN_PROGRESS"
    assert [push["status"] for push in seen["pushes"]][-1] == "SUCCESS"
    assert seen["after"] == seen["pushes"][-1]
    assert seen["sockets"]["wrong"] == []
