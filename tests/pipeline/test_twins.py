"""A first sending that turns up after its resend: one of the two is delivered, the other stopped, and its cost told."""

from datetime import timedelta

import pytest

from batchbox.model import ApiBatchId

from .bench import Bench
from .fake_api import FakeBatch, Reply
from .taking import batch_states, dispatch_for, drop_requests, marks, take_in

HOUR = 3600.0


async def resent(bench: Bench) -> FakeBatch:
    """Send a batch that the list does not show for all of grace, so that it is sent again; return the first."""
    drop_requests(bench, "q0", "q1")
    await take_in(bench)
    bench.api.replies.append(Reply.LOSE)
    while not bench.api.batches:
        await bench.step("dispatch")
        bench.advance(0.5)
    first = bench.api.batches[0]
    first.is_hidden = first.was_hidden = True
    while bench.api.create_count < 2:
        await bench.step("dispatch")
        bench.advance(1.0)
    return first


def delivered_from(bench: Bench) -> list[object]:
    """Return the API's ids of our batches."""
    return [api_id for (api_id,) in bench.rows("SELECT api_id FROM batches WHERE api_id IS NOT NULL")]


def twins(bench: Bench) -> list[tuple[object, ...]]:
    """Return the API's ids of what was bought beside, and whether it is booked."""
    return bench.rows("SELECT api_id, is_booked FROM twins")


async def test_a_first_sending_that_ended_before_its_resend_is_delivered_and_the_resend_cancelled(bench: Bench) -> None:
    """It was paid for and is there; what the resend has not begun need not be paid for at all."""
    first = await resent(bench)
    resend = bench.api.batches[1]
    first.is_hidden = False
    bench.api.end(first)

    await dispatch_for(bench, 600, every=10.0)
    await bench.settle(end_batches=False)

    assert bench.api.cancelled == [resend.id]
    assert delivered_from(bench) == [first.id]
    assert twins(bench) == [(resend.id, 1)]
    assert marks(bench) == {"many-1.result.json", "many-2.result.json"}
    assert bench.document("many-1.result.json")["batch_ids"] == [first.id]


async def test_a_resend_that_ended_first_is_delivered_and_the_first_sending_booked(bench: Bench) -> None:
    """Both were bought; the answers come once, and the cost of both is known."""
    first = await resent(bench)
    resend = bench.api.batches[1]
    bench.api.end(resend)
    await bench.settle(end_batches=False)
    first.is_hidden = False
    bench.api.end(first)

    await dispatch_for(bench, 600, every=10.0)

    assert delivered_from(bench) == [resend.id]
    assert bench.api.cancelled == []
    assert twins(bench) == [(first.id, 1)]
    assert marks(bench) == {"many-1.result.json", "many-2.result.json"}
    assert bench.rows("SELECT count(*), count(DISTINCT request_id) FROM charges") == [(4, 2)]


async def test_the_late_look_goes_on_for_a_day_after_the_resend(bench: Bench) -> None:
    """Also in a process that was not there when it was sent."""
    first = await resent(bench)
    bench.api.end(bench.api.batches[1])
    await bench.settle(end_batches=False)
    await bench.restart()
    await dispatch_for(bench, 23 * HOUR, every=HOUR / 2)
    first.is_hidden = False
    bench.api.end(first)

    await dispatch_for(bench, HOUR, every=HOUR / 8)

    assert twins(bench) == [(first.id, 1)]


async def test_another_programs_batch_of_the_same_size_is_no_twin_and_is_never_cancelled(bench: Bench) -> None:
    """Only a nonce of ours makes it ours."""
    await resent(bench)
    theirs = [bench.api.add_foreign(2, has_ended=False), bench.api.add_foreign(2, has_ended=True)]

    await dispatch_for(bench, 600, every=10.0)
    await bench.settle()
    await dispatch_for(bench, 600, every=10.0)

    assert bench.api.cancelled == []
    assert twins(bench) == []
    assert not {one.id for one in theirs} & set(delivered_from(bench))


