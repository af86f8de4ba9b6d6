"""Holding a stack's claim: who may take it, that it is kept alive, and that its loss is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from graphql_api.adapters import open_backends
from graphql_api.domain.errors import StoreRefused, StoreUnavailable
from graphql_api.domain.ports import Claims
from graphql_api.domain.records import Claim, StackFqdn, StackUpdateId, new_id, utc_now
from runners.lease import LEASE, claim_stack, held
from tests.builders import STACK, a_claim
from tests.unit import virtual_time

HALF = LEASE.total_seconds() / 2
UPDATE = StackUpdateId(new_id(utc_now()))


@asynccontextmanager
async def some_claims() -> AsyncIterator[Claims]:
    async with open_backends("sqlite:///:memory:") as backends:
        yield backends.claims


async def nothing() -> None:
    """What happens on the way to a store that works."""


class Way:
    """Claims, and the way to them: what is done before a call reaches them, and when renewals were sent."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._clock = asyncio.get_running_loop().time
        self.renewals: list[float] = []
        self.ended: list[Claim] = []
        self.before_claim: Callable[[], Awaitable[None]] = nothing
        self.before_renew: Callable[[], Awaitable[None]] = nothing
        self.before_current: Callable[[], Awaitable[None]] = nothing

    async def current(self, stack: StackFqdn) -> Claim | None:
        await self.before_current()
        return await self._claims.current(stack)

    async def claim(self, claim: Claim) -> bool:
        await self.before_claim()
        return await self._claims.claim(claim)

    async def renew(self, claim: Claim, expires_at: datetime) -> None:
        self.renewals.append(self._clock())
        await self.before_renew()
        await self._claims.renew(claim, expires_at)

    async def end(self, claim: Claim) -> None:
        self.ended.append(claim)
        await self._claims.end(claim)

    async def outage(self) -> None:
        raise StoreUnavailable("The database did not answer.")


# --- claiming

FREE = {
    "ended by another": a_claim(epoch=4, owner="other", ended=True),
    "expired": a_claim(epoch=4, owner="other", expires_at=utc_now() - timedelta(seconds=1)),
    "of an earlier life of ours": a_claim(epoch=4, owner="us"),
    "ended by us": a_claim(epoch=4, owner="us", ended=True),
}


async def test_a_stack_that_nobody_claimed_is_claimed_in_its_first_epoch() -> None:
    """The claim names its owner and its update, holds for the lease from now, and is what the store has."""
    async with some_claims() as claims:
        before = utc_now()

        claim = await claim_stack(claims, STACK, UPDATE, "us")

        assert claim
        assert (claim.stack, claim.epoch, claim.owner, claim.update_id, claim.ended) == (STACK, 1, "us", UPDATE, False)
        assert before + LEASE <= claim.expires_at <= utc_now() + LEASE
        assert await claims.current(STACK) == claim


@pytest.mark.parametrize("current", FREE.values(), ids=FREE)
async def test_a_stack_that_became_free_is_claimed_in_the_next_epoch(current: Claim) -> None:
    """What ended, expired, or was an earlier life's of the same data directory, is taken over."""
    async with some_claims() as claims:
        await claims.claim(current)

        claim = await claim_stack(claims, STACK, UPDATE, "us")

        assert claim
        assert (claim.epoch, claim.owner) == (5, "us")
        assert claim.nonce != current.nonce
        assert await claims.current(STACK) == claim


async def test_a_stack_that_somebody_holds_is_not_claimed() -> None:
    """A live claim of another owner stands, and nothing is written."""
    async with some_claims() as claims:
        theirs = a_claim(owner="other")
        await claims.claim(theirs)

        assert await claim_stack(claims, STACK, UPDATE, "us") is None
        assert await claims.current(STACK) == theirs


async def test_a_claim_lost_to_a_faster_rival_is_none() -> None:
    """Between reading and claiming somebody else may have been first: then the stack is theirs."""
    async with some_claims() as claims:
        way, theirs = Way(claims), a_claim(owner="other")

        async def rival() -> None:
            await claims.claim(theirs)

        way.before_claim = rival

        assert await claim_stack(way, STACK, UPDATE, "us") is None
        assert await claims.current(STACK) == theirs


