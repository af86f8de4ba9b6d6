"""How a run's end is read: success, or a failure with a kind and a sentence that says what to do.

The words are those that Pulumi 3.259.0 says in each case.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from graphql_api.domain.records import CancellationReason, Failure, FailureKind, StackOutput, Tail
from runners.engine import EngineReport
from runners.lock import Holder
from runners.outcome import Outcome, Stop, Words
from runners.runs import CommandEnd, Reason, Stage

NOTE = "urn:pulumi:dev::shop::pulumi:index:Stash::note"
TIMEOUT = timedelta(seconds=90)
#: What Pulumi, or what ends it, is known to exit with after a failure, and what it might some day.
STATUSES = (1, 2, 6, 7, 8, 42, 255)

LOCKED = (
    "error: the stack is currently locked by 2 lock(s). Either wait for the other process(es) to end or delete the "
    "lock file with `pulumi cancel`.\n"
    "  file:///state/.pulumi/locks/organization/shop/dev/aa.json?no_tmp_dir=true: created by ann@host-1 (pid 123) at "
    "2026-01-02T03:04:05Z\n"
    "  file:///state/.pulumi/locks/organization/shop/dev/bb.json?no_tmp_dir=true: created by bob@host-2.example "
    "(pid 456) at 2026-01-02T03:04:06Z\n"
)
GENERATOR = "error: failed to discover package requirements: error running compiler "
SECRETS_MANAGER = "error: getting stack configuration: get stack secrets manager: "
UNSET = "passphrase must be set with PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE environment variables\n"
NO_STACK = "error: no stack named 'organization/shop/dev' found\n"


def words(
    returncode: int | None = 1,
    stderr: str = "",
    report: EngineReport | None = None,
    *,
    reason: Reason | None = None,
    stage: Stage = Stage.NONE,
    error: str | None = None,
    number: int | None = None,
) -> Words:
    end = CommandEnd(Path("/runs/x/01-up"), returncode, reason, stage, error, number)
    return Words(end, report or EngineReport(), Tail("Updating (dev):\n"), Tail(stderr))


def failure(said: Words) -> Failure:
    found = said.outcome(TIMEOUT).failure
    assert found
    return found


# --- success


@pytest.mark.parametrize("reason", [None, Reason.ASKED, Reason.DEADLINE])
def test_status_zero_is_success_whatever_was_asked(reason: Reason | None) -> None:
    """Pulumi did all that it was to do, even if it was asked to stop a moment earlier."""
    report = EngineReport(stack_outputs=(StackOutput("url", "x"),), errors=("said meanwhile",), summarized=True)

    outcome = words(0, LOCKED, report, reason=reason, stage=Stage.INTERRUPTED).outcome(TIMEOUT)

    assert outcome == Outcome(None, 0, (StackOutput("url", "x"),), Tail("Updating (dev):\n"), Tail(LOCKED))


def test_a_success_needs_no_event_log() -> None:
    """A version of Pulumi that logs events otherwise still succeeds."""
    assert words(0).outcome(TIMEOUT).failure is None


# --- failures: standard error, report, then kind, whether a retry can help, and words of the sentence

Case = tuple[str, EngineReport, FailureKind, bool, str]

FAILURES: dict[str, Case] = {
    "resource error": (
        "",
        EngineReport(failed_resources=(NOTE,), errors=("quota exceeded", "update failed"), summarized=True),
        FailureKind.RESOURCE_ERROR,
        True,
        "Pulumi could not deploy note. quota exceeded",
    ),
    "resources without a reason": (
        "",
        EngineReport(failed_resources=(NOTE, NOTE + "-2"), errors=("update failed",), summarized=True),
        FailureKind.RESOURCE_ERROR,
        True,
        "Pulumi could not deploy note, note-2.",
    ),
    "Check failure, which no resOpFailedEvent tells": (
        "",
        EngineReport(errors=("pulumi:index:Stash resource 'note': property size is not allowed",), summarized=True),
        FailureKind.PROGRAM_ERROR,
        False,
        "The module's program failed: pulumi:index:Stash resource 'note': property size is not allowed",
    ),
    "YAML type error, only on the program's standard error": (
        "",
        EngineReport(program_errors=('Error: config value "nothing" not found',), summarized=True),
        FailureKind.PROGRAM_ERROR,
        False,
        'The module\'s program failed: Error: config value "nothing" not found',
    ),
    "generator fails at the first call": (
        f"{GENERATOR}sh: exit status 3, stderr follows: oops\n\n",
        EngineReport(),
        FailureKind.PROGRAM_ERROR,
        False,
        "exit status 3, stderr follows: oops",
    ),
    "generator fails with a traceback": (
        f"{GENERATOR}python3: exit status 1, stderr follows: Traceback:\n  File 'generate.py'\nKeyError: 'spec'\n\n",
        EngineReport(),
        FailureKind.PROGRAM_ERROR,
        False,
        "it said: KeyError: 'spec'",
    ),
    "generator fails at the second call": (
        "",
        EngineReport(errors=("an unhandled error occurred: error running compiler",), summarized=True),
        FailureKind.PROGRAM_ERROR,
        False,
        "The module's program failed: an unhandled error occurred: error running compiler",
    ),
    "language host panics": (
        "error: error reading from server: EOF\n",
        EngineReport(),
        FailureKind.PROGRAM_ERROR,
        False,
        "it said: error: error reading from server: EOF",
    ),
    "canceled by somebody else": (
        "",
        EngineReport(errors=("update canceled",), summarized=True),
        FailureKind.PROGRAM_ERROR,
        False,
        "it gave no reason; its output may tell more.",
    ),
    "told to stop by somebody else": (
        "",
        EngineReport(errors=("update canceled",), summarized=True, signalled=True),
        FailureKind.INTERRUPTED,
        True,
        "Something outside the service ended Pulumi",
    ),
    "a plugin is killed": (
        "",
        EngineReport(errors=("error reading from server: EOF",), summarized=True),
        FailureKind.PROGRAM_ERROR,
        True,
        "A plugin of Pulumi, the program's language host or a provider, ended",
    ),
    "stack missing": (NO_STACK, EngineReport(), FailureKind.PROGRAM_ERROR, False, NO_STACK.strip()),
    "lock held": (
        LOCKED,
        EngineReport(),
        FailureKind.STACK_LOCKED,
        True,
        "the lock is held by process 123 on host-1, process 456 on host-2.example.",
    ),
    "lock held, on making the stack": (
        "error: could not create stack: " + LOCKED.removeprefix("error: "),
        EngineReport(),
        FailureKind.STACK_LOCKED,
        True,
        "`pulumi cancel` on this stack first",
    ),
    "lock held, by whom is told otherwise": (
        "error: the stack is currently locked by 1 lock(s).\n  somebody\n",
        EngineReport(),
        FailureKind.STACK_LOCKED,
        True,
        "error: the stack is currently locked by 1 lock(s).",
    ),
    "wrong passphrase": (
        f"{SECRETS_MANAGER}incorrect passphrase\n",
        EngineReport(),
        FailureKind.PASSPHRASE_REFUSED,
        False,
        "PULUMI_CONFIG_PASSPHRASE_FILE",
    ),
    "no passphrase": (
        f"{SECRETS_MANAGER}{UNSET}",
        EngineReport(),
        FailureKind.PASSPHRASE_REFUSED,
        False,
        "Pulumi found no passphrase.",
    ),
    "wrong organization": (
        "error: organization name must be 'organization'\n",
        EngineReport(),
        FailureKind.STACK_REFUSED,
        False,
        "error: organization name must be 'organization'. Correct the stack labels.",
    ),
    "another project": (
        'error: provided project name "shop" doesn\'t match Pulumi.yaml\n',
        EngineReport(),
        FailureKind.STACK_REFUSED,
        False,
        'error: provided project name "shop" doesn\'t match Pulumi.yaml. Correct the stack labels.',
    ),
    "no state directory": (
        "error: unable to open state directory\n",
        EngineReport(),
        FailureKind.STACK_REFUSED,
        False,
        "Correct PULUMI_BACKEND_URL",
    ),
    "no state database": (
        "error: unable to open state database\n",
        EngineReport(),
        FailureKind.STACK_REFUSED,
        False,
        "Correct PULUMI_BACKEND_URL or the database.",
    ),
    "no bucket": (
        "error: unable to open bucket s3://x: no credentials\n",
        EngineReport(),
        FailureKind.STACK_REFUSED,
        False,
        "the bucket's name and credentials",
    ),
    "a provider's plugin is missing": (
        "",
        EngineReport(errors=("could not load plugin: no resource plugin 'pulumi-resource-x' found",)),
        FailureKind.PLUGIN_NOT_FOUND,
        False,
        "Install it where the service runs.",
    ),
    "a provider's plugin is missing, says the program": (
        "",
        EngineReport(program_errors=("Error: no resource plugin 'pulumi-resource-x' found",)),
        FailureKind.PLUGIN_NOT_FOUND,
        False,
        "no resource plugin 'pulumi-resource-x' found. Install it",
    ),
    "a language's plugin is missing": (
        "error: no language plugin 'pulumi-language-x' found in the workspace or on your $PATH\n",
        EngineReport(),
        FailureKind.PLUGIN_NOT_FOUND,
        False,
        "Install it beside Pulumi.",
    ),
    "a plugin starts too slowly": (
        "error: pulumi-language-yaml: language plugin did not begin responding to RPC connections\n",
        EngineReport(),
        FailureKind.PLUGIN_NOT_FOUND,
        True,
        "Deploy again.",
    ),
    "no word at all": ("\n", EngineReport(), FailureKind.PROGRAM_ERROR, False, "it gave no reason"),
}  # fmt: skip


@pytest.mark.parametrize("returncode", STATUSES)
@pytest.mark.parametrize(("stderr", "report", "kind", "retryable", "text"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_known_by_what_was_said(
    stderr: str, report: EngineReport, kind: FailureKind, retryable: bool, text: str, returncode: int
) -> None:
    """Kind, sentence and whether a retry can help follow from Pulumi's words, never from the exit status."""
    said = words(returncode, stderr, report)

    found = failure(said)

    assert (found.kind, found.retryable) == (kind, retryable)
    assert text in found.message
    assert said.outcome(TIMEOUT).exit_code == returncode


