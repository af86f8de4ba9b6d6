"""What a command printed, as text that can be stored and shown anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor movement
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # titles and links
    r"|\x1b[PX^_][^\x1b\n]*(?:\x1b\\)?"  # strings for the terminal
    r"|\x1b[ -/]*[0-~]?"  # everything else, and an escape that was cut off
)
#: What else drives a terminal, or turns the direction of writing; a return within a line would hide what stands before.
_CONTROLS = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_RETURN = re.compile(r"\r(?!\n|\Z)")
#: The longest secret is the longest variable of Linux. So much beyond a cut is looked at, for one that lies across it.
SECRET_LIMIT = 128 * 1024


def read_tail(path: Path, limit_bytes: int, hide: Callable[[str], str] | None = None) -> tuple[str, bool]:
    """Return the end of an output file as text, and whether there was more before it. Blocking.

    ``hide`` replaces the secrets in a text; one that the beginning of the tail would cut is left out as a whole. No
    character is cut in half, bytes that are not UTF-8 are replaced, and what drives a terminal is left out, so that the
    text can be stored and shown anywhere. A file that is missing is empty.
    """
    lead_bytes = SECRET_LIMIT if hide else 0
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit_bytes - lead_bytes))
            content = file.read(limit_bytes + lead_bytes)
    except FileNotFoundError:
        return "", False
    is_cut = size > limit_bytes
    tail = _text(content[-limit_bytes:], is_cut)
    if hide is None:
        return tail, is_cut
    hidden = hide(tail)
    return (_common_end(hide(_text(content, size > len(content))), hidden) if is_cut else hidden), is_cut


def _common_end(whole: str, tail: str) -> str:
    """The end that both have: what follows the secret, or the escape sequence, that the tail begins within."""
    if whole.endswith(tail):
        return tail
    pairs = zip(reversed(whole), reversed(tail), strict=False)
    same = next((index for index, (one, other) in enumerate(pairs) if one != other), len(whole))
    return tail[len(tail) - same :]


def _text(content: bytes, is_cut: bool) -> str:
    if is_cut:
        # The rest of a character whose beginning was cut off has at most three bytes; more than that is not UTF-8.
        rest = next((index for index, byte in enumerate(content[:4]) if byte & 0xC0 != 0x80), len(content[:4]))
        content = content[rest:] if rest < 4 else content
    return as_text(content)


def as_text(content: bytes) -> str:
    """Whatever was printed, as text: what is not UTF-8 is replaced, and what drives a terminal left out."""
    return clean(content.decode("utf-8", errors="replace"))


def clean(text: str) -> str:
    """The text without what drives a terminal, none of which goes over the end of a line."""
    return _RETURN.sub(" ", _CONTROLS.sub("", _ESCAPES.sub("", text)))
