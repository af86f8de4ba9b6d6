"""How a run ended: from exit status, event log and text to success or a failure with a kind and a sentence.

The value of a non-zero exit status says nothing here: it differs between versions of Pulumi.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, replace
from datetime import timedelta

from graphql_api.domain.records import Diagnostic, Failure, FailureKind, StackOutput, Tail
from runners.engine import ERRORS_KEPT, EngineReport
from runners.lock import Suspect
from runners.runs import CommandEnd, Reason, Stage

NO_TEXT = Tail()


@dataclass(frozen=True, slots=True)
class _Saying:
    """Words by which Pulumi is known to refuse something, and what the reader can do; {said} is Pulumi's own line.

    Pulumi says most of them on standard error before its engine starts; the same words in a diagnostic are a
    program's or a provider's own. ``in_diagnostics`` marks those that the engine says there.
    """

    words: str
    kind: FailureKind
    advice: str
    retryable: bool = False
    in_diagnostics: bool = False


#: The most specific first. The words are those of 3.206.0 and of 3.259.0.
_SAYINGS = (
    _Saying(
        "the stack is currently locked by",
        FailureKind.STACK_LOCKED,
        "Somebody else works on this stack: {said} Deploy again when they are done; if that process is gone for good, "
        "run `pulumi cancel` on this stack first.",
        retryable=True,
    ),
    _Saying(
        "incorrect passphrase",
        FailureKind.PASSPHRASE_REFUSED,
        "The passphrase is not the one that this stack's secrets were encrypted with. Set "
        "PULUMI_CONFIG_PASSPHRASE_FILE to a file that holds the right one.",
    ),
    _Saying(
        "passphrase must be set",
        FailureKind.PASSPHRASE_REFUSED,
        "Pulumi found no passphrase. Set PULUMI_CONFIG_PASSPHRASE_FILE to a file that holds the stack's.",
    ),
    _Saying(
        "organization name must be",
        FailureKind.STACK_REFUSED,
        "Pulumi's backend refuses this organization: {said} Correct the stack labels.",
    ),
    _Saying(
        "doesn't match Pulumi.yaml",
        FailureKind.STACK_REFUSED,
        "The stack belongs to another project: {said} Correct the stack labels.",
    ),
    _Saying(
        "unable to open state directory",
        FailureKind.STACK_REFUSED,
        "Pulumi's backend can't be opened: {said} Correct PULUMI_BACKEND_URL or the directory.",
    ),
    _Saying(
        "no resource plugin",
        FailureKind.PLUGIN_NOT_FOUND,
        "A provider's plugin is missing: {said} Install it where the service runs.",
        in_diagnostics=True,
    ),
    _Saying(
        "no language plugin",
        FailureKind.PLUGIN_NOT_FOUND,
        "A language's plugin is missing: {said} Install it beside Pulumi.",
        in_diagnostics=True,
    ),
    _Saying(
        "did not begin responding to RPC connections",
        FailureKind.PLUGIN_NOT_FOUND,
        "A plugin did not start in time, which happens under load: {said} Deploy again.",
        retryable=True,
        in_diagnostics=True,
    ),
    _Saying(
        "no space left on device",
        FailureKind.INTERNAL,
        "A disk is full: {said} Free some space where the service keeps its data, then deploy again.",
        retryable=True,
    ),
)
_LOCK_HOLDER = re.compile(r"created by [^\s@]+@(?P<host>\S+) \(pid (?P<pid>\d+)\)")
_NO_STACK = re.compile(r"no stack named '[^']*' found")
_PLUGIN_GONE = "error reading from server: EOF"
_NOISE = ("update failed", "update canceled")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a deployment ended; ``failure`` is None exactly when it succeeded."""

    failure: Failure | None
    exit_code: int | None = None
    stack_outputs: tuple[StackOutput, ...] = ()
    stdout: Tail = NO_TEXT
    stderr: Tail = NO_TEXT

    def without(self, secrets: frozenset[str]) -> Outcome:
        """The same with every secret value replaced wherever it was printed."""
        failure = self.failure and replace(
            self.failure,
            message=_hide(self.failure.message, secrets),
            diagnostics=tuple(
                Diagnostic(_hide(it.message, secrets), it.urn and _hide(it.urn, secrets))
                for it in self.failure.diagnostics
            ),
        )
        return replace(
            self,
            failure=failure,
            stack_outputs=tuple(replace(it, value=_hide_within(it.value, secrets)) for it in self.stack_outputs),
            stdout=replace(self.stdout, text=_hide(self.stdout.text, secrets)),
            stderr=replace(self.stderr, text=_hide(self.stderr.text, secrets)),
        )


