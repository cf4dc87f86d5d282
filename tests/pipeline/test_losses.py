"""Batches and results that the API does not have: asked for quietly, brought back, or ended as errors that say so."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from batchbox.api import RESULTS_KEPT, RESULTS_URGENT_AFTER, Trouble, TroubleKind

from .bench import Bench, Crash
from .fake_api import NO_NETWORK
from .lines import send

DAY = timedelta(days=1).total_seconds()

KEPT = RESULTS_KEPT.total_seconds()


@pytest.fixture
async def sent(bench: Bench) -> Bench:
    """Return a bench with a batch of two in progress."""
    bench.drop("a.md", "one")
    bench.drop("b.md", "two")
    await send(bench)
    return bench


def state(bench: Bench) -> tuple[object, object]:
    """Return the batch's state and why it was lost."""
    ((state, reason),) = bench.rows("SELECT state, lost_reason FROM batches")
    return state, reason


async def poll_on(bench: Bench, *, times: int = 20) -> None:
    """Let everything look at everything again and again."""
    for _ in range(times):
        await bench.step_all()
        bench.advance(10.0)


def messages(caplog: pytest.LogCaptureFixture, part: str) -> int:
    """Return how many lines of the log, errors and warnings, hold these words."""
    return sum(part in record.message for record in caplog.records)


def delete_batch(bench: Bench) -> None:
    """Let somebody delete the batch in the Console."""
    bench.api.batches[0].is_deleted = True


def delete_results(bench: Bench) -> None:
    """Let the results be gone."""
    bench.api.end_all()
    bench.api.gone.add(bench.api.batches[0].id)


def bring_back(bench: Bench) -> None:
    """Let everything be there again."""
    bench.api.batches[0].is_deleted = False
    bench.api.gone.clear()


LOSSES = {"unknown_batch": delete_batch, "no_results": delete_results}


