import os
from datetime import timedelta

import pytest

from batchbox.model import ApiBatchId, Lane, Nonce
from batchbox.store import Store
from batchbox.store.body import REQUEST_OVERHEAD_BYTES
from batchbox.store.database import Database
from batchbox.store.dispatch import Doubt, ManifestLine

from .rows import (
    BETAS,
    KEY_HASH,
    NOW,
    as_json,
    batch_info,
    ids,
    read_body,
    record,
    request,
    seal,
    send,
    sending,
    source,
    states,
)

NONCE = Nonce("abcdefgh")
CANDIDATES = [ApiBatchId("msgbatch_8"), ApiBatchId("msgbatch_9")]


async def members(database: Database) -> dict[int, list[str]]:
    """Return the custom_ids of each batch, in order."""
    found: dict[int, list[str]] = {}
    rows = await database.all(
        "SELECT m.batch_id, r.custom_id FROM members AS m JOIN requests AS r ON r.id = m.request_id "
        "ORDER BY m.batch_id, m.number"
    )
    for batch_id, custom_id in rows:
        found.setdefault(batch_id, []).append(custom_id)
    return found


async def in_doubt(store: Store, *custom_ids: str) -> int:
    """Record, seal and intend; return the batch, whose sending has no outcome."""
    await record(store, *(request(custom_id) for custom_id in custom_ids))
    batch_id = await seal(store)
    await store.dispatch.intend(sending(batch_id))
    return batch_id


async def test_requests_gather_by_lane_and_by_betas(store: Store) -> None:
    await record(store, request("a"), request("b"), now=NOW + timedelta(seconds=9))
    await record(store, request("c"), now=NOW)
    await record(store, request("d", betas=BETAS + ",x"))
    await record(store, request("a"), lane="reports")

    windows = await store.dispatch.windows()

    assert [(window.lane, window.betas, window.request_count) for window in windows] == [
        ("_", BETAS, 3),
        ("_", BETAS + ",x", 1),
        ("reports", BETAS, 1),
    ]
    assert windows[0].oldest_at == NOW
    assert windows[0].size_bytes == 3 * (7 + REQUEST_OVERHEAD_BYTES)


@pytest.mark.parametrize(("requests_max", "count"), [(1, 1), (2, 2), (3, 3), (4, 3)])
async def test_a_batch_takes_the_oldest_requests_up_to_its_count(
    store: Store, database: Database, requests_max: int, count: int
) -> None:
    for custom_id in ("a", "b", "c"):
        await record(store, request(custom_id))

    batch_id = await seal(store, requests_max=requests_max)

    assert await members(database) == {batch_id: ["a", "b", "c"][:count]}
    assert (await states(database, "requests")).count("batched") == count


@pytest.mark.parametrize(("bytes_max", "count"), [(1, 1), (599, 1), (600, 2), (899, 2), (900, 3)])
async def test_a_batch_takes_what_fits_its_bytes_and_one_request_at_least(
    store: Store, database: Database, bytes_max: int, count: int
) -> None:
    params = bytes(300 - REQUEST_OVERHEAD_BYTES)
    await record(store, *(request(custom_id, params=params) for custom_id in ("a", "b", "c")))

    await seal(store, bytes_max=bytes_max)

    assert (await states(database, "requests")).count("batched") == count


async def test_a_batch_never_has_requests_of_two_lanes_or_two_sets_of_betas(store: Store, database: Database) -> None:
    await record(store, request("a"))
    await record(store, request("b", betas=BETAS + ",x"))
    await record(store, request("c"), lane="reports")

    batches = [await seal(store) for _ in range(3)]

    assert await members(database) == dict(zip(batches, (["a"], ["b"], ["c"]), strict=True))
    assert [batch.lane for batch in await store.dispatch.sealed()] == ["_", "_", "reports"]
    assert (await store.dispatch.sealed())[1].betas == (BETAS, "x")


async def test_a_window_that_was_sealed_already_makes_no_batch(store: Store, database: Database) -> None:
    await record(store, request("a"))
    (window,) = await store.dispatch.windows()
    await store.dispatch.seal(window, requests_max=10, bytes_max=1000, now=NOW)

    assert await store.dispatch.seal(window, requests_max=10, bytes_max=1000, now=NOW) is None

    assert await states(database, "batches") == ["sealed"]


