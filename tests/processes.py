"""Who is whose child, as the kernel tells."""

from __future__ import annotations

from pathlib import Path


def parent(pid: int) -> int | None:
    """The pid of a process's parent; None when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def children(pid: int) -> list[int]:
    """The pids of a process's children, those that have ended and were not reaped included."""
    everyone = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [one for one in everyone if parent(one) == pid]
