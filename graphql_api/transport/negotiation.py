"""Which of the media types that an answer can have a client would rather get."""

from __future__ import annotations

from collections.abc import Sequence


def preferred(accept: str, offered: Sequence[str]) -> str | None:
    """The offered type that an Accept header likes best, of equals the first offered; None when it takes none.

    An empty header takes everything. Of several ranges that match a type the most specific counts (RFC 9110, 12.5.1);
    parameters other than ``q`` are not compared.
    """
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    if not ranges:
        return offered[0]
    best = max(offered, key=lambda type_: _quality(type_, ranges))  # max gives the first of equals
    return best if _quality(best, ranges) > 0 else None


def _range(part: str) -> tuple[str, float]:
    type_, *parameters = (piece.strip().lower() for piece in part.split(";"))
    given = next((value for value in parameters if value.startswith("q=")), "q=1")
    try:
        quality = float(given[2:])
    except ValueError:
        return type_, 0.0
    return type_, quality if 0 <= quality <= 1 else 0.0  # NaN is neither


def _quality(type_: str, ranges: Sequence[tuple[str, float]]) -> float:
    for wanted in (type_, f"{type_.partition('/')[0]}/*", "*/*"):
        for range_, quality in ranges:
            if range_ == wanted:
                return quality
    return 0.0
