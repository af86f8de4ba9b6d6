"""Watching lists: what is pushed to whom, and that nothing is missed, doubled or left behind."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.api.parts import parts
from tests.api.watching import RESOURCES, UPDATES, subscribed
from tests.runner.waiting import eventually
from tests.service import DEPLOY, Service, manifest

UPDATE = """
mutation ($id: ID!, $manifest: String!) {
  updateCloudResource(input: {id: $id, manifest: $manifest}) { __typename }
}"""
DELETE = "mutation ($id: ID!) { deleteCloudResource(input: {id: $id}) { __typename } }"


async def test_every_stack_update_is_pushed_from_acceptance_to_its_end(service: Service) -> None:
    """First Ready; then each revision once, in order, the last with the outcome."""
    service.module("Thing", sleep=0.3)
    async with subscribed(service, UPDATES) as subscription:
        ready = await subscription.push()
        id_ = await service.deploy(manifest())
        pushes = await subscription.pushes_until("status", "SUCCESS", "stackUpdate")

    assert ready["__typename"] == "StackUpdatesReady"
    assert {push["stackUpdate"]["id"] for push in pushes} == {id_}
    assert {push["stackUpdate"]["cloudResource"]["name"] for push in pushes} == {"one"}
    assert {push["matches"] for push in pushes} == {True}
    revisions = [push["stackUpdate"]["revision"] for push in pushes]
    assert revisions == sorted(set(revisions))


async def test_what_was_there_before_ready_is_not_pushed(service: Service) -> None:
    """Who subscribes refetches: only what changes from then on comes."""
    service.module("Thing")
    before = await service.deploy(manifest(name="before"))
    await service.outcome(before)
    async with subscribed(service, UPDATES) as subscription:
        assert (await subscription.push())["__typename"] == "StackUpdatesReady"
        after = await service.deploy(manifest(name="after"))
        pushes = await subscription.pushes_until("status", "SUCCESS", "stackUpdate")

    assert {push["stackUpdate"]["id"] for push in pushes} == {after}


async def test_what_leaves_the_filter_is_pushed_once_more(service: Service) -> None:
    """A watcher of what is IN_PROGRESS is told when one is no longer, with matches false."""
    service.module("Thing", sleep=0.3)
    async with subscribed(service, UPDATES, filter={"statuses": ["IN_PROGRESS"]}) as subscription:
        await subscription.push()
        await service.deploy(manifest())
        pushes = await subscription.pushes_until("status", "SUCCESS", "stackUpdate")

    assert [push["matches"] for push in pushes] == [True] * (len(pushes) - 1) + [False]
    assert len(pushes) > 1


async def test_what_never_matched_is_not_pushed(service: Service) -> None:
    """Other statuses, cloud resources, stacks and times are nobody's business who did not ask for them."""
    service.module("Thing")
    service.module("Broken", error="no")
    wanted = await service.apply(manifest("Broken", "wanted"))
    far, past = "9999-01-01T00:00:00Z", "2000-01-01T00:00:00Z"
    resource: dict[str, object] = {"cloudResourceId": wanted, "createdAfter": past}
    stack: dict[str, object] = {"stackFqdn": "organization/tests/wanted", "operations": ["UPDATE"]}
    async with (
        subscribed(service, UPDATES, filter={"statuses": ["FAILED"]}) as failed,
        subscribed(service, UPDATES, filter=resource) as of_resource,
        subscribed(service, UPDATES, filter={**stack, "createdBefore": far}) as of_stack,
        subscribed(service, UPDATES, filter={"createdAfter": far}) as later,
        subscribed(service, UPDATES, filter={"createdBefore": past}) as earlier,
        subscribed(service, UPDATES, filter={"operations": []}) as no_operation,
        subscribed(service, UPDATES, filter={"statuses": []}) as no_status,
    ):
        for subscription in (failed, of_resource, of_stack, later, earlier, no_operation, no_status):
            assert (await subscription.push())["__typename"] == "StackUpdatesReady"
        await service.outcome(await service.deploy(manifest(name="other")))
        data = await service.execute(DEPLOY, id=wanted)
        id_ = data["deployCloudResource"]["stackUpdate"]["id"]
        pushes = [
            await subscription.pushes_until("status", "FAILED", "stackUpdate")
            for subscription in (failed, of_resource, of_stack)
        ]
        for subscription in (later, earlier, no_operation, no_status):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await subscription.push()

    assert [{push["stackUpdate"]["id"] for push in some} for some in pushes] == [{id_}] * 3
    assert [(push["matches"], push["stackUpdate"]["status"]) for push in pushes[0]] == [(True, "FAILED")]


