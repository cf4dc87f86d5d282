"""The outbox: parts are written under hidden names, made durable together, and only then given their names.

The order is what makes a visible file a finished file: parts durable; texts renamed; folder durable; the
`.result.json`s and `.error.json`s, which scripts wait for, renamed; folder durable. The caller commits after that.

A rename replaces what has the name, so before the first one every stem is taken against other daemons (`stems`) and its
names are looked for: another daemon, or a person, may have taken them since the outbox was listed. A name that Windows,
or whoever holds the file open, refuses to give or to take away keeps its own request waiting, and no other.
"""

import ctypes
import os
import stat
import sys
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from batchbox.documents import HEAD_BYTES, wire_ids_in
from batchbox.folders import stems
from batchbox.folders.layout import OUTBOX, confirm_instance, lane_folder, other_instances
from batchbox.folders.root import (
    Root,
    exists,
    folder,
    is_about_one_name,
    is_folder,
    leaving_what_resists,
    opened,
    sync_folder,
    write_all,
)
from batchbox.model import Instance, Lane

MARKERS = (".result.json", ".error.json")
"""What the names of those files end with that scripts wait for: every request has one in the end."""

SYNC_ALONE_UP_TO = 3
"""So many parts are cheaper to flush one by one than with the whole file system."""
COMPARED_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file that is complete but not visible yet."""

    name: str
    is_marker: bool
    """A `.result.json` or `.error.json`: it becomes visible after everything else of its group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """The content of a file to be."""

    pieces: Sequence[bytes]
    is_marker: bool


