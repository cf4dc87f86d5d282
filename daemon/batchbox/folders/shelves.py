"""rejected/ and done/: where claimed files end up, each under a name that is taken before the file moves.

In rejected/ the name is taken by the explanation, `<name>.error.txt`; in done/ by a placeholder that holds the name of
the claim and that the rename replaces. Both are made with O_EXCL, so two daemons never take the same name, and what
is there is never overwritten. No two files have the same explanation or the same claim, so what is there already says
whose name it has taken. A file that cannot be moved just now, because somebody has it open, stays where it is.

A few files of one name are numbered. Each further one has a name that is made of what would take it: nobody else's is
called so, and it is the same however often it is asked for, so nothing has to be looked for among thousands. Whatever
stands there all the same was put there on purpose: it stays as it is, and the file stays where it is or, if only the
explanation's place is taken, goes beside what has it.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from batchbox.folders.layout import (
    DONE,
    REJECTED,
    claims_folder,
    confirm_instance,
    lane_folder,
    other_instances,
)
from batchbox.folders.root import Root, exists, is_about_one_name, leaving_what_resists, sync_folder, write_all
from batchbox.model import INBOX_LANE, Instance, Lane
from batchbox.naming import cut_to_bytes, with_suffix, with_suffix_number

EXPLANATION_SUFFIX = ".error.txt"
NAME_BYTES_MAX = 255
NUMBERED_MAX = 9
"""So many files of one name are numbered in a folder."""
MARK_CHARACTERS = 16

_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ODD_FILES_TOO = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # whatever lies there, opening it must not hang


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A claimed file that gets an explanation."""

    name: str
    explanation: bytes
    """Of this file alone: no other one, of whatever daemon, has the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A claimed file on its way to done/."""

    name: str
    claim: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A claimed file and the name that it has taken on its shelf."""

    claim: str
    target: str


class Shelves:
    """rejected/ and done/."""

    def __init__(self, root: Root, instance: Instance) -> None:
        self._root = root
        self._instance = instance

    async def take_rejected_names(self, lane: Lane, files: Sequence[Rejected]) -> list[str]:
        """Write the explanations, durably; return the names that the files take beside them."""
        return await self._root.run(lambda root: self._take_rejected(root, lane, files))

    async def take_done_names(self, lane: Lane, originals: Sequence[Original]) -> list[str]:
        """Make placeholders, or find those made before a crash; return the names that the originals take."""
        return await self._root.run(lambda root: self._take_done(root, lane, originals))

    async def put_aside(self, lane: Lane, moves: Sequence[Move]) -> list[Path]:
        """Move claimed files to rejected/, durably. One that is there already is left alone.

        Returns the places that files did not get to, because something that is no placeholder is there, or because
        the move was refused.
        """
        return await self._root.run(lambda root: self._move(root, REJECTED, lane, moves))

    async def archive(self, lane: Lane, moves: Sequence[Move]) -> list[Path]:
        """Move originals to done/, as put_aside does to rejected/."""
        return await self._root.run(lambda root: self._move(root, DONE, lane, moves))

    async def drop_claims(self, lane: Lane, claims: Sequence[str]) -> None:
        """Delete originals that nobody keeps."""
        await self._root.run(lambda root: self._drop_claims(root, lane, claims))

    async def remove_done(self, lane: Lane, names: Sequence[str]) -> None:
        """Delete originals from done/."""
        await self._root.run(lambda root: self._remove_done(root, lane, names))

    def _take_rejected(self, root: int, lane: Lane, files: Sequence[Rejected]) -> list[str]:
        confirm_instance(root, self._instance)
        is_alone = not other_instances(root, self._instance)
        with self._shelf(root, REJECTED, lane) as shelf:
            targets = [_explain(file, shelf, is_alone=is_alone) for file in files]
            sync_folder(shelf)
        return targets

    def _take_done(self, root: int, lane: Lane, originals: Sequence[Original]) -> list[str]:
        confirm_instance(root, self._instance)
        is_alone = not other_instances(root, self._instance)
        with self._shelf(root, DONE, lane) as shelf:
            return [_place_holder(original, shelf, is_alone=is_alone) for original in originals]

    def _move(self, root: int, top: str, lane: Lane, moves: Sequence[Move]) -> list[Path]:
        stuck: list[Path] = []
        if not moves:  # nothing is wanted of a folder that may be somebody's own
            return stuck
        with (
            claims_folder(root, self._instance, lane) as claims,
            self._shelf(root, top, lane) as shelf,
        ):
            for move in moves:
                if not exists(move.claim, parent=claims):  # it has moved in an earlier attempt
                    continue
                if not (_is_free(move, shelf) and _is_moved(move, claims=claims, shelf=shelf)):
                    stuck.append(self._place(top, lane) / move.target)
            sync_folder(shelf)
            sync_folder(claims)
        return stuck

    def _drop_claims(self, root: int, lane: Lane, names: Sequence[str]) -> None:
        with claims_folder(root, self._instance, lane) as claims:
            _unlink_all(claims, names)

    def _remove_done(self, root: int, lane: Lane, names: Sequence[str]) -> None:
        with self._shelf(root, DONE, lane) as shelf:
            _unlink_all(shelf, names)

    @contextmanager
    def _shelf(self, root: int, top: str, lane: Lane) -> Iterator[int]:
        """Open a lane's folder, made if it is missing; whatever fails there is said with the folder in full."""
        try:
            with lane_folder(root, top, lane, make=True) as shelf:
                yield shelf
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._place(top, lane))) from error

    def _place(self, top: str, lane: Lane) -> Path:
        return self._root.path / top / ("" if lane == INBOX_LANE else lane)


