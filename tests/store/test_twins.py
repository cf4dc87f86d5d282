"""A batch that has turned up after its requests went on without it: what of it comes back, and what is not sent."""

from datetime import timedelta

import pytest

from batchbox.model import ApiBatchId, Nonce
from batchbox.store import Store
from batchbox.store.database import Database

from .rows import NOW, batch_info, record, request, seal, send, sending, states

FIRST = Nonce("aaaaaaaa")
FOUND = batch_info("msgbatch_found", count=2, ended=True)


async def withdrawn(store: Store) -> int:
    """Send a batch of two in vain, as it seems; return it."""
    await record(store, request("a"), request("b", params=b'{"x":2}'))
    batch_id = await seal(store)
    await store.dispatch.intend(sending(batch_id, FIRST))
    await store.dispatch.close_candidates(FIRST)
    await store.dispatch.withdraw(batch_id, FIRST, now=NOW, is_break=False)
    return batch_id


async def refuse(store: Store, batch_id: int, nonce: str) -> None:
    """Let a sealed batch be refused."""
    await store.dispatch.intend(sending(batch_id, nonce))
    await store.dispatch.refuse(batch_id, Nonce(nonce), refusal="no", is_too_large=False)


async def wait(store: Store, database: Database, batch_id: int) -> None:
    """Let a person have the members of a sealed batch wait to be sent anew."""
    async with database.transaction() as transaction:
        await transaction.run("UPDATE batches SET needs_person = 1 WHERE id = ?", (batch_id,))
    await store.decisions.resend(batch_id, now=NOW)


async def lie(store: Store, database: Database, batch_id: int, how: str) -> None:
    """Bring the members to where nothing is sent of them, or not yet."""
    if how == "undecided":
        await refuse(store, batch_id, "bbbbbbbb")
    elif how == "waiting":
        await wait(store, database, batch_id)
    else:
        await store.regrouping.halve(batch_id, now=NOW)
    if how == "a half is undecided":
        await refuse(store, (await store.dispatch.sealed())[0].id, "bbbbbbbb")
    if how == "a half is in doubt":
        doubtful, sent = await store.dispatch.sealed()
        await store.dispatch.intend(sending(doubtful.id, "bbbbbbbb"))
        await send(store, sent.id, nonce="cccccccc")


PLACES = ["undecided", "waiting", "halved", "a half is undecided"]


@pytest.mark.parametrize("how", PLACES)
async def test_what_is_still_to_be_sent_comes_back(store: Store, database: Database, how: str) -> None:
    """Wherever it is by then; nothing is left that could be sent, or decided about."""
    batch_id = await withdrawn(store)
    await lie(store, database, batch_id, how)
    await store.twins.find(batch_id, FIRST, FOUND.id, now=NOW)

    is_reclaimed = await store.twins.reclaim(batch_id, FIRST, FOUND, now=NOW)

    assert is_reclaimed
    assert await database.all("SELECT state, batch_id FROM requests") == [("batched", batch_id)] * 2
    assert (await states(database, "batches"))[0] == "in_progress"
    assert await store.dispatch.sealed() == []
    assert await store.regrouping.undecided() == []
    assert await store.dispatch.windows() == []
    assert await store.twins.unbooked() == []


@pytest.mark.parametrize("how", [*PLACES, "a half is in doubt"])
async def test_it_is_looked_for_as_long_as_something_of_it_is_still_to_be_sent(
    store: Store, database: Database, how: str
) -> None:
    """Or may have to be, because it is not known whether it was."""
    await lie(store, database, await withdrawn(store), how)

    late = await store.twins.late(withdrawn_since=NOW, resent_since=NOW + timedelta(days=2))

    assert [doubt.nonce for doubt in late] == [FIRST]


@pytest.mark.parametrize("how", PLACES)
async def test_nothing_of_it_is_sent_before_it_is_decided_what_comes_back(
    store: Store, database: Database, how: str
) -> None:
    """Neither what was sealed before, nor what is sealed or halved meanwhile; other batches go on."""
    batch_id = await withdrawn(store)
    await lie(store, database, batch_id, how)
    await store.twins.find(batch_id, FIRST, FOUND.id, now=NOW)

    for undecided in await store.regrouping.undecided():
        if undecided.request_count > 1:
            await store.regrouping.halve(undecided.id, now=NOW)
    if how == "waiting":
        await seal(store)
    await record(store, request("c", params=b'{"x":3}'))
    other_id = await seal(store)

    assert [batch.id for batch in await store.dispatch.sealed()] == [other_id]


async def test_it_stays_a_candidate_until_it_is_written_down_as_found(store: Store) -> None:
    """A process that dies between the two must not have forgotten it."""
    batch_id = await withdrawn(store)
    await store.dispatch.add_candidates(FIRST, [FOUND.id])
    await store.regrouping.halve(batch_id, now=NOW)

    is_accepted = await store.dispatch.accept(batch_id, FIRST, FOUND, api_request_id=None, now=NOW)

    (late,) = await store.twins.late(withdrawn_since=NOW, resent_since=NOW)
    assert not is_accepted
    assert late.candidates == [FOUND.id]


async def test_what_was_sent_with_others_leaves_them_as_they_were(store: Store, database: Database) -> None:
    """Of a refused batch that has members of its own the others go on without those that come back."""
    batch_id = await withdrawn(store)
    await wait(store, database, batch_id)
    await record(store, request("c", params=b'{"x":3}'))
    await refuse(store, await seal(store), "bbbbbbbb")
    await store.twins.find(batch_id, FIRST, FOUND.id, now=NOW)

    await store.twins.reclaim(batch_id, FIRST, FOUND, now=NOW)

    (successor,) = await store.dispatch.sealed()
    assert (successor.request_count, successor.refusal) == (1, "no")
    assert await database.all("SELECT batch_id FROM requests") == [(batch_id,), (batch_id,), (successor.id,)]


async def test_members_in_doubt_are_told_of(store: Store) -> None:
    """Until it is known whether they were sent again, and not after."""
    batch_id = await withdrawn(store)
    await store.regrouping.halve(batch_id, now=NOW)
    half = (await store.dispatch.sealed())[0]
    before = await store.twins.is_in_doubt(batch_id)
    await store.dispatch.intend(sending(half.id, "bbbbbbbb"))
    meanwhile = await store.twins.is_in_doubt(batch_id)
    await store.dispatch.withdraw(half.id, Nonce("bbbbbbbb"), now=NOW, is_break=False)

    after = await store.twins.is_in_doubt(batch_id)

    assert (before, meanwhile, after) == (False, True, False)


async def test_a_resend_that_is_being_delivered_is_not_put_aside(store: Store, database: Database) -> None:
    """It ended while it was asked about: the first sending is the one that was bought beside."""
    batch_id = await withdrawn(store)
    await send(store, batch_id, nonce="bbbbbbbb")
    await store.polling.end(batch_id, batch_info(count=2, ended=True))
    await store.twins.find(batch_id, FIRST, FOUND.id, now=NOW)

    is_swapped = await store.twins.swap(batch_id, FIRST, FOUND, now=NOW)

    assert not is_swapped
    assert await database.all("SELECT api_id FROM batches") == [(ApiBatchId("msgbatch_1"),)]
    assert [twin.api_id for twin in await store.twins.unbooked()] == [FOUND.id]
