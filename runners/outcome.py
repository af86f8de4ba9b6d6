"""How a run ended: from exit status, event log and text to success or a failure with a kind and a sentence.

The value of a non-zero exit status says nothing here: it differs between versions of Pulumi.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from graphql_api.domain.records import (
    Cancellation,
    CancellationReason,
    Diagnostic,
    Failure,
    FailureKind,
    StackOutput,
    Tail,
)
from runners.engine import ERRORS_KEPT, EngineReport
from runners.lock import Holder
from runners.runs import CommandEnd, Reason, Stage

NO_TEXT = Tail()
#: The name of the command that deploys, among the others of its run.
UP = "up"
#: What a run came to whose end nobody knows.
WORKER_LOST = Failure(
    FailureKind.WORKER_LOST,
    "The service that ran this deployment died before its outcome was recorded. Deploy again; Pulumi goes on from "
    "what is there.",
    retryable=True,
)
OUTPUTS_LEFT_OUT = (
    "stackcast: The stack's outputs are too large to be kept and were left out. `pulumi stack output` shows them.\n"
)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why the service ends a deployment; ``message`` is the sentence for its failure where the reason needs one.

    ``requested_by`` is the name of the caller who asked for that, where they have one.
    """

    reason: CancellationReason
    message: str = ""
    requested_by: str | None = None

    def outcome(self) -> Outcome:
        """The outcome of a deployment that is ended before Pulumi deploys."""
        failure = self.failure()
        return Outcome(failure, cancelled=failure is None)

    def failure(self) -> Failure | None:
        """The failure that it leads to; None where somebody asked for it."""
        if self.reason is CancellationReason.LIMIT_EXCEEDED:
            return Failure(FailureKind.LIMIT_EXCEEDED, self.message)
        return _SERVICE_STOPPED if self.reason is CancellationReason.SHUTDOWN else None


def stop_of(cancellation: Cancellation | None) -> Stop | None:
    """Why the service was ending a deployment, as its record says; at its deadline the supervisor does that."""
    if cancellation is None or cancellation.reason is CancellationReason.TIMEOUT:
        return None
    return Stop(cancellation.reason, _EXCEEDED)


