"""Obeys orders: decisions that only a person could make, each checked once more against what is known by now.

An order is answered after it is obeyed; if we die in between, it is obeyed again, and finds its work done. One that
cannot be obeyed is answered with the reason and is not tried again.
"""

import logging
from collections.abc import Callable
from datetime import timedelta

from batchbox.api import ApiTrouble, BatchesApi, BatchInfo, RequestCounts, TroubleKind
from batchbox.errors import RootOfflineError
from batchbox.folders.manifests import Manifests
from batchbox.logs import shown
from batchbox.model import ApiBatchId, Now
from batchbox.store.decisions import DecisionStore, OpenDoubt, doubts_about, why_not_to_judge
from batchbox.store.dispatch import DispatchStore
from batchbox.store.orders import Order, OrderKind, OrderStore

LOOK_SECONDS = 3.0
"""How often the table is looked at: a database rings no bell."""
BATCH_LIFE = timedelta(hours=24)
GIVEN_UP = "Its batch was given up, because the API does not know it or has no results of it."

log = logging.getLogger(__name__)


class Orders:
    """Obeys what people have decided beside this process."""

    def __init__(
        self,
        orders: OrderStore,
        *,
        decisions: DecisionStore,
        dispatch: DispatchStore,
        manifests: Manifests,
        api: BatchesApi,
        ring_polling: Callable[[], None],
        ring_delivery: Callable[[], None],
    ) -> None:
        self._orders = orders
        self._decisions = decisions
        self._dispatch = dispatch
        self._manifests = manifests
        self._api = api
        self._ring_polling = ring_polling
        self._ring_delivery = ring_delivery

    async def step(self, now: Now) -> float:
        """Obey every order that waits; return the monotonic moment at which to look again."""
        for order in await self._orders.open():
            try:
                answer = await self._obey(order, now)
            except (ApiTrouble, OSError, RootOfflineError) as error:  # it waits, as everything else does
                log.warning("order cannot be obeyed yet", extra={"order": order.id, "why": str(error)})
                break
            await self._orders.answer(order.id, answer, now=now.wall)
            log.warning("order obeyed", extra={"order": order.id, "kind": order.kind.value, "answer": shown(answer)})
        return now.monotonic + LOOK_SECONDS

    async def _obey(self, order: Order, now: Now) -> str:
        match order.kind:
            case OrderKind.OURS:
                return await self._adopt(order, now)
            case OrderKind.NOT_OURS:
                return await self._rule_out(ApiBatchId(order.argument))
            case OrderKind.RESEND:
                return await self._resend(int(order.argument), now)
            case OrderKind.GIVE_UP:
                return await self._give_up(int(order.argument), now)

    async def _adopt(self, order: Order, now: Now) -> str:
        api_id, _, number = order.argument.partition(" ")
        doubts = await self._decisions.doubts()
        refusal = why_not_to_judge(doubts, ApiBatchId(api_id))
        if refusal is not None:
            return f"not done: {refusal}"
        about = doubts_about(doubts, ApiBatchId(api_id))
        meant = [doubt for doubt in about if number in {"", str(doubt.batch_id)}]
        if len(meant) != 1:
            numbers = ", ".join(str(doubt.batch_id) for doubt in about)
            return f"not done: {api_id} may be one of these batches: {numbers}; say which with --for"
        (doubt,) = meant
        info = await self._look_at(ApiBatchId(api_id), doubt)
        if not await self._dispatch.adopt(doubt.batch_id, doubt.nonce, info, now=now.wall):
            return f"not done: what became of batch {doubt.batch_id} has been found out meanwhile"
        self._ring_polling()
        return f"done: batch {doubt.batch_id} is {api_id}"

    async def _look_at(self, api_id: ApiBatchId, doubt: OpenDoubt) -> BatchInfo:
        """Return the batch; for one that was deleted, what is known of it: polling finds out that it is gone."""
        try:
            return await self._api.retrieve(api_id)
        except ApiTrouble as error:
            if error.trouble.kind is not TroubleKind.NOT_FOUND:
                raise
        counts = RequestCounts(processing=doubt.request_count, succeeded=0, errored=0, canceled=0, expired=0)
        expires_at = doubt.sent_at + BATCH_LIFE
        return BatchInfo(
            id=api_id, status="unknown", counts=counts, created_at=doubt.sent_at, expires_at=expires_at, ended_at=None
        )

    async def _rule_out(self, api_id: ApiBatchId) -> str:
        refusal = why_not_to_judge(await self._decisions.doubts(), api_id)
        if refusal is not None:
            return f"not done: {refusal}"
        await self._dispatch.rule_out(api_id)
        return f"done: {api_id} is not ours"

    async def _resend(self, batch_id: int, now: Now) -> str:
        why_not = await self._decisions.why_not_to_end(batch_id, may_be_lost=False)
        if why_not is not None:
            return f"not done: {why_not}"
        count = await self._decisions.resend(batch_id, now=now.wall)
        self._ring_delivery()
        return f"done: {count} requests of batch {batch_id} wait to be sent again"

    async def _give_up(self, batch_id: int, now: Now) -> str:
        why_not = await self._decisions.why_not_to_end(batch_id, may_be_lost=True)
        if why_not is not None:
            return f"not done: {why_not}"
        for nonce in await self._decisions.sendings(batch_id):
            await self._manifests.close(nonce)
        await self._decisions.give_up(batch_id, GIVEN_UP, now=now.wall)
        self._ring_delivery()
        return f"done: what was left of batch {batch_id} ends as errors"
