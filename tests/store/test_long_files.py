import pytest

from batchbox.model import INBOX_LANE, RejectReason
from batchbox.store import Store
from batchbox.store.database import Database
from batchbox.store.recording import DuplicateIdError, NewRequest, Rejection, duplicate_id

from .rows import NOW, bodies, ids, outcome, record, request, seal, send, source, states

REJECTION = Rejection(reason=RejectReason.BAD_JSON, detail="line 9: no", what_to_do="Correct it.")


async def begin(store: Store, name: str = "long.jsonl") -> int:
    """Begin to record a long file."""
    return await store.intake.begin(source(name, sha256=None))


async def add(store: Store, source_id: int, *requests: NewRequest) -> None:
    """Record the next part of a long file."""
    await store.intake.add_part(source_id, (INBOX_LANE, "long.jsonl"), requests, now=NOW)


async def finish(store: Store, source_id: int) -> None:
    """Record that a long file was read to its end."""
    await store.intake.finish(source_id, sha256=b"\x07" * 32, size_bytes=12345)


async def test_nothing_of_a_long_file_is_sent_before_its_last_part(store: Store, database: Database) -> None:
    source_id = await begin(store)
    await add(store, source_id, request("a"), request("b"))

    assert await store.dispatch.windows() == []
    assert (await store.intake.backlog()).request_count == 0
    assert await states(database, "sources") == ["reading"]


async def test_a_long_file_that_was_read_to_its_end_is_like_any_other(store: Store, database: Database) -> None:
    source_id = await begin(store)
    await add(store, source_id, request("a"))
    await add(store, source_id)
    await add(store, source_id, request("b"))

    await finish(store, source_id)

    assert await states(database, "requests") == ["waiting", "waiting"]
    assert await database.all("SELECT state, open_count, sha256, size_bytes FROM sources") == [
        ("open", 2, b"\x07" * 32, 12345)
    ]


async def test_a_long_file_that_is_rejected_leaves_nothing_to_send(store: Store, database: Database) -> None:
    await record(store, request("other"))
    source_id = await begin(store)
    await add(store, source_id, request("a"), request("b"))

    await store.intake.reject(source_id, REJECTION, now=NOW)

    assert list(await ids(database)) == ["other"]
    assert await bodies(database) == {1: b'{"x":1}'}
    (rejected,) = await store.intake.rejected(limit=10)
    assert (rejected.id, rejected.rejection, rejected.rejected_at) == (source_id, REJECTION, NOW)


async def test_a_long_file_whose_reading_had_no_end_is_forgotten_and_can_be_read_again(
    store: Store, database: Database
) -> None:
    """That is what a crash leaves; the file itself is still in processing/."""
    await record(store, request("other"))
    dropped = source("long.jsonl")
    await add(store, await store.intake.begin(dropped), request("a"))

    await store.intake.forget_unfinished()

    assert list(await ids(database)) == ["other"]
    assert await store.intake.unrecorded([(dropped.lane, dropped.claim)]) == ([(dropped.lane, dropped.claim)], [])
    again = await store.intake.begin(dropped)
    await add(store, again, request("a"))
    await finish(store, again)
    assert await states(database, "requests") == ["waiting", "waiting"]


async def test_forgetting_leaves_whole_files_alone(store: Store, database: Database) -> None:
    source_id = await begin(store)
    await add(store, source_id, request("a"))
    await finish(store, source_id)

    await store.intake.forget_unfinished()

    assert await states(database, "requests") == ["waiting"]


async def test_an_id_that_was_given_twice_in_different_parts_rejects_the_file(store: Store, database: Database) -> None:
    source_id = await begin(store)
    await add(store, source_id, request("a", explicit=True, line=1))

    with pytest.raises(DuplicateIdError) as caught:
        await add(store, source_id, request("b", line=8), request("a", explicit=True, line=9))

    assert duplicate_id(caught.value).detail == 'line 9: custom_id "a" is in this file twice'
    assert list(await ids(database)) == ["a"]


async def test_a_derived_id_that_an_earlier_part_has_given_is_numbered(store: Store, database: Database) -> None:
    source_id = await begin(store)
    await add(store, source_id, request("long-2", explicit=True, line=1))

    await add(store, source_id, request("long-2", line=2))

    assert list(await ids(database)) == ["long-2", "long-2-2"]


async def test_an_id_of_another_open_request_with_other_content_rejects_the_file(store: Store) -> None:
    await record(store, request("a", explicit=True))
    source_id = await begin(store)

    with pytest.raises(DuplicateIdError) as caught:
        await add(store, source_id, request("a", explicit=True, params=b"other", line=9))

    assert "has not ended, with other content" in duplicate_id(caught.value).detail


async def test_a_long_file_dropped_twice_is_bought_once(store: Store, database: Database) -> None:
    for _ in range(2):
        source_id = await begin(store)
        await add(store, source_id, request("long-1", line=1))
        await add(store, source_id, request("long-2", line=2))
        await finish(store, source_id)

    assert await states(database, "requests") == ["waiting", "waiting"]
    assert await states(database, "sources") == ["open", "open"]
    await send(store, await seal(store))
    await store.delivery.record([outcome(1), outcome(2)], now=NOW)
    assert await states(database, "sources") == ["settled", "settled"]


async def test_rejecting_a_double_drop_leaves_the_open_request_alone(store: Store, database: Database) -> None:
    await record(store, request("a"))
    source_id = await begin(store)
    await add(store, source_id, request("a"), request("b"))

    await store.intake.reject(source_id, REJECTION, now=NOW)

    assert list(await ids(database)) == ["a"]
    await send(store, await seal(store))
    await store.delivery.record([outcome(1)], now=NOW)
    assert await states(database, "sources") == ["settled", "rejecting"]


async def test_an_id_given_twice_that_is_open_elsewhere_rejects_the_file(store: Store) -> None:
    """The request of another file that both lines are the same as is attached to this file once already."""
    await record(store, request("a", explicit=True))
    source_id = await begin(store)
    await add(store, source_id, request("a", explicit=True, line=1))

    with pytest.raises(DuplicateIdError):
        await add(store, source_id, request("a", explicit=True, line=9))


async def test_a_request_that_ends_while_a_double_drop_is_read_is_not_waited_for(
    store: Store, database: Database
) -> None:
    """Reading a long file takes a while, in which answers come in."""
    await record(store, request("a"))
    await send(store, await seal(store))
    source_id = await begin(store)
    await add(store, source_id, request("a", line=1))

    await store.delivery.record([outcome(1)], now=NOW)
    await add(store, source_id, request("b", line=2))
    await finish(store, source_id)
    await send(store, await seal(store), nonce="bbbbbbbb", api_id="msgbatch_2")
    await store.delivery.record([outcome(2)], now=NOW)

    assert await states(database, "sources") == ["settled", "settled"]
