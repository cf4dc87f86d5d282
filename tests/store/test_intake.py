import os

import pytest

from batchbox.model import CustomId, Lane, RejectReason
from batchbox.store import Store
from batchbox.store.database import Database
from batchbox.store.recording import PIECE_BYTES, NewRequest, NewSource, Rejection

from .rows import BETAS, NOW, bodies, end, ids, outcome, record, request, seal, send, source, states

BAD = Rejection(reason=RejectReason.BAD_JSON, detail="line 3: no", what_to_do="Correct it.")


async def attached(database: Database) -> list[tuple[int, int, int | None]]:
    """Return which file asked for which request, on which line."""
    rows = await database.all("SELECT source_id, request_id, line FROM attachments ORDER BY source_id, request_id")
    return [(source_id, request_id, line) for source_id, request_id, line in rows]


async def test_the_requests_of_a_file_wait_for_a_batch_when_it_is_recorded(store: Store, database: Database) -> None:
    rejection = await record(store, request("a-1", line=1), request("a-2", line=2, params=b'{"y":2}'))

    backlog = await store.intake.backlog()
    assert rejection is None
    assert await states(database, "sources") == ["open"]
    assert await states(database, "requests") == ["waiting", "waiting"]
    assert (backlog.request_count, backlog.size_bytes) == (2, 14)
    assert await bodies(database) == {1: b'{"x":1}', 2: b'{"y":2}'}
    assert await attached(database) == [(1, 1, 1), (1, 2, 2)]


async def test_the_same_file_dropped_twice_is_bought_once(store: Store, database: Database) -> None:
    await record(store, request())
    await record(store, request())

    assert await states(database, "requests") == ["waiting"]
    assert await states(database, "sources") == ["open", "open"]
    assert await attached(database) == [(1, 1, None), (2, 1, None)]


async def test_two_copies_in_one_group_are_bought_once(store: Store, database: Database) -> None:
    files = [(source(), [request()]), (source(), [request()])]

    assert await store.intake.record(files, now=NOW) == [None, None]

    assert await states(database, "requests") == ["waiting"]


@pytest.mark.parametrize("stage", ["waiting", "sealed", "in_progress", "ended"])
async def test_a_double_drop_is_recognised_until_the_request_has_ended(
    store: Store, database: Database, stage: str
) -> None:
    await record(store, request())
    if stage != "waiting":
        batch_id = await seal(store)
        if stage != "sealed":
            await send(store, batch_id)
        if stage == "ended":
            await end(store, batch_id)

    await record(store, request())

    assert len(await states(database, "requests")) == 1


async def test_an_id_that_has_ended_may_come_again(store: Store, database: Database) -> None:
    await record(store, request(explicit=True))
    await send(store, await seal(store))
    await store.delivery.record([outcome(1)], now=NOW)

    assert await record(store, request(explicit=True)) is None

    assert await states(database, "requests") == ["answered", "waiting"]


async def test_an_id_that_was_given_and_is_open_with_other_content_rejects_the_whole_file(
    store: Store, database: Database
) -> None:
    await record(store, request("a", explicit=True))

    rejection = await record(
        store, request("b", explicit=True, line=1), request("a", explicit=True, line=2, params=b'{"y":2}')
    )

    assert rejection is not None
    assert rejection.reason is RejectReason.DUPLICATE_ID
    assert rejection.detail == 'line 2: custom_id "a" belongs to a request that has not ended, with other content'
    assert await states(database, "sources") == ["open", "rejecting"]
    assert list(await ids(database)) == ["a"]


async def test_an_id_that_was_given_twice_in_a_file_rejects_it(store: Store, database: Database) -> None:
    rejection = await record(store, request("a", explicit=True, line=1), request("a", explicit=True, line=2))

    assert rejection is not None
    assert rejection.detail == 'line 2: custom_id "a" is in this file twice'
    assert await states(database, "requests") == []


