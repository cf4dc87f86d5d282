"""The root's descriptor: opened, checked and closed around every group of operations."""

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from batchbox.errors import RootOfflineError
from batchbox.folders.mounts import is_local

T = TypeVar("T")

_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NOT_A_FILE = {errno.ELOOP, errno.ENXIO, errno.ENODEV}  # a link, a socket, a device without a driver

IDENTITY_FILE = (".batchbox", "identity.json")
IDENTITY_BYTES_MAX = 4096

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OF_ONE_NAME = {
    errno.EACCES,
    errno.EPERM,
    errno.EBUSY,
    errno.ETXTBSY,
    errno.EAGAIN,  # somebody has a lease on it, and we wait for nobody
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENXIO,
    errno.ENODEV,
    errno.EXDEV,
}
_SYNC_NOT_OFFERED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


class Root:
    """The folder that holds inbox, outbox and the rest."""

    def __init__(self, path: Path, *, identity: str) -> None:
        self.path = path
        self._identity = identity
        self._turn = anyio.CapacityLimiter(1)  # one group at a time, whoever asks
        self._found: tuple[int, int] | None = None  # device and inode; written by the group whose turn it is
        self._is_local = False

    @property
    def is_busy(self) -> bool:
        """Whether a group is under way: a share that hangs is not a service that hangs."""
        return self._turn.borrowed_tokens > 0

    @property
    def is_local(self) -> bool:
        """Whether the root was on a local file system when it was last opened; what is mounted there may change."""
        return self._is_local

    async def run(self, work: Callable[[int], T]) -> T:
        """Run a group of operations with the root's descriptor, in the root's thread.

        Raises RootOfflineError if the root is away or another one, and whatever the group raises. When the caller is
        cancelled the thread is left behind: it may be inside a system call that never returns.
        """
        return await anyio.to_thread.run_sync(self._work, work, abandon_on_cancel=True, limiter=self._turn)

    def _work(self, work: Callable[[int], T]) -> T:
        with open_root(self.path) as descriptor:
            self._look_where(descriptor)
            if read_identity(descriptor) != self._identity:
                raise RootOfflineError(f"{self.path}: this is not the folder that batchbox worked on. Is it mounted?")
            return work(descriptor)

    def _look_where(self, descriptor: int) -> None:
        facts = os.fstat(descriptor)
        found = (facts.st_dev, facts.st_ino)
        if found != self._found:
            self._is_local = is_local(descriptor)
            self._found = found


@contextmanager
def open_root(path: Path) -> Iterator[int]:
    """Open the root itself. Raises RootOfflineError if it cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RootOfflineError(f"{path}: cannot be opened ({error.strerror}). Is it mounted?") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_identity(root: int) -> str | None:
    """Return the root's identity, or None if it has none that can be read."""
    try:
        return identity_of(root)
    except (OSError, ValueError):
        return None


def identity_of(root: int) -> str:
    """Return the root's identity. Raises OSError if it cannot be read, and ValueError if it is none."""
    with folder(root, *IDENTITY_FILE[:-1]) as parent, opened(IDENTITY_FILE[-1], parent=parent) as descriptor:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no regular file")
        try:
            identity = json.loads(os.read(descriptor, IDENTITY_BYTES_MAX))
            return str(identity["id"])
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError("it holds no id") from error


@contextmanager
def opened(name: str, *, parent: int) -> Iterator[int]:
    """Open a file for reading, whatever it is, without following a link or waiting for anybody."""
    descriptor = os.open(name, _READ_FLAGS, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def folder(parent: int, *names: str) -> Iterator[int]:
    """Open a folder below a descriptor, name by name, following no link."""
    descriptor = os.dup(parent)
    try:
        for name in names:
            below = os.open(name, _FOLDER_FLAGS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(parent: int, name: str, *, mode: int = 0o777) -> None:
    """Make a folder, durably, if it is missing. The umask applies, and setgid comes from the parent."""
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        return
    sync_folder(parent)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Say whether what was listed is a folder, and no link to one. What cannot be looked at is none."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:  # only where the listing itself does not say it
        return False


def is_about_one_name(error: OSError) -> bool:
    """Say whether the error is about the thing that was worked on, and not about the disk, the share or the process.

    Whoever may drop files can cause such an error, so it must not keep anything else waiting.
    """
    return error.errno in _OF_ONE_NAME


@contextmanager
def leaving_what_resists() -> Iterator[None]:
    """Go on where one thing cannot be tidied: a folder that is somebody's own, a file that is in use."""
    try:
        yield
    except OSError as error:
        if not is_about_one_name(error):
            raise


def sync_folder(descriptor: int) -> None:
    """Make the folder's entries durable, where the file system offers that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _SYNC_NOT_OFFERED:
            raise


def exists(name: str, *, parent: int) -> bool:
    """Say whether there is anything of that name, even a dangling link."""
    try:
        os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return False
    return True


def write_all(descriptor: int, pieces: list[bytes]) -> None:
    """Write the pieces one after the other, whatever a single call accepts."""
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]