@pytest.mark.parametrize(("stderr", "report"), [case[:2] for case in FAILURES.values()], ids=FAILURES)
def test_a_failure_keeps_what_there_was(stderr: str, report: EngineReport) -> None:
    """Outputs of the stack and both streams are kept beside the failure."""
    outputs = (StackOutput("url", "x"),)

    outcome = words(1, stderr, replace(report, stack_outputs=outputs)).outcome(TIMEOUT)

    assert (outcome.stack_outputs, outcome.stdout, outcome.stderr) == (outputs, Tail("Updating (dev):\n"), Tail(stderr))


@pytest.mark.parametrize(
    "text",
    [
        "Error: the stack is currently locked by its owner, says the program",
        "Error: incorrect passphrase for the private key of the certificate",
        "Error: organization name must be in lower case",
        "Error: passphrase must be set on the keystore",
    ],
)
@pytest.mark.parametrize("where", ["a provider", "a program"])
def test_words_of_a_provider_or_a_program_are_not_taken_for_pulumis(text: str, where: str) -> None:
    """Pulumi refuses a stack before its engine starts, on standard error: elsewhere its words mean something else."""
    errors = EngineReport(errors=(text,), failed_resources=(NOTE,), summarized=True)
    program = EngineReport(program_errors=(text,), summarized=True)

    found = failure(words(1, "", errors if where == "a provider" else program))

    assert found.kind is (FailureKind.RESOURCE_ERROR if where == "a provider" else FailureKind.PROGRAM_ERROR)
    assert text in found.message


