"""Rings a bell when something changes in the inbox. It promises nothing: the scan finds what this misses.

Which folders there are it is told by whoever lists them, after each listing. The watcher below loses events when its
queue overflows, goes silent when a folder is moved, unmounted or mounted over, and dies of a name that is not UTF-8.
So it is started anew whenever the folders have changed, and whenever it has ended, more and more patiently.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
from watchfiles import awatch

from batchbox.timing import backoff_seconds

DEBOUNCE_MS = 200
STEP_MS = 50
SIGN_OF_LIFE_MS = 60_000
"""A watch that has lasted so long works, even if nothing has happened."""
RESTART_SECONDS_FIRST = 1.0
RESTART_SECONDS_MAX = 600.0

_LIMITS = {
    "file watch limit reached": "fs.inotify.max_user_watches",
    "os error 24": "fs.inotify.max_user_instances",
}
"""What the watcher below says, which gives no number, and the kernel's setting."""

log = logging.getLogger(__name__)

Folders = Mapping[Path, tuple[int, int]]
"""Folders to watch, with what tells one from another that takes its place: device and inode."""


class Watcher:
    """Watches the folders that it was told of last."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._folders: Folders = {}
        self._again = anyio.Event()  # ends the watch below, which asks for it from a thread of its own
        self._failures = 0
        self._told: str | None = None

    def watch(self, folders: Folders) -> None:
        """Watch these folders from now on, and no other."""
        if folders != self._folders:
            self._folders = dict(folders)
            self._again.set()

    async def run(self, stop: anyio.Event) -> None:
        """Ring for what happens in the folders, until stopped."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_with, stop)
            while not stop.is_set():
                self._again = anyio.Event()
                if not self._folders:
                    await self._again.wait()
                    continue
                try:
                    await self._watch_until_told(dict(self._folders))
                except Exception as error:  # noqa: BLE001 - whatever ends the watcher, the scan goes on and it is started anew
                    await self._rest(error)

    async def _end_with(self, stop: anyio.Event) -> None:
        await stop.wait()
        self._again.set()

    async def _watch_until_told(self, folders: Folders) -> None:
        if not await self._answer(folders):
            return
        self._ring()  # what came between the listing and the watch, which begins before anybody can answer the bell
        changes = awatch(
            *folders,
            watch_filter=None,
            recursive=False,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            rust_timeout=SIGN_OF_LIFE_MS,
            yield_on_timeout=True,
            stop_event=self._again,
        )
        async for batch in changes:
            self._failures, self._told = 0, None
            if batch:
                self._ring()
            if any(Path(path) in folders for _, path in batch):  # deleted, perhaps made anew under the same inode
                self._folders = {}  # until the listing for which the bell was rung tells of what is there now
                return

    async def _answer(self, folders: Folders) -> bool:
        """Look into the folders from a thread; return False if others are to be watched before these answer.

        To begin the watch below holds the whole process for as long as a folder of a share does not answer.
        """
        async with anyio.create_task_group() as looking:
            looking.start_soon(_cancel_after, self._again, looking.cancel_scope)
            await anyio.to_thread.run_sync(_look_into, list(folders), abandon_on_cancel=True)
            looking.cancel_scope.cancel()
        return not self._again.is_set()

    async def _rest(self, error: Exception) -> None:
        """Say once why there are no events, and wait before the next try."""
        self._failures += 1
        why = _why(error)
        if why != self._told:
            log.warning("no events: until the watcher works again, files are found by scanning", extra={"why": why})
        self._told = why
        seconds = backoff_seconds(self._failures, first=RESTART_SECONDS_FIRST, longest=RESTART_SECONDS_MAX)
        with anyio.move_on_after(seconds):
            await self._again.wait()


async def _cancel_after(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _look_into(folders: Sequence[Path]) -> None:
    for folder in folders:
        # What `stat` says may be remembered from before; what is wrong, the watch itself will say.
        with suppress(OSError), os.scandir(folder) as entries:
            next(entries, None)


def _why(error: Exception) -> str:
    for words, limit in _LIMITS.items():
        if words in str(error):
            return f"the limit {limit} is reached; raise it with sysctl"
    return f"{type(error).__name__}: {error}"
