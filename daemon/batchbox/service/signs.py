"""Signs between the parts of the service: clocks, bells that say "look now", and pulses that say "still alive"."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from batchbox.model import Now

STEP_SECONDS_MAX = 3600.0
"""A step that gives no sign for so long hangs, unless it waits for the share."""


def read_clocks() -> Now:
    """Read both clocks."""
    return Now(wall=datetime.now(UTC), monotonic=time.monotonic())


class Bell:
    """Says "look now" to one drive loop. Ringing twice is ringing once."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake the loop, or keep it from going to sleep."""
        self._rung.set()

    def silence(self) -> None:
        """Forget earlier rings: a step follows that sees what they were about."""
        self._rung = anyio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait for a ring, at most so long."""
        with anyio.move_on_after(max(0.0, seconds)):
            await self._rung.wait()


class Pulse:
    """When a stage last gave a sign of life. Written by its drive loop and, in long steps, by the stage."""

    def __init__(self, clock: Callable[[], Now]) -> None:
        self._clock = clock
        self._since: float | None = None

    def begin(self) -> None:
        """Note that a step begins, or makes progress."""
        self._since = self._clock().monotonic

    def end(self) -> None:
        """Note that the stage waits for its next step."""
        self._since = None

    def is_fresh(self, now: Now) -> bool:
        """Say whether the stage is waiting, or at work and getting on."""
        return self._since is None or now.monotonic - self._since < STEP_SECONDS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Bells:
    """One for every stage."""

    intake: Bell
    dispatch: Bell
    polling: Bell
    delivery: Bell
    orders: Bell = field(default_factory=Bell)

    def ring_all(self) -> None:
        """Wake every stage."""
        for bell in (self.intake, self.dispatch, self.polling, self.delivery, self.orders):
            bell.ring()
