"""Asks the API about the batches that it works on, each in its own rhythm, until they end.

It is a stage of its own because reading the results of one batch may take an hour, and the others end meanwhile. A
poll changes nothing, so nothing is lost if we die around one; after a start every batch is asked about at once.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batchbox.api import ApiTrouble, BatchesApi, BatchInfo, TroubleKind
from batchbox.model import Now
from batchbox.store.holds import Keeper
from batchbox.store.polling import PolledBatch, PollingStore
from batchbox.timing import jittered, poll_seconds

IDLE_SECONDS = 300.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollingSettings:
    """The rhythm. Durations are seconds."""

    first: float
    factor: float
    longest: float


@dataclass(frozen=True, slots=True)
class _Rhythm:
    polls: int
    due: float


class Polling:
    """The stage that waits for batches to end."""

    def __init__(
        self,
        settings: PollingSettings,
        *,
        store: PollingStore,
        keeper: Keeper,
        api: BatchesApi,
        chance: Callable[[], float],
        ring_delivery: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._keeper = keeper
        self._api = api
        self._chance = chance
        self._ring_delivery = ring_delivery
        self._rhythms: Mapping[int, _Rhythm] | None = None  # None: this process has not polled yet

    async def step(self, now: Now) -> float:
        """Ask about every batch whose time has come; return the monotonic moment of the next poll."""
        batches = await self._store.in_progress()
        rhythms = {batch.id: self._rhythm_of(batch, now) for batch in batches}
        for batch in batches:
            if now.monotonic < self._keeper.until:
                break
            if rhythms[batch.id].due <= now.monotonic:
                rhythms[batch.id] = self._next(rhythms[batch.id], now)
                await self._poll(batch, now)
        if not batches:
            await self._keeper.succeed()
        self._rhythms = rhythms
        due = min((rhythm.due for rhythm in rhythms.values()), default=now.monotonic + IDLE_SECONDS)
        return max(due, self._keeper.until)

    def _rhythm_of(self, batch: PolledBatch, now: Now) -> _Rhythm:
        if self._rhythms is None:
            return _Rhythm(polls=0, due=now.monotonic)
        return self._rhythms.get(batch.id) or self._next(_Rhythm(polls=-1, due=now.monotonic), now)

    def _next(self, rhythm: _Rhythm, now: Now) -> _Rhythm:
        settings = self._settings
        polls = rhythm.polls + 1
        wait = poll_seconds(polls, first=settings.first, factor=settings.factor, longest=settings.longest)
        return _Rhythm(polls=polls, due=now.monotonic + jittered(wait, chance=self._chance()))

    async def _poll(self, batch: PolledBatch, now: Now) -> None:
        try:
            info = await self._retrieve(batch)
        except ApiTrouble as error:
            at_least = error.trouble.retry_after_seconds or 0.0
            await self._keeper.fail(error.trouble.text, now, at_least=at_least)
            log.warning("poll failed", extra={"batch": batch.api_id, "why": error.trouble.text})
            return
        await self._keeper.succeed()
        if info is None:
            await self._lose(batch)
        else:
            await self._follow(batch, info)

    async def _retrieve(self, batch: PolledBatch) -> BatchInfo | None:
        """Return the batch, or None if the API answers that it does not know it."""
        try:
            return await self._api.retrieve(batch.api_id)
        except ApiTrouble as error:
            if error.trouble.kind is TroubleKind.NOT_FOUND:
                return None
            raise

    async def _lose(self, batch: PolledBatch) -> None:
        if not batch.is_lost:
            log.error("batch is not known to the API", extra={"batch": batch.api_id})
            await self._store.lose(batch.id)

    async def _follow(self, batch: PolledBatch, info: BatchInfo) -> None:
        if batch.is_lost:
            log.warning("lost batch found again", extra={"batch": batch.api_id})
            await self._store.find(batch.id)
        if info.has_ended:
            await self._store.end(batch.id, info)
            log.info("batch ended", extra={"batch": batch.api_id, "succeeded": info.counts.succeeded})
            self._ring_delivery()
