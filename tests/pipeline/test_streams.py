"""What may come instead of the results: cut at any byte, somebody else's page, nothing; and what is believed of it."""

import gzip
import json
from collections import deque

import pytest

from batchbox.delivery.stage import SHORT_READS_MAX

from .bench import Bench
from .lines import send


async def ended(bench: Bench, *, count: int = 3) -> bytes:
    """Let a batch of so many requests end; return its results."""
    lines = [json.dumps({"messages": [{"role": "user", "content": str(n)}]}) for n in range(count)]
    bench.drop("list.jsonl", "\n".join(lines))
    await send(bench)
    bench.api.end_all()
    return b"".join(bench.api.batches[0].lines)


def answers(bench: Bench) -> int:
    """Return how many answers are there."""
    return sum(name.endswith(".result.json") for name in bench.outbox())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.34, 0.5, 0.66, 0.7, 0.9, 0.999])
async def test_results_that_are_cut_at_any_byte_are_delivered_once_and_whole(bench: Bench, share: float) -> None:
    """Whether in an id, in a text, or at a line's end, and although the stream looks complete."""
    results = await ended(bench)
    bench.api.raw_results[bench.api.batches[0].id] = deque([results[: int(share * len(results))]])

    await bench.settle()

    assert answers(bench) == 3
    assert not any(name.endswith(".error.json") for name in bench.outbox())
    assert bench.rows("SELECT count(*) FROM charges") == [(3,)]


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_results_that_are_cut_at_a_lines_end_are_delivered_once_and_whole(bench: Bench, at: int) -> None:
    """Such a cut is silent: only counting shows it."""
    await ended(bench)
    bench.api.cut_results_after.append(at)

    await bench.settle()

    assert answers(bench) == 3
    assert bench.rows("SELECT short_reads FROM batches") == [(1,)]


PAGES = {
    "a page": b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n",
    "an error of somebody's": b'{"error": {"message": "upstream"}}',
    "JSON that is no JSON Lines": json.dumps([{"custom_id": "a", "result": {"type": "expired"}}], indent=1).encode(),
    "bytes that somebody compressed": gzip.compress(b'{"custom_id": "a"}' * 100),
    "results of somebody else's": b'{"custom_id": "theirs", "result": {"type": "expired"}}\n',
}


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_in_the_place_of_the_results_is_waited_out(bench: Bench, name: str) -> None:
    """However often it comes: it says nothing about the requests, which may be answered and paid for."""
    await ended(bench)
    times = 2 * SHORT_READS_MAX
    bench.api.raw_results[bench.api.batches[0].id] = deque([PAGES[name]] * times)

    await bench.settle()

    assert answers(bench) == 3
    assert not any(name.endswith(".error.json") for name in bench.outbox())
    assert bench.rows("SELECT short_reads FROM batches") == [(0,)]


async def test_a_torn_line_of_a_batch_of_one_ends_as_an_error_after_three_reads(bench: Bench) -> None:
    """It names the batch, so these are its results, and they will not get better."""
    results = await ended(bench, count=1)
    bench.api.raw_results[bench.api.batches[0].id] = deque([results[:-20]] * SHORT_READS_MAX)

    await bench.settle()

    document = bench.document("list-1.error.json")
    assert document["error"]["type"] == "result_missing"  # type: ignore[index] # a JSON object
    assert (document["billed"], document["cost_usd"]) == (None, None)
    assert bench.api.create_count == 1


async def test_results_that_are_empty_three_times_end_as_errors(bench: Bench) -> None:
    """Nothing in there is anybody else's."""
    await ended(bench)
    bench.api.cut_results_after.extend([0] * SHORT_READS_MAX)

    await bench.settle()

    assert set(bench.outbox()) == {f"list-{n}.error.json" for n in (1, 2, 3)}


@pytest.mark.parametrize("change", ["byte order mark", "line ends", "no end", "blank lines"])
async def test_results_that_are_spelled_otherwise_are_understood(bench: Bench, change: str) -> None:
    """At the first reading: nothing is missing from them."""
    results = await ended(bench)
    changed = {
        "byte order mark": b"\xef\xbb\xbf" + results,
        "line ends": results.replace(b"\n", b"\r\n"),
        "no end": results.rstrip(b"\n"),
        "blank lines": b"\n\n" + results.replace(b"\n", b"\n\n"),
    }
    bench.api.raw_results[bench.api.batches[0].id] = deque([changed[change]])

    await bench.settle()

    assert answers(bench) == 3
    assert bench.rows("SELECT short_reads FROM batches") == [(0,)]
