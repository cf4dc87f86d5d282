"""Decisions of a person are obeyed where they are a person's to make, and refused with the reason where not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batchbox.store.orders import OrderKind

from .fake_api import NO_NETWORK, FakeBatch, Reply
from .recovering import RecoveryBench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[RecoveryBench]:
    bench = RecoveryBench(tmp_path)
    yield bench
    await bench.stop()


async def in_doubt(bench: RecoveryBench, reply: Reply) -> None:
    """Make a call whose outcome nobody knows, and look until nothing more can turn up."""
    bench.drop("a.md", "question")
    bench.api.replies.append(reply)
    while not bench.api.create_count:
        await bench.step_all()
        bench.advance(1)


async def let_grace_pass(bench: RecoveryBench) -> None:
    for _ in range(12):
        await bench.step_all()
        bench.advance(10)


def without_results(bench: RecoveryBench, batch: FakeBatch) -> str:
    """Let a batch have ended, and its results be gone."""
    if not batch.has_ended:
        bench.api.end(batch)
    bench.api.gone.add(batch.id)
    return batch.id


async def test_a_candidate_that_cannot_be_read_is_ours_if_a_person_says_so(bench: RecoveryBench) -> None:
    """It is adopted; its results can be read later after all."""
    await in_doubt(bench, Reply.LOSE)
    api_id = without_results(bench, bench.api.batches[0])
    await let_grace_pass(bench)

    answered = await bench.order(OrderKind.OURS, api_id)
    bench.api.gone.clear()
    await bench.finish()

    assert answered == f"done: batch 1 is {api_id}"
    assert bench.api.create_count == 1
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_a_candidate_that_is_not_ours_ends_the_doubt(bench: RecoveryBench) -> None:
    """It was the only one, so the batch was surely not sent, and goes out."""
    await in_doubt(bench, Reply.NEVER_ARRIVED)
    api_id = without_results(bench, bench.api.add_foreign(1, has_ended=True))
    await let_grace_pass(bench)
    assert bench.api.create_count == 1

    answered = await bench.order(OrderKind.NOT_OURS, api_id)
    await bench.finish()

    assert answered.startswith("done")
    assert bench.api.create_count == 2
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_an_order_that_is_overtaken_is_not_obeyed(bench: RecoveryBench) -> None:
    """The candidate could be read after all, while it was asked about: it is another program's, and ours goes out."""
    await in_doubt(bench, Reply.NEVER_ARRIVED)
    theirs = bench.api.add_foreign(1, has_ended=True)
    api_id = without_results(bench, theirs)
    await let_grace_pass(bench)

    async def be_read() -> None:
        bench.api.gone.clear()
        bench.api.replies.append(Reply.OVERLOADED)
        while bench.api.create_count < 2:
            await bench.step("dispatch")
            bench.advance(5)

    bench.api.before_retrieve = be_read
    answered = await bench.order(OrderKind.OURS, api_id)
    await bench.finish()

    assert answered == "not done: what became of batch 1 has been found out meanwhile"
    assert bench.rows("SELECT api_id FROM batches") == [(bench.api.batches[1].id,)]
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_a_deleted_batch_may_be_adopted_and_given_up(bench: RecoveryBench) -> None:
    """It is ours, and lost: its request ends as an error and is not bought again."""
    await in_doubt(bench, Reply.LOSE)
    batch = bench.api.batches[0]
    api_id = without_results(bench, batch)
    await let_grace_pass(bench)
    batch.is_deleted = True

    await bench.order(OrderKind.OURS, api_id)
    await let_grace_pass(bench)
    answered = await bench.order(OrderKind.GIVE_UP, "1")
    await bench.finish()

    assert answered == "done: what was left of batch 1 ends as errors"
    assert bench.rows("SELECT state FROM batches") == [("closed",)]
    assert set(bench.outbox()) == {"a.error.json"}
    assert not [*(bench.root / ".batchbox" / "batches").rglob("*.jsonl")]
    assert len(bench.api.bought) == 1


async def test_what_is_decided_by_itself_is_not_for_a_person(bench: RecoveryBench) -> None:
    await in_doubt(bench, Reply.LOSE)
    await bench.step_all()
    bench.advance(6)
    await bench.step_all()

    answers = [
        await bench.order(kind, argument)
        for kind, argument in (
            (OrderKind.OURS, bench.api.batches[0].id),
            (OrderKind.NOT_OURS, "msgbatch_nobody"),
            (OrderKind.RESEND, "1"),
            (OrderKind.GIVE_UP, "1"),
            (OrderKind.GIVE_UP, "7"),
        )
    ]

    assert [answer.partition(": ")[2] for answer in answers] == [
        "msgbatch_0001 decides it by itself: its first result says whose it is, once it has ended",
        "msgbatch_nobody is no candidate for a batch in doubt",
        "batch 1: it is still looked for; it is decided by itself",
        "batch 1: it is still looked for; it is decided by itself",
        "there is no batch 7",
    ]
    await bench.finish()
    assert bench.api.create_count == 1


async def test_a_candidate_for_two_batches_needs_the_number(bench: RecoveryBench) -> None:
    await in_doubt(bench, Reply.LOSE)
    bench.drop("b.md", "another question")
    bench.api.replies.append(Reply.NEVER_ARRIVED)
    while bench.api.create_count < 2:
        await bench.step_all()
        bench.advance(1)
    api_id = without_results(bench, bench.api.batches[0])
    await let_grace_pass(bench)

    unclear = await bench.order(OrderKind.OURS, api_id)
    clear = await bench.order(OrderKind.OURS, f"{api_id} 1")

    assert unclear == f"not done: {api_id} may be one of these batches: 1, 2; say which with --for"
    assert clear == f"done: batch 1 is {api_id}"


async def test_an_order_waits_for_the_api(bench: RecoveryBench) -> None:
    """What the network does is no answer."""
    await in_doubt(bench, Reply.LOSE)
    api_id = without_results(bench, bench.api.batches[0])
    await let_grace_pass(bench)
    bench.api.troubles.append(NO_NETWORK)

    with pytest.raises(AssertionError):
        await bench.order(OrderKind.OURS, api_id)

    assert len(await bench.ground.store.orders.open()) == 1
