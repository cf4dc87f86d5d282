"""What was dropped, and what must become of it: each request bought once for each of its lives, and answered once.

A request's *life* is from when its file is recorded to when it has ended. The same file dropped while it lives is a
double drop; dropped after that, a new life. Whether it lives is judged from outside: nothing of it has ended yet.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.fake_api import FakeBatch

from .model_workspace import COUNTED_FATES, REPEATED_FATES, Fate, Workspace, tag_of

ATTEMPTS_MAX = 3
GROWTH = b" and this"
"""What a writer that was not done adds to its file."""


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
    is_growing: bool = False
    """Its writer goes on after the drop."""

    @property
    def path(self) -> str:
        """Its place in the inbox."""
        return self.name if self.lane is None else f"{self.lane}/{self.name}"

    @property
    def key(self) -> tuple[str | None, bytes]:
        """What a second drop of the same has in common with it."""
        return self.lane, self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A file that takes back others, by their name or by a custom_id."""

    target: str
    lane: str | None

    @property
    def path(self) -> str:
        """Its place in the inbox."""
        name = f"{self.target}.cancel"
        return name if self.lane is None else f"{self.lane}/{name}"


@dataclass(slots=True)
class Ledger:
    """Every drop that was not taken back. Written by the model's rules and after every step."""

    drops: list[Drop] = field(default_factory=list)
    lives: Counter[int] = field(default_factory=Counter)
    """By tag: how many lives its request may have had, at most."""
    growths_min: Counter[int] = field(default_factory=Counter)
    """By tag: how often its file had grown before anything of it was sent; what is sent must have all that."""
    signs: list[Sign] = field(default_factory=list)
    """Those that were dropped and are not obeyed yet, or told that there is nothing to do."""
    canceled: set[int] = field(default_factory=set)
    """Requests that a sign has named."""
    canceled_files: set[str] = field(default_factory=set)
    """Places in the inbox of which a sign has named the file."""
    _bought_max: dict[int, int] = field(default_factory=dict)
    """By tag: how often it had been bought when a sign was obeyed that named its file; it must not be more often."""
    _recorded: Counter[tuple[str | None, bytes]] = field(default_factory=Counter)

    def add(self, drop: Drop) -> None:
        """Note a drop."""
        self.drops.append(drop)
        for asked in drop.asked:
            self._bought_max.pop(asked.tag, None)  # somebody wants it after all
            self.lives[asked.tag] = max(1, self.lives[asked.tag])

    def take_back(self, path: str) -> None:
        """Note that the latest file of that path was deleted or written over before it was taken."""
        index = max(index for index, drop in enumerate(self.drops) if drop.path == path)
        del self.drops[index]

    def note_obeyed(self, is_there: Callable[[str], bool], workspace: Workspace) -> None:
        """Note what signs name, and which were obeyed: of what they named nothing is bought any more."""
        for sign in self.signs:
            self._note_named(sign)
        workspace.touched |= self.canceled
        obeyed = [sign for sign in self.signs if not is_there(sign.path)]
        self.signs = [sign for sign in self.signs if sign not in obeyed]
        bought = Counter(tag for batch in workspace.ours for tag in _tags(batch))
        for sign in obeyed:
            named = [drop for drop in self.drops if drop.name == sign.target and drop.lane == sign.lane]
            waiting = {asked.tag for drop in named if is_there(drop.path) for asked in drop.asked}
            tags = {asked.tag for drop in named for asked in drop.asked} - waiting
            self._bought_max |= {tag: bought[tag] for tag in tags}

    def _note_named(self, sign: Sign) -> None:
        of_lane = [drop for drop in self.drops if drop.lane == sign.lane]
        named = [drop for drop in of_lane if drop.name == sign.target]
        self.canceled_files |= {drop.path for drop in named}
        self.canceled |= {asked.tag for drop in named for asked in drop.asked}
        self.canceled |= {asked.tag for drop in of_lane for asked in drop.asked if asked.fits(sign.target)}

    def grow(self, drop: Drop, *, counts: bool) -> Drop:
        """Note that a file has grown; `counts` says whether what is sent from now on must have that."""
        grown = replace(drop, content=drop.content + GROWTH)
        self.drops[self.drops.index(drop)] = grown
        self.growths_min[drop.asked[0].tag] += int(counts)
        return grown

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
        ever = Counter(tag for batch in workspace.ours for tag in _tags(batch))
        for tag, limit in self._bought_max.items():
            assert ever[tag] <= limit, f"[q{tag}] was bought again after it was cancelled"
        for batch in workspace.ours:
            outcomes = workspace.outcomes.get(batch.id, {})
            bought.update(tag for tag in _tags(batch) if outcomes.get(tag) not in REPEATED_FATES)
            tried.update(tag for tag in _tags(batch) if outcomes.get(tag) in COUNTED_FATES)
        for batch in workspace.ours:
            for params in batch.requests.values():
                tag = tag_of(params)
                assert params.count(GROWTH) >= self.growths_min[tag], f"[q{tag}] was sent before its file was whole"
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
