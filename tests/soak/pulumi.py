"""The stand-in for Pulumi, leaving behind what the real one's file backend does: six files with each update."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests import fake_pulumi

ROOT = Path(__file__).parents[2]
#: About what a small stack's checkpoint has.
CHECKPOINT = "x" * 2000


def install(directory: Path) -> None:
    """Make `pulumi` in the directory, run by this test's Python."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "pulumi"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.soak.pulumi import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    path.chmod(0o755)


def main(arguments: list[str]) -> int:
    status = fake_pulumi.main(arguments)
    if arguments[0] == "up":
        leave_past(arguments[arguments.index("--stack") + 1])
    return status


def leave_past(stack: str) -> None:
    """Write as the real one does, found with Pulumi 3.259.0."""
    _, project, name = stack.split("/")
    now = time.time_ns()
    for kind, file in (
        ("history", f"{name}-{now}.history.json"),
        ("history", f"{name}-{now}.checkpoint.json"),
        ("backups", f"{name}.{now}.json"),
    ):
        directory = fake_pulumi.backend() / kind / project / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / file).write_text(CHECKPOINT)
        (directory / f"{file}.attrs").write_text("{}")
