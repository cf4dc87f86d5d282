"""Rings a bell when something changes in the inbox. It promises nothing: the scan finds what this misses.

The watcher loses events when its queue overflows, goes silent when a folder is moved or mounted over, and dies of a
name that is not UTF-8. So it is restarted whenever it ends, and whenever the folders to watch have changed.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
from watchfiles import awatch

DEBOUNCE_MS = 200
STEP_MS = 50
LOOK_AROUND_MS = 60_000
"""So often are the folders compared with those that are watched, when nothing happens."""
RESTART_SECONDS = 5.0
FOLDERS_MAX = 1000

log = logging.getLogger(__name__)


async def ring_on_changes(inbox: Path, ring: Callable[[], None], stop: anyio.Event) -> None:
    """Watch the inbox and its sub-folders until stopped."""
    while not stop.is_set():
        try:
            await _watch_until_folders_change(inbox, ring, stop)
        except Exception as error:  # noqa: BLE001 - whatever ends the watcher, the scan goes on and it is started anew
            log.warning("watcher ended, and is started again", extra={"why": f"{type(error).__name__}: {error}"})
            with anyio.move_on_after(RESTART_SECONDS):
                await stop.wait()


async def _watch_until_folders_change(inbox: Path, ring: Callable[[], None], stop: anyio.Event) -> None:
    folders = await anyio.to_thread.run_sync(_folders, inbox)
    ring()  # what came between the listing and the watch
    changes = awatch(
        *folders,
        watch_filter=None,
        recursive=False,
        debounce=DEBOUNCE_MS,
        step=STEP_MS,
        rust_timeout=LOOK_AROUND_MS,
        yield_on_timeout=True,
        stop_event=stop,
    )
    async for batch in changes:
        if batch:
            ring()
        is_touched = any(path in folders for _, path in batch)  # deleted, perhaps made anew under the same inode
        if is_touched or await anyio.to_thread.run_sync(_folders, inbox) != folders:
            return


def _folders(inbox: Path) -> dict[str, tuple[int, int]]:
    """Return the folders to watch, with what tells one from another that took its place: device and inode."""
    with os.scandir(inbox) as entries:
        lanes = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    facts = [(path, os.stat(path)) for path in (str(inbox), *lanes[:FOLDERS_MAX])]
    return {path: (status.st_dev, status.st_ino) for path, status in facts}
