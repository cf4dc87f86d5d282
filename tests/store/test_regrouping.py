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


async def test_a_request_that_is_alone_is_the_probe_in_the_batch_that_it_has(store: Store) -> None:
    """What the batch was tried for in vain stays known; one that must wait is no probe any more."""
    await record(store, request("a"))
    await seal(store)
    await store.dispatch.hold(1, "why")

    await store.regrouping.part_probe(1, now=NOW)
    marked = await store.dispatch.sealed()
    await store.dispatch.unmark_probe(1)
    unmarked = await store.dispatch.sealed()

    seen = [(batch.id, batch.is_probe, batch.held_reason) for batch in (*marked, *unmarked)]
    assert seen == [(1, True, "why"), (1, False, "why")]


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


async def wait_for(store: Store, batch_id: int, *custom_ids: str) -> bool:
    """Let the files of all other requests of the batch be as they were read, and part the batch."""
    unverified = await store.verifying.unverified(batch_id, after=None, limit=1000)
    names = {f"{custom_id}.md" for custom_id in custom_ids}
    may_go = [one.source.id for one in unverified if one.source.claim.partition("~")[2] not in names]
    await store.verifying.mark_verified(may_go)
    return await store.verifying.part_unverified(batch_id, now=NOW)


async def sealed_of_files(store: Store, *names: str) -> int:
    """Record a file of its own for each request, and seal; return the batch."""
    for name in names:
        await record(store, request(name), name=f"{name}.md")
    return await seal(store)


async def test_what_waits_for_files_goes_into_a_batch_of_its_own_behind_the_others(
    store: Store, database: Database
) -> None:
    batch_id = await sealed_of_files(store, *NAMES)

    assert await wait_for(store, batch_id, "a", "d")

    others, waiting = await store.dispatch.sealed()
    assert (others.request_count, waiting.request_count) == (3, 2)
    assert await where(database) == {name: waiting.id if name in "ad" else others.id for name in NAMES}


async def test_a_batch_is_not_parted_if_all_of_it_waits_or_nothing(store: Store, database: Database) -> None:
    batch_id = await sealed_of_files(store, "a", "b")

    assert not await wait_for(store, batch_id, "a", "b")
    assert await wait_for(store, batch_id)

    assert [batch.id for batch in await store.dispatch.sealed()] == [batch_id]
    assert await where(database) == {"a": batch_id, "b": batch_id}


async def test_a_batch_that_is_being_sent_is_not_parted(store: Store, database: Database) -> None:
    """A person may say, beside the daemon, that the API has it."""
    batch_id = await sealed_of_files(store, "a", "b")
    await store.dispatch.intend(sending(batch_id, "aaaaaaaa"))

    assert await wait_for(store, batch_id, "a")

    assert await where(database) == {"a": batch_id, "b": batch_id}
    assert await states(database, "batches") == ["submitting"]


async def test_files_are_named_in_pages_each_for_every_request_that_waits_for_it(store: Store) -> None:
    await record(store, request("a"), request("b"), name="ab.md")
    await record(store, request("b"), request("c"), name="bc.md")
    batch_id = await seal(store)

    seen = []
    last = None
    while page := await store.verifying.unverified(batch_id, after=last, limit=1):
        (last,) = page
        seen.append((last.number, last.source.id))

    assert seen == [(1, 1), (2, 1), (2, 2), (3, 2)]


async def test_a_request_waits_for_no_file_if_another_one_is_as_it_was_read(store: Store) -> None:
    await record(store, request("a"), request("b"), name="ab.md")
    await record(store, request("b"), request("c"), name="bc.md")
    batch_id = await seal(store)

    await store.verifying.mark_verified([1])

    (left,) = await store.verifying.unverified(batch_id, after=None, limit=1000)
    assert (left.number, left.source.id) == (3, 2)
