"""The files of one lane that are watched until they are still, and when each of them is looked at next.

The moment of a file's next look is worked out when something is learned of the file, and not in every scan: ten
thousand files that wait then cost a scan a comparison each.
"""

import math
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from batchbox.settling import Sighting, due, next_look, refused

REFUSED_SHARE = 4
"""Files that could not be taken keep no more than the fourth part of the room from others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a file has to be still, and one that looks unfinished. Seconds."""

    quiet: float
    incomplete_after: float


class Sightings:
    """What is known of a lane's files, by their names."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._seen: dict[str, Sighting] = {}
        self._looks: dict[str, float] = {}  # of the same files, the monotonic moment of the next look
        self._told: set[str] = set()  # files of which it was told that they cannot be taken, watched or not
        self._admitted_last = ""

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, name: str) -> bool:
        return name in self._seen

    def __getitem__(self, name: str) -> Sighting:
        return self._seen[name]

    def __setitem__(self, name: str, sighting: Sighting) -> None:
        self._seen[name] = sighting
        self._looks[name] = self._next_look(sighting)

    def get(self, name: str) -> Sighting | None:
        """Return what is known of a file, None for one that is not watched."""
        return self._seen.get(name)

    def forget(self, name: str) -> None:
        """Watch the file no longer."""
        self._leave(name)
        self._told.discard(name)

    def keep(self, names: Collection[str]) -> None:
        """Forget every file that is not among these."""
        for name in self._seen.keys() - names:
            self._leave(name)
        self._told.intersection_update(names)

    def admit(self, names: Sequence[str], *, room: int) -> list[str]:
        """Return those files that are to be watched besides, as far as there is room: those whose turn it is.

        To make room, files that could not be taken are watched no longer, the oldest first; their turn comes again.
        """
        new = [name for name in names if name not in self._seen]
        self._leave_refused(len(self._seen) + len(new) - room, room=room)
        free = room - len(self._seen)
        if free <= 0:
            return []
        new.sort()
        start = bisect_right(new, self._admitted_last) if len(new) > free else 0
        admitted = (new[start:] + new[:start])[:free]
        self._admitted_last = admitted[-1] if admitted else ""
        return admitted

    def refuse(self, name: str) -> bool:
        """Note that the file could not be taken; return whether that has not been told yet."""
        self[name] = refused(self._seen[name])
        is_news = name not in self._told
        self._told.add(name)
        return is_news

    def keep_pace(self, pace: Pace) -> None:
        """Look at the files at this pace from now on."""
        if pace != self._pace:
            self._pace = pace
            self._looks = {name: self._next_look(seen) for name, seen in self._seen.items()}

    def looked_for(self, now: float) -> list[str]:
        """Return the files whose time for a look has come."""
        return [name for name, at in self._looks.items() if at <= now]

    def is_due(self, name: str, now: float) -> bool:
        """Say whether a file has been still for long enough, as far as its last sample tells."""
        return due(self._seen[name], quiet=self._pace.quiet, incomplete_after=self._pace.incomplete_after) <= now

    def next_look(self) -> float:
        """Return the monotonic moment of the next look at any of the files."""
        return min(self._looks.values(), default=math.inf)

    def refused(self) -> Iterator[str]:
        """Return the files that could not be taken when that was last tried."""
        return (name for name, seen in self._seen.items() if seen.refusals)

    def _leave_refused(self, wanted_count: int, *, room: int) -> None:
        refused_count = sum(1 for _ in self.refused()) if wanted_count > 0 else 0
        leave_count = min(wanted_count, refused_count - room // REFUSED_SHARE)
        for name in list(islice(self.refused(), max(0, leave_count))):
            self._leave(name)

    def _leave(self, name: str) -> None:
        self._seen.pop(name, None)
        self._looks.pop(name, None)

    def _next_look(self, sighting: Sighting) -> float:
        return next_look(sighting, quiet=self._pace.quiet, incomplete_after=self._pace.incomplete_after)
