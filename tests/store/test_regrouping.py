"""Members that change their batch without having been answered: nobody is left behind, nobody is in two."""

import pytest

from batchbox.model import BatchState, Nonce
from batchbox.store import Store
from batchbox.store.database import Database

from .rows import NOW, ids, record, request, seal, send, sending, states

NAMES = ["a", "b", "c", "d", "e"]


async def refused(store: Store, *custom_ids: str, refusal: str = "no") -> int:
    """Record, seal, intend and refuse; return the batch."""
    await record(store, *(request(custom_id) for custom_id in custom_ids))
    return await refuse(store, await seal(store), "aaaaaaaa", refusal=refusal)


async def refuse(store: Store, batch_id: int, nonce: str, *, refusal: str = "no") -> int:
    """Let a sealed batch be refused; return it."""
    await store.dispatch.intend(sending(batch_id, nonce))
    await store.dispatch.refuse(batch_id, Nonce(nonce), refusal=refusal, is_too_large=False)
    return batch_id


async def where(database: Database) -> dict[str, int]:
    """Return the batch that each request is in."""
    rows = await database.all("SELECT custom_id, batch_id FROM requests ORDER BY id")
    members = await database.all(
        "SELECT r.custom_id, m.batch_id FROM requests AS r JOIN members AS m ON m.request_id = r.id "
        "AND m.batch_id = r.batch_id ORDER BY r.id"
    )
    assert rows == members, "a request is not a member of its batch"
    return {str(custom_id): int(batch_id) for custom_id, batch_id in rows}


@pytest.mark.parametrize(("count", "halves"), [(2, [1, 1]), (3, [1, 2]), (5, [2, 3])])
async def test_a_refused_batch_goes_on_as_two_halves_in_order(
    store: Store, database: Database, count: int, halves: list[int]
) -> None:
    batch_id = await refused(store, *NAMES[:count])

    await store.regrouping.halve(batch_id, now=NOW)

    sealed = await store.dispatch.sealed()
    assert (await states(database, "batches"))[0] == "refused"
    assert [batch.request_count for batch in sealed] == halves
    assert list((await where(database)).values()) == [batch.id for batch in sealed for _ in range(batch.request_count)]
    assert [batch.replaces for batch in sealed] == [None, None]
    assert await store.regrouping.undecided() == []


async def test_a_refused_half_shows_how_the_other_one_fares(store: Store) -> None:
    await store.regrouping.halve(await refused(store, "a", "b"), now=NOW)
    first, second = await store.dispatch.sealed()
    await refuse(store, first.id, "bbbbbbbb", refusal="first")
    (waiting,) = await store.regrouping.undecided()
    await refuse(store, second.id, "cccccccc", refusal="second")

    both = await store.regrouping.undecided()

    assert waiting.other_half is not None
    assert (waiting.other_half.batch_id, waiting.other_half.state) == (second.id, BatchState.SEALED)
    assert [(batch.refusal, batch.other_half and batch.other_half.refusal) for batch in both] == [
        ("first", "second"),
        ("second", "first"),
    ]


async def test_two_halves_are_put_together_again_and_held(store: Store, database: Database) -> None:
    await store.regrouping.halve(await refused(store, *NAMES), now=NOW)
    halves = await store.dispatch.sealed()
    for half, nonce in zip(halves, ("bbbbbbbb", "cccccccc"), strict=True):
        await refuse(store, half.id, nonce)

    await store.regrouping.join([half.id for half in halves], refusal="no", held_reason="why", now=NOW)

    (joined,) = await store.dispatch.sealed()
    assert (joined.request_count, joined.is_joined, joined.refusal, joined.held_reason) == (5, True, "no", "why")
    assert set((await where(database)).values()) == {joined.id}
    assert await store.regrouping.undecided() == []
    assert await store.regrouping.is_held_for("no")
    assert not await store.regrouping.is_held_for("something else")


async def test_a_request_that_is_refused_alone_ends_as_an_error(store: Store, database: Database) -> None:
    batch_id = await refused(store, "a")

    await store.regrouping.fail(batch_id, error_text="no", now=NOW)

    (failing,) = await store.delivery.failing(limit=10)
    assert (failing.custom_id, failing.error_type, failing.error_text) == ("a", "refused", "no")
    assert failing.ended_at == NOW
    assert await states(database, "requests") == ["failing"]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_probe_is_the_first_member_alone(store: Store, database: Database, count: int) -> None:
    await record(store, *(request(name) for name in NAMES[:count]))
    await seal(store)

    await store.regrouping.part_probe(1, now=NOW)

    sealed = await store.dispatch.sealed()
    assert [(batch.request_count, batch.is_probe) for batch in sealed] == [(1, True), (count - 1, False)][
        : 1 + (count > 1)
    ]
    assert (await where(database))["a"] == sealed[0].id
    assert len(await ids(database)) == count


@pytest.mark.parametrize("act", ["halve", "part_probe", "fail", "join"])
async def test_the_members_of_a_batch_that_was_accepted_stay_in_it(store: Store, database: Database, act: str) -> None:
    await record(store, request("a"), request("b"))
    batch_id = await seal(store)
    await send(store, batch_id)
    acts = {
        "halve": lambda: store.regrouping.halve(batch_id, now=NOW),
        "part_probe": lambda: store.regrouping.part_probe(batch_id, now=NOW),
        "fail": lambda: store.regrouping.fail(batch_id, error_text="no", now=NOW),
        "join": lambda: store.regrouping.join([batch_id], refusal="no", held_reason="why", now=NOW),
    }

    with pytest.raises(AssertionError, match="not free to leave"):
        await acts[act]()

    assert await states(database, "batches") == ["in_progress"]
    assert await states(database, "requests") == ["batched", "batched"]
