"""The folders below the root: their names, their modes, and how `init` makes them."""

import json
import os
import socket
import stat
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from batchbox.errors import ConfigurationError, RetiredError
from batchbox.folders.root import (
    IDENTITY_FILE,
    Root,
    exists,
    folder,
    identity_of,
    is_folder,
    make_folder,
    open_root,
    sync_folder,
)
from batchbox.logs import shown
from batchbox.model import INBOX_LANE, Instance, Lane
from batchbox.naming import is_instance

INBOX = "inbox"
PROCESSING = "processing"
OUTBOX = "outbox"
REJECTED = "rejected"
DONE = "done"
OWN = ".batchbox"
MANIFESTS = (OWN, "batches")

MODES = {INBOX: 0o2770, PROCESSING: 0o2750, OUTBOX: 0o2770, REJECTED: 0o2770, DONE: 0o2750, OWN: 0o2750}
"""Setgid, so that what is made inside gets the share's group; processing/ and done/ are not the droppers' to write."""

OWN_MODE = 0o750
"""Of what the daemon makes in processing/, done/ and .batchbox/, where people read and do not write."""

IDENTITY_FORMAT = 1
HEARTBEAT = ".heartbeat"


def make_root(path: Path) -> list[str]:
    """Make what is missing of the root, its folders and its identity; return what was made.

    Raises ConfigurationError, before anything is made in it, if something else has the place of a folder.
    """
    made = []
    if not path.is_dir():
        path.mkdir(parents=True)
        made.append(f"{path}/")
    with open_root(path) as root:
        _require_places(root, path)
        for name, mode in MODES.items():
            if not exists(name, parent=root):
                make_folder(root, name)
                os.chmod(name, mode, dir_fd=root)  # whatever the umask says
                made.append(f"{path / name}/")
        if not _has_identity(root):
            _write_identity(root)
            made.append(str(path.joinpath(*IDENTITY_FILE)))
    return made


def _require_places(root: int, path: Path) -> None:
    there = [name for name in MODES if exists(name, parent=root)]
    strange = [name for name in there if not stat.S_ISDIR(os.lstat(name, dir_fd=root).st_mode)]
    if strange:
        places = ", ".join(shown(str(path / name)) for name in strange)
        raise ConfigurationError(
            f"{places}: this has to be a folder, and no link to one. Move it away, then run `batchbox init` again, or "
            "choose another root."
        )


def _has_identity(root: int) -> bool:
    """Say whether there is one. One that is only not ours to read is not to be replaced: that is raised."""
    try:
        identity_of(root)
    except PermissionError:
        raise
    except (OSError, ValueError):
        return False
    return True


def _write_identity(root: int) -> None:
    identity = json.dumps({"id": str(uuid.uuid4()), "format": IDENTITY_FORMAT}) + "\n"
    with folder(root, OWN) as parent:
        descriptor = os.open(
            "identity.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644, dir_fd=parent
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(identity.encode())
            file.flush()
            os.fsync(file.fileno())
        os.rename("identity.part", IDENTITY_FILE[-1], src_dir_fd=parent, dst_dir_fd=parent)
        sync_folder(parent)


@contextmanager
def lane_folder(root: int, top: str, lane: Lane, *, make: bool = False) -> Iterator[int]:
    """Open a lane's folder in inbox, outbox, rejected or done: a sub-folder, or the folder itself for the inbox."""
    with folder(root, top) as parent:
        if lane == INBOX_LANE:
            yield parent
            return
        if make:
            make_folder(parent, lane, mode=OWN_MODE if top == DONE else 0o777)
        with folder(parent, lane) as descriptor:
            yield descriptor


class InLane(Protocol):
    """Anything that a lane's folder is worked on for."""

    @property
    def lane(self) -> Lane:
        """The lane."""


R = TypeVar("R", bound=InLane)


def by_lane(rows: Sequence[R]) -> Mapping[Lane, list[R]]:
    """Group rows by the lane whose folder has to be worked on."""
    lanes: dict[Lane, list[R]] = {}
    for row in rows:
        lanes.setdefault(row.lane, []).append(row)
    return lanes


@contextmanager
def claims_folder(root: int, instance: Instance, lane: Lane) -> Iterator[int]:
    """Open the folder of a lane's claims. Raises RetiredError if the instance's folder has gone.

    A lane's folder that has gone is made, empty: it says of its claims that they have gone, and nothing of other lanes.
    """
    with folder(root, PROCESSING) as parent:
        if not exists(instance, parent=parent):
            raise RetiredError(
                f"processing/{instance} has gone: its work was taken over. This daemon stops. "
                "To start anew on this machine, give it a new [paths] state folder."
            )
        with folder(parent, instance) as own:
            if not exists(lane, parent=own):
                make_folder(own, lane, mode=OWN_MODE)
            with folder(own, lane) as descriptor:
                yield descriptor


def confirm_instance(root: int, instance: Instance) -> None:
    """Make sure that the claims are still ours. Raises RetiredError."""
    with claims_folder(root, instance, INBOX_LANE):
        pass


def other_instances(root: int, instance: Instance) -> list[str]:
    """Return whoever else has a folder in processing/: what else may lie there is no daemon's."""
    with folder(root, PROCESSING) as parent, os.scandir(parent) as entries:
        return [one.name for one in entries if one.name != instance and is_instance(one.name) and is_folder(one)]


class Presence:
    """This instance's own folders on the root, and the sign that it is alive."""

    def __init__(self, root: Root, instance: Instance, *, verify: Callable[[], Awaitable[None]] | None = None) -> None:
        self._root = root
        self._instance = instance
        self._verify = verify  # at the first confirmation of this process, whenever the root is there for it

    async def establish(self) -> None:
        """Make the folders of this instance. Only at its first start: later their absence means that it was retired."""
        await self._root.run(self._establish)

    def _establish(self, root: int) -> None:
        with folder(root, PROCESSING) as parent:
            make_folder(parent, self._instance, mode=OWN_MODE)
        with folder(root, OWN) as parent:
            make_folder(parent, MANIFESTS[-1], mode=OWN_MODE)
        with folder(root, *MANIFESTS) as parent:
            make_folder(parent, self._instance, mode=OWN_MODE)

    async def confirm(self) -> None:
        """Make sure that the root is there and the claims are still ours. Raises RetiredError, and as `verify` does."""
        await self._root.run(lambda root: confirm_instance(root, self._instance))
        if self._verify is not None:
            await self._verify()
            self._verify = None

    async def beat(self) -> None:
        """Touch the heartbeat, by which others judge whether this instance is alive."""
        await self._root.run(self._beat)

    def _beat(self, root: int) -> None:
        with folder(root, PROCESSING, self._instance) as own:
            descriptor = os.open(HEARTBEAT, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=own)
            try:
                os.utime(descriptor)
            finally:
                os.close(descriptor)

    async def leave(self) -> None:
        """Remove the heartbeat: this instance stopped in good order."""
        await self._root.run(self._leave)

    def _leave(self, root: int) -> None:
        with folder(root, PROCESSING, self._instance) as own:
            if exists(HEARTBEAT, parent=own):
                os.unlink(HEARTBEAT, dir_fd=own)


def new_instance() -> Instance:
    """Return a name for a new state folder: the host's, readable, and eight hex digits that make it unique."""
    host = "".join(character if character.isalnum() else "-" for character in socket.gethostname().split(".")[0])
    return Instance(f"{host[:48] or 'host'}-{os.urandom(4).hex()}")
