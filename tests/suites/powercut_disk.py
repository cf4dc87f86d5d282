"""A disk that can be cut off: a file system in an image, mounted through a loop device, and its kernel's own cut.

After the cut nothing more reaches the image, neither what waits in memory nor the journal's last entries: mounting it
again shows what a machine would find whose power failed at that moment.
"""

import ctypes
import fcntl
import os
import platform
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .tracing import CALLS

MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-m", "0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
SIZE_BYTES = 1 << 30
"""The image is sparse. XFS wants 300 MB at least, and the daemon some room too."""

_GOING_DOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)
_CLONE_NEWNS = 0x20000


class Disk:
    """One image and where it is mounted."""

    def __init__(self, folder: Path, *, file_system: str) -> None:
        self.path = folder / "mounted"
        self._image = folder / "image"
        self._file_system = file_system
        self.path.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(SIZE_BYTES)
        _run(*MAKERS[file_system], str(self._image))

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Have the disk mounted while the block runs; nobody may have anything of it open at the end."""
        _run("mount", "-t", self._file_system, "-o", "loop", str(self._image), str(self.path))
        try:
            yield
        finally:
            _run("umount", str(self.path))

    def cut(self) -> None:
        """Cut the disk off: from now on every call on it fails, and nothing more is kept."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _GOING_DOWN, _NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def flush(self) -> None:
        """Make everything on the disk durable."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            number, _ = CALLS[platform.machine()]["syncfs"]
            ctypes.CDLL(None).syscall(number, descriptor)  # the kernel's own, whatever the library has been made to do
        finally:
            os.close(descriptor)


def leave_mounts_behind() -> None:
    """Give this process mounts of its own, which end with it however it ends. Raises OSError if it may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _run("mount", "--make-rprivate", "/")


def file_systems() -> list[str]:
    """Return the file systems that can be made here."""
    return [name for name, (program, *_) in MAKERS.items() if shutil.which(program)]


def hindrance(folder: Path) -> str | None:
    """Say why no disk can be cut off here, or None if one can."""
    if os.geteuid() != 0:
        return "only root may mount a disk to be cut off"
    if "ext4" not in file_systems():
        return "mkfs.ext4 is missing (Debian: apt-get install e2fsprogs)"
    try:
        disk = Disk(folder / "trial", file_system="ext4")
        with disk.mounted():
            disk.cut()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"a disk cannot be mounted and cut off here: {error}"
    return None


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
