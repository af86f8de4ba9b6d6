"""What a MongoDB database needs before it is used: indexes, and the fields that lists of old documents go by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pymongo import UpdateOne

from graphql_api.adapters.mongo.database import Documents, MongoDatabase
from graphql_api.adapters.mongo.documents import Document, told_stack
from graphql_api.domain.errors import StoreRefused
from graphql_api.domain.records import Operation

_PLACE = ("created_at", "_id")
_COURSE = ("operation", "status")
_RESOURCE_INDEXES: Sequence[Sequence[str]] = (_PLACE, ("kind", *_PLACE), ("name", *_PLACE), ("updated_at", "_id"))
_UPDATE_INDEXES: Sequence[Sequence[str]] = (
    _PLACE,
    ("cloud_resource_id", *_PLACE),
    ("stack_fqdn", *_PLACE),
    # Whoever asks for a status or an operation searches these once for each of their combinations.
    (*_COURSE, *_PLACE),
    ("cloud_resource_id", *_COURSE, *_PLACE),
    ("stack_fqdn", *_COURSE, *_PLACE),
    ("cloud_resource_id", "stack_fqdn", *_COURSE, *_PLACE),
    ("phase", *_PLACE),
    ("updated_at", "_id"),
)
#: The last three are in it so that they are read without the chunk, which is large.
_CHUNK_INDEX = ("update_id", "last_seq", "first_seq", "kinds", "size")
_SHOWN_PAIRS = 10
_SHOWN_IDS = 3
_BATCH = 50  # documents of up to 16 MB


async def prepare(database: MongoDatabase) -> None:
    """Make the indexes that are missing, and give old stack updates their operation and stack.

    Raises StoreUnavailable, and StoreRefused when the data can't be used as it is.
    """
    await _ensure_unique_names(database)
    for fields in _RESOURCE_INDEXES:
        await _ensure_index(database, database.resources, fields)
    for fields in _UPDATE_INDEXES:
        await _ensure_index(database, database.updates, fields)
    await _ensure_index(database, database.deleted_resources, ("deleted_at", "_id"))
    await _ensure_index(database, database.claims, ("stack", "epoch"))
    await _ensure_index(database, database.events, _CHUNK_INDEX)
    await _ensure_index(database, database.requests, ("made_at", "_id"))
    await _ensure_index(database, database.requests, ("update_id",))
    await _ensure_index(database, database.keys, ("caller", "key"), unique=True)
    await _ensure_index(database, database.keys, ("created_at",))
    await _ensure_index(database, database.keys, ("update_id",))
    await _complete_updates(database)


async def _ensure_index(
    database: MongoDatabase, collection: Documents, fields: Sequence[str], *, unique: bool = False
) -> None:
    """One index in a call: FerretDB ends the connection when several that exist are asked for at once."""
    await database.ask(lambda: collection.create_index([(field, 1) for field in fields], unique=unique))


async def _ensure_unique_names(database: MongoDatabase) -> None:
    try:
        await _ensure_index(database, database.resources, ("kind", "name"), unique=True)
    except StoreRefused:
        await _refuse_duplicates(database)
        raise


async def _refuse_duplicates(database: MongoDatabase) -> None:
    """Groups here: servers of this protocol differ in what they can group by."""
    documents = await database.ask(lambda: database.resources.find({}, {"kind": 1, "name": 1}).to_list(None))
    ids = defaultdict(list)
    for document in documents:
        ids[str(document.get("kind")), str(document.get("name"))].append(str(document["_id"]))
    pairs = [_pair(kind, name, doubles) for (kind, name), doubles in sorted(ids.items()) if len(doubles) > 1]
    if pairs:
        more = f"; and {len(pairs) - _SHOWN_PAIRS} more" if len(pairs) > _SHOWN_PAIRS else ""
        raise StoreRefused(
            "The collection cloud_resources holds more than one document of the same kind and name, and only one can "
            f"be kept: {'; '.join(pairs[:_SHOWN_PAIRS])}{more}. The newest is named first. Decide which one of each to "
            'keep, delete the others, such as with db.cloud_resources.deleteOne({_id: ObjectId("...")}), or rename '
            "them, in the field name and in metadata.name of the manifest; then start again."
        )


def _pair(kind: str, name: str, ids: list[str]) -> str:
    shown = sorted(ids, reverse=True)[:_SHOWN_IDS]  # they begin with the time
    more = f" and {len(ids) - len(shown)} more" if len(ids) > len(shown) else ""
    return f"{kind} {name} (_id {', '.join(shown)}{more})"


async def _complete_updates(database: MongoDatabase) -> None:
    """What has no operation is of the Go backend or of our first version. Interrupted, the next start goes on."""
    where, fields = {"operation": None}, {"stack_fqdn": 1, "output": 1}
    while found := await database.ask(lambda: database.updates.find(where, fields).limit(_BATCH).to_list(_BATCH)):
        changes = [UpdateOne({"_id": document["_id"]}, {"$set": _missing_fields(document)}) for document in found]
        result = await database.ask(lambda changes=changes: database.updates.bulk_write(changes))  # type: ignore[misc]
        if not result.matched_count:  # they are gone, or the server can't find them by their ids
            return


def _missing_fields(document: Document) -> Document:
    stack = document["stack_fqdn"] if "stack_fqdn" in document else told_stack(document.get("output"))
    return {"operation": Operation.UPDATE.value, "stack_fqdn": stack}