async def test_cloud_resources_are_pushed_as_they_come_change_and_go(service: Service) -> None:
    """Created, applied, updated and deleted: each is pushed to who asked for the kind, in order."""
    async with subscribed(service, RESOURCES, filter={"kind": "Thing"}) as subscription:
        ready = await subscription.push()
        await service.apply(manifest("Other", "other"))
        id_ = await service.apply(manifest())
        created = await subscription.push()
        await service.apply(manifest(spec="{a: 1}"))
        applied = await subscription.push()
        await service.execute(UPDATE, id=id_, manifest=manifest(spec="{a: 2}"))
        updated = await subscription.push()
        await service.execute(DELETE, id=id_)
        deleted = await subscription.push()

    assert ready["__typename"] == "CloudResourcesReady"
    manifests = [push["cloudResource"]["manifest"] for push in (created, applied, updated)]
    assert manifests == [manifest(), manifest(spec="{a: 1}"), manifest(spec="{a: 2}")]
    assert created["matches"] is True
    assert {**deleted, "deletedAt": None} == {
        "__typename": "CloudResourceDeleted",
        "id": id_,
        "kind": "Thing",
        "name": "one",
        "deletedAt": None,
    }


async def test_what_a_push_shows_of_other_records_is_as_they_are_now(service: Service) -> None:
    """A socket lives for long: what one push has looked up is not what the next one shows."""
    service.module("Thing")
    async with subscribed(service, RESOURCES) as subscription:
        await subscription.push()
        id_ = await service.deploy(manifest())
        await service.outcome(id_)
        first = await subscription.push()
        await service.apply(manifest(spec="{a: 1}"))
        second = await subscription.push()
        newer = await service.deploy(manifest(spec="{a: 1}"))
        await service.outcome(newer)
        await service.apply(manifest(spec="{a: 2}"))
        third = await subscription.push()

    latest = [push["cloudResource"]["latestStackUpdate"] for push in (second, third)]
    assert first["cloudResource"]["name"] == "one"
    assert latest == [{"id": id_, "status": "SUCCESS"}, {"id": newer, "status": "SUCCESS"}]


@pytest.mark.parametrize(
    "filter_",
    [{"cloudResourceId": "x"}, {"stackFqdn": "\ud800"}, {"createdAfter": "yesterday"}],
    ids=["id", "stack", "time"],
)
async def test_a_malformed_filter_is_an_error_with_a_code(service: Service, filter_: dict[str, str]) -> None:
    """A subscription that can't be answered says so under BAD_USER_INPUT."""
    async with service.websocket() as socket:
        payload = {"query": UPDATES, "variables": {"filter": filter_}}
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        message = json.loads(await socket.recv())

    errors = message["payload"]["errors"] if message["type"] == "next" else message["payload"]
    assert [error["extensions"]["code"] for error in errors] == ["BAD_USER_INPUT"]


async def test_a_client_that_vanishes_leaves_no_listener() -> None:
    """When a connection breaks without a goodbye, in the middle of subscriptions, nobody listens for it any more."""
    async with parts() as made, made.served() as service, service.raw_websocket() as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        for name, query in {"1": UPDATES, "2": RESOURCES}.items():
            await socket.send(json.dumps({"type": "subscribe", "id": name, "payload": {"query": query}}))
            assert json.loads(await socket.recv())["type"] == "next"
        assert len(made.wakeups.topics) == 2

        socket.transport.abort()

        await eventually(lambda: not made.wakeups.topics)
