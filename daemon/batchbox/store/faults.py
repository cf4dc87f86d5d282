"""What an error of SQLite means: wait until something can be recorded, or end, because the disk cannot be trusted.

What is in neither list is a mistake of ours, or a constraint that somebody asked about, and flies as it is.
"""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batchbox.errors import StateBrokenError, StateNotWritableError

TRIAL_FILE = ".room"
TRIAL_BYTES = 64 * 1024

DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_HELD = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_FAILING = DAMAGED | {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL}
_PERHAPS_FULL = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
"""SQLite says "full" for ENOSPC in a write and for nothing else: not for a quota, nor where the shared memory grows."""


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Raise StateNotWritableError or StateBrokenError for an error that means one of them."""
    try:
        yield
    except sqlite3.Error as error:
        meaning = _meaning(error, path)
        if meaning is None:
            raise
        raise meaning from error


def primary_code(error: sqlite3.Error) -> int | None:
    """Return which of SQLite's errors this is, without the finer distinctions; None if Python's own module says no."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _meaning(error: sqlite3.Error, path: Path) -> StateNotWritableError | StateBrokenError | None:
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL or (_is_perhaps_full(error) and _is_full(path.parent)):
        return StateNotWritableError(f"{path}: nothing can be recorded: its disk or quota is full. Make room there.")
    if code in _HELD:
        return StateNotWritableError(f"{path}: nothing can be recorded: another program holds the database. Stop it.")
    if code in _FAILING:
        return StateBrokenError(
            f"{path}: the database cannot be relied on any more ({error}). Look at the disk, then start again."
        )
    return None


def _is_perhaps_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) in _PERHAPS_FULL


def _is_full(folder: Path) -> bool:
    """Write a little file, to learn which error SQLite has met: it does not hand the system's own on."""
    trial = folder / TRIAL_FILE
    try:
        trial.write_bytes(os.urandom(TRIAL_BYTES))
    except OSError as error:
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    finally:
        with suppress(OSError):
            trial.unlink()
    return False
