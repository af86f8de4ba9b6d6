"""What a log would show of an error."""

from __future__ import annotations


def shown(error: BaseException | None) -> str:
    """The error, and all that it says it came from."""
    texts = []
    while error:
        texts.append(f"{error} {error!r}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(texts)
