"""Whether the daemon could do its work in the root's own folders: asked at a start, and without touching anything.

Later what cannot be done is waited for, because nobody is looking; at a start somebody probably is.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from batchbox.errors import ConfigurationError, FolderPermissionError
from batchbox.folders.layout import DONE, INBOX, MANIFESTS, MODES, PROCESSING, REJECTED
from batchbox.folders.mounts import renaming_range
from batchbox.folders.root import exists, folder
from batchbox.model import Instance

_WORK = os.R_OK | os.W_OK | os.X_OK


def require_access(root: int, instance: Instance, path: Path) -> None:
    """Make sure that the user may work in every folder that is there. Raises FolderPermissionError.

    A disk that nobody can write just now is no matter of permissions.
    """
    closed = [str(path / name) for name in _folders(instance) if is_closed(root, name)]
    if closed and not os.fstatvfs(root).f_flag & os.ST_RDONLY:
        raise FolderPermissionError(
            f"{', '.join(closed)}: the user who runs batchbox may not read, write and enter this. Give the folders to "
            "that user or to one of its groups, as `batchbox check` says for each."
        )


def require_renames(root: int, path: Path) -> None:
    """Make sure that files can be renamed from and into processing/. Raises ConfigurationError."""
    ranges = {name: _range(root, name) for name in (PROCESSING, INBOX, DONE, REJECTED)}
    strange = [name for name, found in ranges.items() if found != ranges[PROCESSING]]
    if strange:
        raise ConfigurationError(
            f"{path}: files cannot be renamed between {PROCESSING}/ and {', '.join(f'{name}/' for name in strange)}, "
            "because they are different mounts or file systems. Mount the root as a whole, not its folders one by one."
        )


def is_closed(root: int, name: str) -> bool:
    """Say whether the user may not read, write and enter a folder that is there."""
    is_asked_as_daemon = os.access in os.supports_effective_ids
    try:
        is_there = exists(name, parent=root)
    except PermissionError:  # the folder above it is closed, and named
        return False
    return is_there and not os.access(name, _WORK, dir_fd=root, effective_ids=is_asked_as_daemon)


def _folders(instance: Instance) -> Iterator[str]:
    yield from MODES
    yield f"{PROCESSING}/{instance}"
    yield "/".join(MANIFESTS)
    yield "/".join((*MANIFESTS, instance))


def _range(root: int, name: str) -> tuple[int | None, int]:
    with folder(root, name) as descriptor:
        return renaming_range(descriptor)