# --- ends that Pulumi did not choose


@pytest.mark.parametrize("stderr", ["", LOCKED, "error: update cancelled\n"])
@pytest.mark.parametrize("returncode", [1, 8, 255, -15, -9, None])
def test_a_deadline_is_a_time_out(returncode: int | None, stderr: str) -> None:
    """Whatever Pulumi said while it was ended, the record says that time was up, and how much there was."""
    report = EngineReport(failed_resources=(NOTE,), errors=("update canceled",))

    found = failure(words(returncode, stderr, report, reason=Reason.DEADLINE, stage=Stage.INTERRUPTED))

    assert (found.kind, found.retryable) == (FailureKind.TIMEOUT, True)
    assert "after 90 s" in found.message
    assert "timeoutSeconds" in found.message


@pytest.mark.parametrize("returncode", [1, 8, -15, -9, None])
def test_a_shutdown_says_so(returncode: int | None) -> None:
    """What the service ended because it was shut down is neither a failure of the program nor a time-out."""
    found = failure(words(returncode, LOCKED, reason=Reason.ASKED, stage=Stage.KILLED))

    assert (found.kind, found.retryable) == (FailureKind.SERVICE_STOPPED, True)


#: Why the service may end a deployment, and the failure that it leads to; none where somebody asked for it.
STOPS = {
    Stop(CancellationReason.ASKED): None,
    Stop(CancellationReason.SUPERSEDED): None,
    Stop(CancellationReason.SHUTDOWN): FailureKind.SERVICE_STOPPED,
    Stop(CancellationReason.LIMIT_EXCEEDED, "Pulumi has written too much."): FailureKind.LIMIT_EXCEEDED,
}


