"""Looks at the root: its identity, what may be done in its folders, and whether events can be trusted on it."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from batchbox.cli.check.finding import Finding, Subject, fail, ok, warn
from batchbox.cli.check.space import look_at_space
from batchbox.config import Settings
from batchbox.errors import RootOfflineError
from batchbox.folders.layout import DONE, INBOX, MODES, OWN, PROCESSING
from batchbox.folders.mounts import MOUNTINFO, file_system_of, is_local
from batchbox.folders.root import exists, folder, open_root, read_identity
from batchbox.naming import is_ignored

LANES_MAX = 1000
"""So many lanes are looked at; more would only take time."""

_CLOSED_FOLDERS = (PROCESSING, DONE, OWN)
"""Where claims, originals and manifests are: for the service and its group alone."""


def look_at_root(settings: Settings) -> list[Finding]:
    """Return what was found on the root."""
    path = settings.paths.root
    try:
        with open_root(path) as root:
            return [
                *_identity(root, path),
                *_folders(root, path),
                *_lanes(root, path),
                *look_at_space(Subject.ROOT, path, settings),
                *_detection(settings),
            ]
    except RootOfflineError as error:
        return [fail(Subject.ROOT, str(error), fix=f"mount it; if it is new, run `batchbox init {path}`")]


def _identity(root: int, path: Path) -> Iterator[Finding]:
    if read_identity(root) is None:
        fix = f"mount it, if something should be mounted there; else run `batchbox init {path}`"
        yield fail(Subject.ROOT, f"{path} is not a batchbox folder: it has no identity that can be read", fix=fix)
    else:
        yield ok(Subject.ROOT, f"{path} is a batchbox folder")


def _folders(root: int, path: Path) -> Iterator[Finding]:
    missing = [name for name in MODES if not exists(name, parent=root)]
    for name in missing:
        yield fail(Subject.ROOT, f"{path / name} is missing", fix=f"run `batchbox init {path}`")
    problems = [problem for name in MODES if name not in missing for problem in _folder(root, path, name)]
    yield from problems
    if not missing and not problems:
        yield ok(Subject.ROOT, f"{', '.join(MODES)}: all can be read and written")
    if INBOX not in missing and PROCESSING not in missing:
        yield from _claiming(root, path)


def _folder(root: int, path: Path, name: str) -> Iterator[Finding]:
    """Look whether one folder can be listed, takes a new file, and keeps strangers out where it has to."""
    try:
        with folder(root, name) as descriptor:
            os.listdir(descriptor)
            _make_and_remove(descriptor)
            mode = os.fstat(descriptor).st_mode
    except OSError as error:
        yield _not_usable(path / name, error)
        return
    if name in _CLOSED_FOLDERS and mode & stat.S_IRWXO:
        fix = f"chmod {MODES[name]:o} {path / name}; if that changes nothing, close it to others in the mount options"
        yield warn(Subject.ROOT, f"{path / name} can be entered by every user of this machine", fix=fix)


def _claiming(root: int, path: Path) -> Iterator[Finding]:
    """Try with a file of our own what a claim does: a rename from inbox/ into processing/."""
    name = _trial_name()
    try:
        with folder(root, INBOX) as inbox, folder(root, PROCESSING) as processing:
            _make(inbox, name)
            try:
                os.rename(name, name, src_dir_fd=inbox, dst_dir_fd=processing)
            except OSError:
                os.unlink(name, dir_fd=inbox)
                raise
            os.unlink(name, dir_fd=processing)
    except OSError as error:
        if error.errno == errno.EXDEV:
            fix = f"mount {path} as a whole, not its folders one by one"
            yield fail(Subject.ROOT, "files cannot be renamed from inbox/ into processing/: two file systems", fix=fix)
        elif error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP}:  # told already
            yield fail(Subject.ROOT, f"files cannot be renamed from inbox/ into processing/ ({error.strerror})")
        return
    yield ok(Subject.ROOT, "files can be renamed from inbox/ into processing/")


def _lanes(root: int, path: Path) -> Iterator[Finding]:
    """Look whether files can be claimed from the inbox and from every lane that there is."""
    try:
        with folder(root, INBOX) as inbox:
            yield from _sticky(inbox, path / INBOX)
            for name in _lane_names(inbox)[:LANES_MAX]:
                yield from _lane(inbox, path / INBOX / name, name)
    except OSError:  # told already
        return


def _lane_names(inbox: int) -> list[str]:
    with os.scandir(inbox) as entries:
        return sorted(one.name for one in entries if one.is_dir(follow_symlinks=False) and not is_ignored(one.name))


def _lane(inbox: int, path: Path, name: str) -> Iterator[Finding]:
    try:
        with folder(inbox, name) as descriptor:
            os.listdir(descriptor)
            _make_and_remove(descriptor)
            yield from _sticky(descriptor, path)
    except OSError as error:
        yield _not_usable(path, error)


def _sticky(descriptor: int, path: Path) -> Iterator[Finding]:
    if os.fstat(descriptor).st_mode & stat.S_ISVTX and os.geteuid() != 0:
        fact = f"{path} has the sticky bit, so that files of other users cannot be taken from it"
        yield fail(Subject.ROOT, fact, fix=f"chmod -t {path}")


def _detection(settings: Settings) -> Iterator[Finding]:
    path, detection = settings.paths.root, settings.inbox.detection
    where = f"{path} is on {_file_system(path)}"
    if not is_local(path) and detection == "events":
        fix = 'set [inbox] detection to "auto"'
        yield warn(Subject.ROOT, f"{where}, from which no events come, and [inbox] detection is events", fix=fix)
    elif not is_local(path) or detection == "scan":
        yield ok(Subject.ROOT, f"{where}: files are found by scanning")
    else:
        yield ok(Subject.ROOT, f"{where}: files are found by events and by scanning")


def _file_system(path: Path) -> str:
    try:
        mountinfo = MOUNTINFO.read_text(errors="surrogateescape")
    except OSError:
        return "a file system whose type cannot be read"
    return file_system_of(path, mountinfo) or "a file system of an unknown type"


def _make_and_remove(descriptor: int) -> None:
    name = _trial_name()
    _make(descriptor, name)
    os.unlink(name, dir_fd=descriptor)


def _make(descriptor: int, name: str) -> None:
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=descriptor))


def _trial_name() -> str:
    """Return a name that no daemon reads."""
    return f".bb-check-{os.urandom(8).hex()}.part"


def _not_usable(path: Path, error: OSError) -> Finding:
    if error.errno in {errno.ENOTDIR, errno.ELOOP}:
        return fail(Subject.ROOT, f"{path} is not a folder", fix="move it away and run `batchbox init`")
    fix = "let the daemon's user, or one of its groups, read, write and enter it"
    if error.errno == errno.EROFS:
        fix = "mount it for writing; under systemd, name it in ReadWritePaths="
    return fail(Subject.ROOT, f"{path} cannot be read and written ({error.strerror})", fix=fix)
