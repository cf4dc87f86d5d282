from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import pytest

from batchbox.lifecycle import RequestEvent
from batchbox.model import INBOX_LANE, ApiBatchId, ErrorType, LostReason, WireId
from batchbox.store import Store
from batchbox.store.charges import Charge
from batchbox.store.columns import from_nanodollars, to_nanodollars
from batchbox.store.database import Database
from batchbox.store.holds import HoldName

from .rows import (
    KEY_HASH,
    NOW,
    batch_info,
    bodies,
    end,
    ended_batch,
    outcome,
    record,
    request,
    seal,
    send,
    sending,
    states,
)

ENDS = [RequestEvent.ANSWER, RequestEvent.CUT_SHORT, RequestEvent.FAIL]


def charge(request_id: int = 1, wire_id: str = "a__abcdefgh-1", nanousd: int | None = 250) -> Charge:
    """Return what an answer cost."""
    return Charge(
        wire_id=WireId(wire_id),
        request_id=request_id,
        model="claude-opus-5-5",
        input_tokens=3,
        output_tokens=5,
        cost_nanousd=nanousd,
        sent_at=NOW,
    )


async def open_counts(database: Database) -> Sequence[int]:
    """Return how many requests each file still waits for."""
    return [count for (count,) in await database.all("SELECT open_count FROM sources ORDER BY id")]


async def test_a_batch_that_ended_can_be_read(store: Store) -> None:
    batch_id = await ended_batch(store, request("a"), request("b"))

    (batch,) = await store.delivery.ended()

    assert (batch.id, batch.api_id, batch.nonce, batch.lane) == (batch_id, "msgbatch_1", "abcdefgh", INBOX_LANE)
    assert (batch.request_count, batch.short_reads) == (2, 0)
    assert (batch.created_at, batch.key_hash) == (NOW, KEY_HASH)
    assert batch.counts == batch_info(count=2, ended=True).counts


async def test_members_that_wait_are_found_by_their_number(store: Store) -> None:
    batch_id = await ended_batch(store, request("a"), request("b", line=7))

    waiting = await store.delivery.undelivered(batch_id, [2, 3, 99])

    (one,) = waiting.values()
    assert list(waiting) == [2]
    assert (one.custom_id, one.source, one.owner, one.line, one.attempts, one.stem) == (
        "b",
        "a.md",
        "alice",
        7,
        0,
        None,
    )
    assert [(each.batch_id, each.wire_id, each.api_request_id) for each in one.tries] == [
        ("msgbatch_1", "b__abcdefgh-2", "req_1")
    ]
    assert one.dropped_at == NOW


@pytest.mark.parametrize("event", ENDS)
async def test_a_member_that_was_delivered_is_skipped_when_results_are_read_again(
    store: Store, database: Database, event: RequestEvent
) -> None:
    batch_id = await ended_batch(store, request("a"), request("b"))

    await store.delivery.record([outcome(1, event)], now=NOW)

    assert list(await store.delivery.undelivered(batch_id, [1, 2])) == [2]
    assert await store.delivery.undelivered_count(batch_id) == 1


async def test_the_body_of_an_answered_request_goes_and_those_of_others_stay(store: Store, database: Database) -> None:
    """Those of errors may be wanted again."""
    await ended_batch(store, request("a", params=bytes(600_000)), request("b"), request("c"), request("d"))

    await store.delivery.record(
        [outcome(1), outcome(2, RequestEvent.CUT_SHORT), outcome(3, RequestEvent.FAIL)], now=NOW
    )

    assert list(await bodies(database)) == [2, 3, 4]


async def test_an_answer_is_charged_once_per_wire_id_however_often_it_comes(store: Store, database: Database) -> None:
    await ended_batch(store, request("a"), request("b"))
    await store.delivery.record([outcome(1, charge=charge())], now=NOW)

    await store.delivery.record([outcome(2, charge=charge(1, nanousd=999))], now=NOW)

    assert await store.overview.cost_usd() == Decimal("0.00000025")