async def given_up(bench: Bench) -> FakeBatch:
    """Send a batch whose reply is lost, and which the list does not show; no other can be sent. Return that batch."""
    drop_requests(bench, "q0", "q1")
    await take_in(bench)
    bench.api.replies.append(Reply.LOSE)
    while not bench.api.batches:
        await bench.step("dispatch")
        bench.advance(0.5)
    first = bench.api.batches[0]
    first.is_hidden = first.was_hidden = True
    bench.api.replies.extend([Reply.OVERLOADED] * 2000)
    while bench.rows("SELECT state FROM batches") != [("sealed",)]:
        await bench.step("dispatch")
        bench.advance(1.0)
    return first


async def turn_up(bench: Bench, first: FakeBatch) -> None:
    """Let the batch be found, then the API be well again and everything settle."""
    first.is_hidden = False
    bench.api.end(first)
    await dispatch_for(bench, 600, every=5.0)
    bench.api.replies.clear()
    await bench.settle()


async def test_a_first_sending_found_before_the_resend_went_out_is_not_bought_again(bench: Bench) -> None:
    """It was given up and waits for its next try when the list shows it after all."""
    first = await given_up(bench)

    await turn_up(bench, first)

    assert len(bench.api.batches) == 1
    assert marks(bench) == {"many-1.result.json", "many-2.result.json"}


async def test_nor_is_it_if_a_request_of_it_was_cancelled_meanwhile(bench: Bench) -> None:
    """What is left of the batch had gone into another one, and comes back; what the cancelled one cost is booked."""
    first = await given_up(bench)
    bench.drop_sign("many-1.cancel")
    await bench.step("intake")
    await dispatch_for(bench, 5.0)
    assert sorted(bench.rows("SELECT state, request_count FROM batches")) == [("refused", 2), ("sealed", 1)]

    await turn_up(bench, first)

    assert len(bench.api.batches) == 1
    assert marks(bench) == {"many-1.error.json", "many-2.result.json"}
    assert delivered_from(bench) == [first.id]
    assert bench.rows("SELECT count(*), count(DISTINCT request_id) FROM charges") == [(2, 2)]


async def test_it_is_looked_for_as_long_as_something_of_it_is_still_to_be_sent(bench: Bench) -> None:
    first = await given_up(bench)
    bench.drop_sign("many-1.cancel")
    await bench.step("intake")
    await dispatch_for(bench, 30 * HOUR, every=HOUR / 4)

    await turn_up(bench, first)

    assert len(bench.api.batches) == 1


async def test_members_that_were_sent_again_meanwhile_stay_where_they_are(bench: Bench) -> None:
    """Then the first sending was bought beside."""
    first = await given_up(bench)
    bench.drop_sign("many-1.cancel")
    await bench.step("intake")
    bench.api.replies.clear()
    while len(bench.api.batches) < 2:
        await bench.step("dispatch")
        bench.advance(1.0)

    await turn_up(bench, first)

    assert twins(bench) == [(first.id, 1)]
    assert delivered_from(bench) == [bench.api.batches[1].id]
    assert marks(bench) == {"many-1.error.json", "many-2.result.json"}


async def in_doubt_again(bench: Bench, reply: Reply) -> FakeBatch:
    """Let what is left of a batch that was given up be sent; then let the batch be found, while that is in doubt."""
    first = await given_up(bench)
    bench.drop_sign("many-1.cancel")
    await bench.step("intake")
    bench.api.replies.clear()
    bench.api.replies.append(reply)
    while "submitting" not in batch_states(bench):
        await bench.step("dispatch")
        bench.advance(1.0)
    await show(bench, first)
    return first


async def show(bench: Bench, first: FakeBatch) -> None:
    """Let the batch be found."""
    first.is_hidden = False
    bench.api.end(first)
    while not twins(bench):
        await bench.step("dispatch")
        bench.advance(1.0)


