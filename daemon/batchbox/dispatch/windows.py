"""Which window is sealed next: by count, bytes or age, lanes in turn.

A window's age is taken on both clocks, whichever makes it older: the monotonic one does not stop when the wall clock
is set back, and the wall clock remembers a window across a restart.
"""

from collections.abc import Callable, Sequence

from batchbox.config import Window as WindowSettings
from batchbox.model import Lane, Now
from batchbox.store.dispatch import Window

_Key = tuple[Lane, str, int]


class Windows:
    """Remembers when each window was first seen and which lane was served last."""

    def __init__(self, settings: Callable[[Lane], WindowSettings]) -> None:
        self._settings = settings
        self._first_seen: dict[_Key, float] = {}
        self._served: dict[Lane, int] = {}
        self._turn = 0

    def see(self, windows: Sequence[Window], now: Now) -> None:
        """Learn what waits now."""
        seen = {_key(window): self._first_seen.get(_key(window), now.monotonic) for window in windows}
        self._first_seen = seen

    def due_at(self, window: Window, now: Now) -> float:
        """Return the monotonic moment at which the window is sealed."""
        settings = self._settings(window.lane)
        if window.request_count >= settings.max_requests or window.size_bytes >= settings.max_bytes:
            return now.monotonic
        by_wall_clock = now.monotonic + settings.max_wait - (now.wall - window.oldest_at).total_seconds()
        return min(by_wall_clock, self._first_seen[_key(window)] + settings.max_wait)

    def next_of(self, windows: Sequence[Window], now: Now) -> Window | None:
        """Return the window to seal now: of the lane that has waited longest for its turn; None if none is due."""
        due = [window for window in windows if self.due_at(window, now) <= now.monotonic]
        return min(due, key=lambda window: (self.turn_of(window.lane), window.oldest_at), default=None)

    def limits(self, window: Window) -> WindowSettings:
        """Return how much of the window goes into one batch."""
        return self._settings(window.lane)

    def turn_of(self, lane: Lane) -> int:
        """Return a number that is the smaller the longer ago the lane was served."""
        return self._served.get(lane, 0)

    def serve(self, lane: Lane) -> None:
        """Note that the lane has had its turn."""
        self._turn += 1
        self._served[lane] = self._turn


def _key(window: Window) -> _Key:
    return (window.lane, window.betas, int(window.oldest_at.timestamp() * 1000))