async def test_every_try_that_was_billed_is_charged(store: Store) -> None:
    await ended_batch(store, request("a"))

    await store.delivery.record([outcome(1, RequestEvent.REQUEUE, charge=charge())], now=NOW)
    await send(store, await seal(store), nonce="bbbbbbbb", api_id="msgbatch_2")
    await store.delivery.record([outcome(1, charge=charge(1, "a__bbbbbbbb-1"))], now=NOW)

    assert await store.overview.cost_usd() == Decimal("0.0000005")


async def test_an_answer_of_a_model_without_a_price_costs_nothing_that_we_know(store: Store) -> None:
    await ended_batch(store, request("a"))

    await store.delivery.record([outcome(1, charge=charge(nanousd=None))], now=NOW)

    assert await store.overview.cost_usd() == 0


@pytest.mark.parametrize("usd", ["0", "0.000000001", "123456.789012345", "0.00000025"])
def test_money_survives_the_database_to_the_nanodollar(usd: str) -> None:
    assert from_nanodollars(to_nanodollars(Decimal(usd))) == Decimal(usd)


@pytest.mark.parametrize("event", ENDS)
async def test_a_file_is_settled_when_its_last_request_ends(
    store: Store, database: Database, event: RequestEvent
) -> None:
    await ended_batch(store, request("a", line=1), request("b", line=2), request("c", line=3))

    await store.delivery.record([outcome(1, event), outcome(3, event)], now=NOW)
    before = await states(database, "sources")
    await store.delivery.record([outcome(2, event)], now=NOW)

    assert before == ["open"]
    assert await states(database, "sources") == ["settled"]
    (settled,) = await store.originals.settled(limit=10)
    assert (settled.id, settled.lane, settled.name, settled.target) == (1, INBOX_LANE, "a.md", None)


async def test_a_settled_file_leaves_when_it_has_been_looked_at_once_more(store: Store) -> None:
    """Nothing of a double drop has to be sent, so that no sending made anybody look."""
    batch_id = await ended_batch(store, request("a"))
    await record(store, request("a"), name="second.md")
    await store.delivery.record([outcome(1)], now=NOW)
    assert batch_id == 1

    before = [one.id for one in await store.originals.settled(limit=10)]
    (unverified,) = await store.verifying.unverified_settled(after=0, limit=10)
    await store.verifying.mark_verified([unverified.id])

    assert (before, unverified.id) == ([1], 2)
    assert [one.id for one in await store.originals.settled(limit=10)] == [1, 2]
    assert not await store.originals.has_unverified()


async def test_a_double_drop_is_settled_with_the_request_that_it_waits_for(store: Store, database: Database) -> None:
    await record(store, request("a"), name="first.md")
    await record(store, request("a"), request("b", line=2), name="second.jsonl")
    await record(store, request("a"), name="third.md")
    await send(store, await seal(store))
    await end(store, 1, count=2)

    await store.delivery.record([outcome(1)], now=NOW)
    before = await states(database, "sources")
    await store.delivery.record([outcome(2)], now=NOW)

    assert before == ["settled", "open", "settled"]
    assert await states(database, "sources") == ["settled"] * 3
    assert await open_counts(database) == [0, 0, 0]


async def test_a_request_that_is_sent_again_keeps_its_file_open(store: Store, database: Database) -> None:
    batch_id = await ended_batch(store, request("a"))

    await store.delivery.record([outcome(1, RequestEvent.REQUEUE)], now=NOW)

    assert await states(database, "sources") == ["open"]
    assert await open_counts(database) == [1]
    assert await states(database, "requests") == ["waiting"]
    assert await store.delivery.undelivered_count(batch_id) == 0
    assert await bodies(database) == {1: b'{"x":1}'}


