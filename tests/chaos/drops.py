"""What writers drop, and what they know of it afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """How a file comes to lie in the inbox."""

    ATOMIC = "atomic"
    """Written under a hidden name and renamed."""
    SLOW = "slow"
    """Written under its name, with pauses shorter than `quiet`."""
    STALLING = "stalling"
    """Written under its name, with a pause longer than `quiet`."""
    PREALLOCATING = "preallocating"
    """As long as it will be from the start, full of NULs, and with a time of last change that is long ago."""
    APPENDING = "appending"
    """Lines of JSON, appended in pieces that end in the middle of a line, with pauses longer than `quiet`."""
    AGAIN = "again"
    """Always one of a few names, with other content, as soon as the one before has left the inbox."""
    CANCELED = "canceled"
    """Deleted again, perhaps too late."""


class Fate(StrEnum):
    """What became of a file while its writer had it."""

    WRITTEN = "written"
    DELETED = "deleted"
    """Before anybody had taken it."""
    EXCUSED = "excused"
    """This machine kept the writer waiting for so long that the file may rightly count as finished half-way."""


@dataclass(slots=True, kw_only=True)
class Drop:
    """One file."""

    id: str
    kind: Kind
    name: str
    lane: str
    texts: Sequence[str]
    """One per request."""
    content: bytes
    fate: Fate = Fate.WRITTEN


@dataclass(slots=True)
class Book:
    """Every file that was dropped. Writers add to it."""

    drops: list[Drop] = field(default_factory=list)

    def count(self, fate: Fate) -> int:
        """Return how many files fared so."""
        return sum(drop.fate is fate for drop in self.drops)
