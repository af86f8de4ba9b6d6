"""GraphiQL in a headless Chromium, against the running service with the real Pulumi."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests import fake_pulumi, provider
from tests.acceptance.files import Files
from tests.clients.node import Node
from tests.service import PATIENCE, Service, running_service

pytestmark = [pytest.mark.external, pytest.mark.timeout(10 * PATIENCE)]

FOREVER = 4 * PATIENCE
TOKEN = "a token of forty characters, or nearly so"  # noqa: S105


def page(service: Service) -> str:
    return f"http://{service.address}/graphiql"


def assert_undisturbed(seen: dict[str, Any], service: Service) -> None:
    """Nothing was asked of anybody else, nothing was refused, and the console holds no complaint."""
    places = (f"http://{service.address}/graphiql", f"http://{service.address}/graphql", "data:", "blob:")
    assert [url for url in seen["requests"] if not url.startswith(places)] == []
    assert set(seen["sockets"]) <= {f"ws://{service.address}/graphql"}
    assert seen["refused"] == []
    assert seen["failed"] == []
    assert seen["violations"] == []
    assert [line for line in seen["console"] if not line.startswith(("info: ", "log: ", "debug: "))] == []


async def test_the_ready_examples_deploy_the_demo(
    tmp_path: Path, node: Node, chromium: str, real_pulumi: dict[str, str]
) -> None:
    """Whoever runs one after the other has deployed the demo and seen it end, all from this server alone."""
    async with (
        running_service(tmp_path, STACKCAST_MODULES="", **real_pulumi) as service,
        node.running("demo.js", chromium, page(service)) as printed,
    ):
        *said, seen = [value async for value in printed]

    assert said == [
        ["Server", "Apply", "Deploy", "Watch", "Events", "Cancel", "List"],
        version("stackcast"),
        "SUCCESS",
        "StackUpdateEnded",
        "StackcastDemo",
    ]
    assert len(seen["sockets"]) == 2
    assert_undisturbed(seen, service)


async def test_a_deployment_is_shown_as_it_goes(
    tmp_path: Path, node: Node, chromium: str, real_pulumi: dict[str, str]
) -> None:
    """The page shows that it is under way, and that it has ended once it has, without being asked again."""
    async with running_service(tmp_path, **real_pulumi) as service:
        files = Files(service)
        slow = files.file("slow", create_seconds=FOREVER)
        provider.module(tmp_path / "modules" / "thing", [slow])
        id_ = await files.deploy(slow)
        async with node.running("watch.js", chromium, page(service), id_) as printed:
            before = await anext(printed)
            slow.go.touch()
            after, seen = [value async for value in printed]

    assert (before, after) == ("IN_PROGRESS", "SUCCESS")
    assert_undisturbed(seen, service)


async def test_a_token_is_asked_for_and_sent_either_way(tmp_path: Path, node: Node, chromium: str) -> None:
    """The token that the page asks for, and one in a tab's headers instead, go over HTTP and over the websocket."""
    fake_pulumi.install(tmp_path / "bin")
    async with (
        running_service(tmp_path, STACKCAST_TOKEN=TOKEN) as service,
        node.running("token.js", chromium, page(service), TOKEN) as printed,
    ):
        *said, seen = [value async for value in printed]

    assert said == [
        "The server does not know this token.",
        '"version"',
        "StackUpdateNotFound",
        "UNAUTHENTICATED",
        "4403",
    ]
    assert set(seen["refused"]) == {f"401 http://{service.address}/graphql"}
    assert seen["violations"] == []
