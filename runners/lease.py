"""Holding the claim on a stack for as long as an update of it is worked on."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from graphql_api.domain.errors import StackcastError, StartRefused
from graphql_api.domain.ports import Claims
from graphql_api.domain.records import Claim, StackFqdn, StackUpdateId, new_id, utc_now

#: How long a claim holds without being renewed. It is renewed at half of that.
LEASE = timedelta(seconds=30)

#: What the one service that works on a database claims there. No stack has this name: theirs have two slashes.
THE_SERVICE = StackFqdn("the service")

_log = logging.getLogger("stackcast.worker")


class LeaseLost(Exception):
    """Somebody else claimed the stack, or wrote in our place; they write from here on."""


class Lease:
    """A claim that is being kept alive. ``lost`` once somebody else has claimed the stack: then write nothing more."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.lost = False
        self._clock = asyncio.get_running_loop().time
        self._confirmed = self._clock()

    @property
    def certain(self) -> bool:
        """True as long as nobody else can have claimed it: it was confirmed less than a lease ago, by our own clock."""
        return not self.lost and self._clock() - self._confirmed < LEASE.total_seconds()

    def confirm(self, sent: float) -> None:
        """Note that the store had the claim as ours after a renewal sent at this time of the event loop."""
        self._confirmed = sent


async def claim_stack(claims: Claims, stack: StackFqdn, update_id: StackUpdateId, owner: str) -> Claim | None:
    """Claim the stack; None while somebody else holds it. May raise StoreUnavailable.

    A claim of ``owner`` itself is an earlier life's: the owner is this data directory, which one service at a time
    has locked, and this service works on a stack only once at a time.
    """
    current = await claims.current(stack)
    now = utc_now()
    if current is not None and not (current.ended or current.owner == owner or current.expires_at < now):
        return None
    claim = Claim(
        stack=stack,
        epoch=current.epoch + 1 if current else 1,
        owner=owner,
        nonce=secrets.token_hex(8),
        update_id=update_id,
        expires_at=now + LEASE,
    )
    if not await claims.claim(claim):
        return None
    # Where we slept since we read, others may have claimed later epochs, after which ours was forgotten and free again.
    current = await claims.current(stack)
    return claim if current is not None and current.nonce == claim.nonce else None


@asynccontextmanager
async def the_only_service(claims: Claims, owner: str) -> AsyncIterator[Lease]:
    """Be the only service on this database until leaving; ``owner`` names the data directory, for people too.

    A crashed service with the same owner is succeeded at once, one with another when its claim has expired. Raises
    StartRefused until then. May raise StoreUnavailable.
    """
    claim = await claim_stack(claims, THE_SERVICE, StackUpdateId(new_id(utc_now())), owner)
    if claim is None:
        raise StartRefused(await _taken(claims))
    lease = Lease(claim)
    renewal = asyncio.create_task(_renew(claims, lease), name="renew the service")
    try:
        yield lease
    finally:
        # However we leave, our deployments have ended by now, or are left to the next life of this data directory.
        renewal.cancel()
        await asyncio.wait([renewal])
        if not lease.lost:
            await _end(claims, lease.claim)


async def _taken(claims: Claims) -> str:
    current = await claims.current(THE_SERVICE)
    holder, until = (current.owner, f"{current.expires_at:%H:%M:%S} UTC") if current else ("another one", "a while")
    return (
        f"Another stackcast works on this database: {holder}. Stop it, or set STACKCAST_DATABASE_URL to another "
        f"database. If it has crashed, start again with its data directory, or wait until {until}, when its claim ends."
    )


@asynccontextmanager
async def held(claims: Claims, claim: Claim) -> AsyncIterator[Lease]:
    """Keep the claim alive until leaving, then end it; when cancelled, leave it to expire."""
    lease = Lease(claim)
    renewal = asyncio.create_task(_renew(claims, lease), name=f"renew {claim.stack}")
    abandoned = False
    try:
        yield lease
    except asyncio.CancelledError:
        abandoned = True  # Pulumi may go on; the next life takes both over
        raise
    finally:
        renewal.cancel()
        await asyncio.wait([renewal])
        if not lease.lost and not abandoned:
            await _end(claims, claim)


async def _renew(claims: Claims, lease: Lease) -> None:
    while not lease.lost:
        await asyncio.sleep(LEASE.total_seconds() / 2)
        sent = asyncio.get_running_loop().time()
        try:
            lease.claim = replace(lease.claim, expires_at=utc_now() + LEASE)
            await claims.renew(lease.claim, lease.claim.expires_at)
            # Somebody may have claimed the stack until the renewal arrived, because it came late or because the clock
            # of one of us was set: the clocks of two hosts say nothing about who is right, the higher epoch does.
            current = await claims.current(lease.claim.stack)
            lease.lost = current is not None and current.nonce != lease.claim.nonce
            lease.confirm(sent)
        except StackcastError as error:
            _log.warning("the claim on %s could not be renewed: %s", lease.claim.stack, error)
        except Exception:  # a boundary: without a renewal nothing would ever be started again
            _log.exception("the claim on %s could not be renewed", lease.claim.stack)


async def _end(claims: Claims, claim: Claim) -> None:
    try:
        await claims.end(claim)
    except StackcastError as error:  # it expires, and this service may take it over at any time
        _log.warning("the claim on %s could not be ended: %s", claim.stack, error)
