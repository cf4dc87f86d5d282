"""A create call of 240 MB: streamed from the database by the daemon, and made by the SDK from Python objects."""

import sys
from pathlib import Path

from .place import MB, daemon_command, log_moments, make_place, measure, simulated, table

COUNT = 120
FILE_BYTES = 2 * MB
CALL = ("batch goes out", "batch accepted")

SDK = """
import sys, time, asyncio
from anthropic import AsyncAnthropic

async def main(base_url, count, size):
    client = AsyncAnthropic(base_url=base_url, api_key="k", max_retries=0)
    requests = [{"custom_id": f"q-{n}", "params": {"model": "claude-opus-5-5", "max_tokens": 9,
                 "messages": [{"role": "user", "content": str(n).ljust(size, "x")}]}} for n in range(count)]
    started = time.perf_counter()
    await client.beta.messages.batches.create(requests=requests, betas=["output-300k-2026-03-24"])
    print(time.perf_counter() - started)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def main(parent: Path) -> None:
    """Print speed and peak memory of both, and of an idle daemon."""
    with simulated() as base_url:
        idle_place = make_place(parent, base_url)
        idle, _ = measure(daemon_command(idle_place, "--drain"), log_file=idle_place.log_file)
        sdk_log = parent / "sdk.log"
        sdk, _ = measure([sys.executable, "-c", SDK, base_url, str(COUNT), str(FILE_BYTES)], log_file=sdk_log)
        place = make_place(parent, base_url, log={"level": "info"}, window={"max_bytes": "250MB", "max_wait": 10})
        for number in range(COUNT):
            (place.root / "inbox" / f"q{number:03}.md").write_text(str(number).ljust(FILE_BYTES, "x"))
        daemon, _ = measure(daemon_command(place, "--drain"), log_file=place.log_file, note=CALL)
    assert (sdk.exit_code, daemon.exit_code) == (0, 0), place.log_file.read_text()[-2000:]
    sdk_seconds = float(sdk_log.read_text())
    start, end = log_moments(daemon, CALL)
    megabytes = COUNT * FILE_BYTES / MB
    table(
        f"create call of {megabytes:.0f} MB",
        ["", "s", "MB/s", "times SDK", "peak MB", "over idle MB"],
        [
            ["SDK create()", sdk_seconds, megabytes / sdk_seconds, 1.0, sdk.peak_mb, ""],
            ["daemon", end - start, megabytes / (end - start), sdk_seconds / (end - start), daemon.peak_mb,
             daemon.peak_mb - idle.peak_mb],
        ],
    )  # fmt: skip
