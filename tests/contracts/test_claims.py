"""The contract of Claims, over every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from graphql_api.domain.ports import Claims
from graphql_api.domain.records import StackFqdn
from tests.builders import STACK, a_claim


async def test_a_stack_that_was_never_claimed_has_no_claim(claims: Claims) -> None:
    """Nobody owns a stack at first."""
    assert await claims.current(STACK) is None


async def test_a_claim_comes_back_as_it_went_in(claims: Claims) -> None:
    """The current claim has every field of the one that won."""
    claim = a_claim()

    assert await claims.claim(claim)

    assert await claims.current(STACK) == claim


async def test_of_concurrent_claims_of_one_epoch_exactly_one_wins(claims: Claims) -> None:
    """Of fifty services that claim one epoch of a stack at once, one is told that it has it, and it has."""
    rivals = [a_claim(owner=f"service-{number}") for number in range(50)]

    answers = await asyncio.gather(*map(claims.claim, rivals))

    winners = [claim for claim, won in zip(rivals, answers, strict=True) if won]
    assert [await claims.current(STACK)] == winners


async def test_claiming_again_with_the_same_nonce_is_won_again(claims: Claims) -> None:
    """A winner that did not hear the answer may ask again; a loser that asks again has still lost."""
    winner, loser = a_claim(), a_claim()

    assert await claims.claim(winner)
    assert not await claims.claim(loser)
    assert await claims.claim(winner)
    assert not await claims.claim(loser)


async def test_the_highest_epoch_is_the_current_one(claims: Claims) -> None:
    """Epochs are compared as numbers, and an older one never comes back."""
    for epoch in (9, 10, 2):
        assert await claims.claim(a_claim(epoch=epoch))

    current = await claims.current(STACK)

    assert current
    assert current.epoch == 10


async def test_an_ended_claim_stays_the_current_one(claims: Claims) -> None:
    """What has ended is still shown, so that the next epoch is known; ending it again does nothing."""
    claim = a_claim()
    await claims.claim(claim)

    await claims.end(claim)
    await claims.end(claim)

    assert await claims.current(STACK) == replace(claim, ended=True)
    assert not await claims.claim(a_claim())


async def test_of_claims_of_a_stack_the_newest_is_kept(claims: Claims) -> None:
    """With a claim that ends, those before it go, and no other stack's: an epoch below it is free again."""
    other = a_claim(stack=StackFqdn("organization/demo/de"))
    earlier = [a_claim(epoch=epoch) for epoch in (1, 2, 3)]
    last = a_claim(epoch=4)
    for claim in (other, *earlier, last):
        assert await claims.claim(claim)

    await claims.end(last)

    assert await claims.current(STACK) == replace(last, ended=True)
    assert await claims.current(other.stack) == other
    assert await claims.claim(a_claim(epoch=3))
    assert not await claims.claim(a_claim(epoch=4))
    assert await claims.current(STACK) == replace(last, ended=True)


async def test_ending_what_is_no_claim_any_more_forgets_nothing(claims: Claims) -> None:
    """Neither an earlier claim nor one that was never made is the end of those that are there."""
    first, second = a_claim(epoch=1), a_claim(epoch=2)
    for claim in (first, second):
        await claims.claim(claim)

    await claims.end(first)
    await claims.end(a_claim(epoch=3))
    await claims.end(a_claim(epoch=2))

    assert await claims.current(STACK) == second
    assert not await claims.claim(a_claim(epoch=1))


async def test_a_renewed_claim_expires_later(claims: Claims) -> None:
    """A renewal moves the expiry and nothing else, and may be made again."""
    claim = a_claim()
    later = claim.expires_at + timedelta(seconds=30)
    await claims.claim(claim)

    await claims.renew(claim, later)
    await claims.renew(claim, later)

    assert await claims.current(STACK) == replace(claim, expires_at=later)


async def test_a_loser_neither_renews_nor_ends_the_winners_claim(claims: Claims) -> None:
    """A claim is its owner's: the same epoch under another nonce reaches nothing."""
    winner, loser = a_claim(), a_claim()
    await claims.claim(winner)

    await claims.renew(loser, loser.expires_at + timedelta(hours=1))
    await claims.end(loser)

    assert await claims.current(STACK) == winner


async def test_renewing_what_was_never_claimed_adds_nothing(claims: Claims) -> None:
    """Only ``claim`` makes a claim."""
    await claims.renew(a_claim(), a_claim().expires_at)
    await claims.end(a_claim())

    assert await claims.current(STACK) is None


async def test_stacks_are_claimed_apart(claims: Claims) -> None:
    """A claim of one stack is none of another, however alike their names are."""
    names = ["organization/demo/dev", "organization/demo/dev:1", "organization/demo/DEV", "organization/demo/de"]
    kept = [a_claim(stack=StackFqdn(name)) for name in names]

    for claim in kept:
        assert await claims.claim(claim)

    assert [await claims.current(claim.stack) for claim in kept] == kept
