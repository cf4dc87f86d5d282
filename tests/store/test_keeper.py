from datetime import timedelta

from batchbox.model import Now
from batchbox.store import Store
from batchbox.store.holds import HoldName, Keeper
from batchbox.timing import Backoff

from .rows import NOW


def keeper(store: Store) -> Keeper:
    """Return the keeper of one process: every wait is as long as its back-off, which begins with 10 s."""
    return Keeper(HoldName.API, holds=store.holds, backoff=Backoff(first=10, longest=100), chance=lambda: 0.0)


def after(seconds: float) -> Now:
    """Return what the clocks say so much later."""
    return Now(wall=NOW + timedelta(seconds=seconds), monotonic=1000.0 + seconds)


async def test_a_failure_holds_until_the_next_try(store: Store) -> None:
    kept = keeper(store)

    next_attempt_at = await kept.fail("no network", after(0))

    (hold,) = await store.holds.all()
    assert (hold.name, hold.reason, hold.since_at) == (HoldName.API, "no network", NOW)
    assert hold.next_attempt_at == next_attempt_at == NOW + timedelta(seconds=10)
    assert kept.is_failing
    assert kept.until == 1010.0


async def test_every_failure_in_a_row_waits_longer_and_says_why_anew(store: Store) -> None:
    kept = keeper(store)
    await kept.fail("no network", after(0))

    await kept.fail("500", after(10), at_least=1.0)

    (hold,) = await store.holds.all()
    assert (hold.reason, hold.since_at, hold.next_attempt_at) == ("500", NOW, NOW + timedelta(seconds=30))


async def test_what_the_server_asks_for_is_waited(store: Store) -> None:
    kept = keeper(store)

    await kept.fail("429", after(0), at_least=60.0)

    assert kept.until == 1060.0


async def test_a_success_releases(store: Store) -> None:
    kept = keeper(store)
    await kept.fail("no network", after(0))

    was_held = await kept.succeed()

    assert was_held
    assert await store.holds.all() == []
    assert not kept.is_failing
    assert kept.until == 0.0


async def test_the_first_success_of_a_process_releases_what_an_earlier_one_held(store: Store) -> None:
    """Else it would be shown for ever: this process has not failed, so it has nothing of its own to release."""
    await keeper(store).fail("no network", after(0))

    was_held = await keeper(store).succeed()

    assert was_held
    assert await store.holds.all() == []


async def test_a_success_without_a_hold_is_no_news(store: Store) -> None:
    kept = keeper(store)

    assert [await kept.succeed() for _ in range(2)] == [False, False]


async def test_news_that_came_while_something_succeeded_is_not_wiped_out(store: Store) -> None:
    """A call may take half an hour, and whoever writes a hold meanwhile knows better than that call's success."""
    kept = keeper(store)
    await kept.fail("no network", after(0))
    await store.holds.put(HoldName.API, "no credit", now=NOW, next_attempt_at=None)

    was_held = await kept.succeed()

    assert not was_held
    assert [hold.reason for hold in await store.holds.all()] == ["no credit"]