@pytest.mark.parametrize("returncode", [1, 8, -15, -9, None])
@pytest.mark.parametrize(("stop", "kind"), STOPS.items())
def test_what_we_ended_ends_for_our_reason(stop: Stop, kind: FailureKind | None, returncode: int | None) -> None:
    """Whatever Pulumi said meanwhile: who asked for it gets no failure, and a limit is named in our own sentence."""
    outcome = words(returncode, LOCKED, reason=Reason.ASKED, stage=Stage.INTERRUPTED).outcome(TIMEOUT, stop)

    assert (outcome.failure and outcome.failure.kind) == kind
    assert outcome.cancelled == (kind is None)
    assert not stop.message or (outcome.failure and outcome.failure.message == stop.message)


@pytest.mark.parametrize(("stop", "kind"), STOPS.items())
def test_what_we_end_before_pulumi_deploys_ends_for_our_reason(stop: Stop, kind: FailureKind | None) -> None:
    """As if Pulumi had been ended, without anything that it could have said."""
    outcome = stop.outcome()

    assert (outcome.failure and outcome.failure.kind) == kind
    assert (outcome.cancelled, outcome.exit_code, outcome.lock_left) == (kind is None, None, False)


@pytest.mark.parametrize("stop", STOPS)
def test_what_ends_by_itself_ends_for_its_own_reason(stop: Stop) -> None:
    """A deadline, an error or a success that came before our signal counts."""
    deadline = words(255, reason=Reason.DEADLINE, stage=Stage.INTERRUPTED).outcome(TIMEOUT, stop)
    error = words(255, "", EngineReport(failed_resources=(NOTE,)), reason=Reason.ASKED).outcome(TIMEOUT, stop)
    success = words(0, reason=Reason.ASKED, stage=Stage.INTERRUPTED).outcome(TIMEOUT, stop)

    assert deadline.failure
    assert error.failure
    assert (deadline.failure.kind, error.failure.kind) == (FailureKind.TIMEOUT, FailureKind.RESOURCE_ERROR)
    assert (success.failure, success.cancelled) == (None, False)
    assert not deadline.cancelled
    assert not error.cancelled


@pytest.mark.parametrize(
    ("returncode", "stage", "left"),
    [
        (0, Stage.NONE, False),
        (255, Stage.TERMINATED, False),
        (-9, Stage.NONE, True),
        (-9, Stage.KILLED, True),
        (0, Stage.KILLED, True),
        (None, Stage.NONE, False),
    ],
)
def test_a_pulumi_that_did_not_exit_by_itself_has_left_its_lock(
    returncode: int | None, stage: Stage, left: bool
) -> None:
    """It had no chance to remove it; one that never began has none."""
    assert words(returncode, stage=stage).outcome(TIMEOUT).lock_left is left


