"""Looks who else is on the root, for commands that write nothing there."""

from pathlib import Path

from batchbox.errors import RootOfflineError
from batchbox.folders.root import open_root
from batchbox.folders.takeover import Neighbour, neighbours
from batchbox.model import Instance


def orphans_on(root: Path, own: str | None) -> list[Neighbour]:
    """Return the other instances that have left work behind; none if the root cannot be looked at."""
    try:
        with open_root(root) as descriptor:
            return [one for one in neighbours(descriptor, None if own is None else Instance(own)) if one.is_orphaned]
    except (OSError, RootOfflineError):
        return []
