"""What a suite reports of one run: how much it tried, what it found, and which planted mistakes it caught."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Size(StrEnum):
    """How much of itself a suite runs."""

    SHORT = "short"
    """A sample that fits into every commit's checks."""
    LONG = "long"
    """Everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run of one suite."""

    suite: str
    proves: str
    """One sentence for the table."""
    tried: Mapping[str, int]
    """How much of what: `{"points": 2000, "kills": 8000}`."""
    violations: Sequence[str] = ()
    """What went against a promise, each with what is needed to see it again."""
    mutations: Mapping[str, bool] = field(default_factory=dict)
    """By name: whether the planted mistake was caught."""
    skipped: str | None = None
    """Why nothing was tried, if nothing was."""
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether the suite was run, found nothing, and caught every planted mistake."""
        return self.skipped is None and not self.violations and all(self.mutations.values())

    def complaint(self) -> str:
        """Say what is wrong, for a test's message."""
        survivors = [name for name, is_caught in self.mutations.items() if not is_caught]
        lines = [*self.violations[:20], *(f"mutation survived: {name}" for name in survivors)]
        return f"{self.suite}: " + ("\n  ".join(lines) if lines else (self.skipped or "clean"))
