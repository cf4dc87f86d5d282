from datetime import timedelta

import pytest

from batchbox.lifecycle import RequestEvent
from batchbox.model import ErrorType, RejectReason
from batchbox.store import Store
from batchbox.store.overview import Tally
from batchbox.store.recording import Rejection

from .rows import NOW, end, ended_batch, outcome, record, request, seal, send, sending, source

BAD = Rejection(reason=RejectReason.BAD_JSON, detail="no", what_to_do="Correct it.")


async def nothing(store: Store) -> None:
    """Do nothing."""


async def rejecting(store: Store) -> None:
    """Let a file be on its way to rejected/."""
    await store.intake.record([(source(), BAD)], now=NOW)


async def reading(store: Store) -> None:
    """Let a long file be read."""
    await store.intake.begin(source())


async def waiting(store: Store) -> None:
    """Let a request wait."""
    await record(store, request())


async def sealed(store: Store) -> None:
    """Let a batch wait to be sent."""
    await waiting(store)
    await seal(store)


async def doubtful(store: Store) -> None:
    """Let a batch be in doubt."""
    await sealed(store)
    await store.dispatch.intend(sending(1))


async def running(store: Store) -> None:
    """Let a batch run."""
    await sealed(store)
    await send(store, 1)


async def lost(store: Store) -> None:
    """Let a batch be lost."""
    await running(store)
    await store.polling.lose(1)


async def ended(store: Store) -> None:
    """Let a batch have ended."""
    await running(store)
    await end(store, 1)


async def failing(store: Store) -> None:
    """Let an error be recorded whose file is not written."""
    await ended(store)
    await store.delivery.condemn_rest(1, ErrorType.RESULT_MISSING, "x", now=NOW)
    await store.delivery.close(1)


async def settled(store: Store) -> None:
    """Let a file wait for its place in done/."""
    await ended(store)
    await store.delivery.record([outcome(1)], now=NOW)
    await store.delivery.close(1)


async def settled_anew(store: Store) -> None:
    """Let a file that has changed since it was read wait to be read again."""
    await waiting(store)
    await store.verifying.recall([1], now=NOW)
    await store.intake.forget_unfinished()
    await store.verifying.settle(await store.verifying.unsettled())


async def done(store: Store) -> None:
    """Let everything have come to its end."""
    await settled(store)
    await store.originals.archive([1], now=NOW)


@pytest.mark.parametrize(
    "arrange", [reading, rejecting, waiting, sealed, doubtful, running, ended, failing, settled, settled_anew]
)
async def test_work_that_moves_by_itself_is_open(store: Store, arrange: object) -> None:
    """A service that is to stop when all is done must not stop before."""
    assert callable(arrange)
    await arrange(store)

    assert await store.overview.has_open_work()


@pytest.mark.parametrize("arrange", [nothing, lost, done])
async def test_what_nobody_can_move_but_a_person_is_not_waited_for(store: Store, arrange: object) -> None:
    assert callable(arrange)
    await arrange(store)

    assert not await store.overview.has_open_work()


async def test_lanes_and_files_are_counted_by_state(store: Store) -> None:
    await record(store, request("a"), request("b"))
    await seal(store, requests_max=1)
    await record(store, request("a"), lane="reports")
    await rejecting(store)

    lanes = await store.overview.lanes()

    assert {lane.lane: dict(lane.counts) for lane in lanes} == {
        "_": {"waiting": 1, "batched": 1},
        "reports": {"waiting": 1},
    }
    assert await store.overview.sources() == {"open": 2, "rejecting": 1}


async def test_batches_are_shown_until_they_have_come_to_their_end(store: Store) -> None:
    await doubtful(store)
    await record(store, request("b"))
    await seal(store)

    first, second = await store.overview.batches()

    assert (first.id, first.state, first.nonce, first.sent_at, first.api_id) == (1, "submitting", "abcdefgh", NOW, None)
    assert (second.id, second.state, second.nonce, second.sent_at) == (2, "sealed", None, None)


async def test_a_batch_that_was_sent_twice_is_shown_once_with_its_latest_sending(store: Store) -> None:
    await doubtful(store)
    await store.dispatch.withdraw(1, sending(1).nonce, now=NOW, is_break=False)
    await store.dispatch.intend(sending(1, "bbbbbbbb", later=60))

    (batch,) = await store.overview.batches()

    assert batch.nonce == "bbbbbbbb"


async def test_a_batch_that_was_closed_is_not_shown(store: Store) -> None:
    await done(store)

    assert await store.overview.batches() == []


async def test_the_tally_counts_what_ended_since_a_moment(store: Store) -> None:
    events = [RequestEvent.ANSWER, RequestEvent.CUT_SHORT, RequestEvent.FAIL]
    batch_id = await ended_batch(store, *(request(f"r{number}") for number in range(5)))
    await store.delivery.record([outcome(4)], now=NOW)
    later = NOW + timedelta(seconds=1)
    await store.delivery.record([outcome(id_, event) for id_, event in enumerate(events, start=1)], now=later)
    await store.delivery.condemn_rest(batch_id, ErrorType.RESULT_MISSING, "x", now=later)
    await store.intake.record([(source(), BAD)], now=later)

    assert await store.overview.tally_since(later) == Tally(answered=1, incomplete=1, failed=2, rejected_files=1)
    assert (await store.overview.tally_since(NOW)).answered == 2


async def test_without_any_answer_nothing_was_paid(store: Store) -> None:
    assert await store.overview.cost_usd() == 0
