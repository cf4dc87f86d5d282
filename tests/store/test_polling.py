from datetime import timedelta

from batchbox.model import LostReason
from batchbox.store import Store
from batchbox.store.database import Database

from .rows import KEY_HASH, NOW, end, record, request, seal, send, states


async def sent(store: Store, name: str = "a", *, nonce: str = "abcdefgh", api_id: str = "msgbatch_1") -> int:
    """Record a request and send it in a batch of its own."""
    await record(store, request(name))
    batch_id = await seal(store)
    await send(store, batch_id, nonce=nonce, api_id=api_id)
    return batch_id


async def test_batches_to_ask_about_come_oldest_first(store: Store) -> None:
    await sent(store, "a")
    await sent(store, "b", nonce="bbbbbbbb", api_id="msgbatch_0")

    batches = await store.polling.in_progress()

    assert [batch.api_id for batch in batches] == ["msgbatch_1", "msgbatch_0"]
    assert batches[0].lost_reason is None
    assert batches[0].key_hash == KEY_HASH


async def test_a_batch_that_ended_is_asked_about_no_more(store: Store) -> None:
    await end(store, await sent(store), count=1)

    assert await store.polling.in_progress() == []
    assert [batch.api_id for batch in await store.delivery.ended()] == ["msgbatch_1"]


async def test_a_lost_batch_is_asked_about_and_may_be_found(store: Store, database: Database) -> None:
    batch_id = await sent(store)
    await store.polling.lose(batch_id)
    (lost,) = await store.polling.in_progress()

    await store.polling.find(batch_id)

    assert lost.lost_reason is LostReason.UNKNOWN_BATCH
    assert await states(database, "batches") == ["in_progress"]


async def test_a_lost_batch_does_not_end_before_it_is_found(store: Store, database: Database) -> None:
    batch_id = await sent(store)
    await store.polling.lose(batch_id)

    await end(store, batch_id)

    assert await states(database, "batches") == ["lost"]
    assert await database.all("SELECT ended_at FROM batches") == [(None,)]


async def test_an_end_that_is_seen_twice_happens_once(store: Store, database: Database) -> None:
    batch_id = await sent(store)
    await end(store, batch_id)
    await store.delivery.close(batch_id)

    await end(store, batch_id)

    assert await states(database, "batches") == ["closed"]


async def test_a_batch_whose_results_are_there_after_all_has_ended_as_it_had(store: Store, database: Database) -> None:
    batch_id = await sent(store)
    await end(store, batch_id)
    await store.delivery.lose(batch_id, LostReason.NO_RESULTS)
    (lost,) = await store.polling.in_progress()

    await store.polling.find_results(batch_id)

    (ended,) = await store.delivery.ended()
    assert lost.lost_reason is LostReason.NO_RESULTS
    assert ended.counts is not None
    assert ended.counts.succeeded == 1


async def test_results_that_are_found_twice_end_a_batch_once(store: Store, database: Database) -> None:
    batch_id = await sent(store)

    await store.polling.find_results(batch_id)

    assert await states(database, "batches") == ["in_progress"]


async def test_what_has_been_with_the_api_for_long_is_named_until_it_is_delivered(store: Store) -> None:
    await sent(store)
    await end(store, await sent(store, "b", nonce="bbbbbbbb", api_id="msgbatch_2"))
    closed = await sent(store, "c", nonce="cccccccc", api_id="msgbatch_3")
    await end(store, closed)
    await store.delivery.close(closed)

    assert await store.polling.undelivered_since(NOW) == ["msgbatch_1", "msgbatch_2"]
    assert await store.polling.undelivered_since(NOW - timedelta(seconds=1)) == []
