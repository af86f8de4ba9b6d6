"""The contract of Retention, over every store."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

from graphql_api.adapters import Backends
from graphql_api.domain.ports import Slice
from graphql_api.domain.records import CloudResourceId, StackUpdate, StackUpdateId, new_id
from tests.builders import (
    FAILURE,
    MILLISECOND,
    NOON,
    a_chunk,
    a_request,
    a_stack_update,
    an_idempotency_key,
    failed,
    following,
    kept,
    started,
    to_success,
)

MINUTE = timedelta(minutes=1)
LATER = NOON + timedelta(days=100)
RESOURCE, OTHER = CloudResourceId("a" * 24), CloudResourceId("b" * 24)
ALL = 1000


async def in_progress(backends: Backends, minute: int, resource: CloudResourceId = RESOURCE) -> StackUpdate:
    """A stack update that was accepted so many minutes after noon, and has not ended."""
    update = a_stack_update(created_at=NOON + minute * MINUTE, cloud_resource_id=resource)
    await kept(backends.updates, update, *([started(update)] if minute % 2 else []))
    return update


async def ended(backends: Backends, minute: int, resource: CloudResourceId = RESOURCE) -> StackUpdate:
    """One that ended within the minute after it was accepted."""
    update = a_stack_update(created_at=NOON + minute * MINUTE, cloud_resource_id=resource)
    revisions = [update, failed(update)] if minute % 2 else to_success(update)
    await kept(backends.updates, *revisions)
    return revisions[-1]


async def a_log(backends: Backends, id_: StackUpdateId, chunks: int) -> None:
    chunk = a_chunk(update_id=id_)
    for _ in range(chunks):
        assert await backends.events.append(chunk)
        chunk = following(chunk)


async def forgotten(backends: Backends, id_: StackUpdateId) -> int:
    """Forget it; the number of calls that it took."""
    for calls in itertools.count(1):
        if await backends.retention.forget(id_):
            return calls
    raise AssertionError


# --- what has expired


async def test_the_cloud_resources_with_stack_updates_are_found_one_after_the_other(backends: Backends) -> None:
    """Each once, by id, whatever its stack updates are, and whether or not it is kept itself."""
    assert await backends.retention.deployed(None, ALL) == []
    ids = sorted(CloudResourceId(new_id(NOON)) for _ in range(5))
    for id_ in ids:
        for minute in (0, 1):
            await in_progress(backends, minute, id_)
            await ended(backends, minute, id_)

    assert await backends.retention.deployed(None, ALL) == ids
    assert await backends.retention.deployed(None, 2) == ids[:2]
    assert await backends.retention.deployed(ids[1], 2) == ids[2:4]
    assert await backends.retention.deployed(ids[3], 2) == ids[4:]
    assert await backends.retention.deployed(ids[4], 2) == []


async def test_the_newest_that_ended_are_kept_however_old(backends: Backends) -> None:
    """Of a cloud resource's ended stack updates, all but the newest so many expire, the oldest first; what has not
    ended neither expires nor counts, and neither does another cloud resource's.
    """
    updates = [await ended(backends, minute) for minute in range(6)]
    for minute in (2, 9):
        await in_progress(backends, minute)
        await ended(backends, minute, OTHER)
    ids = [update.id for update in updates]
    retention = backends.retention

    assert await retention.expired(RESOURCE, LATER, 0, ALL) == ids
    assert await retention.expired(RESOURCE, LATER, 2, ALL) == ids[:4]
    assert await retention.expired(RESOURCE, LATER, 2, 3) == ids[:3]
    assert await retention.expired(RESOURCE, LATER, 5, ALL) == ids[:1]
    assert await retention.expired(RESOURCE, LATER, 6, ALL) == []
    assert await retention.expired(RESOURCE, LATER, ALL, ALL) == []
    assert await retention.expired(CloudResourceId(new_id(NOON)), LATER, 0, ALL) == []


async def test_what_ended_lately_is_kept_however_many(backends: Backends) -> None:
    """What counts is when it ended, to the millisecond, and not when it was accepted."""
    updates = [await ended(backends, minute) for minute in range(6)]
    slow = to_success(a_stack_update(created_at=NOON - MINUTE, cloud_resource_id=RESOURCE))
    late = slow[2].failed(NOON + timedelta(hours=1), FAILURE)
    await kept(backends.updates, *slow[:3], late)
    ids = [update.id for update in updates]
    retention = backends.retention

    assert await retention.expired(RESOURCE, updates[3].updated_at, 0, ALL) == ids[:3]
    assert await retention.expired(RESOURCE, updates[3].updated_at + MILLISECOND, 0, ALL) == ids[:4]
    assert await retention.expired(RESOURCE, updates[3].updated_at + MILLISECOND / 2, 0, ALL) == ids[:4]
    assert await retention.expired(RESOURCE, updates[3].updated_at + MILLISECOND, 2, ALL) == ids[:4]
    assert await retention.expired(RESOURCE, updates[3].updated_at + MILLISECOND, 3, ALL) == ids[:3]
    assert await retention.expired(RESOURCE, LATER, 6, ALL) == [late.id]


async def test_stack_updates_of_one_millisecond_are_told_apart(backends: Backends) -> None:
    """Those accepted within one millisecond are newer or older by their ids, as they are in lists."""
    made = [a_stack_update(created_at=NOON, cloud_resource_id=RESOURCE) for _ in range(4)]
    for update in made:
        await kept(backends.updates, update, failed(update))

    assert await backends.retention.expired(RESOURCE, LATER, 1, ALL) == sorted(update.id for update in made)[:3]


# --- forgetting


async def test_a_forgotten_stack_update_is_found_nowhere(backends: Backends) -> None:
    """Its record, manifest, output, log, requests and idempotency keys go, and those of others stay."""
    gone, other = await ended(backends, 0), await ended(backends, 1)
    keys = {update.id: an_idempotency_key(update_id=update.id, created_at=NOON) for update in (gone, other)}
    requests = {update.id: a_request(update_id=update.id) for update in (gone, other)}
    for update in (gone, other):
        await a_log(backends, update.id, 3)
        await backends.keys.keep(keys[update.id], NOON)
        await backends.requests.make(requests[update.id])

    assert await backends.retention.forget(gone.id)

    assert await backends.updates.get(gone.id) is None
    assert await backends.updates.manifest(gone.id) is None
    assert await backends.updates.output(gone.id) is None
    assert await backends.events.span(gone.id) is None
    assert await backends.keys.find(keys[gone.id].caller, "once", NOON) is None
    assert await backends.history.page(Slice(ALL)) == [other]
    assert await backends.requests.open(ALL) == [requests[other.id]]
    assert await backends.keys.find(keys[other.id].caller, "once", NOON) == keys[other.id]
    assert (await backends.events.read(other.id, 0, ALL)).seq == 3
    assert await backends.retention.half_forgotten(ALL) == []


async def test_what_has_not_ended_is_never_forgotten(backends: Backends) -> None:
    """A stack update that waits or runs stays, with all that belongs to it."""
    for minute in (0, 1):
        update = await in_progress(backends, minute)
        stored = await backends.updates.get(update.id)
        key = an_idempotency_key(update_id=update.id, created_at=NOON)
        await backends.keys.keep(key, NOON)
        await a_log(backends, update.id, 1)

        assert await backends.retention.forget(update.id)

        assert await backends.updates.get(update.id) == stored
        assert await backends.updates.manifest(update.id)
        assert await backends.events.last(update.id)
        assert await backends.keys.find(key.caller, key.key, NOON) == key
        assert await backends.retention.half_forgotten(ALL) == []


async def test_a_long_log_goes_in_steps_and_its_record_first(backends: Backends) -> None:
    """After the first of several calls the stack update is not found, and it is among the half forgotten until the
    last: whoever dies in between finds it there.
    """
    update = await ended(backends, 0)
    await a_log(backends, update.id, 100)

    assert not await backends.retention.forget(update.id)

    assert await backends.updates.get(update.id) is None
    assert await backends.history.count() == 0
    assert (span := await backends.events.span(update.id))
    assert 1 < span.first_seq <= span.last_seq == 100
    assert await backends.retention.half_forgotten(ALL) == [update.id]

    assert await forgotten(backends, update.id) > 1

    assert await backends.events.span(update.id) is None
    assert await backends.retention.half_forgotten(ALL) == []


async def test_forgetting_again_does_nothing(backends: Backends) -> None:
    """Also what never was can be forgotten."""
    update = await ended(backends, 0)

    for _ in range(2):
        assert await backends.retention.forget(update.id)
    assert await backends.retention.forget(StackUpdateId(new_id(NOON)))

    assert await backends.retention.half_forgotten(ALL) == []


async def test_several_may_forget_the_same_at_once(backends: Backends) -> None:
    """However many forget one stack update at a time, it is gone, and nothing is left half forgotten."""
    update = await ended(backends, 0)
    await a_log(backends, update.id, 100)

    await asyncio.gather(*(forgotten(backends, update.id) for _ in range(4)))

    assert await backends.events.span(update.id) is None
    assert await backends.retention.half_forgotten(ALL) == []