@pytest.mark.parametrize("reason", LOSSES)
async def test_what_is_lost_is_news_once_and_nothing_is_bought_again(
    sent: Bench, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A person decides; until then it is asked for on and on, without a line in the log for every poll."""
    LOSSES[reason](sent)

    await poll_on(sent)

    assert state(sent) == ("lost", reason)
    assert messages(caplog, "batch is not known to the API") + messages(caplog, "results are gone") == 1
    assert messages(caplog, "again") == 0
    assert sent.api.create_count == 1
    assert sent.outbox() == {}


@pytest.mark.parametrize("reason", LOSSES)
async def test_what_was_lost_and_is_there_again_is_delivered(sent: Bench, reason: str) -> None:
    """Whatever could not be had is what is asked for: the batch, or its results."""
    LOSSES[reason](sent)
    await poll_on(sent)

    bring_back(sent)
    await sent.settle()

    assert set(sent.outbox()) == {"a.md", "a.result.json", "b.md", "b.result.json"}
    assert sent.api.create_count == 1


async def test_a_batch_that_is_deleted_before_its_results_are_read_is_lost_as_such(bench: Bench) -> None:
    bench.drop("a.md", "one")
    await send(bench)
    bench.api.end_all()
    await bench.step("polling")
    bench.advance(10.0)
    await bench.step("polling")
    delete_batch(bench)

    await bench.step("delivery")

    assert state(bench) == ("lost", "unknown_batch")


async def test_a_lost_batch_is_asked_for_slowly(sent: Bench) -> None:
    """No sooner than the longest wait between two polls allows."""
    delete_batch(sent)
    await poll_on(sent, times=3)

    sent.advance(10.0)
    due = await sent.step("polling")

    longest = sent.settings.poll.max
    assert due >= sent.now.monotonic + 0.8 * longest


@pytest.mark.parametrize("reason", LOSSES)
async def test_what_is_lost_until_nobody_can_read_it_any_more_ends_as_errors(sent: Bench, reason: str) -> None:
    """Every request of it, with a text that says what is known and what is not; the manifest is closed."""
    LOSSES[reason](sent)
    await poll_on(sent)
    sent.advance(KEPT - 500)
    await poll_on(sent, times=2)
    early = sent.outbox()

    sent.advance(500)
    await sent.settle()

    assert early == {}
    assert set(sent.outbox()) == {"a.error.json", "b.error.json"}
    document = sent.document("a.error.json")
    assert document["error"]["type"] == "results_gone"  # type: ignore[index] # a JSON object
    assert "cannot be told" in document["error"]["text"]  # type: ignore[index] # as above
    assert (document["billed"], document["cost_usd"]) == (None, None)
    assert "drop" in str(document["what_to_do"])
    assert state(sent) == ("closed", reason)
    assert sent.api.create_count == 1
    assert_manifest_closed(sent)


def assert_manifest_closed(bench: Bench) -> None:
    """Check that nothing on the root says that the batch may be running."""
    (manifest,) = (bench.root / ".batchbox" / "batches").rglob("*.jsonl*")
    assert manifest.name.endswith(".jsonl.closed")


async def test_results_that_the_api_has_put_away_are_gone_at_once(bench: Bench) -> None:
    """After a month in which the service did not run; how many were answered is told, because the API told it."""
    bench.drop("a.md", "one")
    await send(bench)
    delete_results(bench)
    await bench.stop()
    bench.advance(KEPT)

    await bench.settle()

    document = bench.document("a.error.json")
    assert document["error"]["type"] == "results_gone"  # type: ignore[index] # a JSON object
    assert "The API counted 1 of its 1 requests as answered." in document["error"]["text"]  # type: ignore[index] # as above
    assert state(bench) == ("closed", None)
    assert_manifest_closed(bench)


async def test_what_was_delivered_before_the_results_were_gone_stays_delivered(sent: Bench) -> None:
    """Only the rest ends as errors."""
    sent.api.end_all()
    sent.api.cut_results_after.append(1)
    await sent.step("polling")
    sent.advance(10.0)
    await sent.step("polling")
    await sent.step("delivery")
    delete_results(sent)
    sent.advance(KEPT)

    await sent.settle()

    assert set(sent.outbox()) == {"a.error.json", "b.md", "b.result.json"}


@pytest.mark.parametrize("trouble", [NO_NETWORK, Trouble(kind=TroubleKind.SERVER, text="404: a page", status=404)])
async def test_only_the_apis_own_word_loses_a_batch(sent: Bench, trouble: Trouble) -> None:
    """No network, and a page of somebody's, say nothing about it."""
    sent.api.end_all()
    sent.api.troubles.extend([trouble] * 6)

    await sent.settle()

    assert state(sent) == ("closed", None)
    assert set(sent.outbox()) == {"a.md", "a.result.json", "b.md", "b.result.json"}


@pytest.mark.parametrize("lose", [delete_batch, delete_results], ids=["batch", "results"])
async def test_a_404_under_another_key_loses_nothing(sent: Bench, lose: Callable[[Bench], None]) -> None:
    """The key may belong to another workspace: everything waits, however long, and goes on under the right one."""
    sent.key_hash = b"another key"
    await sent.restart()
    lose(sent)
    if lose is delete_results:
        await sent.step("polling")
        delete_batch(sent)
    await poll_on(sent)
    waiting = state(sent)

    bring_back(sent)
    sent.key_hash = b"key"
    await sent.restart()
    await sent.settle()

    assert waiting == ("ended" if lose is delete_results else "in_progress", None)
    assert set(sent.outbox()) == {"a.md", "a.result.json", "b.md", "b.result.json"}


async def test_results_that_will_soon_be_gone_are_named_once_a_day(
    sent: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """From the 25th day on; the root is away, which is the likeliest reason, and polls go on without it."""
    sent.root.rename(sent.root.with_name("away"))
    assert sent.stages is not None
    polling = sent.stages.polling
    words = "results will soon be gone and are not delivered"

    sent.advance(RESULTS_URGENT_AFTER.total_seconds() - 60)
    await polling.step(sent.now)
    before = messages(caplog, words)
    sent.advance(DAY)
    for _ in range(3):
        await polling.step(sent.now)
        sent.advance(60.0)

    assert before == 0
    assert messages(caplog, words) == 1


STORIES = {
    # how it is lost                           how long after it was sent
    "deleted in the Console": (delete_batch, 0.0),
    "results gone too early": (delete_results, 0.0),
    "results gone in time": (delete_results, KEPT),
}


async def about_to_be_lost(folder: Path, story: str) -> Bench:
    """Return a bench just before the API is asked about what it does not have any more."""
    lose, wait = STORIES[story]
    bench = Bench(folder)
    bench.drop("a.md", "one")
    await send(bench)
    lose(bench)
    bench.advance(wait)
    bench.points.passed = 0
    return bench


async def go_on(bench: Bench) -> None:
    """Go on until it is lost, until it is too late, and to the end."""
    await poll_on(bench, times=4)
    if not bench.is_settled():
        bench.advance(KEPT)
    await bench.settle()


@pytest.mark.parametrize(
    "stride", [9, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])], ids=["some", "every"]
)
@pytest.mark.parametrize("story", STORIES)
async def test_a_crash_at_any_point_of_a_loss_does_no_harm(
    story: str, stride: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One error, whole, and nothing bought again."""
    crash_at, is_over = 1, False
    while not is_over:
        bench = await about_to_be_lost(tmp_path_factory.mktemp("loss"), story)
        bench.points.crash_at = crash_at
        try:
            await go_on(bench)
            is_over = True
        except Crash:
            bench.points.crash_at = None
            await bench.stop()
            await go_on(bench)
        assert set(bench.outbox()) == {"a.error.json"}
        assert state(bench)[0] == "closed"
        assert bench.api.create_count == 1
        assert_manifest_closed(bench)
        await bench.stop()
        crash_at += stride

    assert crash_at > 20