async def test_a_sending_is_in_doubt_from_its_intent_on(store: Store, database: Database) -> None:
    batch_id = await in_doubt(store, "a", "b")

    doubt = Doubt(
        batch_id=batch_id,
        nonce=NONCE,
        request_count=2,
        mark=NOW - timedelta(hours=1),
        candidates_closed=False,
        key_hash=KEY_HASH,
        candidates=[],
    )
    assert await store.dispatch.doubts() == [doubt]
    assert await store.dispatch.sealed() == []
    assert await store.dispatch.batch_of_sending(NONCE) == batch_id
    assert await store.dispatch.batch_of_sending(Nonce("zzzzzzzz")) is None


async def test_a_batch_that_is_not_sealed_cannot_be_sent(store: Store, database: Database) -> None:
    """A second intent for a batch in doubt would be a second POST."""
    batch_id = await in_doubt(store, "a")

    with pytest.raises(AssertionError, match="is not sealed"):
        await store.dispatch.intend(sending(batch_id, "bbbbbbbb"))

    assert await store.dispatch.batch_of_sending(Nonce("bbbbbbbb")) is None


async def test_an_accepted_batch_is_in_doubt_no_longer_and_known_by_its_id(store: Store, database: Database) -> None:
    batch_id = await in_doubt(store, "a")

    accepted = await store.dispatch.accept(batch_id, NONCE, batch_info(), api_request_id="req_1", now=NOW)

    assert accepted
    assert await store.dispatch.doubts() == []
    assert await states(database, "batches") == ["in_progress"]
    assert await store.dispatch.known_batches([ApiBatchId("msgbatch_1"), ApiBatchId("other")]) == {"msgbatch_1"}
    (polled,) = await store.polling.in_progress()
    assert (polled.id, polled.api_id) == (batch_id, "msgbatch_1")


async def test_accepting_again_changes_nothing(store: Store) -> None:
    """A batch that was found again must not take the place of the one that its answer named."""
    batch_id = await in_doubt(store, "a")
    await store.dispatch.accept(batch_id, NONCE, batch_info(), api_request_id="req_1", now=NOW)

    assert not await store.dispatch.accept(batch_id, NONCE, batch_info("msgbatch_2"), api_request_id=None, now=NOW)

    assert [batch.api_id for batch in await store.polling.in_progress()] == ["msgbatch_1"]


async def test_a_sending_that_surely_created_nothing_is_followed_by_another_of_the_same_requests(
    store: Store, database: Database
) -> None:
    batch_id = await in_doubt(store, "a", "b")

    await store.dispatch.withdraw(batch_id, NONCE, now=NOW, is_break=False)

    (sealed,) = await store.dispatch.sealed()
    assert (sealed.id, sealed.request_count, sealed.replaces) == (batch_id, 2, NONCE)
    assert await store.dispatch.doubts() == []
    await store.dispatch.intend(sending(batch_id, "bbbbbbbb", replaces=NONCE, later=60))
    assert [doubt.nonce for doubt in await store.dispatch.doubts()] == ["bbbbbbbb"]
    assert await members(database) == {batch_id: ["a", "b"]}


async def test_withdrawing_twice_is_withdrawing_once(store: Store, database: Database) -> None:
    batch_id = await in_doubt(store, "a")

    await store.dispatch.withdraw(batch_id, NONCE, now=NOW, is_break=False)
    await store.dispatch.withdraw(batch_id, NONCE, now=NOW, is_break=False)

    assert await states(database, "batches") == ["sealed"]


async def test_a_withdrawal_that_comes_too_late_takes_nothing_back(store: Store, database: Database) -> None:
    batch_id = await in_doubt(store, "a")
    await store.dispatch.accept(batch_id, NONCE, batch_info(), api_request_id=None, now=NOW)

    await store.dispatch.withdraw(batch_id, NONCE, now=NOW, is_break=False)

    assert await states(database, "batches") == ["in_progress"]
    assert await database.all("SELECT outcome FROM sendings") == [("accepted",)]


async def test_a_sending_that_is_found_after_all_before_the_next_one_is_not_sent_again(store: Store) -> None:
    batch_id = await in_doubt(store, "a")
    await store.dispatch.withdraw(batch_id, NONCE, now=NOW, is_break=False)

    assert await store.dispatch.accept(batch_id, NONCE, batch_info(), api_request_id=None, now=NOW)

    assert await store.dispatch.sealed() == []
    assert [batch.api_id for batch in await store.polling.in_progress()] == ["msgbatch_1"]


