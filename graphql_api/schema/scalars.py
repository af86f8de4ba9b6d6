"""Scalars, and the strings that stand for something: ids and times."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import strawberry
from strawberry.schema.config import StrawberryConfig

from graphql_api.domain.errors import BadUserInput

_ID = re.compile(r"[0-9a-f]{24}\Z")


def _serialize_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


CONFIG = StrawberryConfig(
    scalar_map={
        datetime: strawberry.scalar(
            name="DateTime",
            description="A point in time, RFC 3339 in UTC, ending in Z, with milliseconds.",
            specified_by_url="https://scalars.graphql.org/andimarek/date-time",
            serialize=_serialize_time,
        )
    }
)


def read_id(value: str, argument: str) -> str:
    """The id as it is when it has the form that every id has. Raises BadUserInput."""
    if not _ID.match(value):
        raise BadUserInput(f"{argument} must be an id of 24 hex digits, as the API gives them out.", argument)
    return value
