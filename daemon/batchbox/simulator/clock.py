"""The simulator's clock: it starts at a given moment, runs at a given speed, and can be pushed ahead."""

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Simulated time. It never goes back; at speed 0 it moves only when it is pushed."""

    def __init__(self, start: datetime, *, speed: float) -> None:
        self._start = start
        self._speed = speed
        self._begun = time.monotonic()
        self._pushed = timedelta()

    def now(self) -> datetime:
        """Return the simulated moment, aware, in UTC."""
        elapsed = timedelta(seconds=(time.monotonic() - self._begun) * self._speed)
        return self._start + elapsed + self._pushed

    def advance(self, seconds: float) -> None:
        """Push the clock ahead. Raises ValueError for a step back."""
        if seconds < 0:
            raise ValueError(f"the clock cannot be pushed by {seconds} seconds: simulated time only goes ahead")
        self._pushed += timedelta(seconds=seconds)


def rfc3339(moment: datetime) -> str:
    """Write the moment as the API does, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
