"""Scalars, and the strings that stand for something: ids, names and times."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import strawberry
from graphql import GraphQLError
from strawberry.schema.config import StrawberryConfig

from graphql_api.domain.errors import BadUserInput

_ID = re.compile(r"[0-9a-f]{24}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\Z", re.ASCII)
#: The numbers of a time as they are written: a log's page holds a thousand times, and isoformat takes twice as long.
_TWO_DIGITS = tuple(f"{number:02}" for number in range(60))
_THREE_DIGITS = tuple(f"{number:03}" for number in range(1000))


def write_time(value: datetime) -> str:
    """The time as every answer has it."""
    utc = value if value.tzinfo is UTC else value.astimezone(UTC)
    two = _TWO_DIGITS
    date = f"{utc.year:04}-{two[utc.month]}-{two[utc.day]}"
    time = f"{two[utc.hour]}:{two[utc.minute]}:{two[utc.second]}.{_THREE_DIGITS[utc.microsecond // 1000]}"
    return f"{date}T{time}Z"


def _parse_time(value: object) -> datetime:
    """The time that an RFC 3339 text names, in UTC and cut to milliseconds."""
    text = value.upper() if isinstance(value, str) else ""
    if not _TIME.match(text):
        raise GraphQLError(
            "A DateTime must be a text in the form of RFC 3339, with an offset, such as '2026-01-31T12:00:00.000Z'."
        )
    try:
        time = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise GraphQLError(
            f"{value!r} is no DateTime: there is no such time in the years 1 to 9999 of the calendar. Correct it."
        ) from error
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


CONFIG = StrawberryConfig(
    scalar_map={
        datetime: strawberry.scalar(
            name="DateTime",
            description="A point in time, RFC 3339 in UTC, ending in Z, with milliseconds. Given by a client it may "
            "have any offset; what is finer than milliseconds is cut off.",
            specified_by_url="https://scalars.graphql.org/andimarek/date-time",
            serialize=write_time,
            parse_value=_parse_time,
        )
    }
)


def read_id(value: str, argument: str) -> str:
    """The id as it is when it has the form that every id has. Raises BadUserInput."""
    if not _ID.match(value):
        raise BadUserInput(f"{argument} must be an id of 24 hex digits, as the API gives them out.", argument)
    return value


def read_text(value: str, argument: str) -> str:
    """The text as it is when every store can compare it. Raises BadUserInput for what is no Unicode text."""
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise BadUserInput(f"{argument} must be a Unicode text; it holds half of a surrogate pair.", argument)
    return value
