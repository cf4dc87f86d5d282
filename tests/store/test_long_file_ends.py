"""How a long file ends whose requests are many, or are another file's and end before it was read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from batchbox.store import Store, assemble
from batchbox.store.database import Database, Transaction
from batchbox.store.intake import FORGET_REQUESTS

from .rows import NOW, bodies, ids, outcome, record, request, seal, send, states
from .test_long_files import REJECTION, add, begin

MANY = FORGET_REQUESTS + 1


class Died(BaseException):
    """The process ended."""


class MortalDatabase(Database):
    """The real database, of a process that dies when it has begun so many more transactions."""

    def __init__(self, database: Database) -> None:
        super().__init__(writer=database._writer, reader=database._reader, path=database.path)
        self.left = 1000

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction, or die."""
        if self.left == 0:
            raise Died
        self.left -= 1
        async with super().transaction() as transaction:
            yield transaction


async def answer_first(store: Store) -> None:
    """Send what waits, and answer the first request."""
    await send(store, await seal(store))
    await store.delivery.record([outcome(1)], now=NOW)


async def test_a_file_whose_requests_have_all_ended_meanwhile_settles_at_once_and_says_so(
    store: Store, database: Database
) -> None:
    """Nothing of its own will ever end and settle it, so whoever finishes it must ring."""
    await record(store, request("a"))
    source_id = await begin(store)
    await add(store, source_id, request("a"))
    await answer_first(store)

    has_settled = await store.intake.finish(source_id, sha256=b"x", size_bytes=5)

    assert has_settled
    assert await states(database, "sources") == ["settled", "settled"]


async def test_a_file_with_a_request_that_is_open_is_waited_for(store: Store, database: Database) -> None:
    await record(store, request("a"))
    source_id = await begin(store)
    await add(store, source_id, request("a"), request("b"))
    await answer_first(store)

    has_settled = await store.intake.finish(source_id, sha256=b"x", size_bytes=5)

    assert not has_settled
    assert await database.all("SELECT state, open_count FROM sources ORDER BY id") == [("settled", 0), ("open", 1)]


async def test_a_file_that_is_rejected_after_a_request_of_it_ended_has_none_open(
    store: Store, database: Database
) -> None:
    await record(store, request("a"))
    source_id = await begin(store)
    await add(store, source_id, request("a"))
    await answer_first(store)

    await store.intake.reject(source_id, REJECTION, now=NOW)

    assert await database.all("SELECT state, open_count FROM sources ORDER BY id") == [
        ("settled", 0),
        ("rejecting", 0),
    ]


async def begin_with_many(store: Store) -> int:
    """Record more requests of a long file than are removed in one transaction, among them another file's."""
    await record(store, request("shared"), request("other"))
    source_id = await begin(store)
    await add(store, source_id, request("shared"), *(request(f"long-{line}") for line in range(MANY)))
    return source_id


async def test_however_many_requests_a_rejected_file_has_they_are_removed(store: Store, database: Database) -> None:
    source_id = await begin_with_many(store)

    await store.intake.reject(source_id, REJECTION, now=NOW)

    assert list(await ids(database)) == ["shared", "other"]
    assert list(await bodies(database)) == [1, 2]
    assert await database.all("SELECT source_id FROM attachments") == [(1,), (1,)]
    assert await states(database, "sources") == ["open", "rejecting"]


async def test_a_file_that_was_half_removed_when_the_process_died_is_forgotten(database: Database) -> None:
    """The removal is a transaction for every slice, so that others can write in between."""
    mortal = MortalDatabase(database)
    store = assemble(mortal)
    source_id = await begin_with_many(store)

    mortal.left = 1
    with pytest.raises(Died):
        await store.intake.reject(source_id, REJECTION, now=NOW)
    left = await ids(database)
    await assemble(database).intake.forget_unfinished()

    assert 2 < len(left) < MANY
    assert list(await ids(database)) == ["shared", "other"]
    assert await states(database, "sources") == ["open"]
