"""Batches that were bought twice all the same: the later one is stopped, and what it cost is booked and told.

It takes a first sending that the list did not show for the whole of `grace`, and a resend. Whichever of the two ended
first is delivered. The other is ours to cancel, because we know both; its finished requests were paid for, so its
results are read once, for their cost alone. What went into other batches meanwhile and was not sent in them comes back
to the first sending, and is not bought again.

That a first sending has turned up is written down before anything else, and from then on nothing of it is sent until
it is decided what is delivered from it. That waits until none of its requests is in doubt: one that proves to be surely
not sent comes back as well, and one that was sent was bought twice, and not before that is known.

If we die                  | what is left                  | what the next step does
---------------------------+---------------------------------+--------------------------
after its line was read    | an open candidate             | reads its first line again
after it was found         | an undecided twin             | sends nothing of it, decides
after a taking back        | an IN_PROGRESS batch          | polls it, and books the others, if any
after it was left beside   | an unbooked twin              | cancels it, or finds that it has ended
during the booking         | some of its charges           | charges the rest, each line once
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import anyio.to_thread

from batchbox.api import ApiTrouble, BatchesApi, BatchInfo, TroubleKind
from batchbox.model import BatchState, Nonce, Now
from batchbox.pricing import Catalogue
from batchbox.results import LineSplitter, decode
from batchbox.store.charges import charge_for
from batchbox.store.columns import from_nanodollars
from batchbox.store.dispatch import Doubt
from batchbox.store.twins import DeliveredBatch, Twin, TwinStore

LATE_HOURS = 24
"""For so long after a resend its first sending is looked for."""
GIVEN_UP_DAYS = 8
"""For so long at most, however late the resend was, and however long a candidate cannot be read."""
IDLE_SECONDS = 3600.0

log = logging.getLogger(__name__)


class Twins:
    """Stops and books what was bought beside the batch that is delivered."""

    def __init__(
        self,
        store: TwinStore,
        *,
        api: BatchesApi,
        catalogue: Catalogue,
        vouches_for: Callable[[bytes], Awaitable[bool]],
        ring_polling: Callable[[], None],
        poll_seconds: float,
    ) -> None:
        self._store = store
        self._api = api
        self._catalogue = catalogue
        self._vouches_for = vouches_for
        self._ring_polling = ring_polling
        self._poll_seconds = poll_seconds
        self._due = 0.0

    async def late(self, now: Now) -> list[Doubt]:
        """Return the sendings that were given up and may turn up all the same."""
        return await self._store.late(
            withdrawn_since=now.wall - timedelta(days=GIVEN_UP_DAYS),
            resent_since=now.wall - timedelta(hours=LATE_HOURS),
        )

    async def meet(self, batch_id: int, nonce: Nonce, batch: BatchInfo, now: Now) -> None:
        """Take in a batch that has ended, and whose requests went on without it: from here on none of them is sent."""
        await self._store.find(batch_id, nonce, batch.id, now=now.wall)
        log.warning("batch in doubt found again", extra={"batch": batch.id, "nonce": nonce})
        self._due = now.monotonic

    async def step(self, now: Now) -> float:
        """Go on with every twin; return the monotonic moment of the next step."""
        if now.monotonic < self._due:
            return self._due
        twins = await self._store.unbooked()
        for twin in twins:
            try:
                await self._follow(twin, now)
            except ApiTrouble as error:
                log.warning("batch that turned up cannot be followed", extra={"batch": twin.api_id, "why": str(error)})
        self._due = now.monotonic + (self._poll_seconds if twins else IDLE_SECONDS)
        return self._due

    async def _follow(self, twin: Twin, now: Now) -> None:
        try:
            info = await self._api.retrieve(twin.api_id)
            if twin.is_undecided:
                await self._decide(twin, info, now)
            elif info.has_ended:
                await self._book(twin)
            elif info.status == "in_progress":
                await self._api.cancel(twin.api_id)
                log.warning("batch that was bought beside is cancelled", extra={"batch": twin.api_id})
        except ApiTrouble as error:
            if error.trouble.kind is TroubleKind.NOT_FOUND and await self._vouches_for(twin.key_hash):
                await self._store.book(twin.api_id)  # deleted, or archived: what it cost can no longer be known
            raise

    async def _decide(self, twin: Twin, batch: BatchInfo, now: Now) -> None:
        """Take back what was not sent again; if that is nothing, deliver from what ended first."""
        if await self._store.is_in_doubt(twin.batch_id):
            return
        if await self._store.reclaim(twin.batch_id, twin.nonce, batch, now=now.wall):
            log.warning("requests are not sent again: they are answered", extra={"batch": batch.id})
            self._ring_polling()
            return
        delivered = await self._store.delivered(twin.batch_id)
        is_later = await self._is_later(delivered, batch)
        if is_later and await self._store.swap(twin.batch_id, twin.nonce, batch, now=now.wall):
            self._ring_polling()
        else:
            await self._store.leave_beside(twin.nonce, batch.id)
        log.error("batch was bought beside", extra={"batch": batch.id, "nonce": twin.nonce, "beside": delivered.api_id})

    async def _is_later(self, delivered: DeliveredBatch, batch: BatchInfo) -> bool:
        """Say whether the batch that was to be delivered has not ended, or ended after this one."""
        if delivered.api_id is None or delivered.state not in {BatchState.IN_PROGRESS, BatchState.LOST}:
            return False
        try:
            info = await self._api.retrieve(delivered.api_id)
        except ApiTrouble as error:
            if error.trouble.kind is TroubleKind.NOT_FOUND:
                return True
            raise
        return not info.has_ended or (info.ended_at or batch.created_at) > (batch.ended_at or batch.created_at)

    async def _book(self, twin: Twin) -> None:
        splitter = LineSplitter()
        cost_nanousd = 0
        async with self._api.results(twin.api_id) as pieces:
            async for piece in pieces:
                cost_nanousd += await self._charge(twin, splitter.feed(piece))
        cost_nanousd += await self._charge(twin, splitter.finish())
        await self._store.book(twin.api_id)
        usd = f"{from_nanodollars(cost_nanousd):.6f}"
        log.error("batch that was bought beside is booked", extra={"batch": twin.api_id, "cost_usd": usd})

    async def _charge(self, twin: Twin, raw: Sequence[bytes]) -> int:
        if not raw:
            return 0
        decoded = await anyio.to_thread.run_sync(decode, raw)
        paid = [line for line in decoded.lines if line.nonce == twin.nonce and line.facts.result_type == "succeeded"]
        members = await self._store.members(twin.batch_id, [line.number for line in paid])
        charges = [
            charge_for(
                line,
                request_id=members[line.number][0],
                model=line.model or members[line.number][1],
                sent_at=twin.sent_at,
                catalogue=self._catalogue,
            )
            for line in paid
            if line.number in members
        ]
        await self._store.charge(charges)
        return sum(charge.cost_nanousd or 0 for charge in charges)
