"""A question to a MongoDB that changes nothing there."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from graphql_api.adapters.mongo_documents import Document
from graphql_api.domain.errors import StoreRefused, StoreUnavailable


async def probe_mongo(url: str, limit: timedelta) -> str:
    """What is there, in a sentence. Raises StoreRefused or StoreUnavailable, with what to do and without the URL."""
    client = _client(url, limit // timedelta(milliseconds=1))
    try:
        async with asyncio.timeout(2 * limit.total_seconds()):
            database = client.get_default_database("stackcast")
            await database.command("ping")
            await database["cloud_resources"].find_one({}, {"_id": 1})
    except (TimeoutError, ConnectionFailure) as error:
        raise StoreUnavailable(
            f"MongoDB did not answer within {limit.total_seconds():g} s: check that it runs and that "
            "STACKCAST_DATABASE_URL names it."
        ) from error
    except OperationFailure as error:
        reason = (error.details or {}).get("errmsg") or error.code
        raise StoreRefused(
            f"MongoDB refuses to be read ({reason}): correct user and password in STACKCAST_DATABASE_URL."
        ) from error
    except PyMongoError as error:
        raise StoreRefused(
            f"MongoDB can't be used ({type(error).__name__}): correct STACKCAST_DATABASE_URL."
        ) from error
    finally:
        await asyncio.to_thread(client.close)
    return "MongoDB answers."


def _client(url: str, milliseconds: int) -> AsyncIOMotorClient[Document]:
    try:
        return AsyncIOMotorClient(
            url,
            timeoutMS=milliseconds,
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            socketTimeoutMS=milliseconds,
        )
    except (PyMongoError, ValueError):
        raise StoreRefused(
            "STACKCAST_DATABASE_URL is not an URL that MongoDB's driver takes: write it as "
            "mongodb://USER:PASSWORD@HOST:PORT/NAME, with %40 for an @ in the password, %2F for a / and %3A for a :."
        ) from None  # the driver's words may quote the password