@pytest.mark.parametrize(("counts", "attempts"), [(True, 1), (False, 0)])
async def test_only_a_try_that_was_its_own_failure_counts(
    store: Store, database: Database, counts: bool, attempts: int
) -> None:
    """A credit message is the account's fault, and must not use a request's tries up."""
    await ended_batch(store, request("a"))

    await store.delivery.record([outcome(1, RequestEvent.REQUEUE, counts_as_attempt=counts)], now=NOW)

    assert await database.all("SELECT attempts FROM requests") == [(attempts,)]


async def test_requeuing_twice_counts_once(store: Store, database: Database) -> None:
    """That is what a crash after the commit, and a second reading, would do."""
    await ended_batch(store, request("a"))

    for _ in range(2):
        await store.delivery.record([outcome(1, RequestEvent.REQUEUE)], now=NOW)

    assert await database.all("SELECT attempts FROM requests") == [(1,)]


async def test_an_old_batch_cannot_answer_for_a_request_that_was_sent_again(store: Store) -> None:
    first = await ended_batch(store, request("a"))
    await store.delivery.record([outcome(1, RequestEvent.REQUEUE)], now=NOW)
    second = await seal(store)
    await send(store, second, nonce="bbbbbbbb", api_id="msgbatch_2")

    assert await store.delivery.undelivered(first, [1]) == {}
    assert [one.request_id for one in (await store.delivery.undelivered(second, [1])).values()] == [1]
    (waiting,) = (await store.delivery.undelivered(second, [1])).values()
    assert [(each.batch_id, each.wire_id) for each in waiting.tries] == [
        ("msgbatch_1", "a__abcdefgh-1"),
        ("msgbatch_2", "a__bbbbbbbb-1"),
    ]


async def test_a_sending_that_created_nothing_is_no_try(store: Store) -> None:
    await record(store, request("a"))
    batch_id = await seal(store)
    await store.dispatch.intend(sending(batch_id, "aaaaaaaa"))
    await store.dispatch.withdraw(batch_id, sending(batch_id, "aaaaaaaa").nonce, now=NOW, is_break=False)
    await store.dispatch.intend(sending(batch_id, "bbbbbbbb", later=9))
    await store.dispatch.accept(
        batch_id, sending(batch_id, "bbbbbbbb").nonce, batch_info(), api_request_id=None, now=NOW
    )

    (waiting,) = (await store.delivery.undelivered(batch_id, [1])).values()

    assert [each.wire_id for each in waiting.tries] == ["a__bbbbbbbb-1"]
    assert waiting.tries[0].sent_at == NOW + timedelta(seconds=9)


async def test_recording_an_end_twice_is_a_mistake_that_changes_nothing(store: Store, database: Database) -> None:
    await ended_batch(store, request("a"), request("b"))
    await store.delivery.record([outcome(1, charge=charge())], now=NOW)

    with pytest.raises(AssertionError, match="had ended before"):
        await store.delivery.record([outcome(2), outcome(1, RequestEvent.FAIL)], now=NOW)

    assert await states(database, "requests") == ["answered", "batched"]
    assert await open_counts(database) == [1]


async def test_members_without_a_line_end_as_errors_and_the_others_stay(store: Store, database: Database) -> None:
    batch_id = await ended_batch(store, request("a"), request("b"), request("c"))
    await store.delivery.record([outcome(1), outcome(2, RequestEvent.REQUEUE)], now=NOW)

    await store.delivery.condemn_rest(batch_id, ErrorType.RESULT_MISSING, "no line", now=NOW)

    (failing,) = await store.delivery.failing(limit=10)
    assert (failing.custom_id, failing.error_type, failing.error_text) == ("c", "result_missing", "no line")
    assert await states(database, "requests") == ["answered", "waiting", "failing"]
    assert await states(database, "sources") == ["open"]


