"""The ports over SQLite, over MongoDB and inside one process; ``open_backends`` chooses by the database's URL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from graphql_api.adapters.in_process import InProcessWakeups
from graphql_api.domain.errors import StartRefused
from graphql_api.domain.ports import (
    Claims,
    EventLog,
    IdempotencyKeys,
    Requests,
    ResourceStore,
    Retention,
    UpdateHistory,
    UpdateStore,
    Wakeups,
)

_SQLITE = "sqlite:///"
_MONGODB = ("mongodb://", "mongodb+srv://")


@dataclass(frozen=True, slots=True)
class Backends:
    """Everything that the service keeps its state in. ``ping`` raises StoreUnavailable when it can't be reached."""

    resources: ResourceStore
    updates: UpdateStore
    history: UpdateHistory
    claims: Claims
    events: EventLog
    requests: Requests
    keys: IdempotencyKeys
    retention: Retention
    wakeups: Wakeups
    ping: Callable[[], Awaitable[None]]


def open_backends(database_url: str, limit: timedelta = timedelta(seconds=5)) -> AbstractAsyncContextManager[Backends]:
    """Open the database that the URL names; leaving the context closes it.

    The URL is ``sqlite:///relative/path``, ``sqlite:////absolute/path``, ``sqlite:///:memory:``,
    ``mongodb://HOST/NAME`` or ``mongodb+srv://HOST/NAME``. ``limit`` is how long one call may wait for the database.
    Raises StartRefused for any other URL, StoreRefused or StoreUnavailable for a database that can't be used.
    """
    if database_url.startswith(_MONGODB):
        return _open_mongo(database_url, limit)
    path = database_url.removeprefix(_SQLITE)
    if path in ("", database_url):
        raise StartRefused(  # without the URL, which may hold a password
            "STACKCAST_DATABASE_URL names no database that stackcast can use: write sqlite:///PATH, "
            "mongodb://HOST/NAME or mongodb+srv://HOST/NAME."
        )
    return _open_sqlite(None if path == ":memory:" else Path(path).absolute(), limit)


@asynccontextmanager
async def _open_sqlite(path: Path | None, limit: timedelta) -> AsyncIterator[Backends]:
    from graphql_api.adapters.sqlite.claims import SqliteClaims
    from graphql_api.adapters.sqlite.database import open_sqlite
    from graphql_api.adapters.sqlite.events import SqliteEvents
    from graphql_api.adapters.sqlite.history import SqliteHistory
    from graphql_api.adapters.sqlite.keys import SqliteKeys
    from graphql_api.adapters.sqlite.requests import SqliteRequests
    from graphql_api.adapters.sqlite.resources import SqliteResources
    from graphql_api.adapters.sqlite.retention import SqliteRetention
    from graphql_api.adapters.sqlite.updates import SqliteUpdates

    async with open_sqlite(path, limit) as database:
        yield Backends(
            resources=SqliteResources(database),
            updates=SqliteUpdates(database),
            history=SqliteHistory(database),
            claims=SqliteClaims(database),
            events=SqliteEvents(database),
            requests=SqliteRequests(database),
            keys=SqliteKeys(database),
            retention=SqliteRetention(database),
            wakeups=InProcessWakeups(),
            ping=database.ping,
        )


@asynccontextmanager
async def _open_mongo(url: str, limit: timedelta) -> AsyncIterator[Backends]:
    # Imported only when it is used: the driver takes longer to load than all the rest of a start with SQLite.
    from graphql_api.adapters.mongo.claims import MongoClaims
    from graphql_api.adapters.mongo.database import open_mongo
    from graphql_api.adapters.mongo.events import MongoEvents
    from graphql_api.adapters.mongo.keys import MongoKeys
    from graphql_api.adapters.mongo.requests import MongoRequests
    from graphql_api.adapters.mongo.resources import MongoResources
    from graphql_api.adapters.mongo.retention import MongoRetention
    from graphql_api.adapters.mongo.schema import prepare
    from graphql_api.adapters.mongo.updates import MongoHistory, MongoUpdates

    async with open_mongo(url, limit) as database:
        await prepare(database)
        yield Backends(
            resources=MongoResources(database),
            updates=MongoUpdates(database),
            history=MongoHistory(database),
            claims=MongoClaims(database),
            events=MongoEvents(database),
            requests=MongoRequests(database),
            keys=MongoKeys(database),
            retention=MongoRetention(database),
            wakeups=InProcessWakeups(),
            ping=database.ping,
        )
