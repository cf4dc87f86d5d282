"""Looks at the root: its identity, and what may be done in its own folders by whom."""

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from batchbox.cli.check.finding import Finding, Subject, fail, ok, warn
from batchbox.cli.check.inbox import look_at_inbox
from batchbox.cli.check.share import look_at_file_system
from batchbox.cli.check.space import look_at_space
from batchbox.cli.check.trial import permissions, trial_file, try_renaming
from batchbox.config import Settings
from batchbox.errors import RootOfflineError
from batchbox.folders.layout import DONE, INBOX, MODES, OUTBOX, OWN, PROCESSING, REJECTED
from batchbox.folders.mounts import is_local
from batchbox.folders.root import IDENTITY_FILE, exists, folder, identity_of, open_root
from batchbox.folders.trials import trial_name

_CLOSED_FOLDERS = (PROCESSING, DONE, OWN)
"""Where claims, originals and manifests are: for the service and its group alone."""

_GROUPS_FOLDERS = (INBOX, OUTBOX, REJECTED)
"""What is made in these has to be the droppers' too."""

_MOVES = ((INBOX, PROCESSING), (PROCESSING, DONE), (PROCESSING, REJECTED))
"""What every file goes through, by renames."""

_TOLD_ALREADY = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP}


def look_at_root(settings: Settings, *, keep_going: Callable[[], bool]) -> list[Finding]:
    """Return what was found on the root, up to where nobody wants to know any more."""
    path = settings.paths.root
    try:
        with open_root(path) as root:
            return [
                *_identity(root, path),
                *look_at_file_system(root, settings),
                *_folders(root, path),
                *look_at_space(Subject.ROOT, path, settings),
                *look_at_inbox(root, path, keep_going),
            ]
    except RootOfflineError as error:
        return [_not_open(error, path)]


def _not_open(error: RootOfflineError, path: Path) -> Finding:
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    if number == errno.ENOTDIR:
        return fail(Subject.ROOT, f"{path} is not a folder", fix="choose another [paths] root, or move the file away")
    if number == errno.ENAMETOOLONG:
        return fail(Subject.ROOT, f"{path}: the name is too long", fix="choose a [paths] root with a shorter one")
    if number in {errno.EACCES, errno.EPERM}:
        fix = "let the daemon's user, or one of its groups, enter it and the folders above it"
        return fail(Subject.ROOT, f"{path} cannot be opened: the user who asks may not enter it", fix=fix)
    return fail(Subject.ROOT, str(error), fix=f"mount it; if it is new, run `batchbox init {path}`")


def _identity(root: int, path: Path) -> Iterator[Finding]:
    try:
        identity_of(root)
    except PermissionError as error:
        fact = (
            f"{path.joinpath(*IDENTITY_FILE)} cannot be read ({error.strerror}), so that nobody knows which root it is"
        )
        yield fail(Subject.ROOT, fact, fix="let the daemon's user, or one of its groups, read it and enter its folder")
    except (OSError, ValueError):
        fix = f"mount it, if something should be mounted there; else run `batchbox init {path}`"
        yield fail(Subject.ROOT, f"{path} is not a batchbox folder: it has no identity that can be read", fix=fix)
    else:
        yield ok(Subject.ROOT, f"{path} is a batchbox folder")


def _folders(root: int, path: Path) -> Iterator[Finding]:
    missing = [name for name in MODES if not exists(name, parent=root)]
    for name in missing:
        yield fail(Subject.ROOT, f"{path / name} is missing", fix=f"run `batchbox init {path}`")
    there = [name for name in MODES if name not in missing]
    problems = [problem for name in there for problem in _folder(root, path, name)]
    yield from problems
    if not missing and not problems:
        yield ok(Subject.ROOT, f"{', '.join(MODES)}: all can be read and written")
    yield from _renames(root, path, there)


def _folder(root: int, path: Path, name: str) -> Iterator[Finding]:
    """Look whether one folder can be listed, takes a new file, and is open to whom it should be."""
    try:
        with folder(root, name) as descriptor:
            os.listdir(descriptor)
            facts = os.fstat(descriptor)
            with trial_file(descriptor, trial_name()) as made:
                group = made.st_gid
            keeps_groups = is_local(descriptor) and sys.platform == "linux"
    except OSError as error:
        yield _not_usable(path / name, error)
        return
    if name in _CLOSED_FOLDERS and facts.st_mode & stat.S_IRWXO:
        fix = f"chmod {MODES[name]:o} {path / name}; if that changes nothing, close it to others in the mount options"
        yield warn(Subject.ROOT, f"{path / name} can be entered by every user of this machine", fix=fix)
    if name in _GROUPS_FOLDERS and keeps_groups and not facts.st_mode & stat.S_ISGID and group != facts.st_gid:
        fact = (
            f"{path / name} has the mode {permissions(facts):04o}, without setgid, so that what is made in it gets the "
            f"service's group {group} and not the folder's {facts.st_gid}"
        )
        yield warn(Subject.ROOT, fact, fix=f"chmod g+s {path / name}")


def _renames(root: int, path: Path, there: Sequence[str]) -> Iterator[Finding]:
    """Try with a file of our own what happens to every file."""
    moves = [(source, target) for source, target in _MOVES if source in there and target in there]
    failed = 0
    for source, target in moves:
        try:
            with folder(root, source) as source_folder, folder(root, target) as target_folder:
                try_renaming(source_folder, target_folder)
        except OSError as error:
            failed += 1
            if error.errno == errno.EXDEV:
                fix = f"mount {path} as a whole, not its folders one by one"
                fact = f"files cannot be renamed from {source}/ into {target}/: two file systems"
                yield fail(Subject.ROOT, fact, fix=fix)
            elif error.errno not in _TOLD_ALREADY:
                fact = f"files cannot be renamed from {source}/ into {target}/ ({error.strerror})"
                yield fail(Subject.ROOT, fact, fix="the kernel's log may say more: dmesg")
    if moves and not failed:
        names = dict.fromkeys(name for move in moves for name in move)
        yield ok(Subject.ROOT, f"files can be renamed between {', '.join(names)}")


def _not_usable(path: Path, error: OSError) -> Finding:
    if error.errno in {errno.ENOTDIR, errno.ELOOP}:
        return fail(Subject.ROOT, f"{path} is not a folder", fix="move it away and run `batchbox init`")
    fix = "let the daemon's user, or one of its groups, read, write and enter it"
    if error.errno == errno.EROFS:
        fix = "mount it for writing; under systemd, name it in ReadWritePaths="
    return fail(Subject.ROOT, f"{path} cannot be read and written ({error.strerror})", fix=fix)
