"""The log of a stack update as a file, as text or as JSON, one line for each line or event."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from strawberry.utils.str_converters import to_camel_case

from graphql_api.domain.errors import (
    BadUserInput,
    CursorAhead,
    EventsExpired,
    StackcastError,
    StackUpdateNotFound,
    StoreUnavailable,
)
from graphql_api.domain.events import Event, LogLine, LogOmitted
from graphql_api.domain.records import StackUpdateId
from graphql_api.schema.events import StackUpdateEvent, event_of
from graphql_api.schema.scalars import read_id, write_time
from graphql_api.service.events import Events
from graphql_api.transport.guard import error_response

_SEQ = re.compile(r"\d{1,10}\Z", re.ASCII)
_STATUS: dict[type[StackcastError], int] = {
    BadUserInput: 400,
    CursorAhead: 400,
    StackUpdateNotFound: 404,
    EventsExpired: 410,
    StoreUnavailable: 503,
}


class Download:
    """Answers with what a log holds when it is asked for, after the seq that the query names as ``after``.

    It is read while it is sent, so that its length does not matter. Where reading fails half way, the connection ends
    without the answer's end.
    """

    def __init__(self, events: Events) -> None:
        self._events = events

    async def text(self, request: Request) -> Response:
        """The lines that Pulumi printed. Its diagnostics are left out, since they stand in those lines."""
        return await self._answer(request, _text, "txt", "text/plain; charset=utf-8")

    async def ndjson(self, request: Request) -> Response:
        """Every event as a JSON object, with the names of the schema."""
        return await self._answer(request, _ndjson, "ndjson", "application/x-ndjson")

    async def _answer(
        self, request: Request, write: Callable[[Sequence[Event]], str], suffix: str, media_type: str
    ) -> Response:
        try:
            id_ = StackUpdateId(read_id(request.path_params["id"], "id"))
            pages = await self._events.history(id_, _read_seq(request.query_params.get("after", "0")))
        except tuple(_STATUS) as refusal:
            return error_response(_STATUS[type(refusal)], refusal.code, refusal.message)
        headers = {
            "Content-Disposition": f'attachment; filename="stack-update-{id_}.{suffix}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        content = _written(pages, write) if request.method == "GET" else ()
        return StreamingResponse(content, headers=headers, media_type=media_type)


async def _written(
    pages: AsyncGenerator[Sequence[Event], None], write: Callable[[Sequence[Event]], str]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(pages):
        async for events in pages:
            yield write(events).encode(errors="replace")


def _text(events: Sequence[Event]) -> str:
    return "".join(_line(event) for event in events)


def _line(event: Event) -> str:
    match event.what:
        case LogLine(text=text):
            return f"{text}\n"
        case LogOmitted(lines=lines, bytes=size):
            return f"[{lines} lines of {size} bytes were left out here]\n"
    return ""


def _ndjson(events: Sequence[Event]) -> str:
    return "".join(f"{json.dumps(_named(event_of(event)), ensure_ascii=False)}\n" for event in events)


def _named(event: StackUpdateEvent) -> dict[str, Any]:
    return {"type": type(event).__name__, **_object(event)}


def _object(value: Any) -> dict[str, Any]:
    """An object of the schema by the names of its fields."""
    return {to_camel_case(field.name): _plain(getattr(value, field.name)) for field in fields(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, datetime):
        return write_time(value)
    return _object(value) if is_dataclass(value) else value


def _read_seq(text: str) -> int:
    if not _SEQ.match(text):
        raise BadUserInput("after must be the seq of an event, or 0 for all events.", "after")
    return int(text)