class StemUse(StrEnum):
    """What a stem is to the request that has it."""

    NEW = "new"
    """Chosen just now, and free then: whatever has it is somebody else's."""
    OWN = "own"
    """Its own since an earlier attempt: what has it must be what that attempt left."""
    REPLACED = "replaced"
    """An earlier answer's, which goes first with all its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A part, and the name that it gets."""

    part: Part
    stem: str
    suffix: str
    use: StemUse
    wire_ids: Collection[str]
    """Of the request: a document that names one of them is this request's."""
    former_stem: str | None = None
    """The stem that was given up: what was shown under it goes."""

    @property
    def name(self) -> str:
        """The name that the part gets."""
        return self.stem + self.suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of a group."""

    taken: AbstractSet[str] = frozenset()
    """Stems that somebody else has: if there are any, nothing was done."""
    refused: AbstractSet[str] = frozenset()
    """Stems of which a name could not be given just now: their markers are not visible, and their parts are gone."""
    noted: AbstractSet[str] = frozenset()
    """Stems that other daemons must not take until the group is recorded; then they are to be released."""


class Outbox:
    """The outbox and its lanes."""

    def __init__(self, root: Root, instance: Instance) -> None:
        self._root = root
        self._instance = instance
        self._prefix = f".bb-{instance}-"
        self._sync_together = _find_syncfs()

    async def write(self, lane: Lane, files: Sequence[NewFile]) -> list[Part]:
        """Write parts. They are neither visible nor durable yet."""
        return await self._root.run(lambda root: self._write(root, lane, files))

    async def publish(self, lane: Lane, group: Sequence[Publication]) -> Published:
        """Give the parts their names, durably and in order. Raises RetiredError."""
        return await self._root.run(lambda root: self._publish(root, lane, group))

    async def discard(self, lane: Lane, parts: Sequence[Part]) -> None:
        """Delete parts that get no name."""
        await self._root.run(lambda root: _discard(root, lane, parts))

    async def release(self, lane: Lane, noted: Collection[str]) -> None:
        """Let other daemons have these stems, as far as the folder lets them. Raises RetiredError."""
        await self._root.run(lambda root: self._release(root, lane, noted))

    async def names(self, lane: Lane) -> list[str]:
        """Return the names of the files in the lane's outbox; lanes' own folders are no files."""
        return await self._root.run(lambda root: _names(root, lane))

    async def heads(self, lane: Lane, names: Sequence[str], *, length: int) -> list[bytes | None]:
        """Return the first bytes of each of these files in the outbox, None for one that cannot be read."""
        return await self._root.run(lambda root: _heads(root, lane, names, length))

    async def remove_leftovers(self, *, stems_in_use: Collection[str] | None) -> None:
        """Delete the parts of this instance, whose content is written anew, and its notes of all stems but these.

        None: all notes stay, because nobody knows yet which stems are in use.
        """
        await self._root.run(lambda root: self._remove_leftovers(root, stems_in_use))

    def _write(self, root: int, lane: Lane, files: Sequence[NewFile]) -> list[Part]:
        with lane_folder(root, OUTBOX, lane, make=True) as outbox:
            return [self._write_one(outbox, file) for file in files]

    def _write_one(self, outbox: int, file: NewFile) -> Part:
        name = f"{self._prefix}{os.urandom(8).hex()}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o666, dir_fd=outbox)
        try:
            write_all(descriptor, list(file.pieces))
        finally:
            os.close(descriptor)
        return Part(name=name, is_marker=file.is_marker)

    def _publish(self, root: int, lane: Lane, group: Sequence[Publication]) -> Published:
        with lane_folder(root, OUTBOX, lane, make=True) as outbox:
            self._make_durable(outbox, group)
            confirm_instance(root, self._instance)
            taken, refused, noted = self._take_stems(root, outbox, group)
            if taken:
                stems.release(taken & noted, outbox=outbox)
                return Published(taken=taken)
            refused |= _remove_stems(outbox, {one.stem for one in group if one.use is StemUse.REPLACED} - refused)
            for is_marker in (False, True):
                for publication in group:
                    if publication.part.is_marker is is_marker and publication.stem not in refused:
                        _show(publication, refused, outbox=outbox)
                sync_folder(outbox)
            _tidy(group, refused, outbox=outbox)
        return Published(refused=refused, noted=noted)

    def _take_stems(self, root: int, outbox: int, group: Sequence[Publication]) -> tuple[set[str], set[str], set[str]]:
        """Return the stems that somebody else has, those to be waited for, and those that we have notes of."""
        taken, refused, noted = set(), set(), set()
        has_others = bool(other_instances(root, self._instance))
        by_stem: dict[str, list[Publication]] = {}
        for publication in group:
            by_stem.setdefault(publication.stem, []).append(publication)
        for stem, (one, *_) in by_stem.items():
            if not has_others and (one.use is StemUse.NEW or not exists(stems.note_name(stem), parent=outbox)):
                continue
            if stems.take(stems.Wanted(stem=stem, wire_ids=one.wire_ids), self._instance, outbox=outbox):
                noted.add(stem)
            elif one.use is StemUse.REPLACED:
                refused.add(stem)
            else:
                taken.add(stem)
        present = _visible_stems(outbox) if has_others else set()
        taken |= {
            stem
            for stem, publications in by_stem.items()
            if stem not in taken | refused and _is_somebody_elses(publications, present, outbox=outbox)
        }
        return taken, refused, noted

    def _release(self, root: int, lane: Lane, noted: Collection[str]) -> None:
        confirm_instance(root, self._instance)  # whoever has taken our work over may rely on the notes
        with lane_folder(root, OUTBOX, lane) as outbox:
            stems.release(noted, outbox=outbox)

    def _make_durable(self, outbox: int, group: Sequence[Publication]) -> None:
        if self._sync_together is not None and self._root.is_local and len(group) > SYNC_ALONE_UP_TO:
            self._sync_together(outbox)
            return
        for publication in group:
            descriptor = os.open(publication.part.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=outbox)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _remove_leftovers(self, root: int, stems_in_use: Collection[str] | None) -> None:
        with folder(root, OUTBOX) as outbox:
            self._remove_leftovers_in(root, outbox, stems_in_use)
            with os.scandir(outbox) as entries:
                lanes = [entry.name for entry in entries if is_folder(entry)]
            for lane in lanes:
                with leaving_what_resists(), folder(outbox, lane) as descriptor:
                    self._remove_leftovers_in(root, descriptor, stems_in_use)

    def _remove_leftovers_in(self, root: int, parent: int, stems_in_use: Collection[str] | None) -> None:
        names = os.listdir(parent)
        for name in names:
            if name.startswith(self._prefix) and name.endswith(".part"):
                with leaving_what_resists():
                    os.unlink(name, dir_fd=parent)
        notes = [name for name in names if stems.is_note(name)]
        if notes and stems_in_use is not None:
            stems.remove_old(notes, root, self._instance, outbox=parent, stems_in_use=stems_in_use)


def _discard(root: int, lane: Lane, parts: Sequence[Part]) -> None:
    with lane_folder(root, OUTBOX, lane) as outbox:
        for part in parts:
            with suppress(FileNotFoundError), leaving_what_resists():
                os.unlink(part.name, dir_fd=outbox)


def _names(root: int, lane: Lane) -> list[str]:
    with lane_folder(root, OUTBOX, lane, make=True) as outbox:
        return _file_names(outbox)


def _heads(root: int, lane: Lane, names: Sequence[str], length: int) -> list[bytes | None]:
    with lane_folder(root, OUTBOX, lane, make=True) as outbox:
        return [_head(outbox, name, length) for name in names]


def _head(outbox: int, name: str, length: int) -> bytes | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=outbox)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or is_about_one_name(error):
            return None
        raise
    try:
        return os.read(descriptor, length) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


def _is_somebody_elses(publications: Sequence[Publication], present: Collection[str], *, outbox: int) -> bool:
    """Say whether anything that bears the stem is not what an earlier attempt of the request left."""
    stem, use = publications[0].stem, publications[0].use
    if use is StemUse.REPLACED:
        return False
    if use is StemUse.NEW:
        return stem.casefold() in present or any(exists(one.name, parent=outbox) for one in publications)
    parts = {stem + marker: None for marker in MARKERS} | {one.name: one.part for one in publications}
    return any(
        exists(name, parent=outbox) and not _is_own(name, part, publications[0].wire_ids, outbox=outbox)
        for name, part in parts.items()
    )


def _is_own(name: str, part: Part | None, wire_ids: Collection[str], *, outbox: int) -> bool:
    """Say whether a visible file is the request's: it names a wire id of it, or is just what it is going to be."""
    head = _head(outbox, name, HEAD_BYTES) if name.endswith(MARKERS) else None
    if head is not None and not set(wire_ids).isdisjoint(wire_ids_in(head)):
        return True
    return part is not None and _is_same(part.name, name, outbox=outbox)