@pytest.mark.parametrize("signal", [1, 9, 11, 15])
def test_a_signal_from_outside_says_so(signal: int) -> None:
    """A Pulumi that somebody else killed was interrupted; no exit status is made up for it."""
    said = words(-signal)

    found = failure(said)

    assert (found.kind, found.retryable) == (FailureKind.INTERRUPTED, True)
    assert f"by signal {signal}," in found.message
    assert said.outcome(TIMEOUT).exit_code is None


def test_a_signal_after_an_error_leaves_the_error() -> None:
    """What was told before the kill is the better reason."""
    report = EngineReport(failed_resources=(NOTE,), errors=("quota exceeded",))

    assert failure(words(-9, "", report)).kind is FailureKind.RESOURCE_ERROR


@pytest.mark.parametrize(
    ("number", "kind", "retryable"),
    [
        (errno.ENOENT, FailureKind.PULUMI_NOT_FOUND, False),
        (errno.EACCES, FailureKind.INTERNAL, False),
        (None, FailureKind.INTERNAL, True),
    ],
)
def test_a_pulumi_that_could_not_be_started_says_why(number: int | None, kind: FailureKind, retryable: bool) -> None:
    """The reason for which nothing was started, or for which its end is unknown, is the failure."""
    said = words(None, error="Starting it: the reason. Do this.", number=number)

    assert failure(said) == Failure(kind, "Starting it: the reason. Do this.", retryable)
    assert said.outcome(TIMEOUT).exit_code is None


# --- what the caller acts upon


@pytest.mark.parametrize(
    ("returncode", "stderr", "missing"),
    [
        (6, NO_STACK, True),
        (255, NO_STACK, True),
        (1, "warning: x\n" + NO_STACK, True),
        (0, NO_STACK, False),
        (6, LOCKED, False),
        (6, "", False),
    ],
)
def test_a_missing_stack_is_recognized(returncode: int, stderr: str, missing: bool) -> None:
    """Only a Pulumi that ended with that word has met no stack."""
    assert words(returncode, stderr).stack_missing is missing


@pytest.mark.parametrize(
    ("stderr", "exists"),
    [("error: stack 'organization/shop/dev' already exists\n", True), (LOCKED, False), ("", False)],
)
def test_a_stack_that_exists_already_is_recognized(stderr: str, exists: bool) -> None:
    """Making a stack that somebody else made meanwhile is as good as having made it."""
    assert words(1, stderr).stack_exists is exists


@pytest.mark.parametrize(
    ("name", "returncode", "stderr", "conclusive"),
    [
        ("01-up", 0, "", True),
        ("02-up", 1, "error: update failed\n", True),
        ("02-up", -9, "", True),
        ("01-up", 6, NO_STACK, False),
        ("01-up", 255, LOCKED, False),
        ("01-init", 0, "", False),
        ("02-cancel", 0, "", False),
    ],
)
def test_a_command_after_which_another_may_come_is_not_conclusive(
    name: str, returncode: int, stderr: str, conclusive: bool
) -> None:
    """Until then a deployment can still be cancelled."""
    end = CommandEnd(Path("/runs/x", name), returncode, None, Stage.NONE, None, None)

    assert Words(end, EngineReport(), Tail(), Tail(stderr)).conclusive is conclusive


def test_all_holders_of_a_lock_are_read() -> None:
    """Everyone who holds the lock is named with host and process, so that none is overlooked."""
    second = 1767323045  # 2026-01-02T03:04:05Z
    assert words(1, LOCKED).lock_holders() == {
        Holder("host-1", 123, second),
        Holder("host-2.example", 456, second + 1),
    }


@pytest.mark.parametrize(
    ("at", "since"),
    [("2026-01-02T03:04:05+02:00", 1767315845), ("2026-01-02T03:04:05", None), ("noon", None), ("", None)],
)
def test_when_a_lock_was_taken_is_read_with_its_zone(at: str, since: float | None) -> None:
    """A time without zone, or none at all, is unknown, and so nobody's."""
    locked = LOCKED.splitlines()[0] + f"\n  x: created by ann@host-1 (pid 123) at {at}\n"

    assert words(1, locked).lock_holders() == {Holder("host-1", 123, since)}


