"""How much room the disks have: below a mark nothing is taken or sent, so that results still find a place.

There are two marks. What is taken fills the database, and what is sent and answered empties it again; were both to
stop at one mark, taking would fill the disk up to it, and nothing would ever empty it. So files are taken only as long
as that leaves the mark untouched. Pages that the database can use again count as room, because its file never shrinks;
but its log needs real room, so half of the mark has to be that.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from batchbox.config.quantities import size_text
from batchbox.errors import RootOfflineError
from batchbox.folders.reading import READ_BYTES
from batchbox.folders.root import Root

TAKING_BYTES = 4 * READ_BYTES
"""What one group of files adds to the database, its indexes and its log before room is asked for again."""
MB = 1000**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What a file system says of itself."""

    device: int
    free_bytes: int | None
    """None: it does not say."""
    has_files_left: bool


class Room:
    """The room on the root's disk and on the state's."""

    def __init__(self, root: Root, state: Path, *, bytes_min: int, reusable: Callable[[], Awaitable[int]]) -> None:
        self._root = root
        self._state = state
        self._bytes_min = bytes_min
        self._reusable = reusable

    async def shortage(self, size_bytes: int) -> str | None:
        """Return what keeps a file of this size, or a group of small ones, from being taken; None if nothing does.

        Raises RootOfflineError and OSError.
        """
        return await self._shortage(TAKING_BYTES + size_bytes + size_bytes // 4)  # with what comes with each request

    async def shortage_to_send(self) -> str | None:
        """Return what keeps batches from being sent, which goes on a little longer than taking; None if nothing does.

        A disk that cannot be looked at keeps them too.
        """
        try:
            return await self._shortage(0)
        except (OSError, RootOfflineError) as error:
            return str(error)

    async def _shortage(self, taking: int) -> str | None:
        if self._bytes_min == 0:
            return None
        root = await self._root.run(disk_of)
        state = disk_of(self._state)
        reusable = await self._reusable()
        complaint = lack(self._state, state, bytes_min=self._bytes_min, reusable=reusable, taking=taking)
        if complaint is None and root.device != state.device:
            complaint = lack(self._root.path, root, bytes_min=self._bytes_min)
        return complaint


def disk_of(folder: Path | int) -> Disk:
    """Look at the disk that a folder lies on. Raises OSError."""
    facts = os.statvfs(folder)
    return Disk(
        device=os.stat(folder).st_dev,
        free_bytes=facts.f_bavail * facts.f_frsize if facts.f_blocks else None,
        has_files_left=facts.f_files == 0 or facts.f_favail > 0,
    )


def lack(folder: Path, disk: Disk, *, bytes_min: int, reusable: int = 0, taking: int = 0) -> str | None:
    """Return what a disk lacks, in a sentence; None if it has the room."""
    if not disk.has_files_left:
        return f"no further file can be made on the disk of {folder}: it has no free inodes"
    if disk.free_bytes is None:
        return None
    room = disk.free_bytes + min(reusable, disk.free_bytes)  # so that half of it is real
    if room >= bytes_min + taking:
        return None
    fact = f"{disk.free_bytes // MB} MB free on the disk of {folder}"
    if room < bytes_min:
        return f"{fact}, less than [inbox] min_free {size_text(bytes_min)}"
    return f"{fact}: what comes next would leave less than [inbox] min_free {size_text(bytes_min)}"
