from batchbox.store import Store
from batchbox.store.database import Database

from .rows import end, record, request, seal, send, states


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
    assert not batches[0].is_lost


async def test_a_batch_that_ended_is_asked_about_no_more(store: Store) -> None:
    await end(store, await sent(store), count=1)

    assert await store.polling.in_progress() == []
    assert [batch.api_id for batch in await store.delivery.ended()] == ["msgbatch_1"]


async def test_a_lost_batch_is_asked_about_and_may_be_found(store: Store, database: Database) -> None:
    batch_id = await sent(store)
    await store.polling.lose(batch_id)
    (lost,) = await store.polling.in_progress()

    await store.polling.find(batch_id)

    assert lost.is_lost
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