_EXCEEDED = (
    "The deployment wrote more, or took more memory, than it may. Have the program print less, or set "
    "STACKCAST_OUTPUT_LIMIT and STACKCAST_MEMORY_LIMIT higher."
)
_SERVICE_STOPPED = Failure(
    FailureKind.SERVICE_STOPPED,
    "The service was shut down before Pulumi was done. Deploy again; Pulumi goes on from what is there.",
    retryable=True,
)


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
        "unable to open state database",
        FailureKind.STACK_REFUSED,
        "Pulumi's backend can't be opened: {said} Correct PULUMI_BACKEND_URL or the database.",
    ),
    _Saying(
        "unable to open bucket",
        FailureKind.STACK_REFUSED,
        "Pulumi's backend can't be opened: {said} Correct PULUMI_BACKEND_URL, or the bucket's name and credentials.",
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
_LOCKED = "the stack is currently locked by"
_LOCK_HOLDER = re.compile(r"created by [^\s@]+@(?P<host>\S+) \(pid (?P<pid>\d+)\)(?: at (?P<at>\S+))?")
#: What Pulumi says itself before its engine starts begins like this; after the other words it quotes a program.
_ERROR = "error:"
_QUOTES = "stderr follows:"
_NO_STACK = re.compile(r"no stack named '[^']*' found")
#: The names of the commands that come before the one that deploys, as Pulumi has them.
_SPELLED = {"init": "stack init", "cancel": "cancel"}
_PLUGIN_GONE = "error reading from server: EOF"
_NOISE = ("update failed", "update canceled")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a deployment ended: it was ``cancelled``, or it failed, or else it succeeded.

    ``lock_left`` when Pulumi had no chance to remove its own lock on the stack.
    """

    failure: Failure | None
    exit_code: int | None = None
    stack_outputs: tuple[StackOutput, ...] = ()
    stdout: Tail = NO_TEXT
    stderr: Tail = NO_TEXT
    cancelled: bool = False
    lock_left: bool = False

    def after(self, loss: Failure) -> Outcome:
        """The outcome where nobody watched the end: Pulumi's own if it succeeded, else the loss, with its words."""
        if self.failure is None:  # also where it was cancelled, and Pulumi has ended because of that
            return self
        return replace(self, failure=replace(loss, diagnostics=self.failure.diagnostics))

    def without(self, secrets: frozenset[str]) -> Outcome:
        """The same with every secret value replaced wherever it was printed."""
        failure = self.failure and replace(
            self.failure,
            message=hide(self.failure.message, secrets),
            diagnostics=tuple(
                Diagnostic(hide(it.message, secrets), it.urn and hide(it.urn, secrets))
                for it in self.failure.diagnostics
            ),
        )
        return replace(
            self,
            failure=failure,
            stack_outputs=tuple(replace(it, value=hide_within(it.value, secrets)) for it in self.stack_outputs),
            stdout=replace(self.stdout, text=hide(self.stdout.text, secrets)),
            stderr=replace(self.stderr, text=hide(self.stderr.text, secrets)),
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
        return self.end.returncode != 0 and any(_NO_STACK.search(line) for line in self._refusals())

    @property
    def stack_exists(self) -> bool:
        """True when ``stack init`` found the stack there already, which is as good as having made it."""
        return any("already exists" in line for line in self._refusals())

    @property
    def conclusive(self) -> bool:
        """True when this was the last command: Pulumi deployed, or has refused what no other command can mend."""
        return self.end.name == UP and not self.stack_missing and not self.lock_holders()

    def lock_holders(self) -> frozenset[Holder]:
        """Everyone who holds Pulumi's lock on the stack; empty when that was not the trouble."""
        if self.end.returncode == 0 or not any(_LOCKED in line for line in self._refusals()):
            return frozenset()
        found = _LOCK_HOLDER.finditer(self._own_words())
        return frozenset(Holder(it["host"], int(it["pid"]), _seconds(it["at"])) for it in found)

    def _own_words(self) -> str:
        return self.stderr.text.partition(_QUOTES)[0]

    def _refusals(self) -> list[str]:
        return [line for line in self._own_words().splitlines() if line.startswith(_ERROR)]

    def outcome(self, timeout: timedelta, stop: Stop | None = None) -> Outcome:
        """What the command's end means for a deployment.

        ``timeout`` is how long the command could run at most, ``stop`` why it was told to end, if it was by us.
        """
        returncode = self.end.returncode
        stderr = self.stderr
        if self.report.outputs_left_out:
            stderr = replace(stderr, text=stderr.text + OUTPUTS_LEFT_OUT)
        failure = None if returncode == 0 else self._failure(timeout, stop)
        return Outcome(
            failure and replace(failure, diagnostics=self._diagnostics()),
            returncode if returncode is not None and returncode >= 0 else None,
            self.report.stack_outputs,
            self.stdout,
            stderr,
            cancelled=returncode != 0 and failure is None,
            lock_left=returncode is not None and not self.end.clean,
        )

    def _failure(self, timeout: timedelta, stop: Stop | None) -> Failure | None:
        """Why it failed; None where it was cancelled."""
        stopped = self.end.stage is not Stage.NONE  # else the engine was ending by itself and was let alone
        if stopped and self.end.reason is Reason.DEADLINE:
            return _timed_out(self.end.name, timeout)
        if stopped and self.end.reason is Reason.ASKED:
            return stop.failure() if stop else _SERVICE_STOPPED
        if self.end.error is not None:
            kind = FailureKind.PULUMI_NOT_FOUND if self.end.errno == errno.ENOENT else FailureKind.INTERNAL
            return Failure(kind, self.end.error, retryable=self.end.errno is None)
        return self._said() or self._signalled() or self._reported() or self._unexplained()

    def _diagnostics(self) -> tuple[Diagnostic, ...]:
        telling = [it for it in self.report.diagnostics if not it.message.startswith(_NOISE)]
        return tuple(telling[:ERRORS_KEPT])

    def _said(self) -> Failure | None:
        on_stderr = self._refusals()
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


def _timed_out(command: str, timeout: timedelta) -> Failure:
    passed = f"was not done after {timeout.total_seconds():g} s and was stopped."
    if spelled := _SPELLED.get(command):
        message = f"`pulumi {spelled}` {passed} Check that Pulumi's backend answers, then deploy again."
    else:
        message = f"Pulumi {passed} Deploy again with a longer timeoutSeconds; Pulumi goes on from what is there."
    return Failure(FailureKind.TIMEOUT, message, retryable=True)


def _seconds(time: str | None) -> float | None:
    """Seconds since 1970; None for what is no time with its zone."""
    try:
        moment = datetime.fromisoformat(time or "")
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None


def _interrupted(how: str, told: str = "") -> Failure:
    message = (
        f"Something outside the service ended Pulumi{how}, such as an operator or a lack of memory. Deploy again; "
        f"Pulumi goes on from what is there. {told}"
    )
    return Failure(FailureKind.INTERRUPTED, message.strip(), retryable=True)


def hide(text: str, secrets: frozenset[str]) -> str:
    """The text with every secret in it replaced, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "[secret]")
    return text


def hide_within(value: object, secrets: frozenset[str]) -> object:
    if isinstance(value, str):
        return hide(value, secrets)
    if isinstance(value, dict):
        return {hide(name, secrets): hide_within(member, secrets) for name, member in value.items()}
    return [hide_within(item, secrets) for item in value] if isinstance(value, list) else value
