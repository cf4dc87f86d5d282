"""What lies in the inbox: names by lane, and the folders that are not read, each with the reason.

Names, and nothing that would cost a call per file. A folder from which no file could be taken is not read at all: it
stops alone, and its files stay where their owners see them. What is wrong with the root itself raises OSError.

However much lies there, no more names are kept than can be borne, in the order of the folder; the others come when
those have gone. But what is said about a file by another that lies beside it, a `.cancel` or a marker, must not be
torn from it: signs that lie beyond the bound are kept as well, and the folder is gone through once more for the files
that the signs name.
"""

import errno
import os
import stat
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from batchbox.folders.layout import INBOX, PROCESSING
from batchbox.folders.mounts import renaming_range
from batchbox.folders.root import folder, is_folder
from batchbox.model import INBOX_LANE, Lane
from batchbox.naming import canceled_by, marked_by, visible

LANES_MAX = 1000
UNREAD_MAX = 1000
BUNDLE_END = ".bundle"
_CLOSED = {errno.EACCES, errno.EPERM}
_SILENT = (".", "_")
"""How names of folders begin that are nobody's lane, and that nobody has to be told of."""


class Unread(StrEnum):
    """Why a folder is not read."""

    SAME_NAME = "its name is another lane's but for upper and lower case or the spelling of accents"
    NOT_UTF8 = "its name is not UTF-8"
    TOO_MANY = f"there are {LANES_MAX} lanes already"
    BUNDLE = f"its name ends in {BUNDLE_END}, and such a folder is no lane"
    IGNORED = "programs give such names to unfinished or own files and folders"
    DEEPER = "only the inbox's own folders are lanes, and this one lies deeper"
    CLOSED = "it cannot be opened, or not by the service's user"
    UNREACHABLE = "it cannot be read just now, and that is tried again"
    ANOTHER_MOUNT = "it is a mount of its own, from which files cannot be renamed into processing/"
    NOT_WRITABLE = "files cannot be taken from it, because the service's user may not write and enter it"
    STICKY = "it has the sticky bit, so that files of other users cannot be taken from it"


BROKEN = frozenset({Unread.CLOSED, Unread.ANOTHER_MOUNT, Unread.NOT_WRITABLE, Unread.STICKY})
"""The folder is a lane, or the inbox, and its files wait until somebody has cured it."""

_IF_NOT_EMPTY = frozenset({Unread.SAME_NAME, Unread.NOT_UTF8, Unread.TOO_MANY})
"""The folder would be a lane: if files lie in it, they wait like those of a broken one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of what lies there is kept in memory."""

    names: int = 100_000
    """Of all lanes together; each has an equal part of them."""
    names_of_lane: int = 256
    """Of a lane, however many there are."""
    folders: int = 10_000


BOUNDS = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is in the inbox."""

    names: dict[Lane, list[str]]
    """What is no folder, in the order in which the file system has it."""
    folders: dict[Lane, tuple[int, int]]
    """The folders that were read: device and inode tell one from another that takes its place."""
    unread: dict[str, Unread]
    """The folders that are not read, by their paths on the root; the first thousand."""
    stuck: set[str] = field(default_factory=set)
    """Those of them whose files wait until somebody has cured the folder."""
    lanes: set[str] = field(default_factory=set)
    """The folders that have their place as a lane, whether they could be read or not."""

    def read(self, lane: Lane, descriptor: int, names: list[str]) -> None:
        """Add a folder that was read."""
        facts = os.fstat(descriptor)
        self.names[lane] = names
        self.folders[lane] = (facts.st_dev, facts.st_ino)

    def leave(self, *path: str, why: Unread, is_stuck: bool = False) -> None:
        """Add a folder that is not read."""
        if len(self.unread) < UNREAD_MAX:
            name = "/".join((INBOX, *path))
            self.unread[name] = why
            if is_stuck or why in BROKEN:
                self.stuck.add(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entries:
    """What lies in a folder, by name."""

    others: list[str] = field(default_factory=list)
    """What is no folder."""
    folders: list[str] = field(default_factory=list)
    ignored_folders: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What is listed."""

    is_ignored: Callable[[str], bool]
    names_max: int
    folders_max: int
    known: Collection[str] = ()
    """Folders that are listed in any case."""


