"""A scan for names alone, as the daemon makes it again and again, against a bare `os.scandir` of the same folder."""

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

from batchbox.folders.listing import list_inbox
from batchbox.naming import is_ignored

from .place import make_place, table

COUNT = 100_000
TIMES = 9


def main(parent: Path) -> None:
    """Print the processor's time for both: the best of several scans, in turn."""
    place = make_place(parent, "http://127.0.0.1:9")
    inbox = place.root / "inbox"
    for number in range(COUNT):
        (inbox / f"question-{number:06}.md").touch()
    root = os.open(place.root, os.O_RDONLY)
    gc.freeze()  # as the daemon does
    bare, scan = [], []
    for _ in range(TIMES):
        bare.append(_seconds(lambda: _count(inbox)))
        scan.append(_seconds(lambda: list_inbox(root, is_ignored)))
    os.close(root)
    rows = [["os.scandir", min(bare) * 1000, 1.0], ["scan", min(scan) * 1000, min(scan) / min(bare)]]
    table(f"{COUNT} names", ["", "ms", "of bare"], rows)


def _count(folder: Path) -> int:
    count = 0
    with os.scandir(folder) as entries:
        for _ in entries:
            count += 1
    return count


def _seconds(act: Callable[[], object]) -> float:
    started = time.process_time()
    act()
    return time.process_time() - started
