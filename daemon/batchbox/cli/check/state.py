"""Looks at the state folder: where it lies, who may enter it, and whether its database fits program and root."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import anyio

from batchbox.cli.check.finding import Finding, Subject, fail, ok, warn
from batchbox.cli.check.space import look_at_space
from batchbox.cli.identity import known_identity, root_identity
from batchbox.cli.reading import has_database
from batchbox.cli.running import is_running
from batchbox.config import Settings
from batchbox.errors import BatchboxError, ConfigurationError
from batchbox.folders.mounts import is_local_place
from batchbox.store.state_folder import INSTANCE_FILE, known_instance


def look_at_state(settings: Settings, *, asks_root: bool) -> list[Finding]:
    """Return what was found in the state folder; whether it is the root's is left out of a root that hangs."""
    state = settings.paths.state
    findings = [*_place(state)]
    try:
        status = state.stat()
    except FileNotFoundError:
        return [*findings, warn(Subject.STATE, f"{state} does not exist yet; `batchbox run` makes it")]
    except OSError as error:
        return [*findings, fail(Subject.STATE, f"{state} cannot be looked at ({error.strerror})")]
    if not stat.S_ISDIR(status.st_mode):
        return [*findings, fail(Subject.STATE, f"{state} is not a folder", fix="move it away, or choose another place")]
    space = look_at_space(Subject.STATE, state, settings)
    return [*findings, *_access(state, status), *_instance(state), *space, *_database(settings, asks_root=asks_root)]


def _place(state: Path) -> Iterator[Finding]:
    if is_local_place(state):
        yield ok(Subject.STATE, f"{state} is on a local disk")
    else:
        fact = f"{state} is on a network or FUSE file system, where a database is not safe"
        yield fail(Subject.STATE, fact, fix="choose a [paths] state on a local disk")


def _access(state: Path, status: os.stat_result) -> Iterator[Finding]:
    mode, owner = stat.S_IMODE(status.st_mode), status.st_uid
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        fact = f"{state} has the mode {mode:04o}, so that others could read the prompts in its database"
        yield fail(Subject.STATE, fact, fix=f"chmod 700 {state}")
    if owner != os.geteuid():
        fact = f"{state} belongs to another user (number {owner}), and what you may do is not what the daemon may do"
        yield warn(Subject.STATE, fact, fix=f"run the check as that user: sudo -u '#{owner}' batchbox check")
    if not os.access(state, os.R_OK | os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        fix = "give it to the user who runs batchbox"
        yield fail(Subject.STATE, f"{state} cannot be read and written", fix=fix)


def _instance(state: Path) -> Iterator[Finding]:
    try:
        known_instance(state)
    except ConfigurationError as error:
        yield fail(Subject.STATE, str(error))
    except OSError as error:
        path = state / INSTANCE_FILE
        yield fail(Subject.STATE, f"{path} cannot be read ({error.strerror})", fix="run the check as the daemon's user")


def _database(settings: Settings, *, asks_root: bool) -> Iterator[Finding]:
    state = settings.paths.state
    try:
        if not has_database(state):
            yield ok(Subject.STATE, "there is no database yet; `batchbox run` makes it")
            return
        known = anyio.run(known_identity, state)
    except BatchboxError as error:
        yield fail(Subject.STATE, str(error))
        return
    yield ok(Subject.STATE, "the database can be read" + (", and a daemon is at work" if is_running(state) else ""))
    found = root_identity(settings.paths.root) if asks_root else None
    if None not in (known, found) and known != found:
        fact = f"{settings.paths.root} is not the root that this database has worked on"
        yield fail(Subject.STATE, fact, fix="mount the right one, or choose another [paths] state for this one")
