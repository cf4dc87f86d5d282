"""The outbox: parts are written under hidden names, made durable together, and only then given their names.

The order is what makes a visible file a finished file: parts durable; texts renamed; folder durable; the
`.result.json`s and `.error.json`s, which scripts wait for, renamed; folder durable. The caller commits after that.

A rename replaces what has the name, so before the first one every stem is taken against other daemons (`stems`) and its
names are looked for: another daemon, or a person, may have taken them since the outbox was listed. A name that Windows,
or whoever holds the file open, refuses to give or to take away keeps its own request waiting, and no other. So does a
part that somebody takes away before it has its name, as scanners for viruses do.
"""

import ctypes
import os
import stat
import sys
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from batchbox.folders import replacing, stems, trials
from batchbox.folders.answers import (
    MARKERS,
    OldAnswer,
    Replaceable,
    Sought,
    find_stem,
    is_own,
    is_put_away,
    is_same,
    old_answer,
)
from batchbox.folders.layout import OUTBOX, confirm_instance, lane_folder, other_instances
from batchbox.folders.root import (
    Root,
    exists,
    folder,
    is_folder,
    leaving_what_resists,
    opened,
    sync_folder,
    write_all,
)
from batchbox.model import INBOX_LANE, Instance, Lane

ANSWER_ENDS = (".md", ".txt", ".json")
"""How answers' files mostly end, and lanes do not: a folder of such a name is in an answer's way."""
SYNC_ALONE_UP_TO = 3
"""So many parts are cheaper to flush one by one than with the whole file system."""


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
    """Known to be its own: what has it must be what an earlier attempt left, or an answer that it may replace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A part, and the name that it gets."""

    part: Part
    stem: str
    suffix: str
    use: StemUse
    wire_ids: Collection[str]
    """Of the request: a document that names one of them is this request's."""
    replaces: Replaceable | None = None
    """The earlier answer that makes way if it has the stem."""
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
    """Stems of which a name could not be given just now, or a part had gone: none of their parts is left."""
    noted: AbstractSet[str] = frozenset()
    """Stems that other daemons must not take until the group is recorded; then they are to be released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What has the stems of a group; `_take_stems` fills it."""

    noted: set[str]
    """Stems that we have notes of."""
    taken: set[str] = field(default_factory=set)
    """Stems that somebody else has."""
    refused: set[str] = field(default_factory=set)
    """Stems of old answers that another daemon is about to replace: they are waited for."""
    old_answers: dict[str, OldAnswer] = field(default_factory=dict)
    """Those that make way, by their stems."""


