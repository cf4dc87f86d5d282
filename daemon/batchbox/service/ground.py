"""What the service stands on, opened in the order of their lives: state folder, lock, database, root."""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from batchbox.config import Settings
from batchbox.errors import ConfigurationError, RootOfflineError
from batchbox.folders.layout import Presence, new_instance
from batchbox.folders.mounts import is_local
from batchbox.folders.root import Root, open_root, read_identity
from batchbox.model import Instance
from batchbox.store import Store, open_store
from batchbox.store.meta import Fact
from batchbox.store.state_folder import instance_in, locked, make_state_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the service stands on."""

    instance: Instance
    root: Root
    presence: Presence
    store: Store
    is_local: bool


@asynccontextmanager
async def open_ground(settings: Settings) -> AsyncIterator[Ground]:
    """Open everything. Raises BatchboxError for what a person must mend first."""
    state, path = settings.paths.state, settings.paths.root
    make_state_folder(state)
    if not is_local(state):
        raise ConfigurationError(
            f"{state}: [paths] state lies on a network file system, where a database is not safe. Choose a local one."
        )
    with locked(state):
        instance = instance_in(state, new_instance)
        async with open_store(state) as store:
            root = Root(path, identity=await _identity(store, path))
            presence = Presence(root, instance)
            await _establish(store, presence)
            yield Ground(instance=instance, root=root, presence=presence, store=store, is_local=is_local(path))


async def _identity(store: Store, path: Path) -> str:
    """Return the identity of the root that this state belongs to; at the first start, the one that is found."""
    known = await store.meta.get(Fact.ROOT_IDENTITY)
    if known is not None:
        return known
    try:
        with open_root(path) as descriptor:
            found = read_identity(descriptor)
    except RootOfflineError as error:
        raise ConfigurationError(f"{error} If it is new, run `batchbox init {path}`.") from error
    if found is None:
        raise ConfigurationError(f"{path}: this is not a batchbox folder yet. Run `batchbox init {path}`.")
    return await store.meta.get_or_record(Fact.ROOT_IDENTITY, lambda: found)


async def _establish(store: Store, presence: Presence) -> None:
    if await store.meta.get(Fact.ESTABLISHED) is None:
        await presence.establish()
        await store.meta.get_or_record(Fact.ESTABLISHED, lambda: "yes")


async def hash_key(store: Store, api_key: str, workspace_id: str | None) -> bytes:
    """Return what a sending remembers of the key: enough to know it again, and nothing to use it by."""
    salt = await store.meta.get_or_record(Fact.KEY_SALT, lambda: os.urandom(16).hex())
    return hashlib.scrypt(f"{api_key}\n{workspace_id or ''}".encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1)
