"""A workspace that is as unreliable as one may be, and that other programs may work in as well.

Of ten create calls one meets a fault: its reply is lost, it is committed minutes later, it never arrives, the process
dies around it. What is accepted comes into the list with a delay, its time comes from servers that do not agree, pages
are short, and now and then nothing can be asked for half an hour.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from batchbox.api import (
    ApiTrouble,
    BatchBody,
    BatchPage,
    CreateOutcome,
    SurelyNot,
    Trouble,
    TroubleKind,
    Unknown,
)
from batchbox.model import ApiBatchId
from pipeline.bench import BenchApi, Crash
from pipeline.fake_api import NO_NETWORK, FakeBatch, Reply, _line

LATE_SECONDS = 120.0
"""So long after the call a batch may be committed whose reply was lost."""
LAG_SECONDS = 30.0
"""So long the list may be behind."""
SKEW_SECONDS = 100.0
"""So far the servers that stamp batches may be off, either way."""
LIFE_SECONDS = (30.0, 3600.0)
OUTAGE_SECONDS = (60.0, 2400.0)
OUTAGE_SHARE = 0.3
"""Of the calls with an unknown outcome: they break off because much else does."""
TROUBLE_SHARE = 0.03
"""Of the calls that may be repeated."""
PAGE_BATCHES = 20
OTHERS_SHARE = 0.3
"""How often another program creates a batch just before or just after a call of ours."""

BROKEN = Trouble(kind=TroubleKind.SERVER, text="500 api_error", status=500)
RATE = Trouble(kind=TroubleKind.RATE_LIMIT, text="429 rate_limit_error", status=429, retry_after_seconds=7.0)
TROUBLES: Sequence[Trouble] = (NO_NETWORK, BROKEN, RATE)


class Fate(StrEnum):
    """How one create call fares."""

    WELL = "well"
    LOST = "lost"
    """Accepted, and the connection ends without a reply."""
    BROKEN_AFTER = "broken_after"
    """Accepted, and answered with a 500."""
    LATE = "late"
    """The reply is lost, and the batch is committed up to two minutes later."""
    NEVER_ARRIVED = "never_arrived"
    BROKEN_BEFORE = "broken_before"
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate_limited"
    DEATH_BEFORE = "death_before"
    DEATH_AFTER = "death_after"
    """The process ends with the reply in its hand."""


FAULTS: Mapping[Fate, float] = {
    Fate.LOST: 2.5,
    Fate.BROKEN_AFTER: 0.5,
    Fate.LATE: 2.0,
    Fate.NEVER_ARRIVED: 1.0,
    Fate.BROKEN_BEFORE: 1.0,
    Fate.OVERLOADED: 0.5,
    Fate.RATE_LIMITED: 0.5,
    Fate.DEATH_BEFORE: 1.0,
    Fate.DEATH_AFTER: 1.0,
}
"""How often each is met, in relation to the others; in per cent when one call of ten meets a fault."""

REPLIES: Mapping[Fate, Reply] = {
    Fate.LOST: Reply.LOSE,
    Fate.BROKEN_AFTER: Reply.LOSE,
    Fate.LATE: Reply.LOSE,
    Fate.NEVER_ARRIVED: Reply.NEVER_ARRIVED,
    Fate.BROKEN_BEFORE: Reply.NEVER_ARRIVED,
    Fate.OVERLOADED: Reply.OVERLOADED,
    Fate.RATE_LIMITED: Reply.SURELY_NOT,
}
OUTCOMES: Mapping[Fate, CreateOutcome] = {
    Fate.BROKEN_AFTER: Unknown(trouble=BROKEN),
    Fate.BROKEN_BEFORE: Unknown(trouble=BROKEN),
    Fate.RATE_LIMITED: SurelyNot(trouble=RATE),
}
"""What the caller is told, where the reply alone does not say it."""


class Workspace(BenchApi):
    """The fake workspace, with everything left to chance."""

    def __init__(
        self, wall: Callable[[], datetime], *, chance: random.Random, fault_share: float, is_shared: bool, size: int
    ) -> None:
        super().__init__(wall)
        self.call_count = 0
        """Calls that were begun, those before which the process died among them."""
        self.deaths = 0
        self._chance = chance
        self._fault_share = fault_share
        self._is_shared = is_shared
        self._size = size
        self._late_seconds = 0.0
        self._shown_at: dict[ApiBatchId, datetime] = {}
        self._ends_at: dict[ApiBatchId, datetime] = {}
        self._outage_until = wall()

    def pass_time(self) -> None:
        """Let the batches end whose time has come."""
        over = {id_ for id_, at in self._ends_at.items() if at <= self._wall()}
        for batch in self.batches:
            if batch.id in over:
                self.end(batch)
                del self._ends_at[batch.id]

    def end(self, batch: FakeBatch) -> None:
        """Let one batch end, its lines in another order than its requests."""
        results = [(custom_id, self.answerer(custom_id, params, 0)) for custom_id, params in batch.requests.items()]
        batch.lines = [_line(custom_id, result) for custom_id, result in reversed(results)]
        batch.has_ended = True

    async def create(self, body: BatchBody, *, betas: object) -> CreateOutcome:
        """Take a batch, or do what its fate says, between batches of other programs."""
        self.call_count += 1
        fate = self._draw()
        self._meet_others()
        if fate is Fate.DEATH_BEFORE:
            self.deaths += 1
            raise Crash(fate)
        self.replies.append(REPLIES.get(fate, Reply.ACCEPT))
        self._late_seconds = self._chance.uniform(0, LATE_SECONDS) if fate is Fate.LATE else 0.0
        outcome = await super().create(body, betas=betas)
        self._late_seconds = 0.0
        self._meet_others()
        if fate is Fate.DEATH_AFTER:
            self.deaths += 1
            raise Crash(fate)
        outcome = OUTCOMES.get(fate, outcome)
        if isinstance(outcome, Unknown) and self._chance.random() < OUTAGE_SHARE:
            self._outage_until = self._wall() + timedelta(seconds=self._chance.uniform(*OUTAGE_SECONDS))
        return outcome

    async def list_batches(self, *, limit: int, after_id: ApiBatchId | None = None) -> BatchPage:
        """Return a page, newest first by its stamp, of what the list shows by now."""
        self._meet_trouble()
        now = self._wall()
        shown = [batch for batch in self.batches if self._shown_at[batch.id] <= now]
        shown.sort(key=lambda batch: batch.created_at, reverse=True)
        start = 0 if after_id is None else 1 + [batch.id for batch in shown].index(after_id)
        page = shown[start : start + min(limit, PAGE_BATCHES)]
        return BatchPage(
            batches=[self._info(batch) for batch in page],
            has_more=start + len(page) < len(shown),
            last_id=page[-1].id if page else None,
        )

    def _draw(self) -> Fate:
        if self._chance.random() >= self._fault_share:
            return Fate.WELL
        (fate,) = self._chance.choices([*FAULTS], weights=[*FAULTS.values()])
        return fate

    def _meet_others(self) -> None:
        if self._is_shared and self._chance.random() < OTHERS_SHARE:
            self.add_foreign(self._size, has_ended=False)

    def _meet_trouble(self) -> None:
        if self._wall() < self._outage_until:
            raise ApiTrouble(NO_NETWORK)
        if self._chance.random() < TROUBLE_SHARE:
            raise ApiTrouble(self._chance.choice(TROUBLES))

    def _add(self, requests: dict[str, bytes]) -> FakeBatch:
        batch = super()._add(requests)
        committed_at = batch.created_at + timedelta(seconds=self._late_seconds)
        batch.created_at = committed_at + timedelta(seconds=self._chance.uniform(-SKEW_SECONDS, SKEW_SECONDS))
        self._shown_at[batch.id] = committed_at + timedelta(seconds=self._chance.uniform(0, LAG_SECONDS))
        self._ends_at[batch.id] = committed_at + timedelta(seconds=self._chance.uniform(*LIFE_SECONDS))
        return batch
