"""The power switch and the service's stop, both at a point of the model's choosing."""

from dataclasses import dataclass

import anyio

from pipeline.bench import Crash, Points


@dataclass(slots=True)
class Power(Points):
    """Passes points until the one at which the process dies, or is told to stop."""

    stop_at: int | None = None
    total: int = 0
    """Of all points of all processes. A step that passes none changes nothing that anybody could find."""
    scope: anyio.CancelScope | None = None
    """Of the step that is being taken."""

    def pass_by(self, label: str) -> None:
        """Pass a point, die at it, or be told there to stop."""
        self.passed += 1
        self.total += 1
        if self.crash_at is not None and self.passed >= self.crash_at:
            raise Crash(label)
        if self.stop_at is not None and self.passed >= self.stop_at and self.scope is not None:
            self.scope.cancel()

    def fail_at(self, *, crash: int | None = None, stop: int | None = None) -> None:
        """Die, or stop, at the n-th point from here."""
        self.passed, self.crash_at, self.stop_at = 0, crash, stop
