"""Cancelling and extending through the API: answers, refusals, and what clients are told that they can do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from graphql_api.domain.ports import REQUESTS_TOPIC, ExtendRequest
from graphql_api.domain.records import Cancellation, CancellationReason, CancellationStage, StackUpdate
from tests.api.parts import Parts, parts
from tests.builders import CANCELLATION, FAILURE, NOON, SECOND, a_stack_update, kept, started

UPDATE = """
fragment Update on StackUpdate {
  id status phase timeoutSeconds
  cancellation { requestedAt reason stage nextStageAt lockLeft }
  actions { canCancel canForceCancel canExtendDeadline canDeployAgain }
}"""
CANCEL = (
    """
mutation ($id: ID!, $force: Boolean) {
  cancelStackUpdate(input: {id: $id, force: $force}) {
    __typename
    ... on CancelStackUpdateSuccess { stackUpdate { ...Update } }
    ... on UserError { message code path }
    ... on StackUpdateEnded { stackUpdate { ...Update } }
  }
}"""
    + UPDATE
)
EXTEND = (
    """
mutation ($id: ID!, $seconds: Int!) {
  extendStackUpdateDeadline(input: {id: $id, timeoutSeconds: $seconds}) {
    __typename
    ... on ExtendStackUpdateDeadlineSuccess { stackUpdate { ...Update } }
    ... on UserError { message code path }
    ... on StackUpdateEnded { stackUpdate { ...Update } }
    ... on StackUpdateCancelling { stackUpdate { ...Update } }
  }
}"""
    + UPDATE
)
SHOW = "query ($id: ID!) { stackUpdate(id: $id) { ...Update } }" + UPDATE
UNKNOWN = "0" * 24

WAITING = a_stack_update()
TAKEN_UP = started(WAITING)
ENDING = TAKEN_UP.cancelling(NOON, CANCELLATION)
KILLED = ENDING.cancelling(NOON, Cancellation(NOON, CancellationReason.TIMEOUT, CancellationStage.KILLED))
FAILED = TAKEN_UP.failed(NOON, FAILURE)
REVISIONS = {
    "waiting": [WAITING],
    "taken up": [WAITING, TAKEN_UP],
    "ending": [WAITING, TAKEN_UP, ENDING],
    "killed": [WAITING, TAKEN_UP, ENDING, KILLED],
    "failed": [WAITING, TAKEN_UP, FAILED],
}


async def answered(made: Parts, query: str, **variables: Any) -> dict[str, Any]:
    (answer,) = (await made.execute(query, **variables)).values()
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize(
    ("name", "actions"),
    [
        ("waiting", (True, False, True)),
        ("taken up", (True, False, True)),
        ("ending", (False, True, False)),
        ("killed", (False, False, False)),
        ("failed", (False, False, False)),
    ],
)
async def test_clients_are_told_what_they_can_do(name: str, actions: tuple[bool, bool, bool]) -> None:
    """To cancel, to hasten the end, and to give more time: each only where it has an effect."""
    async with parts() as made:
        await kept(made.backends.updates, *REVISIONS[name])
        shown = (await answered(made, SHOW, id=WAITING.id))["actions"]

    assert (shown["canCancel"], shown["canForceCancel"], shown["canExtendDeadline"]) == actions


async def test_a_cancellation_is_shown_with_all_that_is_known() -> None:
    """Null where there is none."""
    async with parts() as made:
        await kept(made.backends.updates, WAITING, TAKEN_UP)
        before = await answered(made, SHOW, id=WAITING.id)
        await made.backends.updates.save(ENDING)
        after = await answered(made, SHOW, id=WAITING.id)

    assert (before["cancellation"], before["phase"]) == (None, "PREPARING")
    assert after["phase"] == "CANCELLING"
    assert after["cancellation"] == {
        "requestedAt": "2026-01-01T12:00:00.123Z",
        "reason": "ASKED",
        "stage": "INTERRUPTED",
        "nextStageAt": "2026-01-01T12:00:05.123Z",
        "lockLeft": True,
    }


async def owner(made: Parts, update: StackUpdate) -> None:
    """Waits for a request and heeds it."""
    async with made.wakeups.listen(REQUESTS_TOPIC) as wakeup:
        while not (requests := await made.backends.requests.open(1)):
            await wakeup.wait()
    what = requests[0].what
    extended = isinstance(what, ExtendRequest)
    await made.backends.updates.save(update.extended(NOON, what.timeout) if extended else ENDING)  # type: ignore[union-attr]
    await made.wakeups.announce(update.id)


async def test_cancelling_shows_the_cancellation() -> None:
    """As soon as the owner has heeded it; whoever cancels again is shown the same."""
    async with parts() as made:
        await kept(made.backends.updates, WAITING, TAKEN_UP)
        answer, _ = await asyncio.gather(answered(made, CANCEL, id=WAITING.id), owner(made, TAKEN_UP))
        again = await answered(made, CANCEL, id=WAITING.id, force=None)

    assert answer["__typename"] == "CancelStackUpdateSuccess"
    assert answer["stackUpdate"]["cancellation"]["stage"] == "INTERRUPTED"
    assert again == answer


async def test_extending_shows_the_new_time() -> None:
    """As soon as the owner has heeded it."""
    async with parts() as made:
        await kept(made.backends.updates, WAITING, TAKEN_UP)
        answer, _ = await asyncio.gather(answered(made, EXTEND, id=WAITING.id, seconds=900), owner(made, TAKEN_UP))

    assert answer["__typename"] == "ExtendStackUpdateDeadlineSuccess"
    assert answer["stackUpdate"]["timeoutSeconds"] == 900


@pytest.mark.parametrize(("query", "variables"), [(CANCEL, {}), (CANCEL, {"force": True}), (EXTEND, {"seconds": 900})])
async def test_what_is_too_late_or_unknown_is_answered_with_a_type(query: str, variables: dict[str, Any]) -> None:
    """With a code and a sentence, and the record where there is one; no request is made."""
    async with parts() as made:
        await kept(made.backends.updates, WAITING, TAKEN_UP, FAILED)
        ended = await answered(made, query, id=WAITING.id, **variables)
        unknown = await answered(made, query, id=UNKNOWN, **variables)
        asked = await made.backends.requests.open(10)

    assert (ended["__typename"], ended["code"], ended["path"]) == ("StackUpdateEnded", "STACK_UPDATE_ENDED", ["id"])
    assert ended["stackUpdate"]["status"] == "FAILED"
    assert (unknown["__typename"], unknown["code"]) == ("StackUpdateNotFound", "STACK_UPDATE_NOT_FOUND")
    assert asked == []


async def test_what_is_being_ended_is_not_extended() -> None:
    """The refusal shows how far its end has come."""
    async with parts() as made:
        await kept(made.backends.updates, WAITING, TAKEN_UP, ENDING)
        answer = await answered(made, EXTEND, id=WAITING.id, seconds=900)

    assert (answer["__typename"], answer["code"]) == ("StackUpdateCancelling", "STACK_UPDATE_CANCELLING")
    assert answer["stackUpdate"]["cancellation"]["reason"] == "ASKED"


@pytest.mark.parametrize(
    ("query", "variables", "argument"),
    [
        (CANCEL, {"id": "x"}, "id"),
        (EXTEND, {"id": "x", "seconds": 900}, "id"),
        (EXTEND, {"id": WAITING.id, "seconds": 0}, "timeoutSeconds"),
        (EXTEND, {"id": WAITING.id, "seconds": 600}, "timeoutSeconds"),
    ],
)
async def test_malformed_arguments_are_errors(query: str, variables: dict[str, Any], argument: str) -> None:
    """With a code and the argument's name, and no request is made."""
    async with parts() as made:
        await kept(made.backends.updates, WAITING)
        errors = await made.errors(query, **variables)
        asked = await made.backends.requests.open(10)

    assert WAITING.timeout == 600 * SECOND
    assert errors == [{"code": "BAD_USER_INPUT", "argument": argument}]
    assert asked == []
