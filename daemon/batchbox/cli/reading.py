"""Reads the database beside a running daemon, with a sentence for whatever keeps a person from it."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from batchbox.errors import BatchboxError, FolderPermissionError
from batchbox.logs import shown
from batchbox.store import Store, read_store
from batchbox.store.database import FILE_NAME


@asynccontextmanager
async def open_to_read(state: Path) -> AsyncIterator[Store]:
    """Open the state folder's database for reading.

    Raises ConfigurationError if there is none or it cannot be used, FolderPermissionError if it is not ours to read.
    """
    has_database(state)
    try:
        async with read_store(state) as store:
            yield store
    except sqlite3.Error as error:
        raise BatchboxError(
            f"{shown(str(state / FILE_NAME))}: the database cannot be read ({error}). Run this as the user who runs "
            "batchbox; if that is so, look at the disk."
        ) from error


def has_database(state: Path) -> bool:
    """Say whether the daemon was ever started with this state. Raises FolderPermissionError."""
    try:
        return (state / FILE_NAME).exists()
    except PermissionError as error:
        raise FolderPermissionError(
            f"{shown(str(state))}: the state folder cannot be entered ({error.strerror}). Run this as the user who "
            "runs batchbox, for example with `sudo -u batchbox`."
        ) from error
