"""Accepting deployments: into which place of the queue, and how many."""

from __future__ import annotations

from datetime import timedelta

from graphql_api.domain.records import CloudResource, utc_now
from tests.api.parts import Parts, parts
from tests.builders import FAILURE, MILLISECOND, a_cloud_resource, a_stack_update, kept

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

        accepted = [await made.services.updates.deploy(resource.id, None) for _ in range(3)]

        assert [it.created_at - ahead.created_at for it in accepted] == [n * MILLISECOND for n in (1, 2, 3)]
        assert await made.backends.updates.next_queued() == ahead


async def test_what_has_ended_dates_nothing() -> None:
    """Once nothing waits, the clock alone says when a deployment was accepted."""
    async with parts() as made:
        resource = await a_kept_resource(made)
        ahead = a_stack_update(created_at=utc_now() + timedelta(hours=3))
        await kept(made.backends.updates, ahead, ahead.failed(ahead.created_at, FAILURE))

        accepted = await made.services.updates.deploy(resource.id, None)

        assert accepted.created_at <= utc_now()


async def test_a_full_queue_takes_no_more_until_some_have_ended() -> None:
    """The refusal is typed, says the limit, and nothing is stored."""
    async with parts(queue_limit=2) as made:
        resource = await a_kept_resource(made)
        first = await made.services.updates.deploy(resource.id, None)
        await made.services.updates.deploy(resource.id, None)

        refused = (await made.execute(DEPLOY, id=resource.id))["deployCloudResource"]
        stored = await made.backends.history.count()
        await made.backends.updates.save(first.failed(utc_now(), FAILURE))
        accepted = (await made.execute(DEPLOY, id=resource.id))["deployCloudResource"]

    assert (refused["code"], refused["path"], refused["limit"]) == ("QUEUE_FULL", None, 2)
    assert refused["message"].startswith("There are 2 deployments under way or waiting, and no more are accepted.")
    assert stored == 2
    assert accepted["stackUpdate"]["id"]