def _is_same(one: str, other: str, *, outbox: int) -> bool:
    try:
        with opened(one, parent=outbox) as left, opened(other, parent=outbox) as right:
            if not stat.S_ISREG(os.fstat(right).st_mode) or os.fstat(left).st_size != os.fstat(right).st_size:
                return False
            while piece := os.read(left, COMPARED_BYTES):
                if piece != os.read(right, COMPARED_BYTES):
                    return False
    except OSError as error:
        if isinstance(error, FileNotFoundError) or is_about_one_name(error):
            return False
        raise
    return True


def _show(publication: Publication, refused: set[str], *, outbox: int) -> None:
    """Give a part its name; if that is refused just now, and nothing of ours has it, add the stem to the refused."""
    try:
        os.rename(publication.part.name, publication.name, src_dir_fd=outbox, dst_dir_fd=outbox)
    except OSError as error:
        if not is_about_one_name(error):
            raise
        if not _is_own(publication.name, publication.part, publication.wire_ids, outbox=outbox):
            refused.add(publication.stem)


def _tidy(group: Sequence[Publication], refused: Collection[str], *, outbox: int) -> None:
    """Remove parts that got no name, and what was shown under stems that were given up since."""
    for one in group:
        with leaving_what_resists(), suppress(FileNotFoundError):
            if one.stem in refused or one.use is not StemUse.NEW:
                os.unlink(one.part.name, dir_fd=outbox)
    for one in group:
        if one.former_stem is None or one.stem in refused:
            continue
        with leaving_what_resists(), suppress(FileNotFoundError):
            if _is_same(one.name, one.former_stem + one.suffix, outbox=outbox):
                os.unlink(one.former_stem + one.suffix, dir_fd=outbox)
        stems.release([one.former_stem], outbox=outbox)


def _remove_stems(outbox: int, going: Collection[str]) -> set[str]:
    """Remove all files of the stems, markers first; return those of which a file resists."""
    refused: set[str] = set()
    if not going:
        return refused
    names = [name for name in _file_names(outbox) if name.partition(".")[0] in going]
    for name in sorted(names, key=lambda name: not name.endswith(MARKERS)):
        stem = name.partition(".")[0]
        try:
            if stem not in refused:
                os.unlink(name, dir_fd=outbox)
        except OSError as error:
            if not is_about_one_name(error):
                raise
            refused.add(stem)
    return refused


def _visible_stems(outbox: int) -> set[str]:
    return {name.partition(".")[0].casefold() for name in _file_names(outbox) if not name.startswith(".")}


def _file_names(parent: int) -> list[str]:
    with os.scandir(parent) as entries:
        return [entry.name for entry in entries if not is_folder(entry)]


def _find_syncfs() -> Callable[[int], None] | None:
    """Return a call that makes a descriptor's whole file system durable, where there is one (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None, use_errno=True)

    def sync_file_system(descriptor: int) -> None:
        if library.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return sync_file_system
