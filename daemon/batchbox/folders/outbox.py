"""The outbox: parts are written under hidden names, made durable together, and only then given their names.

The order is what makes a visible file a finished file: parts durable; texts renamed; folder durable; the
`.result.json`s and `.error.json`s, which scripts wait for, renamed; folder durable. The caller commits after that.

A rename replaces what has the name, so before the first one every name that is new is looked for: another daemon, or
a person, may have taken it since the outbox was listed.
"""

import ctypes
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from batchbox.folders.layout import OUTBOX, confirm_instance, lane_folder
from batchbox.folders.root import Root, exists, folder, is_about_one_name, is_folder, sync_folder, write_all
from batchbox.model import Instance, Lane

SYNC_ALONE_UP_TO = 3
"""So many parts are cheaper to flush one by one than with the whole file system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file that is complete but not visible yet."""

    name: str
    is_marker: bool
    """A `.result.json` or `.error.json`: it becomes visible after everything else of its group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """The content of a file to be."""

    pieces: Sequence[bytes]
    is_marker: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A part and the name that it gets."""

    part: Part
    name: str
    is_new: bool
    """Whether nothing of ours can have the name yet, so that whatever has it is somebody else's."""


class Outbox:
    """The outbox and its lanes."""

    def __init__(self, root: Root, instance: Instance, *, is_local: bool) -> None:
        self._root = root
        self._instance = instance
        self._prefix = f".bb-{instance}-"
        self._sync_together = _find_syncfs() if is_local else None

    async def write(self, lane: Lane, files: Sequence[NewFile]) -> list[Part]:
        """Write parts. They are neither visible nor durable yet."""
        return await self._root.run(lambda root: self._write(root, lane, files))

    async def publish(self, lane: Lane, group: Sequence[Publication], *, replaced: Sequence[str]) -> set[str]:
        """Give the parts their names, durably and in order. `replaced` are stems whose old files go first.

        Returns the new names that somebody else has: if there are any, nothing was done. Raises RetiredError.
        """
        return await self._root.run(lambda root: self._publish(root, lane, group, replaced))

    async def names(self, lane: Lane) -> list[str]:
        """Return the names of the files in the lane's outbox; lanes' own folders are no files."""
        return await self._root.run(lambda root: _names(root, lane))

    async def heads(self, lane: Lane, names: Sequence[str], *, length: int) -> list[bytes | None]:
        """Return the first bytes of each of these files in the outbox, None for one that cannot be read."""
        return await self._root.run(lambda root: _heads(root, lane, names, length))

    async def remove_leftovers(self) -> None:
        """Delete the parts of this instance: whatever they were for is written anew."""
        await self._root.run(self._remove_leftovers)

    def _write(self, root: int, lane: Lane, files: Sequence[NewFile]) -> list[Part]:
        with lane_folder(root, OUTBOX, lane, make=True) as outbox:
            return [self._write_one(outbox, file) for file in files]

    def _write_one(self, outbox: int, file: NewFile) -> Part:
        name = f"{self._prefix}{os.urandom(8).hex()}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o666, dir_fd=outbox)
        try:
            write_all(descriptor, list(file.pieces))
        finally:
            os.close(descriptor)
        return Part(name=name, is_marker=file.is_marker)

    def _publish(self, root: int, lane: Lane, group: Sequence[Publication], replaced: Sequence[str]) -> set[str]:
        with lane_folder(root, OUTBOX, lane, make=True) as outbox:
            self._make_durable(outbox, group)
            confirm_instance(root, self._instance)
            taken = {one.name for one in group if one.is_new and exists(one.name, parent=outbox)}
            if taken:
                return taken
            _remove_stems(outbox, replaced)
            for is_marker in (False, True):
                for publication in group:
                    if publication.part.is_marker is is_marker:
                        os.rename(publication.part.name, publication.name, src_dir_fd=outbox, dst_dir_fd=outbox)
                sync_folder(outbox)
        return set()

    def _make_durable(self, outbox: int, group: Sequence[Publication]) -> None:
        if self._sync_together is not None and len(group) > SYNC_ALONE_UP_TO:
            self._sync_together(outbox)
            return
        for publication in group:
            descriptor = os.open(publication.part.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=outbox)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _remove_leftovers(self, root: int) -> None:
        with folder(root, OUTBOX) as outbox:
            self._remove_leftovers_in(outbox)
            with os.scandir(outbox) as entries:
                lanes = [entry.name for entry in entries if is_folder(entry)]
            for lane in lanes:
                with _leaving_what_resists(), folder(outbox, lane) as descriptor:
                    self._remove_leftovers_in(descriptor)

    def _remove_leftovers_in(self, parent: int) -> None:
        for name in os.listdir(parent):
            if name.startswith(self._prefix) and name.endswith(".part"):
                with _leaving_what_resists():
                    os.unlink(name, dir_fd=parent)


def _names(root: int, lane: Lane) -> list[str]:
    with lane_folder(root, OUTBOX, lane, make=True) as outbox:
        return _file_names(outbox)


def _heads(root: int, lane: Lane, names: Sequence[str], length: int) -> list[bytes | None]:
    with lane_folder(root, OUTBOX, lane, make=True) as outbox:
        return [_head(outbox, name, length) for name in names]


def _head(outbox: int, name: str, length: int) -> bytes | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=outbox)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or is_about_one_name(error):
            return None
        raise
    try:
        return os.read(descriptor, length) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


def _remove_stems(outbox: int, stems: Sequence[str]) -> None:
    if not stems:
        return
    going = set(stems)
    for name in _file_names(outbox):
        if name.partition(".")[0] in going:
            os.unlink(name, dir_fd=outbox)


def _file_names(parent: int) -> list[str]:
    with os.scandir(parent) as entries:
        return [entry.name for entry in entries if not is_folder(entry)]


@contextmanager
def _leaving_what_resists() -> Iterator[None]:
    """Go on where one thing cannot be tidied: a folder that is somebody's own, a file that is in use."""
    try:
        yield
    except OSError as error:
        if not is_about_one_name(error):
            raise


def _find_syncfs() -> Callable[[int], None] | None:
    """Return a call that makes a descriptor's whole file system durable, where there is one (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None, use_errno=True)

    def sync_file_system(descriptor: int) -> None:
        if library.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return sync_file_system
