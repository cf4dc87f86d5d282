"""Requests that are sent anew gather in a window as new ones do."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .bench import Bench
from .fake_api import answer, errored

COUNT = 300
"""More than delivery records in one group."""


def overloaded_at_first(custom_id: str, params: bytes, times_bought: int) -> dict[str, object]:
    """Answer the second time."""
    return errored("overloaded_error", "busy") if times_bought < 2 else answer(custom_id, params, times_bought)


@pytest.fixture
async def requeued(tmp_path: Path) -> AsyncIterator[Bench]:
    """Yield a bench where every request of a batch has just been requeued, long after it was accepted."""
    bench = Bench(tmp_path, max_requests=1000)
    bench.api.answerer = overloaded_at_first
    lines = [json.dumps({"messages": [{"role": "user", "content": f"question {n}"}]}) for n in range(COUNT)]
    bench.drop("list.jsonl", "\n".join(lines))
    while not bench.api.batches:
        await bench.step("intake")
        await bench.step("dispatch")
        bench.advance(1.1)
    bench.advance(3600.0)
    bench.api.end_all()
    await bench.step("polling")
    await bench.step("delivery")
    assert bench.rows("SELECT state, count(*) FROM requests GROUP BY state") == [("waiting", COUNT)]
    yield bench
    await bench.stop()


async def test_what_is_requeued_waits_for_others_as_long_as_what_is_new(requeued: Bench) -> None:
    """Its first wait is over, and may have been over for a day; each group delivered would be a batch of its own."""
    await requeued.step("dispatch")

    assert requeued.api.create_count == 1


async def test_what_is_requeued_is_sent_together(requeued: Bench) -> None:
    await requeued.step("dispatch")
    requeued.advance(1.1)
    await requeued.step("dispatch")

    assert [len(batch.requests) for batch in requeued.api.batches] == [COUNT, COUNT]
