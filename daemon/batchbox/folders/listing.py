"""What lies in the inbox: names by lane, and the folders that are not read, each with the reason.

Names, and nothing that would cost a call per file. A folder from which no file could be taken is not read at all: it
stops alone, and its files stay where their owners see them. What is wrong with the root itself raises OSError.
"""

import errno
import os
import stat
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from batchbox.folders.layout import INBOX, PROCESSING
from batchbox.folders.mounts import renaming_range
from batchbox.folders.root import folder
from batchbox.model import INBOX_LANE, Lane

LANES_MAX = 1000
UNREAD_MAX = 1000
BUNDLE_END = ".bundle"

_Entries = tuple[list[str], list[str]]
"""Names of what is no folder, and of folders."""


class Unread(StrEnum):
    """Why a folder is not read."""

    SAME_NAME = "its name is another lane's but for upper and lower case"
    NOT_UTF8 = "its name is not UTF-8"
    TOO_MANY = f"there are {LANES_MAX} lanes already"
    BUNDLE = f"its name ends in {BUNDLE_END}, and such a folder is no lane"
    DEEPER = "only the inbox's own folders are lanes, and this one lies deeper"
    CLOSED = "it cannot be opened, or not by the service's user"
    ANOTHER_MOUNT = "it is a mount of its own, from which files cannot be renamed into processing/"
    NOT_WRITABLE = "files cannot be taken from it, because the service's user may not write and enter it"
    STICKY = "it has the sticky bit, so that files of other users cannot be taken from it"


BROKEN = frozenset({Unread.CLOSED, Unread.ANOTHER_MOUNT, Unread.NOT_WRITABLE, Unread.STICKY})
"""The folder is a lane, or the inbox, and its files wait until somebody has cured it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is in the inbox."""

    names: dict[Lane, list[str]]
    """What is no folder, in the order in which the file system has it."""
    folders: dict[Lane, tuple[int, int]]
    """The folders that were read: device and inode tell one from another that takes its place."""
    unread: dict[str, Unread]
    """The folders that are not read, by their paths on the root; the first thousand."""

    def read(self, lane: Lane, descriptor: int, names: list[str]) -> None:
        """Add a folder that was read."""
        facts = os.fstat(descriptor)
        self.names[lane] = names
        self.folders[lane] = (facts.st_dev, facts.st_ino)

    def leave(self, *path: str, why: Unread) -> None:
        """Add a folder that is not read."""
        if len(self.unread) < UNREAD_MAX:
            self.unread["/".join((INBOX, *path))] = why


def list_inbox(root: int, is_ignored: Callable[[str], bool]) -> Listing:
    """List the inbox and every lane, without names that are never requests."""
    listing = Listing(names={}, folders={}, unread={})
    with folder(root, PROCESSING) as processing:
        within = renaming_range(processing)
    with folder(root, INBOX) as inbox:
        names, folders = _entries(inbox, is_ignored)
        why = _obstacle(inbox, within)
        if why is None:
            listing.read(INBOX_LANE, inbox, names)
        else:
            listing.leave(why=why)
        seen: set[str] = set()
        for name in sorted(folders):
            why = _no_lane(name, seen)
            if why is not None:
                listing.leave(name, why=why)
                continue
            seen.add(_plain(name))
            _list_lane(listing, inbox, Lane(name), within, is_ignored)
    return listing


def _list_lane(
    listing: Listing, inbox: int, lane: Lane, within: tuple[int | None, int], is_ignored: Callable[[str], bool]
) -> None:
    try:
        with folder(inbox, lane) as descriptor:
            why = _obstacle(descriptor, within)
            if why is None:
                names, deeper = _entries(descriptor, is_ignored)
                listing.read(lane, descriptor, names)
                for name in sorted(deeper):
                    listing.leave(lane, name, why=Unread.DEEPER)
    except (FileNotFoundError, NotADirectoryError):  # removed or replaced since it was listed
        return
    except OSError:  # a lane is somebody's folder: it stops alone
        why = Unread.CLOSED
    if why is not None:
        listing.leave(lane, why=why)


def _entries(descriptor: int, is_ignored: Callable[[str], bool]) -> _Entries:
    """Return the names in a folder; for the sake of 100,000 of them, this does as little as can be for each."""
    others: list[str] = []
    folders: list[str] = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            name = entry.name
            if is_ignored(name):
                continue
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
            except OSError:  # only where the listing itself does not say it: what cannot be looked at is none
                is_folder = False
            (folders if is_folder else others).append(name)
    return others, folders


def _no_lane(name: str, seen: set[str]) -> Unread | None:
    if not _is_utf8(name):
        return Unread.NOT_UTF8
    if name.casefold().endswith(BUNDLE_END):
        return Unread.BUNDLE
    if _plain(name) in seen:
        return Unread.SAME_NAME
    return Unread.TOO_MANY if len(seen) >= LANES_MAX else None


def _plain(name: str) -> str:
    """Return the name as a share knows it that compares without case and spells accents in its own way."""
    return unicodedata.normalize("NFC", name).casefold()


def _obstacle(descriptor: int, within: tuple[int | None, int]) -> Unread | None:
    """Return why no file could be taken from an open folder, None if all can. Raises OSError on a read-only disk."""
    if renaming_range(descriptor) != within:
        return Unread.ANOTHER_MOUNT
    is_asked_as_daemon = os.access in os.supports_effective_ids
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=descriptor, effective_ids=is_asked_as_daemon):
        if os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), INBOX)
        return Unread.NOT_WRITABLE
    facts = os.fstat(descriptor)
    is_anybodys = os.geteuid() in {0, facts.st_uid}  # both may take what is others'
    return Unread.STICKY if facts.st_mode & stat.S_ISVTX and not is_anybodys else None


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
