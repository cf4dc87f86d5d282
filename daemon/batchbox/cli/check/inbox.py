"""Looks at the inbox and its lanes: whether files can be taken from them, and which that lie there never will be."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from batchbox.cli.check.finding import Finding, Subject, fail, ok, warn
from batchbox.cli.check.trial import try_renaming
from batchbox.folders.layout import INBOX, PROCESSING, lane_folder
from batchbox.folders.listing import BROKEN, Listing, Unread, list_inbox
from batchbox.folders.mounts import file_system_of
from batchbox.folders.root import exists, folder, is_folder
from batchbox.formats import KNOWN_EXTENSIONS, kind_of
from batchbox.model import INBOX_LANE, Lane
from batchbox.naming import CANCEL_SUFFIX, MARKER_SUFFIX, is_ignored

EXAMPLES = 3
FILES_MAX = 10_000
"""So many files of a folder are looked at one by one; more would only take time."""

_TOLD_ALREADY = {Unread.CLOSED, Unread.ANOTHER_MOUNT, Unread.NOT_WRITABLE}
"""Of the inbox itself: what the root's own folders must allow is told with them."""

_FIXES: Mapping[Unread, str] = {
    Unread.SAME_NAME: "rename one of the two",
    Unread.NOT_UTF8: "rename it",
    Unread.TOO_MANY: "keep fewer folders in inbox/",
    Unread.BUNDLE: "drop its files one by one",
    Unread.IGNORED: "give another name to what is meant as a lane",
    Unread.DEEPER: "move it up into inbox/, or its files into the lane",
    Unread.CLOSED: "let the daemon's user, or one of its groups, read, write and enter it",
    Unread.NOT_WRITABLE: "let the daemon's user, or one of its groups, read, write and enter it",
    Unread.UNREACHABLE: "look again; if it stays so, look at the disk or the share's server",
    Unread.ANOTHER_MOUNT: "unmount it; a mount of its own can have a root and a daemon of its own",
}


def look_at_inbox(root: int, path: Path, keep_going: Callable[[], bool]) -> Iterator[Finding]:
    """Return what was found in the inbox and in every lane; nothing if it cannot be listed, which is told already."""
    try:
        listing = list_inbox(root, is_ignored)
    except OSError:
        return
    yield from _unread(root, path, listing)
    for lane in listing.folders:
        if not keep_going():
            return
        yield from _lane(root, path, lane)
    lanes = sorted(lane for lane in listing.folders if lane != INBOX_LANE)
    if lanes:
        yield ok(Subject.INBOX, f"{len(lanes)} {_plural('lane', lanes)} can be read: {_some(lanes)}")
    for lane, names in listing.names.items():
        yield from _files(root, path, lane, names)


def _unread(root: int, path: Path, listing: Listing) -> Iterator[Finding]:
    for name, why in listing.unread.items():
        if why not in BROKEN or (name == INBOX and why in _TOLD_ALREADY):
            continue
        fact = f"{path / name}: {why}{_type_of(root, name) if why is Unread.ANOTHER_MOUNT else ''}"
        fix = f"chmod -t {path / name}" if why is Unread.STICKY else _FIXES[why]
        yield fail(Subject.INBOX, fact, fix=fix)
    for why in Unread:
        names = [name for name, reason in listing.unread.items() if reason is why]
        if names and why not in BROKEN:
            yield warn(Subject.INBOX, f"{_some(names)}: not read, because {why}", fix=_FIXES[why])


def _type_of(root: int, name: str) -> str:
    try:
        with folder(root, *name.split("/")) as descriptor:
            return f" (it is on {file_system_of(descriptor)})"
    except OSError:
        return ""


def _lane(root: int, path: Path, lane: Lane) -> Iterator[Finding]:
    """Try a claim from a lane, with a file of our own; from the inbox itself it was tried already."""
    if lane == INBOX_LANE:
        return
    try:
        with lane_folder(root, INBOX, lane) as source, folder(root, PROCESSING) as processing:
            try_renaming(source, processing)
    except OSError as error:
        if error.errno == errno.ENOENT:  # it was removed meanwhile
            return
        fact = f"{path / INBOX / lane}: files cannot be taken from it ({error.strerror})"
        yield fail(Subject.INBOX, fact, fix=_FIXES[Unread.NOT_WRITABLE])


def _files(root: int, path: Path, lane: Lane, names: Sequence[str]) -> Iterator[Finding]:
    place = path / INBOX if lane == INBOX_LANE else path / INBOX / lane
    try:
        with lane_folder(root, INBOX, lane) as descriptor:
            strange = {name for name in names[:FILES_MAX] if _is_strange(name, descriptor)}
            closed = sorted(name for name in names[:FILES_MAX] if name not in strange and _is_closed(name, descriptor))
            with os.scandir(descriptor) as entries:  # folders among them are told as such
                passed = [entry.name for entry in entries if is_ignored(entry.name) and not is_folder(entry)]
            ignored = sorted(name for name in passed if name[0] not in "._")
    except OSError:  # removed meanwhile
        return
    unknown = sorted(name for name in names if kind_of(name) is None and not _is_sign(name) and name not in strange)
    if unknown:
        known = ", ".join(KNOWN_EXTENSIONS)
        fact = f"{place}: {_some(unknown)}: of no known type, and so rejected after a while"
        yield warn(Subject.INBOX, fact, fix=f"known are {known}; give another name to what is one of these")
    if strange:
        fact = f"{place}: {_some(sorted(strange))}: a link, a pipe or the like, and so rejected, whatever its name"
        yield warn(Subject.INBOX, fact, fix="drop the file itself; in the place of a lane, make a folder")
    if closed:
        fact = f"{place}: {_some(closed)}: the service's user may not read this, and so it waits"
        yield warn(Subject.INBOX, fact, fix="let the daemon's user, or one of its groups, read it")
    if ignored:
        fact = f"{place}: {_some(ignored)}: never taken, because programs give such names to unfinished or own files"
        yield warn(Subject.INBOX, fact, fix="rename what is meant to be answered")


def _is_sign(name: str) -> bool:
    return name.casefold().endswith((MARKER_SUFFIX, CANCEL_SUFFIX))


def _is_strange(name: str, parent: int) -> bool:
    try:
        return not stat.S_ISREG(os.lstat(name, dir_fd=parent).st_mode)
    except FileNotFoundError:  # taken meanwhile
        return False


def _is_closed(name: str, parent: int) -> bool:
    is_asked_as_daemon = os.access in os.supports_effective_ids
    is_there = exists(name, parent=parent)  # else it was taken meanwhile
    return is_there and not os.access(name, os.R_OK, dir_fd=parent, effective_ids=is_asked_as_daemon)


def _some(names: Sequence[str]) -> str:
    more = len(names) - EXAMPLES
    return ", ".join(names[:EXAMPLES]) + (f" and {more} more" if more > 0 else "")


def _plural(word: str, things: Sequence[object]) -> str:
    return word if len(things) == 1 else f"{word}s"