def bought_beside(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was told of batches that were bought beside."""
    return [record.message for record in caplog.records if "bought beside" in record.message]


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_members_whose_resend_never_arrived_come_back(
    bench: Bench, caplog: pytest.LogCaptureFixture, *, is_restarted: bool
) -> None:
    """While that is in doubt nobody is told that anything was bought twice; after that nothing is sent again."""
    first = await in_doubt_again(bench, Reply.NEVER_ARRIVED)
    await dispatch_for(bench, 10.0)
    assert bench.rows("SELECT is_undecided, is_booked FROM twins") == [(1, 0)]
    assert bought_beside(caplog) == []
    if is_restarted:
        await bench.restart()

    await dispatch_for(bench, 600, every=5.0)
    await bench.settle()

    assert len(bench.api.batches) == 1
    assert delivered_from(bench) == [first.id]
    assert marks(bench) == {"many-1.error.json", "many-2.result.json"}
    assert bench.rows("SELECT count(*), count(DISTINCT request_id) FROM charges") == [(2, 2)]


async def test_members_whose_resend_arrived_are_delivered_from_it(bench: Bench) -> None:
    """Then, and not before, the first sending counts as bought beside."""
    first = await in_doubt_again(bench, Reply.LOSE)
    second = bench.api.batches[1]
    bench.api.end(second)

    await dispatch_for(bench, 600, every=5.0)
    await bench.settle()

    assert delivered_from(bench) == [second.id]
    assert twins(bench) == [(first.id, 1)]
    assert marks(bench) == {"many-1.error.json", "many-2.result.json"}


async def test_nothing_of_it_is_sent_while_another_part_of_it_is_in_doubt(bench: Bench) -> None:
    """It was halved meanwhile: one half is in doubt, and the other one waits to be sent."""
    first = await given_up(bench)
    bench.api.replies.clear()
    bench.api.replies.extend([Reply.TOO_LARGE, Reply.NEVER_ARRIVED, *[Reply.OVERLOADED] * 2000])
    while batch_states(bench) != ["refused", "submitting", "sealed"]:
        await bench.step("dispatch")
        bench.advance(1.0)
    await show(bench, first)
    bench.api.replies.clear()

    await dispatch_for(bench, 600, every=5.0)
    await bench.settle()

    assert len(bench.api.batches) == 1
    assert (delivered_from(bench), twins(bench)) == ([first.id], [])
    assert marks(bench) == {"many-1.result.json", "many-2.result.json"}


async def test_that_it_is_unknown_under_another_key_proves_nothing(bench: Bench) -> None:
    """The key may be another workspace's; what was found is still not sent again."""
    first = await in_doubt_again(bench, Reply.NEVER_ARRIVED)
    await bench.restart()
    bench.api.enter_other_workspace()
    bench.key_hash = b"other"
    await bench.restart()
    await dispatch_for(bench, 120, every=5.0)
    bench.api.return_to_workspace()
    bench.key_hash = b"key"
    await bench.restart()

    await dispatch_for(bench, 600, every=5.0)
    await bench.settle()

    assert delivered_from(bench) == [first.id]
    assert len(bench.api.batches) == 1


async def test_a_twin_that_cannot_be_read_is_tried_again_until_it_is_booked(bench: Bench) -> None:
    """And one whose results have gone is not asked about for ever."""
    first = await resent(bench)
    bench.api.end(bench.api.batches[1])
    await bench.settle(end_batches=False)
    first.is_hidden = False
    bench.api.end(first)
    while not twins(bench):
        await bench.step("dispatch")
        bench.advance(10.0)
    bench.api.gone.add(ApiBatchId(first.id))

    await dispatch_for(bench, timedelta(minutes=10).total_seconds(), every=5.0)

    assert twins(bench) == [(first.id, 1)]
