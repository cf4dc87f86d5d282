"""What one trial, or many, came to."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How much was tried, and what went against a promise."""

    tried: Mapping[str, int]
    violations: Sequence[str] = ()


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """Add verdicts up."""
    tried: Counter[str] = Counter()
    violations: list[str] = []
    for verdict in verdicts:
        tried.update(verdict.tried)
        violations += verdict.violations
    return Verdict(tried=dict(tried), violations=violations)
