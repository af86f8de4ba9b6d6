"""How the records lead to each other, and what that costs the store; and what the service says of itself."""

from __future__ import annotations

from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from graphql_api.domain.records import utc_now
from tests import fake_pulumi
from tests.api.parts import parts
from tests.builders import MANIFEST, a_cloud_resource, a_stack_update
from tests.service import Service, manifest, running_service

NODE = """
query ($id: ID!) {
  node(id: $id) {
    __typename
    id
    ... on CloudResource { name latestStackUpdate { id } }
    ... on StackUpdate { operation cloudResource { name } }
  }
}"""
LATEST = "{ cloudResources(first: 50) { nodes { name latestStackUpdate { id } } } }"
BACK = "{ stackUpdates(first: 50) { nodes { id cloudResource { id latestStackUpdate { id } } } } }"
OF_RESOURCE = """
query ($id: ID!, $last: Int, $before: String, $filter: CloudResourceStackUpdateFilter) {
  cloudResource(id: $id) {
    stackUpdates(last: $last, before: $before, filter: $filter) {
      totalCount
      nodes { id }
      pageInfo { hasNextPage hasPreviousPage startCursor }
    }
  }
}"""
SERVER = """
{
  serverInfo {
    version pulumiVersion backend store maxConcurrent deployTimeoutSeconds deployTimeoutLimitSeconds queued running
  }
}"""


async def test_a_node_is_found_in_either_collection(service: Service) -> None:
    """An id alone is enough to find what it belongs to; an unknown one is null, a malformed one an error."""
    service.module("Thing")
    update = await service.deploy(manifest())
    resource = await service.apply(manifest())

    nodes = [(await service.execute(NODE, id=id_))["node"] for id_ in (resource, update, "0" * 24)]
    malformed = await service.post({"query": NODE, "variables": {"id": "x"}})

    assert nodes == [
        {"__typename": "CloudResource", "id": resource, "name": "one", "latestStackUpdate": {"id": update}},
        {"__typename": "StackUpdate", "id": update, "operation": "UPDATE", "cloudResource": {"name": "one"}},
        None,
    ]
    assert [(error["code"], error["argument"]) for error in malformed.errors] == [("BAD_USER_INPUT", "id")]


async def test_a_page_asks_for_its_latest_stack_updates_once() -> None:
    """50 cloud resources with their latest stack updates are one question to the store, and the answers are theirs."""
    async with parts() as made:
        expected: dict[str, str | None] = {}
        for number in range(50):
            resource = a_cloud_resource()
            await made.backends.resources.insert(resource)
            updates = [
                a_stack_update(cloud_resource_id=resource.id, created_at=utc_now() + timedelta(seconds=second))
                for second in range(number % 3)
            ]
            for update in updates:
                await made.backends.updates.insert(update, MANIFEST)
            expected[resource.name] = updates[-1].id if updates else None

        nodes = (await made.execute(LATEST))["cloudResources"]["nodes"]

        found = {node["name"]: node["latestStackUpdate"] and node["latestStackUpdate"]["id"] for node in nodes}
        assert found == expected
        assert made.history.questions == ["latest"]


async def test_there_and_back_again_asks_once_more() -> None:
    """From stack updates to their cloud resources and back: a question for each step, however many they are."""
    async with parts() as made:
        resources = [a_cloud_resource() for _ in range(5)]
        for resource in resources:
            await made.backends.resources.insert(resource)
        for number in range(50):
            update = a_stack_update(cloud_resource_id=resources[number % 5].id)
            await made.backends.updates.insert(update, MANIFEST)

        nodes = (await made.execute(BACK))["stackUpdates"]["nodes"]

        assert len({node["cloudResource"]["latestStackUpdate"]["id"] for node in nodes}) == 5
        assert made.history.questions == ["page", "latest"]


