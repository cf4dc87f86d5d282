"""Far more files than may be pending, in one lane: the others have their turn, and memory does not grow with them."""

import asyncio
import os
from pathlib import Path

import pytest

from .site import Site, prompt, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COUNT = 200_000
GROWN_MB_MAX = 80.0
"""What a process takes when it works for the first time, and 100,000 names."""
NAME_BYTES = 255
FEW = ("one", "two", "three")


def resident_mb(pid: int) -> float:
    """Return the most memory that a process ever had in use."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def crowd(folder: Path) -> None:
    """Fill a folder with files of the longest names."""
    for number in range(COUNT):
        name = f"{number:06}-".ljust(NAME_BYTES - len(".md"), "n") + ".md"
        (folder / name).write_text(prompt(f"Question {number}"))


async def test_a_crowd_in_one_lane_neither_keeps_the_others_waiting_nor_fills_the_memory(site: Site) -> None:
    site.configure(inbox={"max_pending": 500})
    crowded = site.root / "inbox" / "crowded"
    for lane in ("crowded", "few"):
        (site.root / "inbox" / lane).mkdir()
    async with site.daemon() as daemon:
        await daemon.says("started")
        before_mb = resident_mb(daemon.pid)
        await asyncio.to_thread(crowd, crowded)
        await until(lambda: site.visible("outbox", lane="crowded"), "the first of the crowd is answered", seconds=300)
        for name in FEW:
            site.drop(f"{name}.md", prompt(name), lane="few")
        for name in FEW:
            await site.answers(name, lane="few", seconds=300)
        left_count = len(os.listdir(crowded))
        grown_mb = resident_mb(daemon.pid) - before_mb
        assert await daemon.stop() == 0

    assert left_count > COUNT / 2, "the crowd was through before the few came: nothing was shown"
    assert grown_mb < GROWN_MB_MAX
