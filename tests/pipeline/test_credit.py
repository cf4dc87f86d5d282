"""An account without credit: one request goes alone until one is answered, the others wait, none loses an attempt."""

from datetime import datetime
from pathlib import Path

import pytest

from batchbox.delivery.reading import GROUP_ANSWERS
from batchbox.store.holds import HoldName, HoldStore

from .bench import Bench
from .fake_api import Reply, answer, errored
from .lines import send
from .taking import drop_requests, take_in
from .test_holds import holds

CREDIT = "Your credit balance is too low to access the API"

COUNT = 5


@pytest.fixture
async def broke(bench: Bench) -> Bench:
    """Return a bench with a batch of several requests that has ended without credit for any of them."""
    for number in range(COUNT):
        bench.drop(f"{number}.md", f"question {number}")
    await send(bench)
    bench.api.answerer = lambda *_: errored("invalid_request_error", CREDIT)
    bench.api.end_all()
    bench.advance(10.0)
    await bench.step("polling")
    await bench.step("delivery")
    return bench


def waiting(bench: Bench) -> list[tuple[object, ...]]:
    """Return how many requests wait, by the attempts that they have lost."""
    return bench.rows("SELECT attempts, count(*) FROM requests WHERE state = 'waiting' GROUP BY attempts")


async def send_probe(bench: Bench) -> None:
    """Go on until the next batch is sent."""
    await send(bench, batch_count=len(bench.api.batches) + 1)


async def end_probe(bench: Bench) -> None:
    """Let it end, and be delivered."""
    bench.api.end_all()
    bench.advance(10.0)
    await bench.step("polling")
    await bench.step("delivery")


async def test_without_credit_everything_waits_and_no_attempt_is_lost(broke: Bench) -> None:
    """It is the account's fault, not the files'."""
    assert holds(broke) == {"credit": CREDIT}
    assert waiting(broke) == [(0, COUNT)]
    assert broke.outbox() == {}


async def test_one_request_goes_alone_and_nothing_else_until_it_has_ended(broke: Bench) -> None:
    await send_probe(broke)
    for _ in range(30):
        await broke.step_all()
        broke.advance(1.0)

    assert [len(batch.requests) for batch in broke.api.batches] == [COUNT, 1]
    assert broke.rows("SELECT is_probe FROM batches ORDER BY id") == [(0,), (1,)]


@pytest.mark.parametrize("result", ["answer", "the request's own error", "no line"])
async def test_whatever_it_ends_with_that_is_not_about_credit_lets_the_others_go(broke: Bench, result: str) -> None:
    """Such a result is the account's word that it works again."""
    await send_probe(broke)
    broke.api.answerer = answer
    if result == "the request's own error":
        broke.api.answerer = lambda *_: errored("invalid_request_error", "bad temperature")
    if result == "no line":
        broke.api.cut_results_after.extend([0, 0, 0])
    for _ in range(4):
        await end_probe(broke)
    held = holds(broke)
    broke.api.answerer = answer

    await broke.settle()

    assert held == {}
    assert [len(batch.requests) for batch in broke.api.batches] == [COUNT, 1, COUNT - 1]
    assert broke.rows("SELECT DISTINCT attempts FROM requests") == [(0,)]


async def test_a_probe_without_credit_is_news_again_and_the_next_one_waits_longer(broke: Bench) -> None:
    """For as long as it takes, and at no attempt's cost."""
    gaps = []
    for _ in range(4):
        before = broke.now.monotonic
        await send_probe(broke)
        gaps.append(broke.now.monotonic - before)
        await end_probe(broke)
        assert holds(broke) == {"credit": CREDIT}
        assert waiting(broke) == [(0, COUNT)]
    broke.api.answerer = answer

    await broke.settle()

    assert gaps[-1] > gaps[0]
    assert holds(broke) == {}
    assert sum(name.endswith(".result.json") for name in broke.outbox()) == COUNT
    assert broke.rows("SELECT DISTINCT attempts FROM requests") == [(0,)]


async def test_news_of_an_older_batch_outlives_a_probe_that_was_answered(broke: Bench) -> None:
    """The older batch ended later: whether there is credit now is to be tried anew."""
    await send_probe(broke)
    broke.api.answerer = answer
    broke.api.end_all()
    broke.advance(10.0)
    await broke.step("polling")
    assert broke.stages is not None
    await broke.stages.dispatch._holds.put(HoldName.CREDIT, "news", now=broke.now.wall, next_attempt_at=None)

    await broke.step("delivery")

    assert holds(broke) == {"credit": "news"}


async def test_all_the_lines_about_credit_of_a_batch_are_one_news(tmp_path: Path) -> None:
    """Each as a failure of its own would make the first wait as long as it can ever be."""
    bench = Bench(tmp_path, max_requests=1000)
    line = '{"messages": [{"role": "user", "content": "%d"}]}\n'
    bench.drop("list.jsonl", "".join(line % number for number in range(2 * GROUP_ANSWERS + 1)))
    await send(bench)
    bench.api.answerer = lambda *_: errored("billing_error", "pay")
    bench.api.end_all()
    bench.advance(10.0)
    await bench.step("polling")
    assert bench.stages is not None
    heard = NewsCounter(bench.stages.delivery._holds)
    bench.stages.delivery._holds = heard  # type: ignore[assignment] # a counter in front of the real one

    await bench.step("delivery")

    assert heard.count == 1
    assert holds(bench) == {"credit": "pay"}
    assert waiting(bench) == [(0, 2 * GROUP_ANSWERS + 1)]
    await bench.stop()


class NewsCounter:
    """Passes news on, and counts it."""

    def __init__(self, store: HoldStore) -> None:
        self._store = store
        self.count = 0

    async def put(self, name: HoldName, reason: str, *, now: datetime, next_attempt_at: datetime | None) -> None:
        """Pass it on."""
        self.count += 1
        await self._store.put(name, reason, now=now, next_attempt_at=next_attempt_at)


async def test_a_credit_hold_outlives_the_process(broke: Bench) -> None:
    """And so does what became of the probe."""
    await broke.restart()
    await send_probe(broke)
    broke.api.answerer = answer
    await broke.restart()

    await broke.settle()

    assert [len(batch.requests) for batch in broke.api.batches] == [COUNT, 1, COUNT - 1]
    assert holds(broke) == {}


async def test_a_batch_that_was_sealed_before_gives_one_request_and_the_rest_waits(bench: Bench) -> None:
    """Everything that waits may be in it."""
    bench.drop("first.md", "first")
    await send(bench)
    drop_requests(bench, "q0", "q1", "q2")
    await take_in(bench)
    bench.api.replies.append(Reply.OVERLOADED)
    bench.advance(10.0)
    await bench.step("dispatch")
    sealed = bench.rows("SELECT request_count FROM batches WHERE state = 'sealed'")
    bench.api.answerer = lambda *_: errored("invalid_request_error", CREDIT)
    await end_probe(bench)
    bench.api.answerer = answer

    await bench.settle()

    assert sealed == [(3,)]
    assert [len(batch.requests) for batch in bench.api.batches] == [1, 1, 2, 1]
    assert holds(bench) == {}
