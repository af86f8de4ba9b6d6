"""Answers as JSON."""

from __future__ import annotations

import json

import orjson


def encode(value: object) -> bytes:
    """JSON in UTF-8. Halves of characters and integers beyond 64 bits, which a log or an output can hold, are kept.

    What JSON has no number for, such as what 1e400 is read as, is null.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(finite, separators=(",", ":")).encode()