async def test_other_betas_are_other_content(store: Store, database: Database) -> None:
    await record(store, request("a"))

    await record(store, request("a", betas=BETAS + ",other-beta"))

    assert list(await ids(database)) == ["a", "a-2"]


async def test_a_derived_id_that_is_taken_gets_the_next_number(store: Store, database: Database) -> None:
    for number in range(4):
        await record(store, request("a", params=b"%d" % number))

    assert list(await ids(database)) == ["a", "a-2", "a-3", "a-4"]


async def test_a_double_drop_of_a_numbered_one_is_recognised_too(store: Store, database: Database) -> None:
    for params in (b"1", b"2", b"2", b"1", b"2"):
        await record(store, request("a", params=params))

    assert list(await ids(database)) == ["a", "a-2"]


async def test_a_numbered_one_is_recognised_when_its_own_id_is_free_again(store: Store, database: Database) -> None:
    for params in (b"1", b"2"):
        await record(store, request("a", params=params))
    async with database.transaction() as transaction:
        await transaction.run("UPDATE requests SET state = 'answered' WHERE custom_id = 'a'")

    await record(store, request("a", params=b"2"))
    await record(store, request("a", params=b"2", explicit=True))

    assert await database.all("SELECT custom_id, state FROM requests ORDER BY id") == [
        ("a", "answered"),
        ("a-2", "waiting"),
        ("a", "waiting"),  # whoever gives an id wants that one
    ]


async def test_a_files_own_id_is_not_taken_for_a_number_of_anothers(store: Store, database: Database) -> None:
    """Whoever dropped `a.md` looks for an answer of that name, not for that of `a-2.md`."""
    await record(store, request("a-2", params=b"same"))
    await record(store, request("a", params=b"other"))

    await record(store, request("a", params=b"same"))

    assert list(await ids(database)) == ["a-2", "a", "a-3"]


async def test_a_number_that_was_given_as_an_id_is_passed_over(store: Store, database: Database) -> None:
    await record(store, request("a"))
    await record(store, request("a-2", explicit=True))

    await record(store, request("a", params=b"other"))

    assert list(await ids(database)) == ["a", "a-2", "a-3"]


async def test_a_derived_id_that_is_numbered_stays_within_the_apis_length(store: Store, database: Database) -> None:
    for params in (b"1", b"2"):
        await record(store, request("a" * 64, params=params))

    assert [len(custom_id) for custom_id in await ids(database)] == [64, 64]


async def test_ids_are_compared_with_their_case_and_within_their_lane(store: Store, database: Database) -> None:
    await record(store, request("a", explicit=True))

    rejections = [
        await record(store, request("A", explicit=True, params=b"2")),
        await record(store, request("a", explicit=True, params=b"3"), lane="reports"),
    ]

    assert rejections == [None, None]
    assert len(await states(database, "requests")) == 3


async def test_a_file_that_is_rejected_does_not_touch_the_others_of_its_group(store: Store, database: Database) -> None:
    files: list[tuple[NewSource, list[NewRequest] | Rejection]] = [
        (source("a.md"), [request("a")]),
        (source("bad.json"), BAD),
        (source("c.md"), [request("c")]),
    ]

    assert await store.intake.record(files, now=NOW) == [None, BAD, None]

    assert await states(database, "sources") == ["open", "rejecting", "open"]


@pytest.mark.parametrize("raw", [b"plain.json", b"new\nline.json", b"\xff\xfe.json", "\u202eü.json".encode()])
async def test_a_rejected_file_comes_back_with_everything_its_explanation_says(store: Store, raw: bytes) -> None:
    dropped = source(os.fsdecode(raw), lane="reports")
    await store.intake.record([(dropped, BAD)], now=NOW)

    (rejected,) = await store.intake.rejected(limit=10)

    assert (rejected.lane, rejected.claim, rejected.name) == ("reports", dropped.claim, os.fsdecode(raw))
    assert (rejected.rejection, rejected.rejected_at, rejected.target) == (BAD, NOW, None)
    assert rejected.dropped_at == NOW


