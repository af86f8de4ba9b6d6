"""Whether the database can be used as it is, found out without changing anything in it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from graphql_api.domain.diagnosis import Check
from graphql_api.domain.errors import StackcastError

_SQLITE = "sqlite:///"
_MONGODB = ("mongodb://", "mongodb+srv://")
_SUBJECT = "store"


async def probe(database_url: str, limit: timedelta = timedelta(seconds=5)) -> Check:
    """Ask the database that the URL names, for at most ``limit``. The URL's password appears nowhere."""
    try:
        if database_url.startswith(_MONGODB):
            from graphql_api.adapters.mongo.probe import probe_mongo

            return Check(_SUBJECT, True, await probe_mongo(database_url, limit))
        path = database_url.removeprefix(_SQLITE)
        if path not in ("", ":memory:", database_url):
            from graphql_api.adapters.sqlite.probe import probe_sqlite

            return Check(_SUBJECT, True, await asyncio.to_thread(probe_sqlite, Path(path), limit))
    except StackcastError as error:
        return Check(_SUBJECT, False, error.message)
    if path == ":memory:":
        return Check(_SUBJECT, True, "The records are kept in memory, and end with the service.")
    return Check(
        _SUBJECT,
        False,
        "STACKCAST_DATABASE_URL names no database that stackcast can use: write sqlite:///PATH, mongodb://HOST/NAME or "
        "mongodb+srv://HOST/NAME.",
    )