async def test_an_error_that_was_promised_keeps_its_words_when_it_is_published(
    store: Store, database: Database
) -> None:
    batch_id = await ended_batch(store, request("a"))
    await store.delivery.condemn_rest(batch_id, ErrorType.RESULT_MISSING, "no line", now=NOW)

    await store.delivery.record([outcome(1, RequestEvent.PUBLISH)], now=NOW + timedelta(hours=1))

    rows = await database.all("SELECT state, error_type, error_text FROM requests")
    assert rows == [("failed", "result_missing", "no line")]
    assert (await store.overview.tally_since(NOW + timedelta(minutes=1))).failed == 0
    assert await states(database, "sources") == ["settled"]


async def test_failing_requests_come_oldest_first_and_no_more_than_asked_for(store: Store) -> None:
    batch_id = await ended_batch(store, *(request(f"r{number}") for number in range(4)))
    await store.delivery.condemn_rest(batch_id, ErrorType.RESULT_MISSING, "no line", now=NOW)

    assert [one.custom_id for one in await store.delivery.failing(limit=2)] == ["r0", "r1"]


async def test_a_batch_that_was_recovered_is_a_try_that_says_so(store: Store, database: Database) -> None:
    batch_id = await ended_batch(store, request("a"))
    async with database.transaction() as transaction:
        await transaction.run("UPDATE batches SET needs_person = 1")

    (waiting,) = (await store.delivery.undelivered(batch_id, [1])).values()

    assert [each.is_recovered for each in waiting.tries] == [True]


async def test_a_stem_is_taken_until_its_request_has_ended(store: Store) -> None:
    await ended_batch(store, request("Report"), request("b"))

    await store.delivery.take_stems({1: "Report", 2: "b__2"})
    before = await store.delivery.stems_in_use(INBOX_LANE)
    await store.delivery.record([outcome(1)], now=NOW)

    assert before == {"report", "b__2"}
    assert await store.delivery.stems_in_use(INBOX_LANE) == {"b__2"}


async def test_a_stem_is_kept_when_the_request_is_sent_again(store: Store) -> None:
    await ended_batch(store, request("a"))
    await store.delivery.take_stems({1: "a__2"})
    await store.delivery.record([outcome(1, RequestEvent.REQUEUE)], now=NOW)
    second = await seal(store)
    await send(store, second, nonce="bbbbbbbb", api_id="msgbatch_2")

    (waiting,) = (await store.delivery.undelivered(second, [1])).values()

    assert waiting.stem == "a__2"


async def test_complete_reads_that_were_short_are_counted(store: Store) -> None:
    batch_id = await ended_batch(store, request("a"))

    await store.delivery.count_short_read(batch_id)
    await store.delivery.count_short_read(batch_id)

    assert [batch.short_reads for batch in await store.delivery.ended()] == [2]


async def test_a_batch_is_closed_once_and_read_no_more(store: Store, database: Database) -> None:
    batch_id = await ended_batch(store, request("a"))

    await store.delivery.close(batch_id)
    await store.delivery.lose(batch_id, LostReason.NO_RESULTS)

    assert await store.delivery.ended() == []
    assert await states(database, "batches") == ["closed"]


async def test_a_batch_whose_results_are_gone_is_lost_and_keeps_its_requests(store: Store, database: Database) -> None:
    """It is never bought again by itself."""
    batch_id = await ended_batch(store, request("a"))

    await store.delivery.lose(batch_id, LostReason.NO_RESULTS)

    assert await store.overview.lost_batches() == [ApiBatchId("msgbatch_1")]
    assert await states(database, "requests") == ["batched"]


async def test_a_lost_batch_is_given_up_when_its_time_is_over(store: Store, database: Database) -> None:
    batch_id = await ended_batch(store, request("a"))
    await store.delivery.lose(batch_id, LostReason.NO_RESULTS)

    early = await store.delivery.lost_since(NOW - timedelta(seconds=1))
    (late,) = await store.delivery.lost_since(NOW)
    await store.delivery.condemn_rest(late.id, ErrorType.RESULTS_GONE, "gone", now=NOW)
    await store.delivery.close(late.id)

    assert early == []
    assert await states(database, "batches") == ["closed"]
    assert await states(database, "requests") == ["failing"]
    assert await store.delivery.lost_since(NOW) == []