def list_inbox(
    root: int, is_ignored: Callable[[str], bool], *, known: Collection[str] = (), bounds: Bounds = BOUNDS
) -> Listing:
    """List the inbox and every lane, without names that are never requests.

    Args:
        root: The root's descriptor.
        is_ignored: Whether a name is never one of a request.
        known: The lanes so far. They keep their place: a newcomer whose name is the same but for upper and lower case,
            or that is one too many, does not take it.
        bounds: How much is kept in memory.
    """
    listing = Listing(names={}, folders={}, unread={})
    rules = _Rules(is_ignored=is_ignored, names_max=bounds.names, folders_max=bounds.folders, known=frozenset(known))
    with folder(root, PROCESSING) as processing:
        within = renaming_range(processing)
    with folder(root, INBOX) as inbox:
        entries = _entries(inbox, rules)
        for name in entries.ignored_folders:
            listing.leave(name, why=Unread.IGNORED)
        lanes = _part(listing, inbox, entries.folders, rules)
        names_max = max(bounds.names_of_lane, bounds.names // (1 + len(lanes)))
        rules = _Rules(is_ignored=is_ignored, names_max=names_max, folders_max=bounds.folders)
        why = _obstacle(inbox, within)
        if why is None:
            if names_max < bounds.names and len(entries.others) > names_max:
                entries = _entries(inbox, rules)
            listing.read(INBOX_LANE, inbox, entries.others)
        else:
            listing.leave(why=why)
        for lane in lanes:
            _list_lane(listing, inbox, lane, within, rules)
    return listing


def _part(listing: Listing, inbox: int, folders: list[str], rules: _Rules) -> list[Lane]:
    """Return the lanes among the folders; the others are not read."""
    seen: set[str] = set()
    lanes = []
    for name in sorted(folders, key=lambda name: (name not in rules.known, name)):
        why = _no_lane(name, seen)
        if why is None:
            seen.add(_plain(name))
            lanes.append(Lane(name))
        elif len(listing.unread) < UNREAD_MAX:
            listing.leave(name, why=why, is_stuck=why in _IF_NOT_EMPTY and _has_files(inbox, name, rules))
    return lanes


def _has_files(inbox: int, name: str, rules: _Rules) -> bool:
    try:
        with folder(inbox, name) as descriptor, os.scandir(descriptor) as entries:
            return any(not rules.is_ignored(entry.name) and not is_folder(entry) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # who knows
        return True


def _list_lane(listing: Listing, inbox: int, lane: Lane, within: tuple[int | None, int], rules: _Rules) -> None:
    try:
        with folder(inbox, lane) as descriptor:
            why = _obstacle(descriptor, within)
            if why is None:
                entries = _entries(descriptor, rules)
                listing.read(lane, descriptor, entries.others)
                for name in sorted(entries.folders):
                    listing.leave(lane, name, why=Unread.DEEPER)
    except (FileNotFoundError, NotADirectoryError):  # removed or replaced since it was listed
        return
    except OSError as error:  # a lane is somebody's folder: it stops alone
        why = Unread.CLOSED if error.errno in _CLOSED else Unread.UNREACHABLE
    listing.lanes.add(lane)
    if why is not None:
        listing.leave(lane, why=why)


def _entries(descriptor: int, rules: _Rules) -> _Entries:
    """Return the names in a folder; for the sake of 100,000 of them, this does as little as can be for each."""
    found = _Entries()
    others, folders, is_ignored = found.others, found.folders, rules.is_ignored
    with os.scandir(descriptor) as entries:
        for entry in islice(entries, rules.names_max):
            name = entry.name
            if is_ignored(name):
                _note_ignored(found, entry)
                continue
            try:
                is_one = entry.is_dir(follow_symlinks=False)
            except OSError:  # only where the listing itself does not say it: what cannot be looked at is none
                is_one = False
            (folders if is_one else others).append(name)
        is_cut = _go_on(found, entries, rules)
    if is_cut:
        others += _named(descriptor, others, rules)
    if len(folders) > rules.folders_max:
        unknown = [name for name in folders if name not in rules.known]
        folders[:] = [name for name in folders if name in rules.known] + unknown[: rules.folders_max]
    return found


def _go_on(found: _Entries, entries: Iterator["os.DirEntry[str]"], rules: _Rules) -> bool:
    """Add what fits of a folder with very many names, and as many signs again; return whether anything was left out."""
    is_cut = False
    sign_count = 0
    for entry in entries:
        name = entry.name
        if rules.is_ignored(name):
            _note_ignored(found, entry)
        elif is_folder(entry):
            if len(found.folders) < rules.folders_max or name in rules.known:
                found.folders.append(name)
        elif len(found.others) < rules.names_max:
            found.others.append(name)
        else:
            is_cut = True
            if sign_count < rules.names_max and _is_sign(name):
                found.others.append(name)
                sign_count += 1
    return is_cut


def _named(descriptor: int, names: list[str], rules: _Rules) -> list[str]:
    """Return the files that the signs among these names are about, as far as they are not among them."""
    targets = {*canceled_by(names).values(), *marked_by(names).values()}
    if not targets:
        return []
    known = set(names)
    with os.scandir(descriptor) as entries:
        named = (
            entry.name
            for entry in entries
            if visible(entry.name) in targets
            and entry.name not in known
            and not rules.is_ignored(entry.name)
            and not is_folder(entry)
        )
        return list(islice(named, 2 * rules.names_max))


def _note_ignored(found: _Entries, entry: "os.DirEntry[str]") -> None:
    if not entry.name.startswith(_SILENT) and len(found.ignored_folders) < UNREAD_MAX and is_folder(entry):
        found.ignored_folders.append(entry.name)


def _is_sign(name: str) -> bool:
    return bool(canceled_by([name]) or marked_by([name]))


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
