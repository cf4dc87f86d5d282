"""Reads which root the state belongs to, and which one is there."""

from pathlib import Path

from batchbox.cli.reading import has_database, open_to_read
from batchbox.errors import RootOfflineError
from batchbox.folders.root import open_root, read_identity
from batchbox.store.meta import Fact


async def known_identity(state: Path) -> str | None:
    """Return the identity of the root that the state belongs to; None before the first start.

    Raises BatchboxError as `open_to_read` does.
    """
    if not has_database(state):
        return None
    async with open_to_read(state) as store:
        return await store.meta.get(Fact.ROOT_IDENTITY)


def root_identity(root: Path) -> str | None:
    """Return the identity of the root that is there now; None if there is none that can be read."""
    try:
        with open_root(root) as descriptor:
            return read_identity(descriptor)
    except RootOfflineError:
        return None