async def test_a_rejected_file_is_on_its_way_until_it_has_arrived(store: Store, database: Database) -> None:
    await store.intake.record([(source("bad.json"), BAD)], now=NOW)

    await store.intake.take_targets([(1, "bad__2.json")])
    (taken,) = await store.intake.rejected(limit=10)
    await store.intake.put_aside([1], now=NOW)
    await store.intake.put_aside([1], now=NOW)

    assert taken.target == "bad__2.json"
    assert await store.intake.rejected(limit=10) == []
    assert await states(database, "sources") == ["rejected"]


async def test_rejected_files_come_oldest_first_and_no_more_than_asked_for(store: Store) -> None:
    await store.intake.record([(source(f"{number}.json"), BAD) for number in range(5)], now=NOW)

    assert [one.name for one in await store.intake.rejected(limit=2)] == ["0.json", "1.json"]


async def test_a_claim_is_unrecorded_until_a_row_knows_it(store: Store) -> None:
    known, other_lane, unknown = source(), source(), source(os.fsdecode(b"\xff"))
    await store.intake.record([(known, [request()])], now=NOW)

    claims = [(unknown.lane, unknown.claim), (known.lane, known.claim), (Lane("x"), other_lane.claim)]

    assert await store.intake.unrecorded(claims) == ([claims[0], claims[2]], [])


async def test_a_claim_whose_file_should_have_left_is_told_apart(store: Store) -> None:
    """Recorded again it would be bought again, or clash with its own row."""
    dropped = source("bad.json")
    await store.intake.record([(dropped, BAD)], now=NOW)
    before = await store.intake.unrecorded([(dropped.lane, dropped.claim)])
    await store.intake.take_targets([(1, "bad__2.json")])
    await store.intake.put_aside([1], now=NOW)

    unknown, (ended,) = await store.intake.unrecorded([(dropped.lane, dropped.claim)])

    assert (before, unknown) == (([], []), [])
    assert (ended.lane, ended.name, ended.state, ended.target) == (
        dropped.lane,
        dropped.claim,
        "rejected",
        "bad__2.json",
    )


@pytest.mark.parametrize("size_bytes", [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
async def test_a_body_is_kept_in_pieces_and_whole(store: Store, database: Database, size_bytes: int) -> None:
    params = os.urandom(size_bytes)

    await record(store, request(params=params), request("b", params=b"next"))

    assert await bodies(database) == {1: params, 2: b"next"}
    longest = await database.one("SELECT max(length(data)) FROM body_pieces")
    assert longest is not None
    assert longest[0] <= PIECE_BYTES


async def test_only_what_waits_counts_as_backlog(store: Store) -> None:
    await record(store, request("a"), request("b"))
    await seal(store)
    await record(store, request("c", params=b"123"))

    backlog = await store.intake.backlog()

    assert (backlog.request_count, backlog.size_bytes) == (1, 3)


async def test_looking_an_open_id_up_uses_its_index(store: Store, database: Database) -> None:
    """Without it every file would cost a walk through all requests there ever were."""
    await record(store, request())

    plan = await database.all(
        "EXPLAIN QUERY PLAN SELECT r.id FROM json_each(?) AS wanted CROSS JOIN requests AS r ON r.lane = "
        "wanted.value ->> 0 AND r.custom_id = wanted.value ->> 1 "
        "AND r.state IN ('incoming', 'waiting', 'batched', 'failing')",
        ("[]",),
    )

    assert "SEARCH r USING INDEX requests_open (lane=? AND custom_id=?)" in [row[3] for row in plan]


async def test_a_custom_id_is_what_the_file_said(store: Store, database: Database) -> None:
    await record(store, request(CustomId("-rf"), explicit=True))

    assert list(await ids(database)) == ["-rf"]