async def test_a_sending_that_is_found_while_its_resend_is_in_doubt_makes_that_a_twin(
    store: Store, database: Database
) -> None:
    """The twin may exist as well; what it is not is a reason to send a third."""
    batch_id = await in_doubt(store, "a")
    await store.dispatch.withdraw(batch_id, NONCE, now=NOW, is_break=False)
    await store.dispatch.intend(sending(batch_id, "bbbbbbbb", later=60))

    await store.dispatch.accept(batch_id, NONCE, batch_info(), api_request_id=None, now=NOW)

    assert await store.dispatch.doubts() == []
    assert await database.all("SELECT nonce, outcome FROM sendings ORDER BY nonce") == [
        ("abcdefgh", "accepted"),
        ("bbbbbbbb", "twin"),
    ]


async def test_a_candidate_that_is_adopted_is_no_other_sendings_any_more(store: Store) -> None:
    batch_id = await in_doubt(store, "a")
    await record(store, request("b"))
    await store.dispatch.intend(sending(await seal(store), "bbbbbbbb"))
    for nonce in (NONCE, Nonce("bbbbbbbb")):
        await store.dispatch.add_candidates(nonce, CANDIDATES[:1])

    await store.dispatch.accept(batch_id, NONCE, batch_info(CANDIDATES[0]), api_request_id=None, now=NOW)

    assert [(doubt.nonce, doubt.candidates) for doubt in await store.dispatch.doubts()] == [("bbbbbbbb", [])]


@pytest.mark.parametrize("event", ["refuse", "accept"])
async def test_a_refusal_is_recorded_once_with_its_words_and_keeps_the_members(
    store: Store, database: Database, event: str
) -> None:
    batch_id = await in_doubt(store, "a", "b")

    await store.dispatch.refuse(batch_id, NONCE, refusal="no", is_too_large=event == "refuse")

    assert await database.all("SELECT state, refusal, is_too_large, is_undecided FROM batches") == [
        ("refused", "no", int(event == "refuse"), 1)
    ]
    assert await database.all("SELECT outcome FROM sendings") == [("refused",)]
    assert await database.all("SELECT state, batch_id FROM requests") == [("batched", batch_id)] * 2
    assert await store.dispatch.doubts() == []


async def test_only_a_batch_that_is_being_sent_can_be_refused(store: Store, database: Database) -> None:
    await record(store, request("a"), request("b"))
    batch_id = await seal(store)
    await send(store, batch_id)

    with pytest.raises(AssertionError, match="is not being submitted"):
        await store.dispatch.refuse(batch_id, NONCE, refusal="no", is_too_large=False)

    assert await states(database, "batches") == ["in_progress"]
    assert await states(database, "requests") == ["batched", "batched"]
    assert await database.all("SELECT outcome FROM sendings") == [("accepted",)]


async def test_breaks_are_counted_and_what_waits_for_a_person_is_not_offered(store: Store, database: Database) -> None:
    batch_id = await in_doubt(store, "a")
    await store.dispatch.withdraw(batch_id, NONCE, now=NOW, is_break=True)
    await store.dispatch.intend(sending(batch_id, "bbbbbbbb", later=9))
    await store.dispatch.withdraw(batch_id, Nonce("bbbbbbbb"), now=NOW, is_break=False)
    await store.dispatch.hold(batch_id, "why")

    (offered,) = await store.dispatch.sealed()
    async with database.transaction() as transaction:
        await transaction.run("UPDATE batches SET needs_person = 1")
    then = await store.dispatch.sealed()

    assert (offered.break_count, offered.held_reason, offered.replaces) == (1, "why", "bbbbbbbb")
    assert then == []


async def test_an_acceptance_ends_the_hold(store: Store, database: Database) -> None:
    batch_id = await in_doubt(store, "a")
    await store.dispatch.hold(batch_id, "why")

    await store.dispatch.accept(batch_id, NONCE, batch_info(), api_request_id=None, now=NOW)

    assert await database.all("SELECT held_reason FROM batches") == [(None,)]


async def test_a_probe_is_open_until_it_is_delivered(store: Store) -> None:
    await record(store, request("a"))
    (window,) = await store.dispatch.windows()
    batch_id = await store.dispatch.seal(window, requests_max=1, bytes_max=10**6, now=NOW, is_probe=True)
    assert batch_id is not None
    before = (await store.dispatch.has_open_probe(), [batch.is_probe for batch in await store.dispatch.sealed()])

    await send(store, batch_id)

    assert before == (False, [True])
    assert await store.dispatch.has_open_probe()