async def test_a_claim_of_an_epoch_that_was_forgotten_is_none() -> None:
    """Whoever slept between reading and claiming, while others had the stack, does not get it by an epoch long gone."""
    async with some_claims() as claims:
        way, theirs = Way(claims), [a_claim(owner="other", epoch=epoch) for epoch in (1, 2, 3)]

        async def others() -> None:
            for claim in theirs:
                await claims.claim(claim)
            await claims.end(theirs[1])  # with which the first is forgotten

        way.before_claim = others

        assert await claim_stack(way, STACK, UPDATE, "us") is None
        assert await claims.current(STACK) == theirs[2]


async def test_of_many_who_claim_a_free_stack_one_has_it() -> None:
    """However many services try at once, exactly one may go on."""
    async with some_claims() as claims:
        answers = await asyncio.gather(*(claim_stack(claims, STACK, UPDATE, f"service-{n}") for n in range(20)))

        assert [claim for claim in answers if claim] == [await claims.current(STACK)]


async def test_claims_of_stacks_are_apart() -> None:
    """Holding one stack says nothing about another."""
    async with some_claims() as claims:
        await claims.claim(a_claim(owner="other"))

        assert await claim_stack(claims, StackFqdn("organization/demo/other"), UPDATE, "us")


async def test_a_store_that_is_away_is_told_to_whoever_claims() -> None:
    """Whether the stack is free can't be known then."""
    async with some_claims() as claims:
        way = Way(claims)
        way.before_claim = way.outage

        with pytest.raises(StoreUnavailable):
            await claim_stack(way, STACK, UPDATE, "us")


# --- holding


@asynccontextmanager
async def a_way_and_a_claim() -> AsyncIterator[tuple[Way, Claim]]:
    async with some_claims() as claims:
        claim = a_claim(owner="us")
        await claims.claim(claim)
        yield Way(claims), claim


def test_a_lease_is_renewed_at_half_its_length_for_as_long_as_it_is_held() -> None:
    """It never comes near its end while the store answers, and the store has the new expiry."""

    async def scenario() -> None:
        async with a_way_and_a_claim() as (way, claim):
            async with held(way, claim) as lease:
                await asyncio.sleep(10 * HALF + 1)
                current = await way.current(STACK)
                assert not lease.lost
                assert current == lease.claim
                assert current.expires_at > claim.expires_at - timedelta(seconds=1)
            assert way.renewals == [pytest.approx(HALF * n) for n in range(1, 11)]

    virtual_time.run(scenario)


def test_a_renewal_reaches_the_store() -> None:
    """What is renewed is the claim itself, for another lease from now."""

    async def scenario() -> None:
        async with a_way_and_a_claim() as (way, claim):
            await way.renew(claim, utc_now() - timedelta(seconds=1))
            before = utc_now()
            async with held(way, claim):
                await asyncio.sleep(HALF + 1)
                current = await way.current(STACK)
            assert current
            assert before + LEASE <= current.expires_at <= utc_now() + LEASE

    virtual_time.run(scenario)


@pytest.mark.parametrize("seconds", [0, HALF + 1])
def test_leaving_ends_the_claim_and_its_renewal(seconds: float) -> None:
    """A stack is free the moment its work is done, and nobody goes on renewing."""

    async def scenario() -> None:
        async with a_way_and_a_claim() as (way, claim):
            async with held(way, claim):
                await asyncio.sleep(seconds)
            renewals = list(way.renewals)
            current = await way.current(STACK)
            assert current
            assert current.ended
            await asyncio.sleep(10 * HALF)
            assert way.renewals == renewals
            assert len(asyncio.all_tasks()) == 1

    virtual_time.run(scenario)


def test_a_failure_inside_ends_the_claim() -> None:
    """An error of the work is raised, and the stack is free."""

    async def scenario() -> None:
        async with a_way_and_a_claim() as (way, claim):
            with pytest.raises(RuntimeError, match="work"):
                async with held(way, claim):
                    raise RuntimeError("work")
            current = await way.current(STACK)
            assert current
            assert current.ended

    virtual_time.run(scenario)


def test_a_cancelled_holder_leaves_its_claim_to_expire() -> None:
    """Pulumi may go on after a shutdown: only the next life, or the expiry, may free the stack."""

    async def scenario() -> None:
        async with a_way_and_a_claim() as (way, claim):

            async def work() -> None:
                async with held(way, claim):
                    await asyncio.sleep(1000)

            task = asyncio.create_task(work())
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(10 * HALF)
            assert await way.current(STACK) == claim
            assert way.renewals == []
            assert len(asyncio.all_tasks()) == 1

    virtual_time.run(scenario)


