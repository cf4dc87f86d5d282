from datetime import timedelta

from batchbox.model import Now
from batchbox.store import Store
from batchbox.store.holds import Hold, HoldName, Keeper
from batchbox.timing import Backoff

from .rows import NOW

LATER = NOW + timedelta(minutes=1)


async def test_what_is_held_says_why_since_when_and_until_when(store: Store) -> None:
    await store.holds.put(HoldName.SENDING, "no credit", now=NOW, next_attempt_at=LATER)

    hold = Hold(name=HoldName.SENDING, reason="no credit", since_at=NOW, next_attempt_at=LATER)
    assert await store.holds.all() == [hold]
    assert await store.holds.get(HoldName.SENDING) == hold
    assert await store.holds.get(HoldName.ROOT) is None


async def test_a_new_reason_does_not_make_the_hold_younger(store: Store) -> None:
    await store.holds.put(HoldName.SENDING, "no credit", now=NOW, next_attempt_at=NOW)

    await store.holds.put(HoldName.SENDING, "no network", now=LATER, next_attempt_at=None)

    (hold,) = await store.holds.all()
    assert (hold.reason, hold.since_at, hold.next_attempt_at) == ("no network", NOW, None)


async def test_releasing_one_leaves_the_others_and_says_whether_there_was_one(store: Store) -> None:
    for name in HoldName:
        await store.holds.put(name, "x", now=NOW, next_attempt_at=LATER)

    released = [await store.holds.release(HoldName.ROOT) for _ in range(2)]

    assert released == [True, False]
    assert {hold.name for hold in await store.holds.all()} == set(HoldName) - {HoldName.ROOT}


async def test_news_that_nobody_has_begun_to_wait_out_is_not_released(store: Store) -> None:
    """A result said that there is no credit while a batch was just being sent well: the next one must wait."""
    await store.holds.put(HoldName.SENDING, "no credit", now=NOW, next_attempt_at=None)

    assert not await store.holds.release(HoldName.SENDING)

    assert [hold.reason for hold in await store.holds.all()] == ["no credit"]


def keeper(store: Store) -> Keeper:
    """Return what a stage of a new process keeps its hold with."""
    return Keeper(HoldName.API, holds=store.holds, backoff=Backoff(first=10, longest=25), chance=lambda: 0.0)


async def test_each_failure_in_a_row_prolongs_the_hold_and_a_success_ends_it(store: Store) -> None:
    kept = keeper(store)
    now = Now(wall=NOW, monotonic=100.0)

    waits = [await kept.fail("no network", now) - NOW for _ in range(3)]
    held = await store.holds.get(HoldName.API)
    until = kept.until
    succeeded = [await kept.succeed(), await kept.succeed()]

    assert [wait.total_seconds() for wait in waits] == [10, 20, 25]
    assert held is not None
    assert held.next_attempt_at == NOW + waits[-1]
    assert until == 125.0
    assert succeeded == [True, False]
    assert (await store.holds.all(), kept.is_failing, kept.until) == ([], False, 0)


async def test_what_an_earlier_process_held_ends_with_the_first_success_of_this_one(store: Store) -> None:
    await keeper(store).fail("no network", Now(wall=NOW, monotonic=100.0))

    assert await keeper(store).succeed()

    assert await store.holds.all() == []
