"""What became of a create call whose outcome is not known: found again by its nonce, or surely not sent.

Theory of operation. The list of batches shows ids, times and counts, never custom_ids, and other programs' batches
look like ours. So a batch in the list is a *candidate* when it is newer than the mark (less a margin), none that we
know, and has our count; and it is *ours* only when the nonce in the first line of its results says so, which can be
read once it has ended. Nothing is sent again before the set of candidates is closed (the first valid look at or past
`grace`) and empty (each one ruled out by its nonce).

A look is valid only if every page of it came. Grace counts from the unknown outcome, or, when that was before this
process, from this process's first valid look: a daemon that was down for an hour has not looked for an hour.

If we die                    | what is left                         | what the next step does
-----------------------------+---------------------------------------+--------------------------------------------
at any point of a look       | candidates so far, or none            | looks again; grace starts anew
after a first line was read  | an open candidate                     | reads it again
after an adoption            | an IN_PROGRESS batch                  | polls it
before a withdrawal commits  | a closed manifest, SUBMITTING         | finds the same again, withdraws
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from batchbox.api import ApiTrouble, BatchesApi, BatchInfo, Trouble, TroubleKind
from batchbox.folders.manifests import Manifests
from batchbox.model import ApiBatchId, Nonce, Now
from batchbox.results import LineSplitter, Signature, signature_of
from batchbox.store.dispatch import DispatchStore, Doubt
from batchbox.timing import Backoff, look_seconds, poll_seconds

MARK_MARGIN = timedelta(minutes=5)
"""The list is read this far past the mark: servers that do not agree on the time stamp batches out of order."""
PAGE_BATCHES = 1000
PAGES_MAX = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileSettings:
    """How long and how often is looked. Durations are seconds."""

    grace: float
    poll_first: float
    poll_factor: float
    poll_longest: float


@dataclass(slots=True)
class _Watch:
    """When one batch in doubt is looked for. Written by Reconciler alone."""

    since: float | None = None
    """From when grace counts; None: from the first valid look, which has not been made."""
    looks: int = 0


class Reconciler:
    """Follows every batch in doubt to a yes or a no."""

    def __init__(
        self,
        settings: ReconcileSettings,
        *,
        store: DispatchStore,
        manifests: Manifests,
        api: BatchesApi,
        backoff: Backoff,
        chance: Callable[[], float],
        ring_polling: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._manifests = manifests
        self._api = api
        self._backoff = backoff
        self._chance = chance
        self._ring_polling = ring_polling
        self._watches: dict[Nonce, _Watch] = {}
        self._just_unknown: set[Nonce] = set()

    def expect(self, nonce: Nonce) -> None:
        """Note that this process has just made a call with an unknown outcome: grace counts from the next step."""
        self._just_unknown.add(nonce)

    async def step(self, now: Now) -> float | None:
        """Look if it is time to; return the monotonic moment of the next look, or None if nothing is in doubt."""
        doubts = await self._store.doubts()
        self._watches = {doubt.nonce: self._watches.get(doubt.nonce, _Watch()) for doubt in doubts}
        for nonce in self._just_unknown & self._watches.keys():
            self._watches[nonce].since = now.monotonic
        self._just_unknown.clear()
        due = [doubt for doubt in doubts if self._look_due(doubt, now) <= now.monotonic]
        if due and now.monotonic >= self._backoff.until:
            await self._look(doubts, now)
            doubts = await self._store.doubts()
        looks = [self._look_due(doubt, now) for doubt in doubts]
        return max(min(looks), self._backoff.until) if looks else None

    def _look_due(self, doubt: Doubt, now: Now) -> float:
        watch = self._watches.setdefault(doubt.nonce, _Watch())
        if watch.since is None:
            return now.monotonic
        schedule = look_seconds(self._settings.grace)
        if watch.looks < len(schedule):
            return watch.since + schedule[watch.looks]
        settings = self._settings
        return watch.since + sum(
            [
                settings.grace,
                *(
                    poll_seconds(
                        poll, first=settings.poll_first, factor=settings.poll_factor, longest=settings.poll_longest
                    )
                    for poll in range(watch.looks - len(schedule) + 1)
                ),
            ]
        )

    async def _look(self, doubts: Sequence[Doubt], now: Now) -> None:
        """Read the list once for all that is in doubt, and draw every conclusion that it allows."""
        try:
            strangers = await self._strangers(doubts)
        except ApiTrouble as error:
            until = self._backoff.fail(now.monotonic, chance=self._chance())
            log.warning("look failed", extra={"why": error.trouble.text, "again_in_seconds": until - now.monotonic})
            return
        self._backoff.succeed()
        for doubt in doubts:
            await self._note_candidates(doubt, strangers, now)
        open_ids = {api_id for doubt in await self._store.doubts() for api_id in doubt.candidates}
        for batch in strangers:
            if batch.id in open_ids and batch.has_ended:
                await self._ask_whose(batch)
        for doubt in await self._store.doubts():
            if doubt.candidates_closed and not doubt.candidates:
                await self._withdraw(doubt)

    async def _strangers(self, doubts: Sequence[Doubt]) -> list[BatchInfo]:
        """Return every batch in the list that is not known to be ours, back to the oldest mark.

        Raises ApiTrouble unless every page came: a list with a hole in it proves nothing.
        """
        found = await self._list_back_to(_oldest_mark(doubts))
        known = await self._store.known_batches([batch.id for batch in found])
        return [batch for batch in found if batch.id not in known]

    async def _list_back_to(self, mark: datetime | None) -> list[BatchInfo]:
        found: list[BatchInfo] = []
        after_id: ApiBatchId | None = None
        for _ in range(PAGES_MAX):
            page = await self._api.list_batches(limit=PAGE_BATCHES, after_id=after_id)
            found += page.batches
            if not page.has_more or any(_is_before(batch, mark) for batch in page.batches):
                return found
            if page.last_id is None or page.last_id == after_id:
                break
            after_id = page.last_id
        raise ApiTrouble(Trouble(kind=TroubleKind.SERVER, text="the list of batches has no end"))

    async def _note_candidates(self, doubt: Doubt, strangers: Sequence[BatchInfo], now: Now) -> None:
        """Record which strangers may be the batch, and whether others can still turn up."""
        watch = self._watches.setdefault(doubt.nonce, _Watch())
        if watch.since is None:
            watch.since = now.monotonic
        watch.looks = self._looks_made(watch, now)
        if doubt.candidates_closed:
            return
        fitting = [batch.id for batch in strangers if _fits(batch, doubt)]
        await self._store.add_candidates(doubt.nonce, fitting)
        if now.monotonic >= watch.since + self._settings.grace:
            await self._store.close_candidates(doubt.nonce)

    def _looks_made(self, watch: _Watch, now: Now) -> int:
        """Count the looks whose time has come, so that a late one stands for those that were missed."""
        elapsed = now.monotonic - (watch.since or 0.0)
        passed = sum(1 for at in look_seconds(self._settings.grace) if at <= elapsed)
        return max(watch.looks + 1, passed) if elapsed >= self._settings.grace else passed

    async def _ask_whose(self, batch: BatchInfo) -> None:
        """Read the first line of an ended candidate's results; its nonce says whose it is.

        A line that cannot be had or read proves nothing: the candidate stays, and is asked again at the next look.
        """
        try:
            signature = await self._signature(batch.id)
        except ApiTrouble as error:
            log.warning("candidate cannot be read", extra={"batch": batch.id, "why": error.trouble.text})
            return
        if signature is None:
            log.warning("candidate has no line that can be read", extra={"batch": batch.id})
            return
        batch_id = None if signature.nonce is None else await self._store.batch_of_sending(signature.nonce)
        if signature.nonce is None or batch_id is None:
            await self._store.rule_out(batch.id)
            log.info("candidate is another program's", extra={"batch": batch.id})
        elif await self._store.accept(batch_id, signature.nonce, batch, api_request_id=None):
            log.warning("batch in doubt found again", extra={"batch": batch.id, "nonce": signature.nonce})
            self._ring_polling()
        else:
            log.error("batch was bought twice", extra={"batch": batch.id, "nonce": signature.nonce})

    async def _signature(self, batch_id: ApiBatchId) -> Signature | None:
        splitter = LineSplitter()
        async with self._api.results(batch_id) as pieces:
            async for piece in pieces:
                lines = splitter.feed(piece)
                if lines:
                    return signature_of(lines[0])
        rest = splitter.finish()
        return signature_of(rest[0]) if rest else None

    async def _withdraw(self, doubt: Doubt) -> None:
        await self._manifests.close(doubt.nonce)
        await self._store.withdraw(doubt.batch_id, doubt.nonce)
        log.warning("batch in doubt was surely not sent: it is sent again", extra={"nonce": doubt.nonce})


def _oldest_mark(doubts: Sequence[Doubt]) -> datetime | None:
    """Return the oldest mark, or None if any batch was marked in an empty list: then the whole list is read."""
    marks = [doubt.mark for doubt in doubts if doubt.mark is not None]
    return min(marks) if len(marks) == len(doubts) else None


def _is_before(batch: BatchInfo, mark: datetime | None) -> bool:
    return mark is not None and batch.created_at < mark - MARK_MARGIN


def _fits(batch: BatchInfo, doubt: Doubt) -> bool:
    return batch.counts.total == doubt.request_count and not _is_before(batch, doubt.mark)