class Outbox:
    """The outbox and its lanes."""

    def __init__(self, root: Root, instance: Instance) -> None:
        self._root = root
        self._instance = instance
        self._prefix = f".bb-{instance}-"
        self._sync_together = _find_syncfs()
        self._written: set[Lane] | None = None  # since leftovers were first removed; whose turn it is writes it

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
        """Return the names in the lane's outbox that may stand in the way of an answer's files.

        Folders are not, as lanes' own are, unless they are called like an answer.
        """
        return await self._root.run(lambda root: _names(root, lane))

    async def known_stem(self, lane: Lane, candidates: Sequence[str], sought: Sought) -> str | None:
        """Return the first of the stems that the answer has, or whose answer it replaces; None if that is none."""
        return await self._root.run(lambda root: _known_stem(root, lane, candidates, sought))

    async def remove_leftovers(self, *, stems_in_use: Collection[str] | None) -> None:
        """Delete the parts of this instance, whose content is written anew, and its notes of all stems but these.

        None: all notes stay, because nobody knows yet which stems are in use. What a `check` left behind goes too.
        After the first time only lanes that were written to are looked at: people make folders as they like.
        """
        await self._root.run(lambda root: self._remove_leftovers(root, stems_in_use))

    def _write(self, root: int, lane: Lane, files: Sequence[NewFile]) -> list[Part]:
        if self._written is not None:
            self._written.add(lane)
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
            robbed = self._make_durable(outbox, group)
            confirm_instance(root, self._instance)
            found = self._take_stems(root, outbox, group)
            if found.taken:
                stems.release(found.taken & found.noted, outbox=outbox)
                return Published(taken=found.taken)
            going = {stem: old for stem, old in found.old_answers.items() if stem not in robbed}
            refused = robbed | found.refused | replacing.remove(going, outbox=outbox)
            for is_marker in (False, True):
                for publication in group:
                    if publication.part.is_marker is is_marker and publication.stem not in refused:
                        _show(publication, refused, outbox=outbox)
                sync_folder(outbox)
            self._tidy(group, refused, outbox=outbox)
        return Published(refused=refused, noted=found.noted)

    def _take_stems(self, root: int, outbox: int, group: Sequence[Publication]) -> _Found:
        """Take the stems against other daemons, and look then what has them."""
        by_stem: dict[str, list[Publication]] = {}
        for publication in group:
            by_stem.setdefault(publication.stem, []).append(publication)
        has_others = bool(other_instances(root, self._instance))
        noted: set[str] = set()
        resisting: set[str] = set()
        for stem, (one, *_) in by_stem.items():
            if has_others or (one.use is StemUse.OWN and exists(stems.note_name(stem), parent=outbox)):
                is_ours = stems.take(_wanted(stem, one), self._instance, outbox=outbox)
                (noted if is_ours else resisting).add(stem)
        present = _visible_stems(outbox) if has_others else set()
        found = _Found(noted=noted)
        for stem, publications in by_stem.items():
            old = _old_answer(publications[0], outbox=outbox)
            if stem in resisting:
                (found.taken if old is None else found.refused).add(stem)
            elif _is_somebody_elses(publications, present, old, outbox=outbox):
                found.taken.add(stem)
            elif old is not None:
                found.old_answers[stem] = old
        return found

    def _release(self, root: int, lane: Lane, noted: Collection[str]) -> None:
        confirm_instance(root, self._instance)  # whoever has taken our work over may rely on the notes
        with lane_folder(root, OUTBOX, lane) as outbox:
            stems.release(noted, outbox=outbox)

    def _make_durable(self, outbox: int, group: Sequence[Publication]) -> set[str]:
        """Make the parts durable; return the stems of which one has gone, or is no file that can be opened."""
        if self._sync_together is not None and self._root.is_local and len(group) > SYNC_ALONE_UP_TO:
            self._sync_together(outbox)
            return {one.stem for one in group if not exists(one.part.name, parent=outbox)}
        robbed = set()
        for one in group:
            if not _make_part_durable(one.part, outbox):
                robbed.add(one.stem)
        return robbed

    def _tidy(self, group: Sequence[Publication], refused: Collection[str], *, outbox: int) -> None:
        """Remove parts that got no name, and what was shown under stems that were given up since."""
        for one in group:
            with leaving_what_resists(), suppress(FileNotFoundError):
                if one.stem in refused or one.use is not StemUse.NEW:
                    os.unlink(one.part.name, dir_fd=outbox)
        given_up: dict[str, list[Publication]] = {}
        for one in group:
            if one.former_stem is not None and one.stem not in refused:
                given_up.setdefault(one.former_stem, []).append(one)
        for stem, publications in given_up.items():
            if stems.is_free(_wanted(stem, publications[0]), self._instance, outbox=outbox):
                _remove_former(stem, publications, outbox=outbox)
                stems.release([stem], outbox=outbox)

    def _remove_leftovers(self, root: int, stems_in_use: Collection[str] | None) -> None:
        trials.remove_left(root, now=stems.now_there(root, self._instance))
        with folder(root, OUTBOX) as outbox:
            self._remove_leftovers_in(root, outbox, stems_in_use)
            for lane in _folders_in(outbox) if self._written is None else self._written - {INBOX_LANE}:
                with leaving_what_resists(), suppress(FileNotFoundError), folder(outbox, lane) as descriptor:
                    self._remove_leftovers_in(root, descriptor, stems_in_use)
        if self._written is None and stems_in_use is not None:
            self._written = set()

    def _remove_leftovers_in(self, root: int, parent: int, stems_in_use: Collection[str] | None) -> None:
        names = os.listdir(parent)
        for name in names:
            if name.startswith(self._prefix) and name.endswith(".part"):
                with leaving_what_resists(), suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=parent)
        notes = [name for name in names if stems.is_note(name)]
        if notes and stems_in_use is not None:
            stems.remove_old(notes, root, self._instance, outbox=parent, stems_in_use=stems_in_use)
        put_away = [name for name in names if is_put_away(name)]
        if put_away and stems_in_use is not None:
            now = stems.now_there(root, self._instance)
            replacing.remove_forgotten(put_away, outbox=parent, stems_in_use=stems_in_use, now=now)


