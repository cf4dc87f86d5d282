"""The manifests: what each sending holds, beside the work itself, so that it outlives a lost or restored database.

A manifest is written and durable before the POST, open (`<nonce>.jsonl`) as long as the batch may be running, and
closed (`<nonce>.jsonl.closed`) when it surely was not sent or everything in it is delivered.
"""

import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime

from batchbox.folders.layout import MANIFESTS, confirm_instance
from batchbox.folders.root import Root, exists, folder, opened, sync_folder, write_all
from batchbox.model import Instance, Nonce

CLOSED_SUFFIX = ".closed"
PART_SUFFIX = ".part"
SUFFIX = ".jsonl"

_NAME = re.compile(r"([a-z2-7]{8})\.jsonl(\.closed)?")


class Manifests:
    """This instance's manifests."""

    def __init__(self, root: Root, instance: Instance) -> None:
        self._root = root
        self._instance = instance

    async def write(self, nonce: Nonce, pieces: AsyncIterator[bytes]) -> None:
        """Write an open manifest, durably, under its final name. Raises RetiredError."""
        part = f"{nonce}{PART_SUFFIX}"
        await self._root.run(lambda root: self._start(root, part))
        async for piece in pieces:
            await self._root.run(lambda root, piece=piece: self._append(root, part, piece))  # type: ignore[misc] # mypy cannot infer a lambda's default
        await self._root.run(lambda root: self._finish(root, part, f"{nonce}{SUFFIX}"))

    async def close(self, nonce: Nonce) -> None:
        """Mark a manifest as closed. Closing twice, or one that was never finished, does nothing."""
        await self._root.run(lambda root: self._close(root, f"{nonce}{SUFFIX}"))

    async def tidy(self, *, closed_before: datetime, parts_before: datetime) -> None:
        """Delete manifests that were closed before the one moment, and broken-off parts from before the other."""
        kept = {CLOSED_SUFFIX: closed_before, PART_SUFFIX: parts_before}
        await self._root.run(lambda root: self._tidy(root, kept))

    async def nonces(self) -> Mapping[Nonce, bool]:
        """Return of which sendings there are manifests, and whether each is open. Looks at nothing but names."""
        return await self._root.run(lambda root: manifests_in(root, self._instance))

    async def read_part(self, nonce: Nonce, *, offset: int, length: int) -> bytes:
        """Return the next bytes of a manifest, open or closed; empty at its end."""
        return await self._root.run(lambda root: self._read_part(root, nonce, offset, length))

    async def take_from(self, other: Instance) -> None:
        """Make another instance's manifests ours, durably. What is ours already stays; its parts go.

        Raises RetiredError: whoever takes us over meanwhile is not to miss them.
        """
        await self._root.run(lambda root: self._take_from(root, other))

    def _read_part(self, root: int, nonce: Nonce, offset: int, length: int) -> bytes:
        with folder(root, *MANIFESTS, self._instance) as parent:
            name = f"{nonce}{SUFFIX}"
            name = name if exists(name, parent=parent) else name + CLOSED_SUFFIX
            with opened(name, parent=parent) as descriptor:
                return os.pread(descriptor, length, offset)

    def _take_from(self, root: int, other: Instance) -> None:
        confirm_instance(root, self._instance)
        with folder(root, *MANIFESTS) as parent:
            if not exists(other, parent=parent):
                return
            with folder(parent, other) as theirs, folder(parent, self._instance) as own:
                names = os.listdir(theirs)
                for name in names:
                    if _NAME.fullmatch(name):
                        os.rename(name, name, src_dir_fd=theirs, dst_dir_fd=own)
                    elif name.endswith(PART_SUFFIX):
                        os.unlink(name, dir_fd=theirs)
                sync_folder(own)
                sync_folder(theirs)
            with suppress(OSError):  # something of somebody's lies in it
                os.rmdir(other, dir_fd=parent)

    def _start(self, root: int, part: str) -> None:
        confirm_instance(root, self._instance)  # else a folder that was taken away looks like a share in trouble
        with folder(root, *MANIFESTS, self._instance) as parent:
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640, dir_fd=parent))

    def _append(self, root: int, part: str, piece: bytes) -> None:
        with folder(root, *MANIFESTS, self._instance) as parent:
            descriptor = os.open(part, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, dir_fd=parent)
            try:
                write_all(descriptor, [piece])
            finally:
                os.close(descriptor)

    def _finish(self, root: int, part: str, name: str) -> None:
        with folder(root, *MANIFESTS, self._instance) as parent:
            descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(part, name, src_dir_fd=parent, dst_dir_fd=parent)
            sync_folder(parent)

    def _close(self, root: int, name: str) -> None:
        with folder(root, *MANIFESTS, self._instance) as parent:
            if exists(name, parent=parent):
                os.rename(name, name + CLOSED_SUFFIX, src_dir_fd=parent, dst_dir_fd=parent)
                sync_folder(parent)

    def _tidy(self, root: int, kept: Mapping[str, datetime]) -> None:
        with folder(root, *MANIFESTS, self._instance) as parent:
            for name in os.listdir(parent):
                before = kept.get(name[name.rfind(".") :])
                if before is not None and _changed_at(name, parent) < before.timestamp():
                    os.unlink(name, dir_fd=parent)


def _changed_at(name: str, parent: int) -> float:
    """Return when it was written or renamed, by the clock of the disk or of its server."""
    status = os.lstat(name, dir_fd=parent)
    return max(status.st_mtime, status.st_ctime)


def manifests_in(root: int, instance: Instance) -> Mapping[Nonce, bool]:
    """Return an instance's manifests by the nonce, and whether each is open."""
    try:
        with folder(root, *MANIFESTS, instance) as parent:
            names = os.listdir(parent)
    except FileNotFoundError:
        return {}
    found = [match for match in map(_NAME.fullmatch, names) if match is not None]
    closed = {Nonce(match[1]): False for match in found if match[2]}
    return closed | {Nonce(match[1]): True for match in found if not match[2]}
