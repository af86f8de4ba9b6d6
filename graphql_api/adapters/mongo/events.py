"""Logs of stack updates in MongoDB.

Where the chunks of a log are, how large they are and which kinds of events they hold is read from the index alone,
as chunks are large; a chunk itself is read only for a page that it belongs on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from graphql_api.adapters.log_pages import LogPageBuilder
from graphql_api.adapters.mongo import documents
from graphql_api.adapters.mongo.database import MongoDatabase, Order
from graphql_api.adapters.mongo.documents import Document
from graphql_api.adapters.stored_events import mask_of
from graphql_api.domain.events import EventKind
from graphql_api.domain.ports import READ_LIMIT, Chunk, LogPage, Span
from graphql_api.domain.records import StackUpdateId

_RISING: Order = [("last_seq", 1)]
_FALLING: Order = [("last_seq", -1)]
#: What the index has.
_OUTLINE = {"_id": 0, "last_seq": 1, "first_seq": 1, "kinds": 1, "size": 1}
_EVENTS = {"first_seq": 1, "events": 1}
_MOST = 1000  # outlines in one answer


class MongoEvents:
    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._collection = database.events

    async def append(self, chunk: Chunk) -> bool:
        document = await asyncio.to_thread(documents.chunk_document, chunk)
        if await self._database.insert(self._collection, document):
            return True
        key = {"_id": document["_id"]}
        stored = await self._database.ask(lambda: self._collection.find_one(key, {"nonce": 1}))
        return stored is not None and stored["nonce"] == chunk.nonce

    async def last(self, update_id: StackUpdateId) -> Chunk | None:
        found = await self._several({"update_id": update_id}, None, _FALLING, 1)
        return await asyncio.to_thread(documents.read_chunk, found[0]) if found else None

    async def span(self, update_id: StackUpdateId) -> Span | None:
        where = {"update_id": update_id}
        last = await self._several(where, _OUTLINE, _FALLING, 1)
        first = await self._several(where, _OUTLINE, _RISING, 1)
        return Span(first[0]["first_seq"], last[0]["last_seq"]) if first and last else None

    async def read(
        self, update_id: StackUpdateId, after: int, limit: int, kinds: frozenset[EventKind] | None = None
    ) -> LogPage:
        builder = LogPageBuilder(after, limit, kinds)
        mask = mask_of(EventKind if kinds is None else kinds)
        at_once = _MOST if kinds is not None else min(_MOST, limit + 1)
        seq, is_end = after, False
        while not is_end:
            where = {"update_id": update_id, "last_seq": {"$gt": seq}}
            outlines = await self._several(where, _OUTLINE, _RISING, at_once)
            is_end = len(outlines) < at_once
            if not await self._fill(builder, update_id, [one for one in outlines if one["kinds"] & mask], limit):
                break
            seq = outlines[-1]["last_seq"] if outlines else seq
        return builder.page(seq)

    async def _fill(
        self, builder: LogPageBuilder, update_id: StackUpdateId, outlines: Sequence[Document], limit: int
    ) -> bool:
        """Add the chunks of these outlines; False when the page is full before the end of the last."""
        while outlines:
            if builder.ends_before(outlines[0]["first_seq"], outlines[0]["size"]):
                return False
            fitting = _fitting(outlines[: limit + 1])
            where = {"update_id": update_id, "last_seq": {"$in": [outline["last_seq"] for outline in fitting]}}
            chunks = await self._several(where, _EVENTS, _RISING, len(fitting))
            if not await asyncio.to_thread(_add, builder, chunks):
                return False
            outlines = outlines[len(fitting) :]
        return True

    async def _several(
        self, where: Document, fields: Mapping[str, int] | None, order: Order, limit: int
    ) -> list[Document]:
        return await self._database.ask(
            lambda: self._collection.find(where, fields).sort(order).limit(limit).to_list(limit)
        )


def _fitting(outlines: Sequence[Document]) -> Sequence[Document]:
    """The first one, and those after it that are no more than READ_LIMIT with it."""
    size = 0
    for number, outline in enumerate(outlines):
        size += outline["size"]
        if size > READ_LIMIT and number:
            return outlines[:number]
    return outlines


def _add(builder: LogPageBuilder, chunks: Sequence[Document]) -> bool:
    """False when the page is full before the end of the last."""
    return all(builder.add(chunk["first_seq"], chunk["events"]) for chunk in chunks)
