"""Another instance's work made ours: its claims, its manifests, and where its originals went.

The first act is a rename of `processing/<other>` into our own folder, under a hidden name. It takes the claims from the
other daemon, if that still lives, at one instant: it looks for its folder before it sends, delivers or claims anything.
It is also the mark that a takeover is under way, and stays until everything else is done: `run` does not start before.

Whoever is taken over may have died in a takeover of its own. What it had taken then lies in its folder, comes with it,
and is part of its work.
"""

import errno
import hashlib
import itertools
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from batchbox.errors import FolderPermissionError
from batchbox.folders.fitness import is_closed
from batchbox.folders.layout import DONE, HEARTBEAT, MANIFESTS, OWN_MODE, PROCESSING, Presence, lane_folder
from batchbox.folders.manifests import manifests_in
from batchbox.folders.reading import READ_PIECE_BYTES, user_name
from batchbox.folders.root import Root, exists, folder, is_folder, make_folder, opened, sync_folder
from batchbox.logs import shown
from batchbox.model import Instance, Lane
from batchbox.naming import with_suffix_number

TAKEN_PREFIX = ".taken-"
LEFT_PREFIX = ".left-"
ALIVE_SECONDS = 180.0
"""A heartbeat is touched every minute: one that is older than this belongs to a daemon that has died, or hangs."""
NAMES_MAX = 100
"""Under so many names an original is looked for in done/."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another instance on the root."""

    instance: Instance
    silent_seconds: float | None
    """How long ago its heartbeat was touched; None: it stopped in good order."""
    claim_count: int
    open_manifest_count: int
    has_folder: bool = True
    """Whether it has one in processing/: without it, what it had sent is found by its manifests alone."""
    unreadable: OSError | None = None
    """Why its folders cannot be looked at, so that nothing else here is known; None: they could be."""

    @property
    def is_alive(self) -> bool:
        """Whether a daemon seems to be at work there."""
        return self.silent_seconds is not None and self.silent_seconds < ALIVE_SECONDS

    @property
    def is_orphaned(self) -> bool:
        """Whether it has left work behind that nobody does."""
        is_known = self.unreadable is None
        return is_known and not self.is_alive and bool(self.claim_count or self.open_manifest_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """An original that is no longer in processing/."""

    id: int
    lane: Lane
    name: str
    sha256: bytes


class Takeover:
    """Moves another instance's work into our folders."""

    def __init__(self, root: Root, own: Instance, presence: Presence) -> None:
        self._root = root
        self._own = own
        self._presence = presence

    async def neighbours(self) -> list[Neighbour]:
        """Return the other instances, their heartbeats judged against a fresh touch of our own."""
        await self._presence.beat()
        return await self._root.run(lambda root: neighbours(root, self._own))

    async def begin(self, other: Instance) -> None:
        """Take the other's folder away from it, durably.

        Raises FolderPermissionError before anything is touched if not all that lies in it can be moved.
        """
        await self._root.run(lambda root: self._begin(root, other))

    async def unfinished(self) -> list[Instance]:
        """Return whose folders were taken by a takeover that did not come to its end."""
        return await self._root.run(lambda root: taken_by(root, self._own))

    async def take_claims(self) -> None:
        """Put the claims in all the folders that were taken among ours, durably."""
        await self._root.run(self._take_claims)

    async def finish(self, taken: Sequence[Instance]) -> None:
        """Remove what is left of the folders that were taken: nothing of these instances remains to be done.

        Raises OSError before anything is touched if there are others too: a daemon that lived after all may have been
        about to take them.
        """
        await self._root.run(lambda root: self._finish(root, taken))

    async def find_originals(self, sought: Sequence[Sought]) -> dict[int, str]:
        """Return, by id, the names in done/ of those originals that are there, by their content."""
        return await self._root.run(lambda root: {one.id: name for one in sought if (name := _in_done(root, one))})

    def _begin(self, root: int, other: Instance) -> None:
        closed = [name for name in _folders_of(root, other) if is_closed(root, name)]
        if closed:
            raise self._not_ours(root, closed)
        with folder(root, PROCESSING) as parent, folder(parent, self._own) as own:
            try:
                os.rename(other, TAKEN_PREFIX + other, src_dir_fd=parent, dst_dir_fd=own)
            except FileNotFoundError:  # a lost reply, if it is ours now
                pass
            except PermissionError as error:
                raise self._not_ours(root, [f"{PROCESSING}/{other}"]) from error
            os.stat(TAKEN_PREFIX + other, dir_fd=own, follow_symlinks=False)
            sync_folder(own)
            sync_folder(parent)

    def _not_ours(self, root: int, closed: Sequence[str]) -> FolderPermissionError:
        user = user_name(os.geteuid())
        owners = {user_name(os.lstat(name, dir_fd=root).st_uid): None for name in closed}
        paths = [shown(str(self._root.path / name)) for name in closed]
        return FolderPermissionError(
            f"{', '.join(paths)}: this belongs to the user {', '.join(owners)}, and {user}, who runs batchbox, may not "
            f"move what is in it. Give it to {user}, for example with `chown -R {user} {shlex.join(paths)}`, then run "
            "this again."
        )

    def _take_claims(self, root: int) -> None:
        own_place, *taken = _places(root, self._own)
        for place in taken:
            with folder(root, *own_place) as own, folder(root, *place) as theirs:
                for lane in _lanes(theirs):
                    make_folder(own, lane, mode=OWN_MODE)
                    _move_all(lane, source=theirs, target=own)

    def _finish(self, root: int, taken: Sequence[Instance]) -> None:
        _, *places = _places(root, self._own)
        more = [_whose(place) for place in places if _whose(place) not in taken]
        if more:
            raise OSError(errno.EBUSY, "there is another instance's folder in it now", shown(more[0]))
        for place in reversed(places):  # what lies in another's folder goes before that one
            _remove(root, place)


def neighbours(root: int, own: Instance | None) -> list[Neighbour]:
    """Return the other instances on the root, by what their folders say; our own heartbeat, if any, tells the time."""
    with folder(root, PROCESSING) as parent:
        now = None if own is None else _own_time(parent, own)
        everyone = {Instance(name) for name in _folders(parent)}
        others = sorted(everyone - {own})
        looked = [_neighbour(root, parent, other, time.time() if now is None else now) for other in others]
    found = [neighbour for neighbour in looked if neighbour is not None]
    return found + [one for one in _without_folder(root, everyone) if one.instance != own]


def _without_folder(root: int, at_home: set[Instance]) -> list[Neighbour]:
    """Return those of which nothing but open manifests is left, besides those that have a folder in processing/.

    Whose folder has been taken is not one of them: its manifests are the affair of whoever has it. If that cannot be
    known of everybody, nobody is.
    """
    try:
        known = {_whose(place) for instance in at_home for place in _places(root, instance)}
        with folder(root, *MANIFESTS) as parent:
            left = sorted({Instance(name) for name in _folders(parent)} - known)
        open_counts = {instance: sum(manifests_in(root, instance).values()) for instance in left}
    except OSError:
        return []
    return [
        Neighbour(instance=instance, silent_seconds=None, claim_count=0, open_manifest_count=count, has_folder=False)
        for instance, count in open_counts.items()
        if count
    ]


def taken_by(root: int, own: Instance) -> list[Instance]:
    """Return whose folders lie in ours, or in one of those."""
    try:
        _, *places = _places(root, own)
    except FileNotFoundError:
        return []
    return [*dict.fromkeys(_whose(place) for place in places)]


def _neighbour(root: int, parent: int, instance: Instance, now: float) -> Neighbour | None:
    """Look at one instance. What cannot be looked at is told of it alone; None: it has gone."""
    try:
        with folder(parent, instance) as theirs:
            touched = _heartbeat(theirs)
        places = [*_places(root, instance)]
        claim_count = sum(_claim_count(root, place) for place in places)
        open_manifest_count = sum(sum(manifests_in(root, _whose(place)).values()) for place in places)
    except FileNotFoundError:  # somebody has just taken it over
        return None
    except OSError as error:
        return Neighbour(instance=instance, silent_seconds=None, claim_count=0, open_manifest_count=0, unreadable=error)
    return Neighbour(
        instance=instance,
        silent_seconds=None if touched is None else max(0.0, now - touched),
        claim_count=claim_count,
        open_manifest_count=open_manifest_count,
    )


def _own_time(parent: int, own: Instance) -> float | None:
    try:
        with folder(parent, own) as descriptor:
            return _heartbeat(descriptor)
    except (FileNotFoundError, PermissionError):  # not started yet, or asked by somebody who is not the daemon's user
        return None


def _heartbeat(instance_folder: int) -> float | None:
    """Return when it was touched; None if there is none. Whatever else keeps us from knowing is raised."""
    try:
        return os.stat(HEARTBEAT, dir_fd=instance_folder, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return None


def _places(root: int, instance: Instance) -> Iterator[tuple[str, ...]]:
    """Yield the paths of an instance's folder, of those that lie taken in it and in these: the upper ones first.

    Raises OSError for one that cannot be looked at, after it was yielded.
    """
    places: list[tuple[str, ...]] = [(PROCESSING, instance)]
    for place in places:  # which grows meanwhile
        yield place
        with folder(root, *place) as descriptor:
            places += [(*place, name) for name in sorted(_folders(descriptor)) if name.startswith(TAKEN_PREFIX)]


def _whose(place: Sequence[str]) -> Instance:
    return Instance(place[-1].removeprefix(TAKEN_PREFIX))


def _folders_of(root: int, instance: Instance) -> Iterator[str]:
    """Yield the paths of the folders that files are moved out of in a takeover, those above before those below."""
    with suppress(FileNotFoundError, PermissionError):
        for place in _places(root, instance):
            path = "/".join(place)
            yield path
            yield "/".join((*MANIFESTS, _whose(place)))
            with folder(root, *place) as theirs:
                yield from [f"{path}/{lane}" for lane in _lanes(theirs)]


def _lanes(descriptor: int) -> list[str]:
    return [name for name in _folders(descriptor) if name[0] != "."]


def _folders(descriptor: int) -> list[str]:
    with os.scandir(descriptor) as entries:
        return [entry.name for entry in entries if is_folder(entry)]


def _claim_count(root: int, place: Sequence[str]) -> int:
    with folder(root, *place) as theirs:
        return sum(_file_count(theirs, lane) for lane in _lanes(theirs))


def _file_count(descriptor: int, lane: str) -> int:
    with folder(descriptor, lane) as claims, os.scandir(claims) as entries:
        return sum(1 for entry in entries if not is_folder(entry))


def _move_all(lane: str, *, source: int, target: int) -> None:
    with folder(source, lane) as theirs, folder(target, lane) as ours:
        for name in os.listdir(theirs):
            os.rename(name, name, src_dir_fd=theirs, dst_dir_fd=ours)
        sync_folder(ours)
        sync_folder(theirs)
    os.rmdir(lane, dir_fd=source)


def _remove(root: int, place: Sequence[str]) -> None:
    """Rename it before it is removed: it may hold what was no claim, and then stays, under a name of no meaning."""
    *above, name = place
    with folder(root, *above) as parent:
        names = (with_suffix_number(LEFT_PREFIX + _whose(place), number) for number in itertools.count(1))
        left = next(name for name in names if not exists(name, parent=parent))
        with folder(parent, name) as theirs, suppress(FileNotFoundError):
            os.unlink(HEARTBEAT, dir_fd=theirs)
        os.rename(name, left, src_dir_fd=parent, dst_dir_fd=parent)
        with suppress(OSError):
            os.rmdir(left, dir_fd=parent)
        sync_folder(parent)


def _in_done(root: int, sought: Sought) -> str | None:
    """Return the name of the file in done/ that has the name, or a numbered one, and the content."""
    try:
        with lane_folder(root, DONE, sought.lane) as shelf:
            for number in range(1, NAMES_MAX):
                name = with_suffix_number(sought.name, number)
                if exists(name, parent=shelf) and _digest(name, shelf) == sought.sha256:
                    return name
    except FileNotFoundError:  # nothing of the lane was ever done
        return None
    return None


def _digest(name: str, parent: int) -> bytes | None:
    digest = hashlib.sha256()
    try:
        with opened(name, parent=parent) as descriptor:
            while piece := os.read(descriptor, READ_PIECE_BYTES):
                digest.update(piece)
    except OSError:  # a folder, or not ours to read: not the file that is sought
        return None
    return digest.digest()
