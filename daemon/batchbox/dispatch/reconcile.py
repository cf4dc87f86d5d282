"""What became of a create call whose outcome is not known: found again by its nonce, or surely not sent.

Theory of operation. The list of batches shows ids, times and counts, never custom_ids, and other programs' batches
look like ours. So a batch in the list is a *candidate* when it is newer than the mark (less a margin), none that we
know, and has our count; and it is *ours* only when the nonce in the first line of its results says so, which can be
read once it has ended. Nothing is sent again before the set of candidates is closed (the first valid look at or past
`grace`) and empty (each one ruled out by its nonce).

A look is valid only if every page of it came, and believed only under the key of that sending, or another one of the
same workspace. Grace counts from the unknown outcome, or, when that was before this process, from this process's first
valid look: a daemon that was down for an hour has not looked for an hour.

For a day after a resend, and as long as something is still to be sent, the list is still looked at from time to time.
If the first sending turns up after all, `twins` takes back what was not sent again, stops what was bought twice and
still runs, and books it.

If we die                    | what is left                         | what the next step does
-----------------------------+---------------------------------------+--------------------------------------------
at any point of a look       | candidates so far, or none            | looks again; grace starts anew
after a first line was read  | an open candidate                     | reads it again
after an adoption            | an IN_PROGRESS batch                  | polls it
before a withdrawal commits  | a closed manifest, SUBMITTING         | finds the same again, withdraws
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from batchbox.api import ApiTrouble, BatchesApi, BatchInfo, Trouble, TroubleKind
from batchbox.dispatch.twins import Twins
from batchbox.folders.manifests import Manifests
from batchbox.model import ApiBatchId, Nonce, Now
from batchbox.results import LineSplitter, Signature, signature_of
from batchbox.store.dispatch import DispatchStore, Doubt
from batchbox.timing import Backoff, late_look_seconds, look_seconds, poll_seconds

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
    is_ours: bool = False
    """Whether this process made the call, so that it was not our own death that ended it."""
    not_before: float = 0.0
    """No look is believed before, because this key cannot be shown to be of the same workspace."""


class Reconciler:
    """Follows every batch in doubt to a yes or a no."""

    def __init__(
        self,
        settings: ReconcileSettings,
        *,
        store: DispatchStore,
        twins: Twins,
        manifests: Manifests,
        api: BatchesApi,
        vouches_for: Callable[[bytes], Awaitable[bool]],
        backoff: Backoff,
        chance: Callable[[], float],
        ring_polling: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._twins = twins
        self._manifests = manifests
        self._api = api
        self._vouches_for = vouches_for
        self._backoff = backoff
        self._chance = chance
        self._ring_polling = ring_polling
        self._watches: dict[Nonce, _Watch] = {}
        self._just_unknown: set[Nonce] = set()
        self._late_look_at = 0.0

    def expect(self, nonce: Nonce) -> None:
        """Note that this process has just made a call with an unknown outcome: grace counts from the next step."""
        self._just_unknown.add(nonce)

    async def step(self, now: Now) -> float:
        """Look if it is time to; return the monotonic moment of the next look."""
        doubts = await self._store.doubts()
        self._watches = {doubt.nonce: self._watches.get(doubt.nonce, _Watch()) for doubt in doubts}
        for nonce in self._just_unknown & self._watches.keys():
            self._watches[nonce].since = now.monotonic
            self._watches[nonce].is_ours = True
        self._just_unknown.clear()
        if self._next_look(doubts, now) <= now.monotonic and now.monotonic >= self._backoff.until:
            await self._look(doubts, now)
            doubts = await self._store.doubts()
        return max(self._next_look(doubts, now), self._backoff.until)

    def _next_look(self, doubts: Sequence[Doubt], now: Now) -> float:
        return min([self._late_look_at, *(self._look_due(doubt, now) for doubt in doubts)])

    def _look_due(self, doubt: Doubt, now: Now) -> float:
        watch = self._watches.setdefault(doubt.nonce, _Watch())
        if watch.since is None or watch.not_before > now.monotonic:
            return max(now.monotonic, watch.not_before)
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
        """Read the list once for all that is in doubt or was, and draw every conclusion that it allows."""
        late = await self._twins.late(now)
        try:
            doubts = [doubt for doubt in doubts if await self._is_believed(doubt, now)]
            late = [doubt for doubt in late if await self._vouches_for(doubt.key_hash)]
            strangers = await self._strangers([*doubts, *late]) if doubts or late else []
        except ApiTrouble as error:
            until = self._backoff.fail(now.monotonic, chance=self._chance())
            log.warning("look failed", extra={"why": error.trouble.text, "again_in_seconds": until - now.monotonic})
            return
        self._backoff.succeed()
        self._late_look_at = now.monotonic + late_look_seconds(self._settings.grace)
        for doubt in doubts:
            await self._note_candidates(doubt, strangers, now)
        for doubt in late:
            await self._store.add_candidates(doubt.nonce, [batch.id for batch in strangers if _fits(batch, doubt)])
        await self._note_vanished([*doubts, *late], shown={batch.id for batch in strangers})
        await self._ask_about([batch for batch in strangers if batch.has_ended], now)
        believed = {doubt.nonce for doubt in doubts}
        for doubt in await self._store.doubts():
            if doubt.nonce in believed and doubt.candidates_closed and not doubt.candidates:
                await self._withdraw(doubt, now)

    async def _is_believed(self, doubt: Doubt, now: Now) -> bool:
        """Say whether the list under this key can show the batch; if not, the batch stays in doubt."""
        if await self._vouches_for(doubt.key_hash):
            return True
        self._watches.setdefault(doubt.nonce, _Watch()).not_before = now.monotonic + self._settings.poll_longest
        return False

    async def _note_vanished(self, doubts: Sequence[Doubt], *, shown: AbstractSet[ApiBatchId]) -> None:
        """Write down which candidates cannot be asked any more: only a person can rule them out."""
        for api_id in {api_id for doubt in doubts for api_id in doubt.candidates} - shown:
            await self._store.note_unreadable(api_id, "the list does not show it any more")

    async def _ask_about(self, ended: Sequence[BatchInfo], now: Now) -> None:
        doubts = [*await self._store.doubts(), *await self._twins.late(now)]
        open_ids = {api_id for doubt in doubts for api_id in doubt.candidates}
        for batch in ended:
            if batch.id in open_ids:
                await self._ask_whose(batch, now)

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

    async def _ask_whose(self, batch: BatchInfo, now: Now) -> None:
        """Read the first line of an ended candidate's results; its nonce says whose it is.

        A line that cannot be had or read proves nothing: the candidate stays, and is asked again at the next look.
        """
        try:
            signature = await self._signature(batch.id)
        except ApiTrouble as error:
            log.warning("candidate cannot be read", extra={"batch": batch.id, "why": error.trouble.text})
            if error.trouble.kind is TroubleKind.NOT_FOUND:
                await self._store.note_unreadable(batch.id, "its results are gone")
            return
        if signature is None:
            log.warning("candidate has no line that can be read", extra={"batch": batch.id})
            await self._store.note_unreadable(batch.id, "its results have no line that can be read")
            return
        batch_id = None if signature.nonce is None else await self._store.batch_of_sending(signature.nonce)
        if signature.nonce is None or batch_id is None:
            await self._store.rule_out(batch.id)
            log.info("candidate is another program's", extra={"batch": batch.id})
        elif await self._store.accept(batch_id, signature.nonce, batch, api_request_id=None, now=now.wall):
            log.warning("batch in doubt found again", extra={"batch": batch.id, "nonce": signature.nonce})
            self._ring_polling()
        else:
            await self._twins.meet(batch_id, signature.nonce, batch, now)

    async def _signature(self, batch_id: ApiBatchId) -> Signature | None:
        splitter = LineSplitter()
        async with self._api.results(batch_id) as pieces:
            async for piece in pieces:
                lines = splitter.feed(piece)
                if lines:
                    return signature_of(lines[0])
        rest = splitter.finish()
        return signature_of(rest[0]) if rest else None

    async def _withdraw(self, doubt: Doubt, now: Now) -> None:
        is_break = self._watches.setdefault(doubt.nonce, _Watch()).is_ours
        await self._manifests.close(doubt.nonce)
        await self._store.withdraw(doubt.batch_id, doubt.nonce, now=now.wall, is_break=is_break)
        log.warning("batch in doubt was surely not sent", extra={"nonce": doubt.nonce})


def _oldest_mark(doubts: Sequence[Doubt]) -> datetime | None:
    """Return the oldest mark, or None if any batch was marked in an empty list: then the whole list is read."""
    marks = [doubt.mark for doubt in doubts if doubt.mark is not None]
    return min(marks) if len(marks) == len(doubts) else None


def _is_before(batch: BatchInfo, mark: datetime | None) -> bool:
    return mark is not None and batch.created_at < mark - MARK_MARGIN


def _fits(batch: BatchInfo, doubt: Doubt) -> bool:
    return batch.counts.total == doubt.request_count and not _is_before(batch, doubt.mark)
