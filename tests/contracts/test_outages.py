"""MongoDB away: at the start, during calls and for long; and what is said of it, never with the password."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from time import monotonic
from urllib.parse import urlsplit

import pytest

from graphql_api.adapters import Backends, open_backends
from graphql_api.adapters.mongo.database import open_mongo
from graphql_api.domain.errors import StackcastError, StoreRefused, StoreUnavailable
from graphql_api.domain.ports import Slice
from graphql_api.domain.records import StackUpdate
from tests.builders import (
    MANIFEST,
    NOON,
    a_chunk,
    a_claim,
    a_cloud_resource,
    a_request,
    a_stack_update,
    an_idempotency_key,
    started,
)
from tests.contracts.outage import Away, Outage, outage_before
from tests.contracts.shown import shown

pytestmark = pytest.mark.external

LIMIT = timedelta(seconds=1)
MARGIN = 0.5  # seconds over the limit, for a busy machine
BACK = 1.5  # seconds within which the first call after an outage is answered
LONG = 20.0  # seconds of each kind of outage


@pytest.fixture
async def outage(mongodb_database_url: str) -> AsyncIterator[Outage]:
    async with outage_before(mongodb_database_url) as outage:
        yield outage


def every_call(backends: Backends, update: StackUpdate) -> list[Callable[[], Awaitable[object]]]:
    """One of each kind, reads and writes, of all stores."""
    return [
        backends.ping,
        lambda: backends.resources.insert(a_cloud_resource()),
        lambda: backends.resources.page(Slice(10)),
        lambda: backends.resources.delete(a_cloud_resource().id, NOON),
        lambda: backends.resources.changed_since(NOON, 10),
        lambda: backends.updates.insert(a_stack_update(), MANIFEST),
        lambda: backends.updates.save(started(update)),
        backends.updates.next_queued,
        backends.history.count,
        lambda: backends.history.latest([update.cloud_resource_id] * 3 + [a_cloud_resource().id]),
        lambda: backends.history.changed_since(NOON, 10),
        lambda: backends.claims.claim(a_claim()),
        lambda: backends.events.append(a_chunk()),
        lambda: backends.events.read(update.id, 0, 10),
        lambda: backends.events.span(update.id),
        lambda: backends.requests.make(a_request()),
        lambda: backends.requests.open(10),
        lambda: backends.keys.keep(an_idempotency_key(), NOON),
        lambda: backends.retention.deployed(None, 10),
        lambda: backends.retention.forget(update.id),
    ]


async def refused_after(call: Callable[[], Awaitable[object]]) -> float:
    """The seconds that an unavailable store let the call wait."""
    begun = monotonic()
    with pytest.raises(StoreUnavailable, match=r"MongoDB did not answer within 1 seconds: check that it runs"):
        await call()
    return monotonic() - begun


@pytest.mark.parametrize("how", Away)
async def test_away_at_the_start(outage: Outage, how: Away) -> None:
    """The start is refused with a sentence within the limit; once the server is there, it works."""
    await outage.begin(how)
    begun = monotonic()
    with pytest.raises(StoreUnavailable, match="check that it runs and that STACKCAST_DATABASE_URL names it"):
        async with open_backends(outage.url, LIMIT):
            pass
    assert monotonic() - begun < LIMIT.total_seconds() * 2 + MARGIN  # with the closing

    await outage.end()
    async with open_backends(outage.url, LIMIT) as backends:
        assert await backends.resources.count() == 0


@pytest.mark.parametrize("how", Away)
async def test_away_during_calls(outage: Outage, how: Away) -> None:
    """Every call is refused within the limit, and the first one after the outage is answered at once."""
    update = a_stack_update()
    async with open_backends(outage.url, LIMIT) as backends:
        await backends.updates.insert(update, MANIFEST)
        await outage.begin(how)

        waited = await asyncio.gather(*map(refused_after, every_call(backends, update)))
        assert max(waited) < LIMIT.total_seconds() + MARGIN

        await outage.end()
        begun = monotonic()
        await backends.updates.save(started(update))
        assert monotonic() - begun < BACK
        await asyncio.gather(*(call() for call in every_call(backends, update)))
        assert await backends.updates.get(update.id) == started(update)


async def test_a_call_under_way_as_the_server_goes(outage: Outage) -> None:
    """A call that meets the end of the outage within its limit is answered, as if nothing had been."""
    async with open_backends(outage.url, timedelta(seconds=10)) as backends:
        for how in Away:
            await outage.begin(how)
            async with asyncio.TaskGroup() as tasks:
                counting = tasks.create_task(backends.resources.count())
                refused, _ = await asyncio.wait([counting], timeout=1)
                assert not refused
                await outage.end()
            assert counting.result() == 0


@pytest.mark.timeout(180)
async def test_away_for_long(outage: Outage) -> None:
    """Forty seconds and more: no call waits longer at the end than at first, nothing piles up, and right afterwards
    the record that was tried all the time is written, over the same connections' client.
    """
    first, update = a_stack_update(), a_stack_update()
    async with open_backends(outage.url, LIMIT) as backends:
        await backends.updates.insert(first, MANIFEST)
        threads = []
        for how in Away:
            await outage.begin(how)
            end = monotonic() + LONG
            while monotonic() < end:
                tries = [lambda: backends.updates.insert(update, MANIFEST), *every_call(backends, first)]
                waited = await asyncio.gather(*map(refused_after, tries))
                assert max(waited) < LIMIT.total_seconds() + MARGIN
                threads.append(threading.active_count())

            await outage.end()
            begun = monotonic()
            await backends.updates.insert(update, MANIFEST)
            assert monotonic() - begun < BACK
            assert await backends.updates.get(update.id) == update

    assert max(threads[-5:]) <= max(threads[:5]) + 5


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that anybody logs, the driver too."""
    for name in (None, "motor", "pymongo", "stackcast"):
        caplog.set_level(logging.DEBUG, name)
    return caplog


def with_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"nobody:hunter%402@{parts.netloc}").geturl()


@pytest.mark.parametrize("how", [None, *Away], ids=str)
async def test_the_password_is_never_shown(outage: Outage, log: pytest.LogCaptureFixture, how: Away | None) -> None:
    """Neither an error with all its causes nor any log line nor a repr has it, whether the server refuses the user,
    can't be reached or is silent.
    """
    if how:
        await outage.begin(how)

    with pytest.raises((StoreUnavailable, StoreRefused)) as refusal:
        async with open_backends(with_password(outage.url), LIMIT):
            pass

    said = "\n".join([shown(refusal.value), repr(refusal.value), log.text, *map(repr, log.records)])
    assert [record for record in log.records if record.name.startswith("pymongo")]  # it was listened to
    assert refusal.value.message in said
    for secret in ("hunter", "hunter%402", "aHVudGVy"):  # the last is the beginning of its Base64
        assert secret not in said


async def test_no_repr_shows_the_password(outage: Outage) -> None:
    """What a debugger or a log would show of the open database is free of it."""
    async with open_mongo(with_password(outage.url), LIMIT) as database:
        with pytest.raises(StackcastError):
            await database.ping()
        shown_of_it = " ".join(repr(part) for part in (database, *vars(database).values()))

    assert "27017" in shown_of_it or "127.0.0.1" in shown_of_it
    assert "hunter" not in shown_of_it
