"""20,000 answers of 20 kB: from the end of a batch to its last file, and the memory that it takes.

The naive client is what somebody would write first, and it makes nothing durable. The daemon's time runs from the
moment at which it is told of the end until it has recorded that everything is delivered.
"""

import json
import sys
from pathlib import Path

from .place import Place, daemon_command, log_moments, make_place, measure, simulated, table

COUNT = 20_000
ANSWER_TOKENS = 5_000
"""Four characters each."""
FROM_END = ("batch ended", "batch delivered")

NAIVE = """
import sys, time
from pathlib import Path
import asyncio
from anthropic import AsyncAnthropic

async def main(base_url, out, count):
    out.mkdir()
    client = AsyncAnthropic(base_url=base_url, api_key="k", max_retries=0)
    requests = [{"custom_id": f"q-{n}", "params": {"model": "claude-opus-5-5", "max_tokens": 300000,
                 "messages": [{"role": "user", "content": f"q {n}"}]}} for n in range(count)]
    batches = client.beta.messages.batches
    batch = await batches.create(requests=requests, betas=["output-300k-2026-03-24"])
    while (await batches.retrieve(batch.id)).processing_status != "ended":
        await asyncio.sleep(0.1)
    started = time.perf_counter()
    async for line in await batches.results(batch.id):
        text = "".join(block.text for block in line.result.message.content if block.type == "text")
        open(out / f"{line.custom_id}.txt", "w").write(text)
    print(time.perf_counter() - started, batch.id)

asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
"""

BYTES_ONLY = """
import sys, time
import urllib.request

request = urllib.request.Request(f"{sys.argv[1]}/v1/messages/batches/{sys.argv[2]}/results",
                                 headers={"x-api-key": "k", "anthropic-version": "2023-06-01"})
started = time.perf_counter()
with urllib.request.urlopen(request) as response:
    while response.read(1 << 20):
        pass
print(time.perf_counter() - started)
"""


def main(parent: Path) -> None:
    """Print speed and peak memory of the naive client, the daemon, and an idle daemon."""
    with simulated(answer_tokens=ANSWER_TOKENS) as base_url:
        idle_place = make_place(parent, base_url)
        idle, _ = measure(daemon_command(idle_place, "--drain"), log_file=idle_place.log_file)
        naive_log = parent / "naive.log"
        command = [sys.executable, "-c", NAIVE, base_url, str(parent / "naive"), str(COUNT)]
        naive, _ = measure(command, log_file=naive_log)
        seconds, batch_id = naive_log.read_text().split()
        bytes_log = parent / "bytes.log"
        bare, _ = measure([sys.executable, "-c", BYTES_ONLY, base_url, batch_id], log_file=bytes_log)
        place = make_place(parent, base_url, log={"level": "info"}, window={"max_requests": COUNT, "max_wait": 1})
        _drop(place)
        daemon, _ = measure(daemon_command(place, "--drain"), log_file=place.log_file, note=FROM_END)
    assert (naive.exit_code, daemon.exit_code) == (0, 0), place.log_file.read_text()[-2000:]
    megabytes = COUNT * ANSWER_TOKENS * 4 / 1_000_000
    naive_seconds, bare_seconds = float(seconds), float(bytes_log.read_text())
    ended, delivered = log_moments(daemon, FROM_END)
    daemon_seconds = delivered - ended
    table(
        f"{COUNT} results of {ANSWER_TOKENS * 4} bytes",
        ["", "results s", "MB/s", "times naive", "peak MB", "over idle MB"],
        [
            ["naive, not durable", naive_seconds, megabytes / naive_seconds, 1.0, naive.peak_mb, ""],
            ["bytes only", bare_seconds, megabytes / bare_seconds, naive_seconds / bare_seconds, bare.peak_mb, ""],
            ["daemon", daemon_seconds, megabytes / daemon_seconds, naive_seconds / daemon_seconds, daemon.peak_mb,
             daemon.peak_mb - idle.peak_mb],
            ["daemon, nothing to do", "", "", "", idle.peak_mb, 0.0],
        ],
    )  # fmt: skip


def _drop(place: Place) -> None:
    lines = [json.dumps({"messages": [{"role": "user", "content": f"q {number}"}]}) for number in range(COUNT)]
    (place.root / "inbox" / "many.jsonl").write_text("\n".join(lines) + "\n")