async def hold_credit(store: Store, *, is_news: bool) -> None:
    """Hold for want of credit."""
    next_attempt_at = None if is_news else NOW
    await store.holds.put(HoldName.CREDIT, "no credit", now=NOW, next_attempt_at=next_attempt_at)


async def probe(store: Store, database: Database) -> int:
    """Return an ended batch of one request that tries whether the account has credit."""
    batch_id = await ended_batch(store, request("a"))
    async with database.transaction() as transaction:
        await transaction.run("UPDATE batches SET is_probe = 1 WHERE id = ?", (batch_id,))
    return batch_id


async def test_a_probe_releases_what_waits_for_credit_when_it_is_closed(store: Store, database: Database) -> None:
    batch_id = await probe(store, database)
    await hold_credit(store, is_news=False)

    assert await store.delivery.close(batch_id)

    assert await store.holds.all() == []


async def test_closing_any_other_batch_releases_nothing(store: Store) -> None:
    batch_id = await ended_batch(store, request("a"))
    await hold_credit(store, is_news=False)

    assert not await store.delivery.close(batch_id)

    assert [hold.name for hold in await store.holds.all()] == ["credit"]


async def test_news_that_came_after_the_probe_was_sent_is_not_released(store: Store, database: Database) -> None:
    batch_id = await probe(store, database)
    await hold_credit(store, is_news=True)

    assert not await store.delivery.close(batch_id)

    assert [hold.name for hold in await store.holds.all()] == ["credit"]


@pytest.mark.parametrize("counts", [True, False])
async def test_a_probe_that_was_told_about_credit_is_none_any_more(
    store: Store, database: Database, counts: bool
) -> None:
    """Even if somebody has begun to wait the news out before it is closed; a transient error tells nothing of it."""
    batch_id = await probe(store, database)
    await store.delivery.record([outcome(1, RequestEvent.REQUEUE, counts_as_attempt=counts)], now=NOW)
    await hold_credit(store, is_news=False)

    assert await store.delivery.close(batch_id) is counts


async def test_bodies_are_kept_for_their_time_and_deleted_oldest_first(store: Store, database: Database) -> None:
    """Those of answers have gone before, and those of open requests stay."""
    await ended_batch(store, request("a"), request("b"), request("c"), request("d"))
    later = NOW + timedelta(days=1)
    await store.delivery.record([outcome(1), outcome(2, RequestEvent.CUT_SHORT)], now=NOW)
    await store.delivery.record([outcome(3, RequestEvent.FAIL)], now=later)

    counts = [await store.delivery.remove_bodies(moment, limit=1) for moment in (NOW, later, later)]

    assert counts == [0, 1, 0]
    assert list(await bodies(database)) == [3, 4]


async def test_an_original_is_archived_under_the_name_that_was_taken(store: Store, database: Database) -> None:
    await ended_batch(store, request("a"))
    await store.delivery.record([outcome(1)], now=NOW)

    await store.originals.take_targets([(1, "a__2.md")])
    (settled,) = await store.originals.settled(limit=10)
    await store.originals.archive([1], now=NOW)

    assert settled.target == "a__2.md"
    assert await store.originals.settled(limit=10) == []
    assert await states(database, "sources") == ["done"]


async def test_originals_are_kept_for_their_time_and_then_forgotten(store: Store) -> None:
    await ended_batch(store, request("a"))
    await store.delivery.record([outcome(1)], now=NOW)
    await store.originals.take_targets([(1, "a.md")])
    await store.originals.archive([1], now=NOW)

    too_early = await store.originals.kept_since(NOW, limit=10)
    (kept,) = await store.originals.kept_since(NOW + timedelta(seconds=1), limit=10)
    await store.originals.forget([kept.id])

    assert too_early == []
    assert (kept.lane, kept.target) == (INBOX_LANE, "a.md")
    assert await store.originals.kept_since(NOW + timedelta(days=1), limit=10) == []
