"""Files that change or go while others, some still being read, ask for the same."""

from batchbox.lifecycle import RequestEvent
from batchbox.model import INBOX_LANE
from batchbox.store import Store
from batchbox.store.cancelling import Cancel, Standing
from batchbox.store.database import Database

from .rows import NOW, ids, outcome, record, request, seal, send, source, states
from .test_long_files import REJECTION, add, begin, finish

GONE = "The file was deleted."


async def test_what_only_a_file_asks_for_that_is_still_read_is_not_sent_when_the_other_changes(
    store: Store, database: Database
) -> None:
    await record(store, request("a"))
    long = await begin(store)
    await add(store, long, request("a"), request("b"))
    await seal(store)

    await store.verifying.recall([1], now=NOW)

    assert (await states(database, "requests"), await states(database, "batches")) == (
        ["incoming", "incoming"],
        ["refused"],
    )
    await finish(store, long)
    assert await states(database, "requests") == ["waiting", "waiting"]


async def test_nor_when_the_other_goes(store: Store, database: Database) -> None:
    await record(store, request("a"))
    long = await begin(store)
    await add(store, long, request("a"))

    await store.verifying.withdraw([1], text=GONE, now=NOW)

    assert (await states(database, "requests"), await states(database, "sources")) == (
        ["incoming"],
        ["settled", "reading"],
    )
    await finish(store, long)
    assert (await states(database, "requests"), await states(database, "sources")) == (["waiting"], ["settled", "open"])


async def test_it_goes_with_the_last_one_that_asks_for_it(store: Store, database: Database) -> None:
    await record(store, request("a"))
    long = await begin(store)
    await add(store, long, request("a"))
    await store.verifying.withdraw([1], text=GONE, now=NOW)

    await store.intake.reject(long, REJECTION, now=NOW)

    assert list(await ids(database)) == []


async def test_what_is_with_the_api_is_taken_back_by_nobody(store: Store, database: Database) -> None:
    """Whoever asks for it, and whatever was remembered wrongly."""
    await record(store, request("a"))
    await send(store, await seal(store))

    await store.verifying.recall([1], now=NOW)

    assert await states(database, "requests") == ["batched"]
    await store.verifying.withdraw([1], text=GONE, now=NOW)
    assert await states(database, "requests") == ["batched"]


async def test_what_ended_before_its_file_went_stays_as_it_ended(store: Store, database: Database) -> None:
    await record(store, request("a"), request("b"))
    cancel = Cancel(lane=INBOX_LANE, target="a", known=Standing.NOTHING, sign=source("a.cancel"))
    await store.cancelling.cancel([cancel], now=NOW)
    await store.cancelling.end_unsent(now=NOW)
    await store.delivery.record([outcome(1, RequestEvent.PUBLISH)], now=NOW)

    await store.verifying.withdraw([1], text=GONE, now=NOW)

    assert await database.all("SELECT custom_id, error_type FROM requests") == [("a", "canceled"), ("b", "withdrawn")]
