"""The audits of GraphQL over HTTP that its working group's reference server is held to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.node import Node, graphql_url
from tests.service import running_service

pytestmark = pytest.mark.external

AUDITS = 61


async def test_every_audit_is_passed(tmp_path: Path, node: Node) -> None:
    """Whatever the specification says that a server must, should or may do, this one does."""
    async with running_service(tmp_path) as service:
        results = await node.run("audits.js", graphql_url(service))

    table = [f"{it['id']} {it['status']:6} {it['name']}: {it.get('reason')}" for it in results if it["status"] != "ok"]
    assert not table, f"{len(table)} of {len(results)} audits are not passed:\n" + "\n".join(table)
    assert len(results) == AUDITS
