"""Errors by the thousand: a batch whose results have no lines."""

import json
from pathlib import Path

from batchbox.delivery.stage import GROUP_ANSWERS, SHORT_READS_MAX

from .bench import Bench

COUNT = 2 * GROUP_ANSWERS + 1


async def test_the_outbox_is_listed_once_for_all_the_errors_of_a_lane(tmp_path: Path) -> None:
    """It may hold a hundred thousand answers, and there may be as many errors: listing it for each group never ends."""
    bench = Bench(tmp_path, max_requests=1000)
    lines = [json.dumps({"messages": [{"role": "user", "content": f"question {n}"}]}) for n in range(COUNT)]
    bench.drop("list.jsonl", "\n".join(lines))
    bench.api.cut_results_after.extend([0] * SHORT_READS_MAX)

    await bench.settle()
    await bench.stop()

    assert sum(name.endswith(".error.json") for name in bench.outbox()) == COUNT
    assert sum("before Outbox.names" in label for label in bench.points.labels) == 1
