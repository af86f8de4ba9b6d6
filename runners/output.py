"""What a command printed, as text that can be stored and shown anywhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor movement
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # titles and links
    r"|\x1b[PX^_][^\x1b\n]*(?:\x1b\\)?"  # strings for the terminal
    r"|\x1b[ -/]*[0-~]?"  # everything else, and an escape that was cut off
)


def read_tail(path: Path, limit_bytes: int) -> tuple[str, bool]:
    """Return the end of an output file as text, and whether there was more before it. Blocking.

    No character is cut in half, bytes that are not UTF-8 are replaced, and escape sequences and NULs are left out, so
    that the text can be stored and shown anywhere. A file that is missing is empty.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit_bytes))
            content = file.read(limit_bytes)
    except FileNotFoundError:
        return "", False
    is_cut = size > limit_bytes
    if is_cut:
        # The rest of a character whose beginning was cut off has at most three bytes; more than that is not UTF-8.
        rest = next((index for index, byte in enumerate(content[:4]) if byte & 0xC0 != 0x80), len(content[:4]))
        content = content[rest:] if rest < 4 else content
    return _ESCAPES.sub("", content.decode("utf-8", errors="replace")).replace("\0", ""), is_cut