def test_a_store_that_is_away_for_a_while_does_not_lose_the_lease() -> None:
    """Renewals are tried again, and when nobody claimed the stack meanwhile it is still ours."""

    async def scenario() -> None:
        async with a_way_and_a_claim() as (way, claim), held(way, claim) as lease:
            way.before_renew = way.before_current = way.outage
            await asyncio.sleep(6 * HALF + 1)
            assert not lease.lost
            way.before_renew = way.before_current = nothing
            await asyncio.sleep(HALF)
            assert not lease.lost
            assert await way.current(STACK) == lease.claim
            assert lease.claim.expires_at > utc_now() + LEASE - timedelta(seconds=1)

    virtual_time.run(scenario)


@pytest.mark.parametrize(
    "error", [StoreUnavailable("away"), StoreRefused("read-only"), RuntimeError("can't start new thread")]
)
def test_a_renewal_is_tried_again_whatever_goes_wrong(error: Exception) -> None:
    """A refusal may pass as an outage does, and meanwhile the claim is certain for the length of a lease only."""

    async def scenario() -> None:
        async with a_way_and_a_claim() as (way, claim), held(way, claim) as lease:

            async def trouble() -> None:
                raise error

            way.before_renew = trouble
            await asyncio.sleep(LEASE.total_seconds() - 1)
            assert lease.certain
            await asyncio.sleep(2)
            assert not lease.certain
            assert not lease.lost
            way.before_renew = nothing
            await asyncio.sleep(HALF)
            assert lease.certain

    virtual_time.run(scenario)


async def claimed_by_another(way: Way, claim: Claim) -> Claim:
    rival = replace(a_claim(owner="other"), stack=claim.stack, epoch=claim.epoch + 1)
    assert await way.claim(rival)
    return rival


def test_a_claim_taken_during_an_outage_is_noticed() -> None:
    """When the store is back and the stack is somebody else's, the lease is lost, and their claim is left alone."""

    async def scenario() -> None:
        async with a_way_and_a_claim() as (way, claim):
            async with held(way, claim) as lease:
                way.before_renew = way.outage
                await asyncio.sleep(3 * HALF + 1)
                rival = await claimed_by_another(way, claim)
                way.before_renew = nothing
                await asyncio.sleep(HALF)
                assert lease.lost
                renewals = list(way.renewals)
                await asyncio.sleep(10 * HALF)
            assert way.renewals == renewals
            assert way.ended == []
            assert await way.current(STACK) == rival

    virtual_time.run(scenario)


def test_a_claim_taken_while_a_late_renewal_was_under_way_is_noticed() -> None:
    """Looking first and renewing second leaves a gap, in which an expired claim can still be taken."""

    async def scenario() -> None:
        async with a_way_and_a_claim() as (way, claim), held(way, claim) as lease:
            way.before_renew = way.outage
            await asyncio.sleep(3 * HALF + 1)

            async def taken() -> None:
                way.before_renew = nothing
                await claimed_by_another(way, claim)

            way.before_renew = taken
            await asyncio.sleep(4 * HALF)
            assert lease.lost

    virtual_time.run(scenario)


def test_a_renewal_that_took_longer_than_the_lease_is_a_late_one() -> None:
    """The lease counts from before a renewal was sent, so a store that sleeps over it makes the next one look."""

    async def scenario() -> None:
        async with a_way_and_a_claim() as (way, claim):

            async def sleepy() -> None:
                way.before_renew = nothing
                await asyncio.sleep(2 * LEASE.total_seconds())
                await claimed_by_another(way, claim)

            async with held(way, claim) as lease:
                way.before_renew = sleepy
                await asyncio.sleep(HALF + 2 * LEASE.total_seconds() + HALF + 1)
                assert lease.lost

    virtual_time.run(scenario)


def test_a_claim_that_cannot_be_ended_is_left_to_expire() -> None:
    """The work was done; a store that is away at its end does not make it fail."""

    async def scenario() -> None:
        async with some_claims() as claims:
            claim = a_claim(owner="us")
            await claims.claim(claim)

            class Away(Way):
                async def end(self, _: Claim) -> None:
                    await self.outage()

            async with held(Away(claims), claim):
                pass
            assert await claims.current(STACK) == claim

    virtual_time.run(scenario)
