"""What many watch is shown by one object: who answers them can tell, and has to answer it once."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from graphql_api.domain.callers import ANYBODY
from graphql_api.domain.ports import UPDATES_TOPIC
from graphql_api.schema.operations import Operations, prepare
from tests.api.parts import Parts, parts
from tests.api.watching import RESOURCES, UPDATES
from tests.builders import FAILURE, NOON, a_chunk, a_line, a_stack_update, following, kept, started
from tests.service import manifest

EVENTS = "subscription ($id: ID!, $after: Int! = 0) { stackUpdateEvents(id: $id, after: $after) { __typename } }"
UPDATE = "subscription ($id: ID!) { stackUpdateChanged(id: $id) { __typename } }"
WATCHERS = 5
PATIENCE = 5


@asynccontextmanager
async def watching(
    made: Parts, query: str, number: int = WATCHERS, **variables: Any
) -> AsyncIterator[list[AsyncGenerator[Any, None]]]:
    """What some subscribers are to be shown, each for itself."""
    operations = Operations(made.services)
    async with AsyncExitStack() as stack:
        subscriptions = [await operations.subscribe(prepare(query), variables, ANYBODY) for _ in range(number)]
        yield [await stack.enter_async_context(aclosing(each.events)) for each in subscriptions]


async def shown(watchers: list[AsyncGenerator[Any, None]]) -> Any:
    """The one object that all of them are shown next."""
    async with asyncio.timeout(PATIENCE):
        first, *others = await asyncio.gather(*map(anext, watchers))
    assert all(other is first for other in others)
    return first


async def test_those_at_the_same_place_in_a_log_are_shown_one_object() -> None:
    """From the end of the log on, wherever they began; an object that is shown no longer goes."""
    async with parts() as made:
        update = a_stack_update()
        await kept(made.backends.updates, update, started(update))
        chunk = await made.append(a_chunk(a_line(), a_line(), update_id=update.id))
        async with watching(made, EVENTS, id=update.id) as early, watching(made, EVENTS, id=update.id, after=1) as late:
            await shown(early)
            await shown(late)
            pushes = []
            for _ in range(10):
                asked = asyncio.gather(*map(anext, [*early, *late]))
                chunk = await made.append(following(chunk, a_line()))
                first, *others = await asked
                assert all(other is first for other in others)
                pushes.append(weakref.ref(first))
                del asked, first, others

            assert pushes[0]() is None


async def test_those_who_watch_one_stack_update_are_pushed_one_object() -> None:
    """With each change, whenever they began."""
    async with parts() as made:
        update = a_stack_update()
        await kept(made.backends.updates, update, started(update))
        async with watching(made, UPDATE, id=update.id) as watchers:
            await asyncio.gather(*map(anext, watchers))
            ended = started(update).failed(NOON, FAILURE)
            await made.backends.updates.save(ended)
            await made.wakeups.announce(update.id)

            assert (await shown(watchers)).stack_update.revision == ended.revision


async def test_those_who_watch_a_list_are_pushed_one_object() -> None:
    """With each change that their filters take alike."""
    async with parts() as made:
        async with watching(made, UPDATES) as all_, watching(made, UPDATES, filter={"statuses": ["FAILED"]}) as failed:
            watchers = [*all_, *failed]
            await asyncio.gather(*map(anext, watchers))
            await kept(made.backends.updates, update := a_stack_update(), update.failed(update.created_at, FAILURE))
            await made.wakeups.announce(UPDATES_TOPIC)
            push = await shown(watchers)
        async with watching(made, RESOURCES) as watchers:
            await asyncio.gather(*map(anext, watchers))
            resource = await made.services.resources.create(manifest())
            created = await shown(watchers)

    assert (push.stack_update.id, push.matches) == (update.id, True)
    assert created.cloud_resource.id == resource.id
