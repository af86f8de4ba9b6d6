"""What a check of the set-up found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that deployments need. ``message`` is a sentence: what is there, or what is wrong and what to do.

    ``path`` is where it is, for what is a file or a directory that was found.
    """

    subject: str
    ok: bool
    message: str
    path: str | None = None