async def test_a_cloud_resource_lists_its_own_stack_updates(service: Service) -> None:
    """Newest first, filtered, and paged from either end like every list."""
    service.module("Thing")
    ids = [await service.deploy(manifest(spec=f"{{n: {number}}}")) for number in range(3)]
    await service.outcome(await service.deploy(manifest(name="other")))
    for id_ in ids:
        await service.outcome(id_)
    resource = await service.apply(manifest(spec="{n: 2}"))

    async def listed(**arguments: object) -> dict[str, object]:
        data = await service.execute(OF_RESOURCE, id=resource, **arguments)
        page = data["cloudResource"]["stackUpdates"]
        return {**page, "nodes": [node["id"] for node in page["nodes"]]}

    everything = await listed()
    oldest = await listed(last=1)
    before = await listed(last=1, before=oldest["pageInfo"]["startCursor"])  # type: ignore[index]
    none = await listed(filter={"statuses": ["FAILED"]})
    all_filters = {"statuses": ["SUCCESS"], "operations": ["UPDATE"], "createdAfter": "2000-01-01T00:00:00Z"}
    filtered = await listed(filter={**all_filters, "createdBefore": "9999-01-01T00:00:00+12:00"})

    assert (everything["nodes"], everything["totalCount"]) == (ids[::-1], 3)
    assert (oldest["nodes"], before["nodes"]) == ([ids[0]], [ids[1]])
    assert (none["nodes"], none["totalCount"]) == ([], 0)
    assert filtered["nodes"] == ids[::-1]


async def test_a_stack_update_can_be_deployed_again_once_it_has_ended(service: Service) -> None:
    """While it runs it can't; afterwards it can as long as its labels name a stack."""
    service.module("Thing", sleep=0.5)
    query = "query ($id: ID!) { stackUpdate(id: $id) { actions { canDeployAgain } } }"
    id_ = await service.deploy(manifest())

    answers = [await service.execute(query, id=id_)]
    await service.outcome(id_)
    answers.append(await service.execute(query, id=id_))
    await service.apply("kind: Thing\nmetadata: {name: one}\n")
    answers.append(await service.execute(query, id=id_))

    assert [answer["stackUpdate"]["actions"]["canDeployAgain"] for answer in answers] == [False, True, False]


@pytest.mark.parametrize("pulumi", [True, False])
async def test_the_service_says_what_it_is(tmp_path: Path, pulumi: bool) -> None:
    """Versions, where things are kept without a word of where that is, limits, and how busy it is."""
    if pulumi:
        fake_pulumi.install(tmp_path / "bin")
    settings = {
        "PATH": str(tmp_path / "bin"),
        "STACKCAST_MAX_CONCURRENT": "3",
        "STACKCAST_DEPLOY_TIMEOUT": "700",
        "STACKCAST_DEPLOY_TIMEOUT_LIMIT": "650",
    }
    async with running_service(tmp_path, **settings) as service:
        info = (await service.execute(SERVER))["serverInfo"]

    assert info == {
        "version": version("stackcast"),
        "pulumiVersion": fake_pulumi.VERSION if pulumi else None,
        "backend": "file",
        "store": "SQLite",
        "maxConcurrent": 3,
        "deployTimeoutSeconds": 650,
        "deployTimeoutLimitSeconds": 650,
        "queued": 0,
        "running": 0,
    }


async def test_the_service_says_how_busy_it_is(tmp_path: Path) -> None:
    """With one place, one of three deployments runs and two wait."""
    fake_pulumi.install(tmp_path / "bin")
    async with running_service(tmp_path, STACKCAST_MAX_CONCURRENT="1") as service:
        service.module("Thing", sleep=1)
        ids = [await service.deploy(manifest(name=f"n{number}")) for number in range(3)]
        async for change in service.watch(ids[0]):
            if change["phase"] == "RUNNING":
                info = (await service.execute(SERVER))["serverInfo"]
        for id_ in ids:
            await service.outcome(id_)
        idle = (await service.execute(SERVER))["serverInfo"]

    assert (info["running"], info["queued"]) == (1, 2)
    assert (idle["running"], idle["queued"]) == (0, 0)


async def test_credentials_of_the_backend_are_not_told(tmp_path: Path) -> None:
    """Of the URL of Pulumi's backend only the scheme is shown."""
    async with running_service(tmp_path, PULUMI_BACKEND_URL="https://user:word@pulumi.invalid/path") as service:
        assert (await service.execute("{ serverInfo { backend } }"))["serverInfo"] == {"backend": "https"}
