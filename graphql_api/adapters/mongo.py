"""The stores over MongoDB, in the collections of the Go backend that kept such records first.

What that backend wrote is read as it is; fields of ours stand beside its own. Each call reaches the server within
its limit or raises StoreUnavailable. Every write can be repeated: the driver's own retries stay off, since not all
servers of this protocol know them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import TypeVar

from bson import ObjectId
from bson.errors import InvalidBSON, InvalidId
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
)

from graphql_api.adapters import mongo_documents as documents
from graphql_api.adapters.mongo_documents import Document
from graphql_api.domain.errors import (
    CloudResourceExists,
    CloudResourceNotFound,
    RevisionConflict,
    StartRefused,
    StoreRefused,
    StoreUnavailable,
)
from graphql_api.domain.ports import EVERY_UPDATE, Cursor, StackUpdateFilter
from graphql_api.domain.records import (
    Claim,
    CloudResource,
    CloudResourceId,
    Phase,
    StackFqdn,
    StackUpdate,
    StackUpdateId,
    Status,
)

T = TypeVar("T")
Documents = AsyncIOMotorCollection[Document]

_DEFAULT_DATABASE = "stackcast"
_NEWEST_FIRST = [("created_at", -1), ("_id", -1)]
_OLDEST_FIRST = [("created_at", 1), ("_id", 1)]
_WITHOUT_TEXTS = {"manifest": 0, "output": 0}  # they are large
_SHOWN_PAIRS = 10


@asynccontextmanager
async def open_mongo(url: str, limit: timedelta) -> AsyncIterator[MongoDatabase]:
    """Connect, and make the indexes that are missing. ``limit`` is how long a call may take.

    Raises StartRefused for an URL that is none, StoreRefused when the data can't be used as it is, and
    StoreUnavailable. The URL's password appears in none of them.
    """
    client = _connect(url, limit)
    try:
        database = MongoDatabase(client, limit)
        await database.prepare()
        yield database
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
            serverSelectionTimeoutMS=milliseconds,  # this and the next two are for closing, which timeoutMS isn't
            connectTimeoutMS=milliseconds,
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
    """The database that MongoResources, MongoUpdates and MongoClaims share."""

    def __init__(self, client: AsyncIOMotorClient[Document], limit: timedelta) -> None:
        self._client = client
        self._limit = limit
        database = client.get_default_database(_DEFAULT_DATABASE)
        self.resources: Documents = database["cloud_resources"]
        self.updates: Documents = database["stackupdates"]
        self.claims: Documents = database["stack_claims"]

    async def prepare(self) -> None:
        """One index in a call: FerretDB ends the connection when several that exist are asked for at once."""
        await self._ensure_unique_names()
        await self._ensure_index(self.resources, "created_at", "_id")
        for fields in (
            ("created_at", "_id"),
            ("cloud_resource_id", "created_at", "_id"),
            ("status", "created_at", "_id"),
            ("cloud_resource_id", "status", "created_at", "_id"),
            ("phase", "created_at", "_id"),
        ):
            await self._ensure_index(self.updates, *fields)
        await self._ensure_index(self.claims, "stack", "epoch")

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

    async def _ensure_index(self, collection: Documents, *fields: str) -> None:
        await self.ask(lambda: collection.create_index([(field, 1) for field in fields]))

    async def _ensure_unique_names(self) -> None:
        try:
            await self.ask(lambda: self.resources.create_index([("kind", 1), ("name", 1)], unique=True))
        except StoreRefused:
            await self._refuse_duplicates()
            raise

    async def _refuse_duplicates(self) -> None:
        """Counts here: servers of this protocol differ in what they can group by."""
        names = await self.ask(lambda: self.resources.find({}, {"kind": 1, "name": 1}).to_list(None))
        counts = Counter((str(document.get("kind")), str(document.get("name"))) for document in names)
        pairs = sorted(f"{kind} {name}" for (kind, name), count in counts.items() if count > 1)
        if pairs:
            more = f" and {len(pairs) - _SHOWN_PAIRS} more" if len(pairs) > _SHOWN_PAIRS else ""
            raise StoreRefused(
                "The collection cloud_resources holds more than one document of the same kind and name: "
                f"{', '.join(pairs[:_SHOWN_PAIRS])}{more}. Delete or rename all but one of each, then start again."
            )

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
        except InvalidBSON as error:
            raise StoreRefused(
                f"MongoDB holds a document that can't be read: {error}. Correct or delete it."
            ) from error

    def _no_answer(self) -> str:
        return (
            f"MongoDB did not answer within {self._limit.total_seconds():g} seconds: "
            "check that it runs and that STACKCAST_DATABASE_URL names it."
        )


class MongoResources:
    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._collection = database.resources

    async def insert(self, resource: CloudResource) -> None:
        document = {"_id": ObjectId(resource.id), **documents.resource_document(resource)}
        if await self._database.insert(self._collection, document):
            return
        if await self._same_name(resource) is None:
            raise RevisionConflict(f"The id {resource.id} belongs to another cloud resource: take a new one.")

    async def replace(self, resource: CloudResource) -> None:
        key = {"_id": ObjectId(resource.id)}
        change = {"$set": documents.resource_document(resource)}  # no replacement: other programs' fields stay
        try:
            result = await self._database.ask(lambda: self._collection.update_one(key, change))
        except StoreRefused:  # servers differ in how they say that a change meets a unique key
            await self._same_name(resource)
            raise
        if not result.matched_count:
            raise CloudResourceNotFound(resource.id)

    async def get(self, id_: CloudResourceId) -> CloudResource | None:
        return await self._one({"_id": _object_id(id_)})

    async def find(self, kind: str, name: str) -> CloudResource | None:
        return await self._one({"kind": kind, "name": name})

    async def page(self, first: int, after: Cursor | None = None) -> Sequence[CloudResource]:
        def find() -> Awaitable[list[Document]]:
            return self._collection.find(_after(after)).sort(_NEWEST_FIRST).limit(first).to_list(first)

        return [documents.read_resource(document) for document in await self._database.ask(find)]

    async def count(self) -> int:
        return await self._database.ask(lambda: self._collection.count_documents({}))

    async def _same_name(self, resource: CloudResource) -> CloudResource | None:
        """The stored record with its kind and name; CloudResourceExists when that is another one."""
        existing = await self.find(resource.kind, resource.name)
        if existing and existing.id != resource.id:
            raise CloudResourceExists(existing)
        return existing

    async def _one(self, where: Document) -> CloudResource | None:
        document = await self._database.ask(lambda: self._collection.find_one(where))
        return documents.read_resource(document) if document else None


class MongoUpdates:
    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._collection = database.updates

    async def insert(self, update: StackUpdate, manifest: str) -> None:
        document = documents.update_document(update)
        whole = {"_id": ObjectId(update.id), **document, "manifest": manifest}
        if await self._database.insert(self._collection, whole):
            return
        stored = await self.get(update.id)
        if stored is None or not documents.same_identity(documents.update_document(stored), document):
            raise RevisionConflict(f"The id {update.id} belongs to another stack update: take a new one.")

    async def save(self, update: StackUpdate, output: str | None = None) -> None:
        document = documents.update_document(update)
        expected = update.revision - 1
        key = {
            "_id": ObjectId(update.id),
            "revision": {"$in": [expected, None]} if expected == 1 else expected,  # other programs write none
            "status": Status.IN_PROGRESS.value,
        }
        change = document if output is None else {**document, "output": output}
        result = await self._database.ask(lambda: self._collection.update_one(key, {"$set": change}))
        if result.matched_count:
            return
        stored = await self.get(update.id)
        if stored is None or documents.update_document(stored) != document:
            raise RevisionConflict(f"The stack update {update.id} has changed since it was read: read it again.")

    async def get(self, id_: StackUpdateId) -> StackUpdate | None:
        document = await self._one(id_, _WITHOUT_TEXTS)
        return documents.read_update(document) if document else None

    async def manifest(self, id_: StackUpdateId) -> str | None:
        return (await self._one(id_, {"manifest": 1}) or {}).get("manifest")

    async def output(self, id_: StackUpdateId) -> str | None:
        return (await self._one(id_, {"output": 1}) or {}).get("output")

    async def page(
        self, first: int, after: Cursor | None = None, where: StackUpdateFilter = EVERY_UPDATE
    ) -> Sequence[StackUpdate]:
        return await self._several({**documents.updates_filter(where), **_after(after)}, _NEWEST_FIRST, first)

    async def count(self, where: StackUpdateFilter = EVERY_UPDATE) -> int:
        return await self._database.ask(lambda: self._collection.count_documents(documents.updates_filter(where)))

    async def next_queued(self, busy: Collection[StackFqdn] = ()) -> StackUpdate | None:
        where = {"phase": Phase.QUEUED.value, "stack_fqdn": {"$nin": list(busy)}}
        return next(iter(await self._several(where, _OLDEST_FIRST, 1)), None)

    async def _one(self, id_: StackUpdateId, fields: Mapping[str, int]) -> Document | None:
        return await self._database.ask(lambda: self._collection.find_one({"_id": _object_id(id_)}, fields))

    async def _several(self, where: Document, order: list[tuple[str, int]], first: int) -> list[StackUpdate]:
        def find() -> Awaitable[list[Document]]:
            return self._collection.find(where, _WITHOUT_TEXTS).sort(order).limit(first).to_list(first)

        return [documents.read_update(document) for document in await self._database.ask(find)]


class MongoClaims:
    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._collection = database.claims

    async def current(self, stack: StackFqdn) -> Claim | None:
        newest = [("epoch", -1)]
        document = await self._database.ask(lambda: self._collection.find_one({"stack": stack}, sort=newest))
        return documents.read_claim(document) if document else None

    async def claim(self, claim: Claim) -> bool:
        document = documents.claim_document(claim)
        if await self._database.insert(self._collection, document):
            return True
        holder = await self._database.ask(lambda: self._collection.find_one({"_id": document["_id"]}))
        return holder is not None and holder["nonce"] == claim.nonce

    async def renew(self, claim: Claim, expires_at: datetime) -> None:
        await self._set(claim, {"expires_at": expires_at})

    async def end(self, claim: Claim) -> None:
        await self._set(claim, {"ended": True})

    async def _set(self, claim: Claim, change: Document) -> None:
        key = {"_id": documents.claim_key(claim), "nonce": claim.nonce}
        await self._database.ask(lambda: self._collection.update_one(key, {"$set": change}))


def _reason(error: PyMongoError) -> str:
    details = error.details if isinstance(error, OperationFailure) else None
    return str(details["errmsg"] if details and "errmsg" in details else error).rstrip(".")


def _object_id(id_: str) -> ObjectId | None:
    """None, which no document has, for what can't be an id."""
    try:
        return ObjectId(id_)
    except InvalidId:
        return None


def _after(after: Cursor | None) -> Document:
    if after is None:
        return {}
    same_time = {"created_at": after.created_at, "_id": {"$lt": ObjectId(after.id)}}
    return {"$or": [{"created_at": {"$lt": after.created_at}}, same_time]}
