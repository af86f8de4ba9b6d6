"""A look at a SQLite file that leaves no trace."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from graphql_api.domain.errors import StoreRefused


def probe_sqlite(path: Path, limit: timedelta) -> str:
    """What is there, in a sentence. Blocking, for at most ``limit``. Raises StoreRefused, with what to do."""
    path = path.absolute()
    nearest = next((place for place in (path, *path.parents) if place.exists()), path)
    if not os.access(nearest, os.W_OK) or (nearest != path and not nearest.is_dir()):
        raise StoreRefused(
            f"The database {path} can't be {'written' if nearest == path else 'made'}: give this user the right to "
            f"write {nearest}, or name another file in STACKCAST_DATABASE_URL."
        )
    if nearest != path:
        return f"The database {path} will be made at the first start."
    try:
        with closing(sqlite3.connect(_uri(path), uri=True, timeout=limit.total_seconds())) as connection:
            tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema")}
    except sqlite3.Error as error:
        raise StoreRefused(
            f"The database {path} can't be read ({error}): put a backup in its place, or name another file in "
            "STACKCAST_DATABASE_URL."
        ) from error
    if tables and "stack_updates" not in tables:
        raise StoreRefused(f"The database {path} is another program's: name another file in STACKCAST_DATABASE_URL.")
    return f"The database {path} can be opened."


def _uri(path: Path) -> str:
    """Without a -wal file nobody has it open, and it can be read as it lies, where SQLite would make one to read it."""
    mode = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    return f"{path.as_uri()}?{mode}"
