"""The contract of IdempotencyKeys, over every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from graphql_api.domain.ports import IdempotencyKeys
from graphql_api.domain.records import StackUpdateId, new_id
from tests.builders import MILLISECOND, NOON, SECOND, an_idempotency_key


async def test_what_nobody_kept_is_not_found(keys: IdempotencyKeys) -> None:
    """A key is known only to its caller."""
    key = an_idempotency_key()
    await keys.keep(key, key.created_at)

    assert await keys.find(key.caller, "another", key.created_at) is None
    assert await keys.find("another", key.key, key.created_at) is None


async def test_a_key_comes_back_as_it_went_in(keys: IdempotencyKeys) -> None:
    """Every field of it is kept, also odd characters."""
    key = an_idempotency_key(caller="ß 🙂 $a.b", key='"\\ \n', fingerprint="x" * 1000, created_at=NOON)

    assert await keys.keep(key, NOON - SECOND) == key

    assert await keys.find(key.caller, key.key, NOON - SECOND) == key


async def test_the_first_one_is_kept(keys: IdempotencyKeys) -> None:
    """Who comes later is told what was kept first, and changes nothing."""
    first = an_idempotency_key(created_at=NOON)
    later = replace(first, fingerprint="another", update_id=StackUpdateId(new_id(NOON)), created_at=NOON + SECOND)
    await keys.keep(first, NOON - SECOND)

    assert await keys.keep(later, NOON) == first
    assert await keys.keep(first, NOON) == first

    assert await keys.find(first.caller, first.key, NOON) == first


async def test_a_key_is_known_until_it_is_too_old(keys: IdempotencyKeys) -> None:
    """What was kept at the moment itself is found; what was kept before it is not, and others may take its place."""
    old = an_idempotency_key(created_at=NOON)
    new = replace(old, fingerprint="another", created_at=NOON + SECOND)
    await keys.keep(old, NOON)
    assert await keys.find(old.caller, old.key, NOON) == old
    assert await keys.find(old.caller, old.key, NOON + MILLISECOND) is None

    assert await keys.keep(new, NOON + MILLISECOND) == new

    assert await keys.find(old.caller, old.key, NOON) == new


async def test_what_is_too_old_is_forgotten(keys: IdempotencyKeys) -> None:
    """With each one that is kept, those of all callers from before the moment go; the others stay."""
    old, kept = an_idempotency_key(created_at=NOON), an_idempotency_key(created_at=NOON + SECOND)
    for key in (old, kept):
        await keys.keep(key, NOON)

    await keys.keep(an_idempotency_key(created_at=NOON + 2 * SECOND), NOON + SECOND)

    assert await keys.find(old.caller, old.key, NOON) is None
    assert await keys.find(kept.caller, kept.key, NOON) == kept


async def test_of_concurrent_calls_all_get_the_same(keys: IdempotencyKeys) -> None:
    """Of sixteen that keep one key at once all are told of the same: of a new key, and where an old one gives way."""
    for day in (NOON + number * SECOND for number in range(25)):
        rivals = [an_idempotency_key(caller="one", fingerprint=str(number), created_at=day) for number in range(16)]

        kept = await asyncio.gather(*(keys.keep(rival, day) for rival in rivals))

        assert len(set(kept)) == 1
        assert kept[0] in rivals
        assert await keys.find("one", rivals[0].key, day) == kept[0]


async def test_keys_are_kept_apart(keys: IdempotencyKeys) -> None:
    """A key of one caller is none of another's, however alike they are."""
    names = [("a", "b:c"), ("a:b", "c"), ("A", "b:c"), ("a", "B:C"), ("", "a"), ("a", "")]
    kept = [an_idempotency_key(caller=caller, key=key) for caller, key in names]

    for key in kept:
        assert await keys.keep(key, NOON) == key

    assert [await keys.find(key.caller, key.key, NOON) for key in kept] == kept