@dataclass(frozen=True, slots=True)
class Words:
    """All that a finished command left to read."""

    end: CommandEnd
    report: EngineReport
    stdout: Tail
    stderr: Tail

    @property
    def stack_missing(self) -> bool:
        """True when Pulumi ended because the stack has not been created yet."""
        return self.end.returncode != 0 and bool(_NO_STACK.search(self.stderr.text))

    @property
    def stack_exists(self) -> bool:
        """True when ``stack init`` found the stack there already, which is as good as having made it."""
        return "already exists" in self.stderr.text

    def lock_holders(self) -> frozenset[Suspect]:
        """Everyone who holds Pulumi's lock on the stack; empty when that was not the trouble."""
        if self.end.returncode == 0 or "the stack is currently locked by" not in self.stderr.text:
            return frozenset()
        return frozenset(Suspect(found["host"], int(found["pid"])) for found in _LOCK_HOLDER.finditer(self.stderr.text))

    def outcome(self, timeout: timedelta) -> Outcome:
        """What the command's end means for a deployment that could run for ``timeout``."""
        returncode = self.end.returncode
        exit_code = returncode if returncode is not None and returncode >= 0 else None
        failure = None if returncode == 0 else replace(self._failure(timeout), diagnostics=self._diagnostics())
        return Outcome(failure, exit_code, self.report.stack_outputs, self.stdout, self.stderr)

    def _failure(self, timeout: timedelta) -> Failure:
        stopped = self.end.stage is not Stage.NONE  # else the engine was ending by itself and was let alone
        if stopped and self.end.reason is Reason.DEADLINE:
            return Failure(
                FailureKind.TIMEOUT,
                f"Pulumi was not done after {timeout.total_seconds():g} s and was stopped. Deploy again with a longer "
                "timeoutSeconds; Pulumi goes on from what is there.",
                retryable=True,
            )
        if stopped and self.end.reason is Reason.ASKED:
            return Failure(
                FailureKind.SERVICE_STOPPED,
                "The service was shut down before Pulumi was done. Deploy again; Pulumi goes on from what is there.",
                retryable=True,
            )
        if self.end.error is not None:
            kind = FailureKind.PULUMI_NOT_FOUND if self.end.errno == errno.ENOENT else FailureKind.INTERNAL
            return Failure(kind, self.end.error, retryable=self.end.errno is None)
        return self._said() or self._signalled() or self._reported() or self._unexplained()

    def _diagnostics(self) -> tuple[Diagnostic, ...]:
        telling = [it for it in self.report.diagnostics if not it.message.startswith(_NOISE)]
        return tuple(telling[:ERRORS_KEPT])

    def _said(self) -> Failure | None:
        on_stderr = self.stderr.text.splitlines()
        anywhere = [*on_stderr, *self.report.errors, *self.report.program_errors]
        for saying in _SAYINGS:
            lines = anywhere if saying.in_diagnostics else on_stderr
            if said := next((line for line in lines if saying.words in line), None):
                message = saying.advice.format(said=self._with_holder(saying.kind, said.strip()))
                return Failure(saying.kind, message, saying.retryable)
        return None

    def _with_holder(self, kind: FailureKind, said: str) -> str:
        holders = self.lock_holders() if kind is FailureKind.STACK_LOCKED else ()
        if holders:
            named = sorted(f"process {holder.pid} on {holder.hostname}" for holder in holders)
            return f"the lock is held by {', '.join(named)}."
        return said if said.endswith((".", "!")) else said + "."

    def _signalled(self) -> Failure | None:
        """The failure of a run that somebody else told to stop; where it was us, that has been said before."""
        return _interrupted("", self._told()) if self.report.signalled else None

    def _told(self) -> str:
        telling = [message for message in self.report.errors if not message.startswith(_NOISE)]
        return " ".join(telling or self.report.program_errors)

    def _reported(self) -> Failure | None:
        told = self._told()
        if _PLUGIN_GONE in told:
            return Failure(
                FailureKind.PROGRAM_ERROR,
                "A plugin of Pulumi, the program's language host or a provider, ended in the middle of its work. Where "
                "something killed it, such as a lack of memory, deploy again; where it crashed, the output says why. "
                f"{told}",
                retryable=True,
            )
        if self.report.failed_resources:
            names = ", ".join(urn.rpartition("::")[2] for urn in self.report.failed_resources)
            return Failure(
                FailureKind.RESOURCE_ERROR, f"Pulumi could not deploy {names}. {told}".strip(), retryable=True
            )
        if told:
            return Failure(FailureKind.PROGRAM_ERROR, f"The module's program failed: {told}")
        return None

    def _unexplained(self) -> Failure:
        returncode = self.end.returncode
        if returncode is not None and returncode < 0:
            return _interrupted(f" by signal {-returncode}")
        last = next((line for line in reversed(self.stderr.text.splitlines()) if line.strip()), None)
        said = f"it said: {last.strip()}" if last else "it gave no reason; its output may tell more."
        return Failure(FailureKind.PROGRAM_ERROR, f"Pulumi ended with status {returncode} and {said}")


def _interrupted(how: str, told: str = "") -> Failure:
    message = (
        f"Something outside the service ended Pulumi{how}, such as an operator or a lack of memory. Deploy again; "
        f"Pulumi goes on from what is there. {told}"
    )
    return Failure(FailureKind.INTERRUPTED, message.strip(), retryable=True)


def _hide(text: str, secrets: frozenset[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "[secret]")
    return text


def _hide_within(value: object, secrets: frozenset[str]) -> object:
    if isinstance(value, str):
        return _hide(value, secrets)
    if isinstance(value, dict):
        return {_hide(name, secrets): _hide_within(member, secrets) for name, member in value.items()}
    return [_hide_within(item, secrets) for item in value] if isinstance(value, list) else value