async def test_candidates_are_gathered_closed_and_ruled_out(store: Store) -> None:
    await in_doubt(store, "a")
    await store.dispatch.add_candidates(NONCE, CANDIDATES)
    await store.dispatch.add_candidates(NONCE, CANDIDATES)
    await store.dispatch.close_candidates(NONCE)

    await store.dispatch.rule_out(CANDIDATES[0])

    (doubt,) = await store.dispatch.doubts()
    assert doubt.candidates_closed
    assert doubt.candidates == [CANDIDATES[1]]


async def test_a_candidate_that_was_ruled_out_stays_so(store: Store) -> None:
    """Each look finds it in the list again."""
    await in_doubt(store, "a")
    await store.dispatch.add_candidates(NONCE, CANDIDATES)
    await store.dispatch.rule_out(CANDIDATES[0])

    await store.dispatch.add_candidates(NONCE, CANDIDATES)

    assert [doubt.candidates for doubt in await store.dispatch.doubts()] == [[CANDIDATES[1]]]


async def test_a_candidate_is_ruled_out_for_every_sending_that_had_it(store: Store) -> None:
    await in_doubt(store, "a")
    await record(store, request("b"))
    await store.dispatch.intend(sending(await seal(store), "bbbbbbbb"))
    for nonce in (NONCE, Nonce("bbbbbbbb")):
        await store.dispatch.add_candidates(nonce, CANDIDATES[:1])

    await store.dispatch.rule_out(CANDIDATES[0])

    assert [doubt.candidates for doubt in await store.dispatch.doubts()] == [[], []]


async def test_a_resend_has_candidates_of_its_own(store: Store) -> None:
    batch_id = await in_doubt(store, "a")
    await store.dispatch.add_candidates(NONCE, CANDIDATES)
    await store.dispatch.close_candidates(NONCE)
    await store.dispatch.withdraw(batch_id, NONCE, now=NOW, is_break=False)

    await store.dispatch.intend(sending(batch_id, "bbbbbbbb"))

    (doubt,) = await store.dispatch.doubts()
    assert (doubt.candidates, doubt.candidates_closed) == ([], False)


async def test_a_manifest_names_each_request_with_the_first_file_that_asked_for_it(store: Store) -> None:
    first, second = source(os.fsdecode(b"a\xff.md")), source("b.md", sha256=None)
    await store.intake.record([(first, [request("a")]), (second, [request("a"), request("b")])], now=NOW)
    batch_id = await seal(store)

    lines = await store.dispatch.manifest_lines(batch_id, after=0, limit=10)

    assert lines[0] == ManifestLine(
        number=1, custom_id=lines[0].custom_id, lane=Lane("_"), source=first.name, claim=first.claim, sha256="01ff"
    )
    assert [(line.number, line.custom_id, line.source) for line in lines[1:]] == [(2, "b", "b.md")]
    assert lines[1].sha256 is None


async def test_a_manifest_comes_in_groups(store: Store) -> None:
    await record(store, *(request(f"r{number}") for number in range(5)))
    batch_id = await seal(store)

    groups = [await store.dispatch.manifest_lines(batch_id, after=after, limit=2) for after in (0, 2, 4, 5)]

    assert [[line.number for line in group] for group in groups] == [[1, 2], [3, 4], [5], []]


async def test_a_body_is_that_of_the_batch_under_the_wire_ids_of_the_sending(store: Store) -> None:
    await record(store, request("x" * 64, params=b'{"a":1}'), request("b", params=b'{"b":2}'))
    batch_id = await seal(store)

    body = await store.dispatch.body(batch_id, NONCE)

    assert body.request_count == 2
    assert as_json(await read_body(body)) == {
        "requests": [
            {"custom_id": "x" * 44 + "__abcdefgh-1", "params": {"a": 1}},
            {"custom_id": "b__abcdefgh-2", "params": {"b": 2}},
        ]
    }


async def test_ids_are_never_used_for_two_batches(store: Store, database: Database) -> None:
    batch_id = await in_doubt(store, "a", "b")
    await store.dispatch.refuse(batch_id, NONCE, refusal="no", is_too_large=False)
    await store.regrouping.halve(batch_id, now=NOW)
    await record(store, request("c"))

    batches = [await seal(store)]

    assert len({batch_id, *batches, *(batch.id for batch in await store.dispatch.sealed())}) == 4
    assert len(await ids(database)) == 3
