"""rejected/ and done/: where claimed files end up, each under a name that is taken before the file moves.

In rejected/ the name is taken by the explanation, `<name>.error.txt`; in done/ by a placeholder that holds the name of
the claim and that the rename replaces. Both are made with O_EXCL, so two daemons never take the same name, and what
is there is never overwritten. No two files have the same explanation or the same claim, so what is there already says
whose name it has taken. A file that cannot be moved just now, because somebody has it open, stays where it is.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from batchbox.folders.layout import (
    DONE,
    REJECTED,
    claims_folder,
    confirm_instance,
    lane_folder,
    other_instances,
)
from batchbox.folders.root import Root, exists, is_about_one_name, leaving_what_resists, sync_folder, write_all
from batchbox.model import Instance, Lane
from batchbox.naming import cut_to_bytes, with_suffix_number

EXPLANATION_SUFFIX = ".error.txt"
NAME_BYTES_MAX = 255
NAMES_MAX = 100_000
"""How many files of one name may lie in a folder before a further one stays where it is."""

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

    async def put_aside(self, lane: Lane, moves: Sequence[Move]) -> list[Move]:
        """Move claimed files to rejected/, durably. One that is there already is left alone.

        Returns the moves that were not made, because something that is no placeholder has the name, or because the
        move was refused.
        """
        return await self._root.run(lambda root: self._move(root, REJECTED, lane, moves))

    async def archive(self, lane: Lane, moves: Sequence[Move]) -> list[Move]:
        """Move originals to done/, as put_aside does to rejected/."""
        return await self._root.run(lambda root: self._move(root, DONE, lane, moves))

    async def drop_claims(self, lane: Lane, claims: Sequence[str]) -> None:
        """Delete originals that nobody keeps."""
        await self._root.run(lambda root: self._drop_claims(root, lane, claims))

    async def remove_done(self, lane: Lane, names: Sequence[str]) -> None:
        """Delete originals from done/."""
        await self._root.run(lambda root: _remove_done(root, lane, names))

    def _take_rejected(self, root: int, lane: Lane, files: Sequence[Rejected]) -> list[str]:
        confirm_instance(root, self._instance)
        is_alone = not other_instances(root, self._instance)
        with lane_folder(root, REJECTED, lane, make=True) as shelf:
            targets = [_explain(file, shelf, is_alone=is_alone) for file in files]
            sync_folder(shelf)
        return targets

    def _take_done(self, root: int, lane: Lane, originals: Sequence[Original]) -> list[str]:
        confirm_instance(root, self._instance)
        is_alone = not other_instances(root, self._instance)
        with lane_folder(root, DONE, lane, make=True) as shelf:
            return [_place_holder(original, shelf, is_alone=is_alone) for original in originals]

    def _move(self, root: int, top: str, lane: Lane, moves: Sequence[Move]) -> list[Move]:
        stuck = []
        with (
            claims_folder(root, self._instance, lane) as claims,
            lane_folder(root, top, lane, make=True) as shelf,
        ):
            for move in moves:
                if not exists(move.claim, parent=claims):  # it has moved in an earlier attempt
                    continue
                if not (_is_free(move, shelf) and _is_moved(move, claims=claims, shelf=shelf)):
                    stuck.append(move)
            sync_folder(shelf)
            sync_folder(claims)
        return stuck

    def _drop_claims(self, root: int, lane: Lane, names: Sequence[str]) -> None:
        with claims_folder(root, self._instance, lane) as claims:
            _unlink_all(claims, names)


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
    name = cut_to_bytes(file.name, NAME_BYTES_MAX - len(EXPLANATION_SUFFIX) - len("__99999"))
    for number in range(1, NAMES_MAX):
        target = with_suffix_number(name, number)
        if exists(target, parent=shelf):
            continue
        explanation = target + EXPLANATION_SUFFIX
        if _create(explanation, file.explanation, shelf, durable=True):
            return target
        if _is_ours(explanation, file.explanation, shelf, is_alone=is_alone):
            return target
    raise FileExistsError(f"rejected/ has {NAMES_MAX} files of one name")


def _create(name: str, content: bytes, shelf: int, *, durable: bool) -> bool:
    try:
        descriptor = os.open(name, _NEW_FLAGS, 0o666, dir_fd=shelf)
    except FileExistsError:
        return False
    try:
        write_all(descriptor, [content])
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


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


def _place_holder(original: Original, shelf: int, *, is_alone: bool) -> str:
    name = cut_to_bytes(original.name, NAME_BYTES_MAX - len("__99999"))
    content = os.fsencode(original.claim)
    for number in range(1, NAMES_MAX):
        target = with_suffix_number(name, number)
        if _create(target, content, shelf, durable=False) or _is_ours(target, content, shelf, is_alone=is_alone):
            return target
    raise FileExistsError(f"done/ has {NAMES_MAX} files of one name")


def _remove_done(root: int, lane: Lane, names: Sequence[str]) -> None:
    with lane_folder(root, DONE, lane, make=True) as shelf:
        _unlink_all(shelf, names)


def _unlink_all(parent: int, names: Sequence[str]) -> None:
    for name in names:
        with leaving_what_resists(), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
    sync_folder(parent)
