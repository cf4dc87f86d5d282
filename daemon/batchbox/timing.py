"""When something is due: back-off, poll and look schedules, and windows, computed from numbers alone.

Nothing here reads a clock or draws a random number; callers pass both. All durations are seconds.
"""

import math
from collections.abc import Sequence

JITTER_SHARE = 0.2
"""A wait is shortened by up to this share, so that many daemons do not come back in step."""

PLACE_SECONDS_MAX = 30.0
"""Trying a disk or a share again costs little, and people wait for it: never longer than this between two tries."""

LOOKS_SECONDS = (5.0, 60.0)
"""Early looks for a batch in doubt: most lost replies concern a batch that the list shows within seconds."""


LATE_LOOK_SECONDS = 3600.0
"""How often a batch that was given up is looked for; sooner where grace is shorter than usual."""


def late_look_seconds(grace: float) -> float:
    """Return the wait between two looks for a first sending that may turn up after its resend."""
    return min(LATE_LOOK_SECONDS, 4 * grace)


def jittered(seconds: float, *, chance: float) -> float:
    """Shorten a wait by up to JITTER_SHARE. `chance` is a random number in [0, 1)."""
    return seconds * (1 - JITTER_SHARE * chance)


def backoff_seconds(failures: int, *, first: float, longest: float) -> float:
    """Return the wait after so many failures in a row (at least 1): doubled each time, never over `longest`."""
    doublings = min(failures - 1, 30)  # beyond 2**30 every `longest` in use has been reached
    return float(min(longest, first * 2**doublings))


def poll_seconds(polls: int, *, first: float, factor: float, longest: float) -> float:
    """Return the wait before poll number `polls` + 1 of one batch."""
    delay = first
    for _ in range(polls):
        delay = min(longest, delay * factor)
        if delay >= longest:
            break
    return min(longest, delay)


def look_seconds(grace: float) -> Sequence[float]:
    """Return when to look for a batch in doubt, counted from the unknown outcome; the last look is at `grace`."""
    early = [at for at in (*LOOKS_SECONDS, grace / 2) if at < grace]
    return [*sorted(early), grace]


class Backoff:
    """A wait that grows with every failure in a row, of one thing that is tried again and again."""

    def __init__(self, *, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._failures = 0
        self._until = 0.0

    def fail(self, now: float, *, chance: float, at_least: float = 0.0, at_most: float = math.inf) -> float:
        """Count a failure at the monotonic moment; return when to try again."""
        self._failures += 1
        wait = jittered(backoff_seconds(self._failures, first=self._first, longest=self._longest), chance=chance)
        self._until = now + min(max(wait, at_least), at_most)
        return self._until

    def succeed(self) -> None:
        """Forget the failures."""
        self._failures = 0
        self._until = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    @property
    def until(self) -> float:
        """The monotonic moment of the next try; 0 if nothing failed."""
        return self._until
