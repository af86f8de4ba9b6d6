"""Conditions on documents in MongoDB, and the order of lists."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from bson import ObjectId
from bson.errors import InvalidId

from graphql_api.adapters.mongo.database import Order
from graphql_api.adapters.mongo.documents import Document
from graphql_api.domain.ports import CloudResourceFilter, Cursor, Slice, StackUpdateFilter
from graphql_api.domain.records import Operation, Status

NEWEST_FIRST: Order = [("created_at", -1), ("_id", -1)]
OLDEST_FIRST: Order = [("created_at", 1), ("_id", 1)]

_MILLISECOND = timedelta(milliseconds=1)


def object_id(id_: str) -> ObjectId | None:
    """None, which no document has, for what can't be an id."""
    try:
        return ObjectId(id_)
    except InvalidId:
        return None


def order_of(slice_: Slice) -> Order:
    """The order in which the slice's documents are the first ones."""
    return OLDEST_FIRST if slice_.from_end else NEWEST_FIRST


def in_slice(where: Document, slice_: Slice) -> Document:
    """The condition, and lying between the slice's cursors."""
    places = [
        *(_beyond(slice_.after, "$lt") if slice_.after else ()),
        *(_beyond(slice_.before, "$gt") if slice_.before else ()),
    ]
    return {"$and": [where, *places]} if places else where


def of_resources(where: CloudResourceFilter) -> Document:
    wanted = {"kind": where.kind, "name": where.name}
    return {field: value for field, value in wanted.items() if value is not None}


def of_updates(where: StackUpdateFilter) -> Document:
    """Each combination of filters leads to an index that has the list's order behind fields of known values.

    So where a status is asked for all operations are named, and the other way round.
    """
    wanted = {"cloud_resource_id": where.cloud_resource_id, "stack_fqdn": where.stack_fqdn}
    document: Document = {field: value for field, value in wanted.items() if value is not None}
    if where.operations is not None or where.statuses is not None or len(document) == len(wanted):
        operations = Operation if where.operations is None else where.operations
        statuses = Status if where.statuses is None else where.statuses
        document["operation"] = {"$in": _stored_operations(operations)}
        document["status"] = {"$in": [status.value for status in statuses]}
    created = {
        **({"$gt": where.created_after} if where.created_after else {}),
        **({"$lt": cut_up(where.created_before)} if where.created_before else {}),
    }
    return {**document, "created_at": created} if created else document


def _stored_operations(operations: Iterable[Operation]) -> list[str | None]:
    """With None, which a document has that another program wrote since our start."""
    wanted: list[str | None] = [operation.value for operation in operations]
    return [*wanted, None] if Operation.UPDATE in wanted else wanted


def _beyond(cursor: Cursor, operator: str) -> list[Document]:
    """The first condition says nothing new, but bounds the search in the index."""
    same_time = {"created_at": cursor.created_at, "_id": {operator: ObjectId(cursor.id)}}
    return [
        {"created_at": {f"{operator}e": cursor.created_at}},
        {"$or": [{"created_at": {operator: cursor.created_at}}, same_time]},
    ]


def cut_up(time: datetime) -> datetime:
    """The first millisecond that isn't before this time; the driver would cut it down."""
    return time + (-timedelta(microseconds=time.microsecond)) % _MILLISECOND
