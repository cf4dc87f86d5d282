"""What the service stands on, opened in the order of their lives: state folder, lock, database, root."""

import hashlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from batchbox.config import Settings
from batchbox.errors import ConfigurationError, FolderPermissionError, RootOfflineError
from batchbox.folders.fitness import require_access, require_renames
from batchbox.folders.layout import Presence, new_instance
from batchbox.folders.manifests import Manifests
from batchbox.folders.mounts import is_local_place
from batchbox.folders.root import Root, open_root, read_identity
from batchbox.folders.takeover import Takeover, taken_by
from batchbox.logs import shown
from batchbox.model import Instance
from batchbox.store import Store, open_store
from batchbox.store.meta import Fact
from batchbox.store.state_folder import instance_in, locked, make_state_folder

ROOT_SECONDS_MAX = 1.5
"""So long a start waits for a share that does not answer; the work that does not need it begins without it."""
FIRST_SECONDS_MAX = 5.0
"""So long the first start waits, which can do nothing without it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the service stands on."""

    instance: Instance
    root: Root
    presence: Presence
    store: Store


@asynccontextmanager
async def open_ground(settings: Settings) -> AsyncIterator[Ground]:
    """Open everything for the daemon. Raises BatchboxError for what a person must mend first."""
    async with hold_ground(settings) as ground:
        await _require_own_work(ground)
        await _establish(ground.store, ground.presence, settings.paths.root)
        with suppress(OSError, RootOfflineError), anyio.move_on_after(ROOT_SECONDS_MAX):  # it may come later:
            await ground.presence.confirm()  # this is asked again before anything is sent
            await _tell_of_orphans(ground)
        yield ground


@asynccontextmanager
async def hold_ground(settings: Settings) -> AsyncIterator[Ground]:
    """Open everything, whatever is to be done with it, and keep every other process of ours away from it."""
    state, path = settings.paths.state, settings.paths.root
    make_state_folder(state)
    if not is_local_place(state):
        raise ConfigurationError(
            f"{state}: [paths] state lies on a network file system, where a database is not safe. Choose a local one."
        )
    with locked(state):
        instance = instance_in(state, new_instance)
        with suppress(OSError, RootOfflineError), anyio.move_on_after(ROOT_SECONDS_MAX):
            await anyio.to_thread.run_sync(_require_fitness, path, instance, abandon_on_cancel=True)
        async with open_store(state) as store:
            root = Root(path, identity=await _identity(store, path))
            presence = Presence(root, instance, verify=partial(require_current, root, instance, store))
            yield Ground(instance=instance, root=root, presence=presence, store=store)


def _require_fitness(path: Path, instance: Instance) -> None:
    try:
        with open_root(path) as root:
            require_access(root, instance, path)
            require_renames(root, path)
    except RootOfflineError as error:
        if isinstance(error.__cause__, PermissionError):
            raise FolderPermissionError(f"{path}: the user who runs batchbox may not open this.") from error
        raise


async def _tell_of_orphans(ground: Ground) -> None:
    for other in await Takeover(ground.root, ground.instance, ground.presence).neighbours():
        if other.is_orphaned:
            log.warning(
                "another instance is not at work and has left work behind: start it again, or take it over with "
                "`batchbox recover`",
                extra={
                    "instance": shown(other.instance),
                    "files": other.claim_count,
                    "batches": other.open_manifest_count,
                },
            )


async def _require_own_work(ground: Ground) -> None:
    """Make sure that the database is this instance's: a backup may have been put into a new state folder."""
    owner = await ground.store.meta.get_or_record(Fact.INSTANCE, lambda: ground.instance)
    if owner != ground.instance:
        raise ConfigurationError(
            f"the database in the [paths] state folder is that of {owner}, and this is {ground.instance}. Run "
            f"`batchbox recover {owner}`, which makes its work this instance's."
        )


async def require_current(root: Root, instance: Instance, store: Store) -> None:
    """Make sure that the database knows of everything that was sent. Raises ConfigurationError.

    Under an older one, what was sent since would be sent again. Only names are looked at.
    """
    if await root.run(lambda descriptor: taken_by(descriptor, instance)):
        raise ConfigurationError("a recovery was begun and has not come to its end. Run `batchbox recover` again.")
    unknown = await store.recovery.unknown(await Manifests(root, instance).nonces())
    if unknown:
        raise ConfigurationError(
            f"the database is older than what was sent: it does not know {len(unknown)} of the manifests in "
            f"{root.path}/.batchbox/batches/{instance}. Nothing is sent. Run `batchbox recover`, which enters them."
        )


async def _identity(store: Store, path: Path) -> str:
    """Return the identity of the root that this state belongs to; at the first start, the one that is found."""
    known = await store.meta.get(Fact.ROOT_IDENTITY)
    if known is not None:
        return known
    found = None
    try:
        with anyio.move_on_after(FIRST_SECONDS_MAX) as scope:
            found = await anyio.to_thread.run_sync(_find_identity, path, abandon_on_cancel=True)
    except RootOfflineError as error:
        raise ConfigurationError(f"{error} If it is new, run `batchbox init {path}`.") from error
    if scope.cancelled_caught:
        raise RootOfflineError(f"{path}: the share does not answer. Start batchbox again when it does.")
    if found is None:
        raise ConfigurationError(f"{path}: this is not a batchbox folder yet. Run `batchbox init {path}`.")
    return await store.meta.get_or_record(Fact.ROOT_IDENTITY, lambda: found)


def _find_identity(path: Path) -> str | None:
    with open_root(path) as descriptor:
        return read_identity(descriptor)


async def _establish(store: Store, presence: Presence, path: Path) -> None:
    if await store.meta.get(Fact.ESTABLISHED) is None:
        try:
            with anyio.fail_after(FIRST_SECONDS_MAX):
                await presence.establish()
        except OSError as error:
            raise RootOfflineError(
                f"{path}: the folders of this instance cannot be made ({error.strerror or 'it does not answer'})."
            ) from error
        await store.meta.get_or_record(Fact.ESTABLISHED, lambda: "yes")


async def hash_key(store: Store, api_key: str, workspace_id: str | None) -> bytes:
    """Return what a sending remembers of the key: enough to know it again, and nothing to use it by."""
    salt = await store.meta.get_or_record(Fact.KEY_SALT, lambda: os.urandom(16).hex())
    return hashlib.scrypt(f"{api_key}\n{workspace_id or ''}".encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1)
