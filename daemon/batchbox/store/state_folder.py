"""The state folder on the local disk: made private, locked by one process, with this instance's name in it."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from batchbox.errors import ConfigurationError, FolderPermissionError, StateBrokenError, StateLockedError
from batchbox.logs import shown
from batchbox.model import Instance
from batchbox.naming import NAME_BYTES_MAX, is_instance

LOCK_FILE = "lock"
INSTANCE_FILE = "instance"


def make_state_folder(state: Path) -> bool:
    """Make the folder if it is missing, for its owner alone; return whether it was made."""
    try:
        state.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        return False
    except PermissionError as error:
        raise FolderPermissionError(
            f"{state}: the state folder cannot be made ({error.strerror}). Make it and give it to the service's user, "
            "or choose another [paths] state."
        ) from error
    except OSError as error:
        raise _failing(state, error) from error
    return True


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the state folder's lock. Raises StateLockedError if another process has it."""
    try:
        descriptor = os.open(state / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise FolderPermissionError(
            f"{state}: the state folder cannot be written ({error.strerror}). It must belong to the user who runs "
            "batchbox."
        ) from error
    except OSError as error:
        raise _failing(state, error) from error
    try:
        _lock(descriptor, state)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, state: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StateLockedError(
            f"{state}: another batchbox is running with this state folder. Stop it first."
        ) from error


def instance_in(state: Path, make: Callable[[], Instance]) -> Instance:
    """Return the name of this instance, making one at the first start, durably.

    Raises StateBrokenError, and ConfigurationError as `known_instance` does.
    """
    try:
        instance = known_instance(state)
        if instance is None:
            instance = make()
            _write_durably(state / INSTANCE_FILE, f"{instance}\n")
    except OSError as error:
        raise _failing(state, error) from error
    return instance


def known_instance(state: Path) -> Instance | None:
    """Return the name of this instance; None before the first start.

    Raises OSError, and ConfigurationError if what is there is no name that an instance is given.
    """
    path = state / INSTANCE_FILE
    try:
        name = os.fsdecode(path.read_bytes()[:NAME_BYTES_MAX]).strip()
    except FileNotFoundError:
        return None
    if not is_instance(name):
        raise ConfigurationError(
            f"{shown(str(path))}: this should hold the name of this machine's folder in processing/ on the root, like "
            f'host-1a2b3c4d, and holds "{shown(name)}". Write that name into it; if there is no such folder, remove '
            "this file."
        )
    return Instance(name)


def _write_durably(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failing(state: Path, error: OSError) -> StateBrokenError:
    return StateBrokenError(f"{state}: the state folder cannot be worked on ({error.strerror}). Look at its disk.")
