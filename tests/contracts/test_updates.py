"""The contract of UpdateStore, over every store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from graphql_api.domain.errors import RevisionConflict
from graphql_api.domain.ports import Slice, StackUpdateFilter, UpdateHistory, UpdateStore
from graphql_api.domain.records import Cancellation, CancellationReason, StackFqdn, StackUpdateId, Status
from tests.builders import (
    CANCELLATION,
    MANIFEST,
    NOON,
    OUTPUTS,
    PROGRESS,
    SECOND,
    a_stack_update,
    cancelled,
    failed,
    kept,
    started,
    to_success,
)


async def test_a_queued_update_comes_back_as_it_went_in(updates: UpdateStore) -> None:
    """Every field of a new record is kept, its manifest beside it to the last character, and no output yet."""
    update = a_stack_update(
        created_at=NOON, timeout=timedelta(seconds=90, milliseconds=250), requested_by="ann@example"
    )

    await updates.insert(update, "a: 'ß\t€ 🙂'\r\n")

    assert await updates.get(update.id) == update
    assert await updates.manifest(update.id) == "a: 'ß\t€ 🙂'\r\n"
    assert await updates.output(update.id) is None


async def test_every_revision_comes_back_as_it_was_saved(updates: UpdateStore) -> None:
    """Times, exit code and stack outputs of each step on the way to success are kept, and who asked for it."""
    first, *later = to_success(a_stack_update(created_at=NOON, requested_by="ann@example"))
    await updates.insert(first, MANIFEST)

    for revision in later:
        await updates.save(revision)
        assert await updates.get(first.id) == revision


async def test_a_failure_comes_back_as_it_was_saved(updates: UpdateStore) -> None:
    """The kind, the sentence and the rest of a failed record are kept, whatever characters are in them."""
    update = a_stack_update()

    await kept(updates, update, failed(update))

    assert await updates.get(update.id) == failed(update)


async def test_progress_and_cancellation_come_back_as_they_were_saved(updates: UpdateStore) -> None:
    """How far a deployment has come, and how far its end, with each revision, and what was there before is there no
    longer once it is gone.
    """
    update = a_stack_update(created_at=NOON)
    running = started(update).running(NOON + SECOND)
    progressed = running.progressed(NOON + SECOND, PROGRESS, OUTPUTS)
    extended = progressed.extended(NOON + SECOND, timedelta(hours=1))
    cancelling = extended.cancelling(NOON + SECOND, Cancellation(NOON, CancellationReason.SUPERSEDED))
    later = cancelling.cancelling(NOON + SECOND, CANCELLATION)
    recording = later.recording(NOON + SECOND)
    await kept(updates, update, started(update))

    for revision in (running, progressed, extended, cancelling, later, recording, recording.cancelled(NOON + SECOND)):
        await updates.save(revision)
        await updates.save(revision)
        assert await updates.get(update.id) == revision


async def test_a_cancelled_update_comes_back_as_it_was_saved(updates: UpdateStore, history: UpdateHistory) -> None:
    """With what was done, and how it was ended, by its id and in lists."""
    update = a_stack_update(created_at=NOON)
    ended = cancelled(update)

    await kept(updates, update, started(update), started(update).cancelling(NOON + SECOND, CANCELLATION), ended)

    assert await updates.get(update.id) == ended
    assert await history.page(Slice(1), StackUpdateFilter(statuses=frozenset({Status.CANCELLED}))) == [ended]


@pytest.mark.parametrize("id_", ["0123456789abcdef01234567", "", "unknown", "é" * 24])
async def test_an_unknown_update_is_none(updates: UpdateStore, id_: str) -> None:
    """Asking for what is not there answers None, also when it can't be an id."""
    unknown = StackUpdateId(id_)

    assert await updates.get(unknown) is None
    assert await updates.manifest(unknown) is None
    assert await updates.output(unknown) is None


async def test_inserting_an_update_again_does_nothing(updates: UpdateStore, history: UpdateHistory) -> None:
    """The same insert may be made again, also when a worker has taken the update meanwhile."""
    update = a_stack_update()
    await kept(updates, update, started(update))

    await updates.insert(update, "another text")

    assert await updates.get(update.id) == started(update)
    assert await updates.manifest(update.id) == MANIFEST
    assert await history.count() == 1