@pytest.mark.parametrize("own", [LOCKED, NO_STACK, "error: stack 'a/b/c' already exists\n"])
def test_a_generators_words_are_not_pulumis(own: str) -> None:
    """What a program wrote to its standard error stands there too: it decides neither about locks nor about stacks."""
    for said in (words(1, f"{GENERATOR}sh: exit status 3, stderr follows: {own}"), words(1, "warning: " + own[7:])):
        assert not said.lock_holders()
        assert not said.stack_missing
        assert not said.stack_exists
        assert failure(said).kind is FailureKind.PROGRAM_ERROR


@pytest.mark.parametrize(("name", "spelled"), [("01-init", "`pulumi stack init`"), ("02-cancel", "`pulumi cancel`")])
def test_a_command_before_the_deployment_that_took_too_long_is_named(name: str, spelled: str) -> None:
    """Making a stack has a limit of its own, and a longer timeoutSeconds would not help."""
    end = CommandEnd(Path("/runs/x", name), 1, Reason.DEADLINE, Stage.INTERRUPTED, None, None)

    found = Words(end, EngineReport(), Tail(), Tail()).outcome(timedelta(seconds=60)).failure

    assert found
    assert found.kind is FailureKind.TIMEOUT
    assert found.message.startswith(f"{spelled} was not done after 60 s and was stopped.")
    assert "timeoutSeconds" not in found.message


def test_outputs_that_are_left_out_are_said_in_the_output() -> None:
    """Whoever misses them finds where they are."""
    stderr = words(0, "warned\n", EngineReport(outputs_left_out=True)).outcome(TIMEOUT).stderr.text

    assert stderr.startswith("warned\nstackcast: ")
    assert "`pulumi stack output`" in stderr


@pytest.mark.parametrize(
    ("returncode", "stderr"),
    [
        (0, LOCKED),
        (1, ""),
        (1, "  x: created by ann@host-1 (pid 123) at noon\n"),
        (1, "error: the stack is currently locked by 1 lock(s).\n  by somebody (pid x)\n"),
    ],
    ids=["success", "silence", "holder without a lock", "no readable holder"],
)
def test_no_holder_is_invented(returncode: int, stderr: str) -> None:
    """Where the lock was not the trouble, or nobody can be read, there is no holder."""
    assert words(returncode, stderr).lock_holders() == frozenset()


# --- secrets


def test_secrets_are_hidden_wherever_they_were_printed() -> None:
    """The failure's sentence and both streams hold none of them, and all else as it was."""
    outcome = Outcome(
        Failure(FailureKind.RESOURCE_ERROR, "login with hunter2-long refused", retryable=True),
        1,
        (),
        Tail("a hunter2-long b hunter2-long\nopen sesame\n", truncated=True),
        Tail("error: hunter2-long"),
    )

    hidden = outcome.without(frozenset({"hunter2-long", "open sesame", "not there"}))

    assert hidden == Outcome(
        Failure(FailureKind.RESOURCE_ERROR, "login with [secret] refused", retryable=True),
        1,
        (),
        Tail("a [secret] b [secret]\n[secret]\n", truncated=True),
        Tail("error: [secret]"),
    )


def test_a_secret_inside_a_longer_secret_leaves_no_rest() -> None:
    """The longest is hidden first, so that no end of it stays behind."""
    outcome = Outcome(None, 0, (), Tail("password-and-more"))

    assert outcome.without(frozenset({"password", "password-and-more"})).stdout.text == "[secret]"


def test_a_secret_printed_as_an_output_of_the_stack_is_hidden() -> None:
    """A module that exports what it was given in secret doesn't publish it."""
    outcome = Outcome(None, 0, (StackOutput("login", {"list": ["user:hunter2-long"]}),))

    assert "hunter2-long" not in repr(outcome.without(frozenset({"hunter2-long"})))


def test_without_secrets_nothing_changes() -> None:
    """What holds none of the secrets comes out as it was."""
    outcome = words(1, LOCKED).outcome(TIMEOUT)

    assert outcome.without(frozenset()) == outcome
    assert outcome.without(frozenset({"elsewhere"})) == outcome
