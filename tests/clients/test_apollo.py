"""Apollo Client 4 with the real service and the real Pulumi."""

from __future__ import annotations

import pytest

from tests.acceptance.files import Files
from tests.clients.node import Node, graphql_url
from tests.service import PATIENCE, manifest

pytestmark = pytest.mark.external

FOREVER = 4 * PATIENCE


@pytest.mark.parametrize("transport", ["websocket", "multipart"])
async def test_a_deployment_is_started_and_followed_to_its_end(files: Files, node: Node, transport: str) -> None:
    """Mutations and queries go over HTTP, the subscription as asked; what was pushed last is in the cache."""
    seen = await node.run("apollo.js", graphql_url(files.service), transport, manifest())

    assert seen["before"]["status"] == "IN_PROGRESS"
    revisions = [push["revision"] for push in seen["pushes"]]
    assert revisions == sorted(revisions)
    assert [push["status"] for push in seen["pushes"]][-1] == "SUCCESS"
    assert seen["after"] == seen["pushes"][-1]
    assert (seen["refused"]["code"], bool(seen["refused"]["message"])) == ("CLOUD_RESOURCE_NOT_FOUND", True)
    assert seen["sockets"]["opened"] == (transport == "websocket")
    assert seen["sockets"]["wrong"] == []


@pytest.mark.parametrize(("cache", "shown"), [("newest", "SUCCESS"), ("plain", "IN_PROGRESS")])
async def test_an_answer_that_comes_late(files: Files, node: Node, cache: str, shown: str) -> None:
    """By `revision` the cache keeps the newer push; Apollo's own rules would show the late answer's old status."""
    slow = files.file("slow", create_seconds=FOREVER)
    id_ = await files.deploy(slow)
    await files.begun(slow)
    seen = await node.run("apollo_late.js", graphql_url(files.service), cache, id_, str(slow.go))

    assert [answer["status"] for answer in seen["answered"]] == ["IN_PROGRESS", "IN_PROGRESS"]
    assert seen["pushed"]["status"] == "SUCCESS"
    assert [update["status"] for update in seen["shown"]] == [shown, shown]


async def test_pages_become_one_list_without_doubles(files: Files, node: Node) -> None:
    """`relayStylePagination` joins the pages, also when a new deployment has come to the head meanwhile."""
    one = files.file("one")
    ids = [await files.deploy(one) for _ in range(3)]
    cloud_resource = await files.service.apply(manifest())
    seen = await node.run("apollo_pages.js", graphql_url(files.service), cloud_resource)

    assert seen["lists"] == [ids[:0:-1], ids[::-1]]
    assert seen["deployed"] not in ids


async def test_a_persisted_query_is_sent_once(files: Files, node: Node) -> None:
    """A hash that is not known is asked for with its document; from then on GET with the hash is enough."""
    id_ = await files.deploy(files.file("one"))
    await files.ended(id_)
    seen = await node.run("apollo_persisted.js", graphql_url(files.service), id_)

    assert seen["requests"] == [
        {"method": "GET", "hasDocument": False, "code": "PERSISTED_QUERY_NOT_FOUND"},
        {"method": "POST", "hasDocument": True, "code": None},
        {"method": "GET", "hasDocument": False, "code": None},
    ]
    assert [answer["status"] for answer in seen["answers"]] == ["SUCCESS", "SUCCESS"]
