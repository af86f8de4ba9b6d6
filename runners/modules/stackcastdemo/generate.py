"""Writes the demo module's Pulumi program to standard output, from the stack input.

Pulumi's YAML host runs this as its compiler. Each note of the manifest becomes a resource that keeps it in the
stack's state, where Pulumi knows such resources (from 3.208.0 on); the greeting becomes an output either way.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import yaml

STASH_SINCE = (3, 208)


def main() -> None:
    manifest = read_stack_input()["target"]
    spec = manifest.get("spec") or {}
    name = manifest["metadata"]["name"]
    greeting, notes = spec.get("greeting", "Hello"), spec.get("notes", [])
    if not isinstance(greeting, str) or not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        sys.exit("spec.greeting must be a text and spec.notes a list of texts. Correct the manifest.")
    yaml.safe_dump(program(f"{greeting}, {name}!", notes, knows_stash()), sys.stdout, allow_unicode=True)


def read_stack_input() -> Any:
    """The stack input from the variable, or from the file that stands in for it when it is long."""
    text = os.environ.get("STACK_INPUT_YAML")
    if text is None:
        text = Path(os.environ["STACK_INPUT_YAML_FILE"]).read_text(encoding="utf-8")
    return yaml.safe_load(text)


def knows_stash() -> bool:
    version = re.match(r"v?(\d+)\.(\d+)", os.environ.get("STACKCAST_PULUMI_VERSION", ""))
    return version is not None and (int(version[1]), int(version[2])) >= STASH_SINCE


def program(message: str, notes: list[str], stash: bool) -> dict[str, Any]:
    # `${` begins an expression in Pulumi's YAML; a doubled dollar is a plain one.
    outputs = {"message": message.replace("${", "$${"), "notes": len(notes)}
    if not stash:
        return {"outputs": outputs}
    resources = {
        f"note-{number}": {"type": "pulumi:index:Stash", "properties": {"input": note.replace("${", "$${")}}
        for number, note in enumerate(notes, 1)
    }
    return {"resources": resources, "outputs": outputs}


if __name__ == "__main__":
    main()