async def test_an_id_of_another_update_is_never_taken_over(updates: UpdateStore) -> None:
    """An insert of another stack update under a used id changes nothing and says so."""
    update = a_stack_update()
    await kept(updates, update)

    with pytest.raises(RevisionConflict, match=update.id):
        await updates.insert(replace(update, stack_fqdn=StackFqdn("organization/demo/prod")), MANIFEST)

    assert await updates.get(update.id) == update


async def test_the_output_is_stored_with_the_record(updates: UpdateStore) -> None:
    """An output of the size that a record may have is kept to the character, and a save without one keeps it."""
    update = a_stack_update()
    output = '{"stdout": "' + "Zeile ß 🙂\\n" * 40_000 + '"}'
    await kept(updates, update)

    await updates.save(started(update), output)
    await updates.save(failed(started(update)))

    assert await updates.output(update.id) == output
    assert await updates.manifest(update.id) == MANIFEST


async def test_saving_a_record_again_does_nothing(updates: UpdateStore) -> None:
    """The same save may be made again, at any phase and after the end."""
    update = a_stack_update()
    await kept(updates, update, started(update))
    await updates.save(started(update))

    ended = failed(started(update))
    await updates.save(ended, "{}")
    await updates.save(ended, "{}")

    assert await updates.get(update.id) == ended
    assert await updates.output(update.id) == "{}"


async def test_a_save_from_an_older_revision_is_a_conflict(updates: UpdateStore) -> None:
    """Who changes what somebody else has changed first is refused, and nothing has changed."""
    update = a_stack_update()
    await kept(updates, update, started(update))

    with pytest.raises(RevisionConflict, match=update.id):
        await updates.save(failed(update), "theirs")

    assert await updates.get(update.id) == started(update)
    assert await updates.output(update.id) is None


async def test_a_save_that_skips_a_revision_is_a_conflict(updates: UpdateStore) -> None:
    """A record goes on by one revision at a time."""
    update = a_stack_update()
    await kept(updates, update)

    with pytest.raises(RevisionConflict):
        await updates.save(failed(started(update)))

    assert await updates.get(update.id) == update


async def test_a_save_of_an_unknown_update_is_a_conflict(updates: UpdateStore, history: UpdateHistory) -> None:
    """A save never adds a record."""
    with pytest.raises(RevisionConflict):
        await updates.save(started(a_stack_update()))

    assert await history.count() == 0


async def test_an_ended_update_never_changes(updates: UpdateStore) -> None:
    """After the outcome no save goes through, neither of the next revision nor of the same one."""
    update = a_stack_update()
    ended = failed(update)
    await updates.insert(update, MANIFEST)
    await updates.save(ended, "{}")

    for later in (replace(ended, revision=3, exit_code=1), replace(ended, exit_code=1), started(update)):
        with pytest.raises(RevisionConflict):
            await updates.save(later, "later")

    assert await updates.get(update.id) == ended
    assert await updates.output(update.id) == "{}"


async def test_the_oldest_queued_update_is_next(updates: UpdateStore) -> None:
    """The queue is served in the order of acceptance, ties by id."""
    queue = [a_stack_update(created_at=NOON + timedelta(milliseconds=number // 2)) for number in range(4)]
    for update in reversed(queue):
        await updates.insert(update, MANIFEST)

    served = []
    while next_ := await updates.next_queued():
        served.append(next_)
        await updates.save(started(next_))

    assert served == queue


async def test_only_queued_updates_are_next(updates: UpdateStore) -> None:
    """What has started or ended is never given to a worker again."""
    for move in (started, failed):
        update = a_stack_update()
        await kept(updates, update, move(update))

    assert await updates.next_queued() is None


async def test_updates_of_busy_stacks_wait(updates: UpdateStore) -> None:
    """A stack that is busy is passed over, and its updates keep their place."""
    stacks = [StackFqdn(f"organization/demo/{name}") for name in ("a", "b", "c")]
    for number, stack in enumerate(stacks):
        await updates.insert(a_stack_update(created_at=NOON + number * SECOND, stack_fqdn=stack), MANIFEST)

    served = [await updates.next_queued(stacks[:busy]) for busy in range(4)]

    assert [update and update.stack_fqdn for update in served] == [*stacks, None]
