"""The contract of Requests, over every store."""

from __future__ import annotations

from datetime import timedelta

import pytest

from graphql_api.domain.ports import CancelRequest, ExtendRequest, Requests
from graphql_api.domain.records import CancellationReason
from tests.builders import MILLISECOND, NOON, a_request

EVERYTHING = [
    *(CancelRequest(reason, force) for reason in CancellationReason for force in (False, True)),
    CancelRequest(CancellationReason.ASKED, requested_by="ann@example"),
    ExtendRequest(timedelta(hours=2, milliseconds=250)),
]


async def test_at_first_nothing_is_asked(requests: Requests) -> None:
    """Nothing is open, and settling what was never asked does nothing."""
    await requests.settle(a_request().id)
    await requests.settle("none of ours")

    assert await requests.open(10) == []


@pytest.mark.parametrize("what", EVERYTHING, ids=str)
async def test_a_request_comes_back_as_it_was_made(requests: Requests, what: CancelRequest | ExtendRequest) -> None:
    """Every field of it is kept, whatever is asked."""
    request = a_request(what=what, made_at=NOON)

    await requests.make(request)

    assert await requests.open(10) == [request]


async def test_the_oldest_are_first(requests: Requests) -> None:
    """By the time at which they were made, then by id; at most so many."""
    made = [a_request(made_at=NOON + number // 2 * MILLISECOND) for number in range(6)]
    for request in reversed(made):
        await requests.make(request)

    assert await requests.open(10) == made
    assert await requests.open(4) == made[:4]


async def test_making_a_request_again_does_nothing(requests: Requests) -> None:
    """Who did not hear the answer may ask again; it is one request."""
    request = a_request()
    await requests.make(request)
    await requests.make(request)

    assert await requests.open(10) == [request]


async def test_a_settled_request_is_open_no_longer(requests: Requests) -> None:
    """The others stay, and settling it again does nothing."""
    settled, other = a_request(), a_request()
    await requests.make(settled)
    await requests.make(other)

    await requests.settle(settled.id)
    await requests.settle(settled.id)

    assert await requests.open(10) == [other]
