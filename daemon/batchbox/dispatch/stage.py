"""From waiting requests to a batch that the API has: choose, send once, and follow what is not known.

A call takes minutes, so what counts from its end (back-off, grace) is counted from the next step's `now`. What a
sending leaves behind, whenever we die, is in `sending`; what became of an unknown outcome in `reconcile`; what a
refusal means for its members in `refusals`.
"""

import logging
import math
import random
from collections.abc import Awaitable, Callable

from batchbox.dispatch.choosing import Choosing
from batchbox.dispatch.reconcile import Reconciler
from batchbox.dispatch.refusals import Refusals
from batchbox.dispatch.sending import Sender, Setback
from batchbox.dispatch.twins import Twins
from batchbox.dispatch.verifying import Verdict, Verifier
from batchbox.errors import RootOfflineError
from batchbox.model import Now
from batchbox.store.cancelling import CancelStore
from batchbox.store.dispatch import SealedBatch
from batchbox.store.holds import HoldName, HoldStore, Keeper
from batchbox.timing import PLACE_SECONDS_MAX, Backoff

IDLE_SECONDS = 300.0
CLOSING_SECONDS_FIRST = 1.0
"""After so long a manifest that could not be closed is tried again, and then in less and less of a hurry."""

log = logging.getLogger(__name__)


class Dispatch:
    """The stage that sends batches."""

    def __init__(
        self,
        *,
        choosing: Choosing,
        verifier: Verifier,
        sender: Sender,
        refusals: Refusals,
        cancelling: CancelStore,
        reconciler: Reconciler,
        twins: Twins,
        holds: HoldStore,
        sending_keeper: Keeper,
        credit_keeper: Keeper,
        shortage: Callable[[], Awaitable[str | None]],
        ring_delivery: Callable[[], None],
    ) -> None:
        self._choosing = choosing
        self._verifier = verifier
        self._sender = sender
        self._refusals = refusals
        self._cancelling = cancelling
        self._reconciler = reconciler
        self._twins = twins
        self._holds = holds
        self._sending = sending_keeper
        self._credit = credit_keeper
        self._shortage = shortage
        self._ring_delivery = ring_delivery
        self._closing = Backoff(first=CLOSING_SECONDS_FIRST, longest=PLACE_SECONDS_MAX)
        self._looking = Backoff(first=CLOSING_SECONDS_FIRST, longest=PLACE_SECONDS_MAX)
        self._setback: Setback | None = None
        self._told: str | None = None  # why sending holds, as the log has it

    async def step(self, now: Now) -> float:
        """Do one unit of what is due; return the monotonic moment of the next step."""
        await self._sender.record_acceptance(now)
        due = min(await self._reconcile(now), await self._twins.step(now), now.monotonic + IDLE_SECONDS)
        await self._refusals.step(now)
        await self._end_canceled(now)
        due = min(due, await self._verify_settled(now))
        await self._note_setback(now)
        if now.monotonic < self._sending.until:
            return min(self._sending.until, due)
        is_probing = await self._is_probing(now)
        if is_probing and now.monotonic < self._credit.until:
            return min(self._credit.until, due)
        batch = await (self._choosing.next_probe(now) if is_probing else self._choosing.next_batch(now))
        if batch is not None:
            await self._send(batch, now)
            return now.monotonic
        await self._release_hold()
        due_at = self._choosing.probe_due_at if is_probing else self._choosing.due_at
        return await due_at(now, at_latest=due)

    async def _end_canceled(self, now: Now) -> None:
        """Take what was cancelled out of what is to be sent, whether or not anything may be sent now."""
        while await self._cancelling.end_unsent(now=now.wall):
            self._ring_delivery()

    async def _verify_settled(self, now: Now) -> float:
        """Look once more at files of which nothing had to be sent; return when that is tried again, should it fail."""
        if now.monotonic < self._looking.until:
            return self._looking.until
        try:
            await self._verifier.verify_settled(now)
        except (OSError, RootOfflineError) as error:
            log.warning("settled files cannot be read once more", extra={"why": str(error)})
            return self._looking.fail(now.monotonic, chance=random.random())  # noqa: S311 - spreads retries
        self._looking.succeed()
        return math.inf

    async def _send(self, batch: SealedBatch, now: Now) -> None:
        shortage = await self._shortage()
        if shortage is not None:
            self._setback = Setback(reason=shortage, wait_at_most=PLACE_SECONDS_MAX)
            return
        if not await self._is_as_read(batch, now):
            return
        self._choosing.serve(batch)
        self._setback = await self._sender.send(batch, now)
        await self._choosing.put_off(batch, now, chance=random.random())  # noqa: S311 - spreads retries, hides nothing
        if self._setback is None:
            await self._release_hold()

    async def _is_as_read(self, batch: SealedBatch, now: Now) -> bool:
        """Look at the batch's files once more; say whether it may be sent."""
        try:
            outlook = await self._verifier.verify(batch.id, now)
        except (OSError, RootOfflineError) as error:
            reason = f"the dropped files cannot be read once more: {error}"
            self._setback = Setback(reason=reason, wait_at_most=PLACE_SECONDS_MAX)
            return False
        await self._choosing.note(batch, outlook.file_trouble)
        if outlook.verdict is Verdict.WAITING:
            await self._choosing.postpone(batch, now, chance=random.random())  # noqa: S311 - spreads retries
        return outlook.verdict is Verdict.AS_READ

    async def _reconcile(self, now: Now) -> float:
        try:
            due = await self._reconciler.step(now)
        except (OSError, RootOfflineError) as error:
            log.warning("manifest cannot be closed", extra={"why": str(error)})
            return self._closing.fail(now.monotonic, chance=random.random())  # noqa: S311 - spreads retries
        self._closing.succeed()
        return due

    async def _note_setback(self, now: Now) -> None:
        """Hold all sending for what the last step met."""
        setback, self._setback = self._setback, None
        if setback is None:
            return
        next_attempt_at = await self._sending.fail(
            setback.reason, now, at_least=setback.wait_at_least, at_most=setback.wait_at_most
        )
        if setback.reason != self._told:
            why = setback.logged_reason or setback.reason
            log.warning("sending holds", extra={"why": why, "next_attempt_at": next_attempt_at.isoformat()})
        self._told = setback.reason

    async def _is_probing(self, now: Now) -> bool:
        """Say whether the account had no credit when it was last told; delivery writes that down, and takes it back."""
        hold = await self._holds.get(HoldName.CREDIT)
        if hold is None:
            if self._credit.is_failing:
                await self._credit.succeed()
            return False
        if hold.next_attempt_at is None:  # news
            next_attempt_at = await self._credit.fail(hold.reason, now)
            log.warning("sending holds", extra={"why": hold.reason, "next_attempt_at": next_attempt_at.isoformat()})
        return True

    async def _release_hold(self) -> None:
        self._told = None
        if await self._sending.succeed():
            log.info("sending goes on")
