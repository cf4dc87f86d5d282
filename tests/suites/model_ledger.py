"""What was dropped, and what must become of it: each request bought once for each of its lives, and answered once.

A request's *life* is from when its file is recorded to when it has ended. The same file dropped while it lives is a
double drop; dropped after that, a new life. Whether it lives is judged from outside: nothing of it has ended yet.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.fake_api import FakeBatch

from .model_workspace import COUNTED_FATES, REPEATED_FATES, Fate, Workspace, tag_of

ATTEMPTS_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request in a file."""

    tag: int
    custom_id: str
    """Explicit, or what its file's name makes of it."""
    is_explicit: bool

    def fits(self, custom_id: object) -> bool:
        """Say whether a document of this custom_id can be about it."""
        form = re.escape(self.custom_id) + ("" if self.is_explicit else "(-[0-9]+)?")
        return re.fullmatch(form, str(custom_id)) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """One file that was dropped. One without requests must be rejected."""

    name: str
    lane: str | None
    content: bytes
    asked: Sequence[Asked] = ()

    @property
    def path(self) -> str:
        """Its place in the inbox."""
        return self.name if self.lane is None else f"{self.lane}/{self.name}"

    @property
    def key(self) -> tuple[str | None, bytes]:
        """What a second drop of the same has in common with it."""
        return self.lane, self.content


@dataclass(slots=True)
class Ledger:
    """Every drop that was not taken back. Written by the model's rules and after every step."""

    drops: list[Drop] = field(default_factory=list)
    lives: Counter[int] = field(default_factory=Counter)
    """By tag: how many lives its request may have had, at most."""
    _recorded: Counter[tuple[str | None, bytes]] = field(default_factory=Counter)

    def add(self, drop: Drop) -> None:
        """Note a drop."""
        self.drops.append(drop)
        for asked in drop.asked:
            self.lives[asked.tag] = max(1, self.lives[asked.tag])

    def take_back(self, path: str) -> None:
        """Note that the latest file of that path was deleted or written over before it was taken."""
        index = max(index for index, drop in enumerate(self.drops) if drop.path == path)
        del self.drops[index]

    def note_recorded(self, rows: Callable[[str], list[tuple[object, ...]]], workspace: Workspace) -> None:
        """Count the lives of what has been recorded again."""
        dropped = Counter(drop.key for drop in self.drops if drop.asked)
        repeated = [key for key, count in dropped.items() if count > 1 and self._recorded[key] < count]
        if not repeated:
            return
        counts = Counter(sha256 for (sha256,) in rows("SELECT sha256 FROM sources WHERE state <> 'reading'"))
        for key in repeated:
            count = counts[hashlib.sha256(key[1]).digest()]
            for tag in {asked.tag for drop in self.drops if drop.key == key for asked in drop.asked}:
                if tag in workspace.touched:
                    self.lives[tag] += max(0, count - max(1, self._recorded[key]))
            self._recorded[key] = count

    def check_purchases(self, workspace: Workspace) -> None:
        """Check that nothing runs, or was paid, more often than it lived, and that attempts have an end."""
        twinned = {tag for batch in workspace.ours if batch.was_hidden for tag in _tags(batch)}
        bought: Counter[int] = Counter()
        tried: Counter[int] = Counter()
        for batch in workspace.ours:
            outcomes = workspace.outcomes.get(batch.id, {})
            bought.update(tag for tag in _tags(batch) if outcomes.get(tag) not in REPEATED_FATES)
            tried.update(tag for tag in _tags(batch) if outcomes.get(tag) in COUNTED_FATES)
        for tag in bought.keys() - twinned:
            assert bought[tag] <= self.lives[tag], f"[q{tag}] is bought {bought[tag]} times for {self.lives[tag]} lives"
        for tag in tried.keys() - twinned:
            limit = ATTEMPTS_MAX * self.lives[tag]
            assert tried[tag] <= limit, f"[q{tag}] was tried {tried[tag]} times, {limit} are allowed"


def failed_tries(workspace: Workspace, tag: int) -> int:
    """Return how many purchases of a request failed in a way that counts."""
    return sum(outcomes.get(tag) in COUNTED_FATES for outcomes in workspace.outcomes.values())


def fate_in(workspace: Workspace, batch: FakeBatch, tag: int) -> Fate | None:
    """Return how a request fared in a batch."""
    return workspace.outcomes.get(batch.id, {}).get(tag)


def _tags(batch: FakeBatch) -> list[int]:
    return [tag_of(params) for params in batch.requests.values()]
