"""Accepting deployments: into which place of the queue, how many, and what is answered when the stack is busy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from graphql_api.domain.ports import UPDATES_TOPIC
from graphql_api.domain.records import CloudResource, utc_now
from tests.api.parts import Parts, parts
from tests.api.watching import subscribed
from tests.builders import FAILURE, MILLISECOND, a_cloud_resource, a_stack_update, kept, started

DEPLOY = """
mutation ($id: ID!) {
  deployCloudResource(input: {cloudResourceId: $id}) {
    ... on DeployCloudResourceSuccess { stackUpdate { id } }
    ... on QueueFull { message code path limit }
  }
}"""


async def a_kept_resource(made: Parts) -> CloudResource:
    resource = a_cloud_resource()
    await made.backends.resources.insert(resource)
    return resource


async def test_what_is_accepted_later_waits_behind_when_the_clock_is_set_back() -> None:
    """A deployment is dated after all that waits, even if that bears a time that is still to come."""
    async with parts() as made:
        resource = await a_kept_resource(made)
        ahead = a_stack_update(created_at=utc_now() + timedelta(hours=3))
        await kept(made.backends.updates, ahead)

        accepted = [(await made.services.updates.deploy(resource.id)).update for _ in range(3)]

        assert [it.created_at - ahead.created_at for it in accepted] == [n * MILLISECOND for n in (1, 2, 3)]
        assert await made.backends.updates.next_queued() == ahead


async def test_what_has_ended_dates_nothing() -> None:
    """Once nothing waits, the clock alone says when a deployment was accepted."""
    async with parts() as made:
        resource = await a_kept_resource(made)
        ahead = a_stack_update(created_at=utc_now() + timedelta(hours=3))
        await kept(made.backends.updates, ahead, ahead.failed(ahead.created_at, FAILURE))

        accepted = (await made.services.updates.deploy(resource.id)).update

        assert accepted.created_at <= utc_now()


async def test_a_full_queue_takes_no_more_until_some_have_ended() -> None:
    """The refusal is typed, says the limit, and nothing is stored."""
    async with parts(queue_limit=2) as made:
        resource = await a_kept_resource(made)
        first = (await made.services.updates.deploy(resource.id)).update
        await made.services.updates.deploy(resource.id)

        refused = (await made.execute(DEPLOY, id=resource.id))["deployCloudResource"]
        stored = await made.backends.history.count()
        await made.backends.updates.save(first.failed(utc_now(), FAILURE))
        accepted = (await made.execute(DEPLOY, id=resource.id))["deployCloudResource"]

    assert (refused["code"], refused["path"], refused["limit"]) == ("QUEUE_FULL", None, 2)
    assert refused["message"].startswith("There are 2 deployments under way or waiting, and no more are accepted.")
    assert stored == 2
    assert accepted["stackUpdate"]["id"]


# --- places

PLACE = """
query ($id: ID!) {
  stackUpdate(id: $id) { phase queue { position reason blockedBy { id phase } } }
}"""


async def test_a_queued_update_shows_its_place_and_what_it_waits_for() -> None:
    """The one before it on its stack; what does not wait has no place."""
    async with parts() as made:
        running, waiting = a_stack_update(), a_stack_update()
        await kept(made.backends.updates, running, started(running))
        await kept(made.backends.updates, waiting)
        shown = [(await made.execute(PLACE, id=one.id))["stackUpdate"] for one in (running, waiting)]

    assert shown == [
        {"phase": "PREPARING", "queue": None},
        {
            "phase": "QUEUED",
            "queue": {
                "position": 1,
                "reason": "STACK_BUSY",
                "blockedBy": {"id": running.id, "phase": "PREPARING"},
            },
        },
    ]


async def test_a_watcher_is_pushed_when_the_place_changes() -> None:
    """Though nothing else of the stack update has changed."""
    query = (
        "subscription ($id: ID!) { stackUpdateChanged(id: $id) { ... on StackUpdateChange { stackUpdate { "
        "revision queue { position } } } } }"
    )
    async with parts() as made, made.served() as service:
        before, waiting = a_stack_update(), a_stack_update()
        await kept(made.backends.updates, before)
        await kept(made.backends.updates, waiting)
        async with subscribed(service, query, id=waiting.id) as subscription:
            first = await subscription.push()
            await made.backends.updates.save(before.failed(utc_now(), FAILURE))
            await made.wakeups.announce(UPDATES_TOPIC)
            second = await subscription.push()

    assert [push["stackUpdate"] for push in (first, second)] == [
        {"revision": 1, "queue": {"position": 2}},
        {"revision": 1, "queue": {"position": 1}},
    ]


# --- when the stack is busy, and when a request is repeated

WISH = """
mutation ($id: ID!, $whenBusy: WhenBusy, $key: String) {
  deployCloudResource(input: {cloudResourceId: $id, whenBusy: $whenBusy, idempotencyKey: $key}) {
    __typename
    ... on DeployCloudResourceSuccess { joined stackUpdate { id } }
    ... on UserError { code path message }
    ... on StackBusy { blockedBy { id } }
    ... on IdempotencyKeyReused { stackUpdateId }
  }
}"""


async def wish(made: Parts, resource: CloudResource, **variables: object) -> dict[str, Any]:
    answer: dict[str, Any] = (await made.execute(WISH, id=resource.id, **variables))["deployCloudResource"]
    return answer


async def test_a_busy_stack_is_answered_as_the_caller_wishes() -> None:
    """Queued, refused, joined, or queued in place of those that wait; null and leaving out are QUEUE."""
    async with parts() as made:
        resource = await a_kept_resource(made)
        ids = [(await wish(made, resource, whenBusy=when))["stackUpdate"]["id"] for when in ("QUEUE", None)]
        refused = await wish(made, resource, whenBusy="REJECT")
        joined = await wish(made, resource, whenBusy="JOIN")
        last = await wish(made, resource, whenBusy="SUPERSEDE_PENDING")
        superseded = {request.update_id for request in await made.backends.requests.open(10)}

    assert (refused["__typename"], refused["code"], refused["path"]) == ("StackBusy", "STACK_BUSY", ["cloudResourceId"])
    assert refused["blockedBy"] == {"id": ids[1]}
    assert (joined["joined"], joined["stackUpdate"]) == (True, {"id": ids[1]})
    assert last["joined"] is False
    assert superseded == set(ids)


async def test_a_repeated_request_is_answered_with_the_first_ones_update() -> None:
    """Another one under the same key is refused, with what the key stands for."""
    async with parts() as made:
        resource = await a_kept_resource(made)
        first, second = [await wish(made, resource, key="a key") for _ in range(2)]
        other = await wish(made, resource, key="a key", whenBusy="JOIN")

    assert (first["joined"], second["joined"]) == (False, True)
    assert first["stackUpdate"] == second["stackUpdate"]
    assert (other["code"], other["path"]) == ("IDEMPOTENCY_KEY_REUSED", ["idempotencyKey"])
    assert other["stackUpdateId"] == first["stackUpdate"]["id"]


async def test_a_malformed_key_is_an_error() -> None:
    """With a code and the argument's name; null is as good as leaving it out."""
    async with parts() as made:
        resource = await a_kept_resource(made)
        errors = [await made.errors(WISH, id=resource.id, key=key) for key in ("", "\n", "x" * 201)]
        accepted = await wish(made, resource, key=None)

    assert errors == [[{"code": "BAD_USER_INPUT", "argument": "idempotencyKey"}]] * 3
    assert accepted["joined"] is False
