"""Records as rows of a SQLite database of ours."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from graphql_api.adapters.sqlite.database import Row
from graphql_api.adapters.stored import UPDATE_FIELDS, milliseconds, read_time, read_update
from graphql_api.adapters.stored_events import (
    closing_text,
    events_text,
    kinds_of,
    place_text,
    read_closing,
    read_events,
    read_place,
)
from graphql_api.adapters.stored_requests import read_what, what_text
from graphql_api.domain.ports import Chunk, IdempotencyKey, Request
from graphql_api.domain.records import Claim, CloudResource, CloudResourceId, StackUpdate

#: How many rows of stack updates are remembered with what they say, and how long, in characters, their texts may be.
REMEMBERED_ROWS = 500
REMEMBERED_LENGTH = 4 * 1024

RESOURCE_COLUMNS = "id, kind, name, manifest, created_at, updated_at"
UPDATE_COLUMNS = ", ".join(UPDATE_FIELDS)
CLAIM_COLUMNS = "stack, epoch, owner, nonce, update_id, expires_at, ended"
CHUNK_COLUMNS = "update_id, number, first_seq, last_seq, epoch, nonce, kinds, place, events, closing"
REQUEST_COLUMNS = "id, update_id, made_at, what"
KEY_COLUMNS = "caller, key, fingerprint, update_id, created_at"
_FAILURE, _STACK_OUTPUTS = UPDATE_FIELDS.index("failure"), UPDATE_FIELDS.index("stack_outputs")


def marks(columns: str) -> str:
    """A placeholder for each column."""
    return ", ".join("?" * len(columns.split(",")))


def milliseconds_up(time: datetime) -> int:
    """The first time that can be stored and isn't before this one."""
    return milliseconds(time) + bool(time.microsecond % 1000)


def resource_row(resource: CloudResource) -> Row:
    times = (milliseconds(resource.created_at), milliseconds(resource.updated_at))
    return (resource.id, resource.kind, resource.name, resource.manifest, *times)


def read_resource(row: Row) -> CloudResource:
    id_, kind, name, manifest, created_at, updated_at = row
    return CloudResource(CloudResourceId(id_), kind, name, manifest, read_time(created_at), read_time(updated_at))


def read_update_row(row: Row) -> StackUpdate:
    """What a row of the UPDATE_COLUMNS says.

    Whoever watches a list reads its rows again and again, and mostly they say what they said before.
    """
    length = len(row[_FAILURE] or "") + len(row[_STACK_OUTPUTS])
    return _read_again(row) if length <= REMEMBERED_LENGTH else read_update(row)


_read_again = lru_cache(REMEMBERED_ROWS)(read_update)


def same_identity(one: Row, other: Row) -> bool:
    """Whether two rows are of one stack update, perhaps at different revisions."""
    return one[:6] == other[:6]


def claim_row(claim: Claim) -> Row:
    expires_at = milliseconds(claim.expires_at)
    return (claim.stack, claim.epoch, claim.owner, claim.nonce, claim.update_id, expires_at, int(claim.ended))


def read_claim(row: Row) -> Claim:
    stack, epoch, owner, nonce, update_id, expires_at, ended = row
    return Claim(stack, epoch, owner, nonce, update_id, read_time(expires_at), bool(ended))


def chunk_row(chunk: Chunk) -> Row:
    return (
        chunk.update_id,
        chunk.number,
        chunk.events[0].seq,
        chunk.events[-1].seq,
        chunk.epoch,
        chunk.nonce,
        kinds_of(chunk.events),
        place_text(chunk.place),
        events_text(chunk.events),
        closing_text(chunk.closing),
    )


def read_chunk(row: Row) -> Chunk:
    update_id, number, first_seq, _, epoch, nonce, _, place, events, closing = row
    happened = tuple(read_events(events, first_seq))
    return Chunk(update_id, number, epoch, nonce, happened, read_place(place), read_closing(closing))


def request_row(request: Request) -> Row:
    return (request.id, request.update_id, milliseconds(request.made_at), what_text(request.what))


def read_request(row: Row) -> Request:
    id_, update_id, made_at, what = row
    return Request(id_, update_id, read_time(made_at), read_what(what))


def key_row(key: IdempotencyKey) -> Row:
    return (key.caller, key.key, key.fingerprint, key.update_id, milliseconds(key.created_at))


def read_key(row: Row) -> IdempotencyKey:
    caller, key, fingerprint, update_id, created_at = row
    return IdempotencyKey(caller, key, fingerprint, update_id, read_time(created_at))
