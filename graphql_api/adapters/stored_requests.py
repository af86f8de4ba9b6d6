"""How what is asked of the owner of a stack update is stored: as JSON text."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import assert_never

from graphql_api.adapters.stored import json_text
from graphql_api.domain.ports import CancelRequest, ExtendRequest
from graphql_api.domain.records import CancellationReason

_MILLISECOND = timedelta(milliseconds=1)


def what_text(what: CancelRequest | ExtendRequest) -> str:
    match what:
        case CancelRequest(reason, force, requested_by):
            return json_text({"cancel": {"reason": reason.value, "force": force, "requested_by": requested_by}})
        case ExtendRequest(timeout):
            return json_text({"extend": {"timeout": timeout // _MILLISECOND}})
        case _:
            assert_never(what)


def read_what(text: str) -> CancelRequest | ExtendRequest:
    """Raises ValueError or KeyError when the text is none of ours."""
    match json.loads(text):
        case {"cancel": cancel}:
            # Earlier versions stored no name.
            return CancelRequest(CancellationReason(cancel["reason"]), cancel["force"], cancel.get("requested_by"))
        case {"extend": extend}:
            return ExtendRequest(extend["timeout"] * _MILLISECOND)
        case stored:
            raise ValueError(f"{stored!r} is no request")
