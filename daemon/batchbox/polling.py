"""Asks the API about the batches that it works on, each in its own rhythm, until they end.

It is a stage of its own because reading the results of one batch may take an hour, and the others end meanwhile. A
poll changes nothing, so nothing is lost if we die around one; after a start every batch is asked about at once.

A batch that the API does not know is lost, if the key is the one that may know it. What could not be had of a lost
batch, the batch or its results, is asked for on and on, slowly, and brings it back; that it stays lost is not news.

A batch of which everything was cancelled is cancelled at the API: as soon as that is seen, and with every further poll
until the API is on it. That it was asked to is not written down, because asking twice does no harm.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from batchbox.api import RESULTS_URGENT_AFTER, ApiTrouble, BatchesApi, BatchInfo, TroubleKind
from batchbox.model import LostReason, Now
from batchbox.store.holds import Keeper
from batchbox.store.polling import PolledBatch, PollingStore
from batchbox.timing import jittered, poll_seconds

IDLE_SECONDS = 300.0
WARNING_SECONDS = 86_400.0
"""How often the log says that results will soon be gone."""

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
    """The stage that waits for batches to end.

    Args:
        settings: The rhythm.
        store: Its rows.
        keeper: Of the hold that says that polls fail.
        api: The workspace.
        chance: A random number in [0, 1).
        vouches_for: Whether a 404 can be believed about a batch that was sent with the key of that hash.
        ring_delivery: Called when results can be read.
    """

    def __init__(
        self,
        settings: PollingSettings,
        *,
        store: PollingStore,
        keeper: Keeper,
        api: BatchesApi,
        chance: Callable[[], float],
        vouches_for: Callable[[bytes], Awaitable[bool]],
        ring_delivery: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._keeper = keeper
        self._api = api
        self._chance = chance
        self._vouches_for = vouches_for
        self._ring_delivery = ring_delivery
        self._rhythms: Mapping[int, _Rhythm] | None = None  # None: this process has not polled yet
        self._canceled: frozenset[int] = frozenset()  # batches that were known to be, at the last step
        self._warn_at = 0.0

    async def step(self, now: Now) -> float:
        """Ask about every batch whose time has come; return the monotonic moment of the next poll."""
        await self._warn(now)
        batches = await self._store.in_progress()
        rhythms = {batch.id: self._rhythm_of(batch, now) for batch in batches}
        for batch in batches:
            if now.monotonic < self._keeper.until:
                break
            if rhythms[batch.id].due <= now.monotonic:
                rhythms[batch.id] = self._next(batch, rhythms[batch.id], now)
                await self._poll(batch, now)
        if not batches:
            await self._keeper.succeed()
        self._rhythms = rhythms
        self._canceled = frozenset(batch.id for batch in batches if batch.is_canceled)
        due = min((rhythm.due for rhythm in rhythms.values()), default=now.monotonic + IDLE_SECONDS)
        return max(due, self._keeper.until)

    async def _warn(self, now: Now) -> None:
        """Name the batches whose results will soon be gone. It is done here because polls go on without the root."""
        if now.monotonic < self._warn_at:
            return
        for api_id in await self._store.undelivered_since(now.wall - RESULTS_URGENT_AFTER):
            log.warning("results will soon be gone and are not delivered", extra={"batch": api_id})
        self._warn_at = now.monotonic + WARNING_SECONDS

    def _rhythm_of(self, batch: PolledBatch, now: Now) -> _Rhythm:
        if self._rhythms is None:
            return _Rhythm(polls=0, due=now.monotonic)
        if batch.is_canceled and batch.id not in self._canceled:
            return _Rhythm(polls=0, due=now.monotonic)
        return self._rhythms.get(batch.id) or self._next(batch, _Rhythm(polls=-1, due=now.monotonic), now)

    def _next(self, batch: PolledBatch, rhythm: _Rhythm, now: Now) -> _Rhythm:
        settings = self._settings
        polls = rhythm.polls + 1
        wait = poll_seconds(polls, first=settings.first, factor=settings.factor, longest=settings.longest)
        if batch.lost_reason is not None:
            wait = settings.longest
        return _Rhythm(polls=polls, due=now.monotonic + jittered(wait, chance=self._chance()))

    async def _poll(self, batch: PolledBatch, now: Now) -> None:
        try:
            await self._ask(batch)
        except ApiTrouble as error:
            at_least = error.trouble.retry_after_seconds or 0.0
            await self._keeper.fail(error.trouble.text, now, at_least=at_least)
            log.warning("poll failed", extra={"batch": batch.api_id, "why": error.trouble.text})
        else:
            await self._keeper.succeed()

    async def _ask(self, batch: PolledBatch) -> None:
        """Ask once; that something is not there is an answer, too."""
        try:
            if batch.lost_reason is LostReason.NO_RESULTS:
                await self._try_results(batch)
            else:
                await self._look(batch)
        except ApiTrouble as error:
            if error.trouble.kind is not TroubleKind.NOT_FOUND:
                raise
            await self._miss(batch)

    async def _try_results(self, batch: PolledBatch) -> None:
        async with self._api.results(batch.api_id):
            log.warning("results of a lost batch can be read again", extra={"batch": batch.api_id})
        await self._store.find_results(batch.id)
        self._ring_delivery()

    async def _look(self, batch: PolledBatch) -> None:
        info = await self._api.retrieve(batch.api_id)
        if batch.lost_reason is not None:
            log.warning("lost batch found again", extra={"batch": batch.api_id})
            await self._store.find(batch.id)
        if info.has_ended:
            await self._end(batch, info)
        elif batch.is_canceled and info.status == "in_progress":
            await self._cancel(batch)

    async def _cancel(self, batch: PolledBatch) -> None:
        try:
            await self._api.cancel(batch.api_id)
        except ApiTrouble as error:
            if error.trouble.kind is not TroubleKind.CLIENT:
                raise
            facts = {"batch": batch.api_id, "why": error.trouble.text}  # it has ended just now: the next poll says so
            log.warning("batch cannot be cancelled", extra=facts)
        else:
            log.info("batch is cancelled: nobody wants anything of it any more", extra={"batch": batch.api_id})

    async def _end(self, batch: PolledBatch, info: BatchInfo) -> None:
        await self._store.end(batch.id, info)
        log.info("batch ended", extra={"batch": batch.api_id, "succeeded": info.counts.succeeded})
        self._ring_delivery()

    async def _miss(self, batch: PolledBatch) -> None:
        """Lose a batch that the API does not know, if that says anything."""
        if batch.lost_reason is None and await self._vouches_for(batch.key_hash):
            log.error("batch is not known to the API", extra={"batch": batch.api_id})
            await self._store.lose(batch.id)
