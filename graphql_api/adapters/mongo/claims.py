"""Claims of stacks in MongoDB."""

from __future__ import annotations

from datetime import datetime

from graphql_api.adapters.mongo import documents
from graphql_api.adapters.mongo.database import MongoDatabase
from graphql_api.adapters.mongo.documents import Document
from graphql_api.domain.records import Claim, StackFqdn


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
        if await self._set(claim, {"ended": True}):
            earlier = {"stack": claim.stack, "epoch": {"$lt": claim.epoch}}
            await self._database.ask(lambda: self._collection.delete_many(earlier))

    async def _set(self, claim: Claim, change: Document) -> bool:
        """False when it is not there."""
        key = {"_id": documents.claim_key(claim), "nonce": claim.nonce}
        result = await self._database.ask(lambda: self._collection.update_one(key, {"$set": change}))
        return result.matched_count > 0
