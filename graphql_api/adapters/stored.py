"""How the parts of a stack update that no database has a type for are stored: as JSON text.

Stack outputs are text in MongoDB too: their names may hold dots, their numbers may have more than 64 bits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from graphql_api.domain.records import Diagnostic, Failure, FailureKind, StackOutput

#: Half a character, which JSON can escape and UTF-8 can't hold.
_SURROGATE = re.compile("[\ud800-\udfff]")


def failure_text(failure: Failure | None) -> str | None:
    if failure is None:
        return None
    diagnostics = [{"message": diagnostic.message, "urn": diagnostic.urn} for diagnostic in failure.diagnostics]
    stored = {"kind": failure.kind.value, "message": failure.message, "retryable": failure.retryable}
    return _text({**stored, "diagnostics": diagnostics} if diagnostics else stored)


def read_failure(text: str | None) -> Failure | None:
    """Raises ValueError or KeyError when the text is none of ours."""
    if text is None:
        return None
    stored = json.loads(text)
    diagnostics = (Diagnostic(one["message"], one["urn"]) for one in stored.get("diagnostics", ()))
    return Failure(FailureKind(stored["kind"]), stored["message"], stored["retryable"], tuple(diagnostics))


def outputs_text(outputs: Iterable[StackOutput]) -> str:
    return _text([{"name": output.name, "value": output.value, "secret": output.secret} for output in outputs])


def read_outputs(text: str | None) -> tuple[StackOutput, ...]:
    """Raises ValueError or KeyError when the text is none of ours."""
    return tuple(StackOutput(stored["name"], stored["value"], stored["secret"]) for stored in json.loads(text or "[]"))


def _text(stored: object) -> str:
    # Not all escaped: a letter that is not ASCII would take six bytes.
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", json.dumps(stored, ensure_ascii=False))
