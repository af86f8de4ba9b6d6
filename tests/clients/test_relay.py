"""Relay's compiler on schema.graphql, and the service with what it compiles."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.acceptance.files import Files
from tests.clients.node import Node
from tests.service import manifest

pytestmark = pytest.mark.external

SCHEMA = Path(__file__).parents[2] / "schema.graphql"


async def test_what_relay_compiles_works(files: Files, node: Node) -> None:
    """A connection, refetchable fragments by page and by `node`, a mutation and a subscription compile, and run."""
    shutil.copy(SCHEMA, node.directory)
    compiled = await node.run("compile.js")
    assert compiled["status"] == 0, compiled["said"]
    operations = compiled["operations"]
    cloud_resource = await files.service.apply(manifest())
    deployed = await files.service.execute(operations["historyDeployMutation"], id=cloud_resource)
    id_ = deployed["deployCloudResource"]["stackUpdate"]["id"]
    pushes = files.service.subscribe(operations["historyWatchSubscription"], "stackUpdateChanged", id=id_)
    seen = [push["stackUpdate"]["status"] async for push in pushes]
    listed = await files.service.execute(
        operations["historyQuery"], count=1, filter={"cloudResourceId": cloud_resource}
    )
    cursor = listed["stackUpdates"]["edges"][0]["cursor"]
    page = await files.service.execute(operations["historyPageQuery"], count=1, cursor=cursor)
    alone = await files.service.execute(operations["historyUpdateQuery"], id=id_)

    assert seen[-1] == "SUCCESS"
    assert listed["stackUpdates"]["edges"][0]["node"]["id"] == id_
    assert page["stackUpdates"]["edges"] == []
    assert alone["node"]["status"] == "SUCCESS"