def _discard(root: int, lane: Lane, parts: Sequence[Part]) -> None:
    with lane_folder(root, OUTBOX, lane) as outbox:
        for part in parts:
            with suppress(FileNotFoundError), leaving_what_resists():
                os.unlink(part.name, dir_fd=outbox)


def _names(root: int, lane: Lane) -> list[str]:
    with lane_folder(root, OUTBOX, lane, make=True) as outbox:
        return _names_in_the_way(outbox)


def _known_stem(root: int, lane: Lane, candidates: Sequence[str], sought: Sought) -> str | None:
    with lane_folder(root, OUTBOX, lane, make=True) as outbox:
        return find_stem(candidates, sought, outbox=outbox)


def _wanted(stem: str, one: Publication) -> stems.Wanted:
    return stems.Wanted(stem=stem, wire_ids=one.wire_ids)


def _old_answer(one: Publication, *, outbox: int) -> OldAnswer | None:
    if one.use is StemUse.NEW or one.replaces is None or one.replaces.stem != one.stem:
        return None
    return old_answer(one.replaces, one.wire_ids, outbox=outbox)


def _is_somebody_elses(
    publications: Sequence[Publication], present: Collection[str], old: OldAnswer | None, *, outbox: int
) -> bool:
    """Say whether anything that bears the stem is neither what an earlier attempt left nor of the old answer."""
    stem, wire_ids = publications[0].stem, publications[0].wire_ids
    if publications[0].use is StemUse.NEW:
        return stem.casefold() in present or any(exists(one.name, parent=outbox) for one in publications)
    parts = {stem + marker: None for marker in MARKERS} | {one.name: one.part.name for one in publications}
    going = set() if old is None else {*old.documents, *old.texts}
    return any(
        name not in going and exists(name, parent=outbox) and not is_own(name, part, wire_ids, outbox=outbox)
        for name, part in parts.items()
    )


def _make_part_durable(part: Part, outbox: int) -> bool:
    with leaving_what_resists(), suppress(FileNotFoundError), opened(part.name, parent=outbox) as descriptor:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fsync(descriptor)
            return True
    return False


def _show(publication: Publication, refused: set[str], *, outbox: int) -> None:
    """Give a part its name; if that is refused just now, and nothing of ours has it, add the stem to the refused.

    The same if the part has gone.
    """
    with leaving_what_resists(), suppress(FileNotFoundError):
        os.rename(publication.part.name, publication.name, src_dir_fd=outbox, dst_dir_fd=outbox)
        return
    if not is_own(publication.name, publication.part.name, publication.wire_ids, outbox=outbox):
        refused.add(publication.stem)


def _remove_former(stem: str, publications: Sequence[Publication], *, outbox: int) -> None:
    """Remove what was shown under a stem that was given up; what looks otherwise is somebody else's by now."""
    wire_ids = publications[0].wire_ids
    markers = [stem + marker for marker in MARKERS if exists(stem + marker, parent=outbox)]
    if not all(is_own(name, None, wire_ids, outbox=outbox) for name in markers):
        return
    for one in publications:
        with leaving_what_resists(), suppress(FileNotFoundError):
            if is_same(one.name, stem + one.suffix, outbox=outbox):
                os.unlink(stem + one.suffix, dir_fd=outbox)


def _visible_stems(outbox: int) -> set[str]:
    return {name.partition(".")[0].casefold() for name in _names_in_the_way(outbox) if not name.startswith(".")}


def _folders_in(parent: int) -> list[str]:
    with os.scandir(parent) as entries:
        return [entry.name for entry in entries if is_folder(entry)]


def _names_in_the_way(parent: int) -> list[str]:
    with os.scandir(parent) as entries:
        return [entry.name for entry in entries if entry.name.endswith(ANSWER_ENDS) or not is_folder(entry)]


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
