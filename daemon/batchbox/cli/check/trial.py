"""A file of our own with which folders are tried. No daemon reads it, and nothing of it is left."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from batchbox.folders.trials import trial_name


@contextmanager
def trial_file(folder: int, name: str, *, mode: int = 0o600) -> Iterator[os.stat_result]:
    """Make the file and have it while the block lasts. Raises OSError if it cannot be made or removed."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        facts = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    try:
        yield facts
    finally:
        os.unlink(name, dir_fd=folder)


def try_renaming(source: int, target: int) -> None:
    """Rename a file from one folder into another, as a claim does. Raises OSError if that cannot be done."""
    name = trial_name()
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=source))
    try:
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        os.unlink(name, dir_fd=target)
    except OSError:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=source)
        raise


def permissions(facts: os.stat_result) -> int:
    """Return the mode without the file's type."""
    return stat.S_IMODE(facts.st_mode)
