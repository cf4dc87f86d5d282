"""Whether a file in the inbox is finished, decided from samples of it alone.

A writer gives no sign when it is done, and events come while it still writes. So a file is taken when a sample of it
(identity, size, times, last bytes) has not changed for `quiet`, counted on our own clock from our own first sight:
its modification time proves nothing, because copies keep it and servers' clocks are off. A file that cannot be
finished yet (nothing in it, NULs where a text ends, JSON that stops in the middle) is waited for longer, and so is one
of an unknown type, because some programs rename when they are done.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from batchbox.timing import backoff_seconds

REFUSED_SECONDS_MAX = 30.0
"""So long a file is left alone at most that could not be taken."""
GONE_SECONDS = 5.0
"""A claimed file must be away in two looks that are so far apart: a share may lose sight of one for a moment."""
LOOK_AGAIN_SECONDS = GONE_SECONDS + 1.0
"""So long after a look that found nothing comes the next one: GONE_SECONDS lie between the one's end and its begin."""
STILL_SECONDS_MAX = 60.0
"""So long a file is left alone at most that has not changed for long, and cannot be taken as it is."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look at a file saw."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int
    is_regular: bool
    tail: bytes | None
    """Its last 64 bytes; None: it could not be opened."""


class Readiness(StrEnum):
    """What a sample says about a file that does not change."""

    PLAUSIBLE = "plausible"
    UNFINISHED = "unfinished"
    """It cannot be what its writer wants it to be."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A file that is being watched until it is still."""

    sample: Sample
    readiness: Readiness
    since: float
    """Monotonic moment of the first sample that was like the last one."""
    looked_at: float
    """Monotonic moment of the last sample."""
    refusals: int = 0
    """How many attempts to take it, as it is, have failed."""


def sight(before: Sighting | None, sample: Sample, *, readiness: Readiness, now: float) -> Sighting:
    """Return what is known of the file after this sample."""
    if before is None or before.sample != sample:
        return Sighting(sample=sample, readiness=readiness, since=now, looked_at=now)
    return replace(before, looked_at=now)


def unfinished(sighting: Sighting) -> Sighting:
    """Return the sighting of a file whose content, read whole, breaks off."""
    return replace(sighting, readiness=Readiness.UNFINISHED)


def refused(sighting: Sighting) -> Sighting:
    """Return the sighting of a file that could not be taken: it is in use, or not ours to take."""
    return replace(sighting, refusals=sighting.refusals + 1)


def due(sighting: Sighting, *, quiet: float, incomplete_after: float) -> float:
    """Return the monotonic moment from which the file is taken, if it has not changed until then."""
    patience = quiet if sighting.readiness is Readiness.PLAUSIBLE else max(quiet, incomplete_after)
    return sighting.since + patience


def next_look(sighting: Sighting, *, quiet: float, incomplete_after: float) -> float:
    """Return the monotonic moment of the next sample: when the file is due, or every `quiet` while it is not taken.

    One that could not be taken, or has not changed for long, is looked at in less and less of a hurry, and at the same
    moments as all the others of its kind: ten thousand of them must cost next to nothing.
    """
    at = due(sighting, quiet=quiet, incomplete_after=incomplete_after)
    rest = max(quiet, _rest_seconds(sighting, quiet))
    again = sighting.looked_at + rest
    if rest > quiet:
        again = math.ceil(again / rest) * rest
    return again if at <= sighting.looked_at else min(at, again)


def has_gone(away_since: float, *, now: float) -> bool:
    """Say whether a claimed file has gone for good that was away in a look then, and is away now. Monotonic moments."""
    return now - away_since >= GONE_SECONDS


def _rest_seconds(sighting: Sighting, quiet: float) -> float:
    if sighting.refusals:
        return backoff_seconds(sighting.refusals, first=quiet, longest=REFUSED_SECONDS_MAX)
    longest = min((sighting.looked_at - sighting.since) / 2, STILL_SECONDS_MAX)
    return float(quiet * 2 ** math.floor(math.log2(longest / quiet))) if longest > quiet > 0 else quiet
