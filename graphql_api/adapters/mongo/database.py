"""The stores over MongoDB, in the collections of the Go backend that kept such records first.

What that backend wrote is read as it is; fields of ours stand beside its own. Each call reaches the server within
its limit or raises StoreUnavailable. Every write can be repeated: the driver's own retries stay off, since not all
servers of this protocol know them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TypeVar

from bson.errors import InvalidBSON, InvalidDocument
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
)

from graphql_api.adapters.mongo.documents import Document
from graphql_api.domain.errors import StartRefused, StoreRefused, StoreUnavailable

T = TypeVar("T")
Documents = AsyncIOMotorCollection[Document]
Order = list[tuple[str, int]]

_DEFAULT_DATABASE = "stackcast"
#: The fields to leave out where a stack update is read: they are large.
WITHOUT_TEXTS = {"manifest": 0, "output": 0}


@asynccontextmanager
async def open_mongo(url: str, limit: timedelta) -> AsyncIterator[MongoDatabase]:
    """The database that the URL names; the first call connects. ``limit`` is how long a call may take.

    Raises StartRefused for an URL that is none. The URL's password appears in no error, here or later.
    """
    client = _connect(url, limit)
    try:
        yield MongoDatabase(client, limit)
    finally:
        # It says goodbye to the server, which may not answer. Cancelled, the thread still ends what it began.
        await asyncio.to_thread(client.close)


def _connect(url: str, limit: timedelta) -> AsyncIOMotorClient[Document]:
    """Checks the URL only; the connection itself is made by the first call."""
    milliseconds = limit // timedelta(milliseconds=1)
    try:
        return AsyncIOMotorClient(
            url,
            tz_aware=True,
            timeoutMS=milliseconds,
            serverSelectionTimeoutMS=milliseconds,  # this and the socket's are for closing, which timeoutMS isn't
            connectTimeoutMS=milliseconds // 2,  # an attempt from before the server was back leaves time for another
            socketTimeoutMS=milliseconds,
            retryWrites=False,
            w="majority",  # what was answered for must not be rolled back, and what was written must be read
            readPreference="primary",
        )
    except (PyMongoError, ValueError):
        raise StartRefused(
            "STACKCAST_DATABASE_URL is not an URL that MongoDB's driver takes. Write it as "
            "mongodb://USER:PASSWORD@HOST:PORT/NAME, with %40 for an @ in the password, %2F for a / and %3A for a :."
        ) from None  # the driver's words may quote the password


class MongoDatabase:
    """The database that the stores share."""

    def __init__(self, client: AsyncIOMotorClient[Document], limit: timedelta) -> None:
        self._client = client
        self._limit = limit
        database = client.get_default_database(_DEFAULT_DATABASE)
        self.resources: Documents = database["cloud_resources"]
        self.deleted_resources: Documents = database["deleted_cloud_resources"]
        self.updates: Documents = database["stackupdates"]
        self.claims: Documents = database["stack_claims"]
        self.events: Documents = database["stack_update_events"]
        self.requests: Documents = database["stack_update_requests"]
        self.keys: Documents = database["idempotency_keys"]
        self.half_forgotten: Documents = database["half_forgotten_stack_updates"]

    async def ping(self) -> None:
        """Raises StoreUnavailable when the server does not answer."""
        await self.ask(lambda: self._client.admin.command("ping"))

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call, which can be repeated, and once again when the connection broke under it."""
        with self._translated():
            # The driver's own limit does not count the time in which a call waits for one of its threads.
            async with asyncio.timeout(self._limit.total_seconds()):
                try:
                    return await call()
                except AutoReconnect:
                    return await call()

    async def insert(self, collection: Documents, document: Document) -> bool:
        """Add the document; False when its id or another unique key is taken, perhaps by itself."""

        async def insert() -> bool:
            try:
                await collection.insert_one(document)
            except DuplicateKeyError:
                return False
            return True

        return await self.ask(insert)

    async def several(self, collection: Documents, where: Document, order: Order, limit: int) -> list[Document]:
        """The first documents, without the texts that stand beside a stack update."""
        fields = WITHOUT_TEXTS if collection is self.updates else None
        return await self.ask(lambda: collection.find(where, fields).sort(order).limit(limit).to_list(limit))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (TimeoutError, ConnectionFailure, ExecutionTimeout) as error:
            raise StoreUnavailable(self._no_answer()) from error
        except PyMongoError as error:
            if error.timeout:
                raise StoreUnavailable(self._no_answer()) from error
            raise StoreRefused(f"MongoDB refused the call: {_reason(error)}. Its log may say more.") from error
        except InvalidDocument as error:  # the driver's refusal of what is too large, too
            raise StoreRefused(f"MongoDB can't hold what was to be stored: {error}.") from error
        except InvalidBSON as error:
            raise StoreRefused(
                f"MongoDB holds a document that can't be read: {error}. Correct or delete it."
            ) from error

    def _no_answer(self) -> str:
        return (
            f"MongoDB did not answer within {self._limit.total_seconds():g} seconds: "
            "check that it runs and that STACKCAST_DATABASE_URL names it."
        )


def _reason(error: PyMongoError) -> str:
    details = error.details if isinstance(error, OperationFailure) else None
    return str(details["errmsg"] if details and "errmsg" in details else error).rstrip(".")