def _is_free(move: Move, shelf: int) -> bool:
    """Say whether nothing but this claim's placeholder has the name."""
    if not exists(move.target, parent=shelf):
        return True
    try:
        descriptor = os.open(move.target, os.O_RDONLY | _ODD_FILES_TOO, dir_fd=shelf)
    except OSError as error:
        if not is_about_one_name(error):
            raise
        return False
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return is_file and os.fsencode(move.claim).startswith(os.read(descriptor, NAME_BYTES_MAX + 1))
    finally:
        os.close(descriptor)


def _is_moved(move: Move, *, claims: int, shelf: int) -> bool:
    """Move a file; return False if it is refused just now."""
    try:
        os.rename(move.claim, move.target, src_dir_fd=claims, dst_dir_fd=shelf)
    except OSError as error:
        if not is_about_one_name(error):
            raise
        return False
    return True


def _explain(file: Rejected, shelf: int, *, is_alone: bool) -> str:
    for target in _numbered(file.name, room=NAME_BYTES_MAX - len(EXPLANATION_SUFFIX)):
        if exists(target, parent=shelf):
            continue
        explanation = target + EXPLANATION_SUFFIX
        if _take(explanation, file.explanation, shelf, is_alone=is_alone, durable=True):
            return target
    target = _marked(file.name, file.explanation, room=NAME_BYTES_MAX - len(EXPLANATION_SUFFIX))
    _take(target + EXPLANATION_SUFFIX, file.explanation, shelf, is_alone=True, durable=True)
    return target


def _place_holder(original: Original, shelf: int, *, is_alone: bool) -> str:
    content = os.fsencode(original.claim)
    for target in _numbered(original.name, room=NAME_BYTES_MAX):
        if _take(target, content, shelf, is_alone=is_alone, durable=False):
            return target
    target = _marked(original.name, content, room=NAME_BYTES_MAX)
    _take(target, content, shelf, is_alone=True, durable=False)
    return target


def _numbered(name: str, *, room: int) -> Iterator[str]:
    """Return the first choices for a name: itself, then with numbers."""
    start = cut_to_bytes(name, room - len(f"__{NUMBERED_MAX}"))
    return (with_suffix_number(start, number) for number in range(1, NUMBERED_MAX + 1))


def _marked(name: str, content: bytes, *, room: int) -> str:
    """Return the last choice: a name that is only that of the file which has this explanation or claim."""
    mark = hashlib.sha256(content).hexdigest()[:MARK_CHARACTERS]
    return with_suffix(cut_to_bytes(name, room - len(f"__{mark}")), mark)


def _take(name: str, content: bytes, shelf: int, *, is_alone: bool, durable: bool) -> bool:
    """Take a name with this content, now or before a crash; return False if it is somebody else's."""
    return _create(name, content, shelf, durable=durable) or _is_ours(name, content, shelf, is_alone=is_alone)


def _create(name: str, content: bytes, shelf: int, *, durable: bool) -> bool:
    try:
        descriptor = os.open(name, _NEW_FLAGS, 0o666, dir_fd=shelf)
    except FileExistsError:
        return False
    try:
        _fill(descriptor, content, durable=durable)
    except OSError:
        with leaving_what_resists():
            os.unlink(name, dir_fd=shelf)  # what is not whole would keep the name from ourselves too
        raise
    return True


def _fill(descriptor: int, content: bytes, *, durable: bool) -> None:
    try:
        write_all(descriptor, [content])
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)  # a server may only now say that there is no room


def _is_ours(name: str, content: bytes, shelf: int, *, is_alone: bool) -> bool:
    """Say whether the explanation is this very one, written just before we died: it is a function of what is recorded.

    If we died while it was written, what is there is its beginning, and is written to its end. But where another
    daemon is at home, a beginning may be the one that it is writing just now.
    """
    try:
        descriptor = os.open(name, os.O_RDWR | _ODD_FILES_TOO, dir_fd=shelf)
    except OSError as error:
        if not is_about_one_name(error):
            raise
        return False
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        found = os.read(descriptor, len(content) + 1) if is_file else None
        if found is None or not content.startswith(found) or not (found == content or is_alone):
            return False
        write_all(descriptor, [content[len(found) :]])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def _unlink_all(parent: int, names: Sequence[str]) -> None:
    for name in names:
        with leaving_what_resists(), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
    sync_folder(parent)
