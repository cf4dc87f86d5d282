"""The manifests: what each sending holds, beside the work itself, so that it outlives a lost or restored database.

A manifest is written and durable before the POST, open (`<nonce>.jsonl`) as long as the batch may be running, and
closed (`<nonce>.jsonl.closed`) when it surely was not sent or everything in it is delivered.
"""

import os
from collections.abc import AsyncIterator

from batchbox.folders.layout import MANIFESTS
from batchbox.folders.root import Root, exists, folder, sync_folder, write_all
from batchbox.model import Instance, Nonce

CLOSED_SUFFIX = ".closed"


class Manifests:
    """This instance's manifests."""

    def __init__(self, root: Root, instance: Instance) -> None:
        self._root = root
        self._instance = instance

    async def write(self, nonce: Nonce, pieces: AsyncIterator[bytes]) -> None:
        """Write an open manifest, durably, under its final name."""
        part = f"{nonce}.part"
        await self._root.run(lambda root: self._start(root, part))
        async for piece in pieces:
            await self._root.run(lambda root, piece=piece: self._append(root, part, piece))  # type: ignore[misc] # mypy cannot infer a lambda's default
        await self._root.run(lambda root: self._finish(root, part, f"{nonce}.jsonl"))

    async def close(self, nonce: Nonce) -> None:
        """Mark a manifest as closed. Closing twice, or one that was never finished, does nothing."""
        await self._root.run(lambda root: self._close(root, f"{nonce}.jsonl"))

    def _start(self, root: int, part: str) -> None:
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
