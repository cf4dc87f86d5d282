"""Batches that were bought twice all the same: the later one is stopped, and what it cost is booked and told.

It takes a first sending that the list did not show for the whole of `grace`, and a resend. Whichever of the two ended
first is delivered. The other is ours to cancel, because we know both; its finished requests were paid for, so its
results are read once, for their cost alone. What went into other batches meanwhile and was not sent in them comes back
to the first sending, and is not bought again.

If we die                  | what is left                  | what the next step does
---------------------------+---------------------------------+--------------------------
after the twin was found   | an open candidate             | reads its first line again
after it was recorded      | an unbooked twin              | cancels it, or finds that it has ended
during the booking         | some of its charges           | charges the rest, each line once
"""

import logging
from collections.abc import Sequence
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

    def __init__(self, store: TwinStore, *, api: BatchesApi, catalogue: Catalogue, poll_seconds: float) -> None:
        self._store = store
        self._api = api
        self._catalogue = catalogue
        self._poll_seconds = poll_seconds
        self._due = 0.0

    async def late(self, now: Now) -> list[Doubt]:
        """Return the sendings that were given up and may turn up all the same."""
        return await self._store.late(
            withdrawn_since=now.wall - timedelta(days=GIVEN_UP_DAYS),
            resent_since=now.wall - timedelta(hours=LATE_HOURS),
        )

    async def meet(self, batch_id: int, nonce: Nonce, batch: BatchInfo, now: Now) -> None:
        """Take in a batch that has ended, and whose requests went on without it. Raises ApiTrouble."""
        if await self._store.reclaim(batch_id, nonce, batch, now=now.wall):
            log.warning("batch in doubt found again", extra={"batch": batch.id, "nonce": nonce})
            self._due = now.monotonic
            return
        delivered = await self._store.delivered(batch_id)
        log.error("batch was bought twice", extra={"batch": batch.id, "nonce": nonce, "beside": delivered.api_id})
        if await self._is_later(delivered, batch):
            await self._store.swap(batch_id, nonce, batch, now=now.wall)
        else:
            await self._store.add(batch_id, nonce, batch.id, now=now.wall)
        self._due = now.monotonic

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

    async def step(self, now: Now) -> float:
        """Go on with every twin; return the monotonic moment of the next step."""
        if now.monotonic < self._due:
            return self._due
        twins = await self._store.unbooked()
        for twin in twins:
            try:
                await self._follow(twin)
            except ApiTrouble as error:
                await self._note_trouble(twin, error)
        self._due = now.monotonic + (self._poll_seconds if twins else IDLE_SECONDS)
        return self._due

    async def _follow(self, twin: Twin) -> None:
        info = await self._api.retrieve(twin.api_id)
        if info.has_ended:
            await self._book(twin)
        elif info.status == "in_progress":
            await self._api.cancel(twin.api_id)
            log.warning("batch that was bought twice is cancelled", extra={"batch": twin.api_id})

    async def _note_trouble(self, twin: Twin, error: ApiTrouble) -> None:
        log.warning("batch that was bought twice cannot be booked", extra={"batch": twin.api_id, "why": str(error)})
        if error.trouble.kind is TroubleKind.NOT_FOUND:  # deleted, or archived: what it cost can no longer be known
            await self._store.book(twin.api_id)

    async def _book(self, twin: Twin) -> None:
        splitter = LineSplitter()
        cost_nanousd = 0
        async with self._api.results(twin.api_id) as pieces:
            async for piece in pieces:
                cost_nanousd += await self._charge(twin, splitter.feed(piece))
        cost_nanousd += await self._charge(twin, splitter.finish())
        await self._store.book(twin.api_id)
        usd = f"{from_nanodollars(cost_nanousd):.6f}"
        log.error("batch that was bought twice is booked", extra={"batch": twin.api_id, "extra_cost_usd": usd})

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
