"""What becomes of a batch whose results cannot be had: it is asked for further, or its requests end as errors.

Results can be read for 29 days. Before that a batch without them is lost, and `polling` goes on asking; after that
nobody will ever read them, and silence would be worse than an error that says so.
"""

import logging
from collections.abc import Awaitable, Callable

from batchbox.api import RESULTS_KEPT, ApiTrouble, BatchesApi, TroubleKind
from batchbox.folders.manifests import Manifests
from batchbox.model import ErrorType, LostReason, Now
from batchbox.store.delivery import DeliveryStore, EndedBatch

log = logging.getLogger(__name__)


class Losses:
    """Judges batches without results.

    Args:
        store: Delivery's rows.
        manifests: Where a batch that is given up is closed.
        api: The workspace.
        vouches_for: Whether a 404 can be believed about a batch that was sent with the key of that hash.
        ring_polling: Called when a batch is lost: from then on it is polling that asks for it.
    """

    def __init__(
        self,
        *,
        store: DeliveryStore,
        manifests: Manifests,
        api: BatchesApi,
        vouches_for: Callable[[bytes], Awaitable[bool]],
        ring_polling: Callable[[], None],
    ) -> None:
        self._store = store
        self._manifests = manifests
        self._api = api
        self._vouches_for = vouches_for
        self._ring_polling = ring_polling

    async def judge(self, batch: EndedBatch, now: Now) -> bool:
        """Give up or lose an ended batch whose results are not there; return False if that says nothing.

        Raises ApiTrouble.
        """
        try:
            info = await self._api.retrieve(batch.api_id)
        except ApiTrouble as error:
            if error.trouble.kind is not TroubleKind.NOT_FOUND:
                raise
            return await self._lose(batch, LostReason.UNKNOWN_BATCH)
        if info.archived_at is not None or _is_over(batch, now):
            await self._give_up(batch, now)
            return True
        return await self._lose(batch, LostReason.NO_RESULTS)

    async def give_up_old(self, now: Now) -> None:
        """Give up the lost batches whose results nobody can read any more."""
        for batch in await self._store.lost_since(now.wall - RESULTS_KEPT):
            await self._give_up(batch, now)

    async def _lose(self, batch: EndedBatch, reason: LostReason) -> bool:
        if not await self._vouches_for(batch.key_hash):
            return False
        log.error("results are gone: a person is needed", extra={"batch": batch.api_id, "why": reason})
        await self._store.lose(batch.id, reason)
        self._ring_polling()
        return True

    async def _give_up(self, batch: EndedBatch, now: Now) -> None:
        await self._store.condemn_rest(batch.id, ErrorType.RESULTS_GONE, _sentence(batch), now=now.wall)
        await self._manifests.close(batch.nonce)
        await self._store.close(batch.id)
        log.error("results are gone for good", extra={"batch": batch.api_id})


def _is_over(batch: EndedBatch, now: Now) -> bool:
    return now.wall - batch.created_at >= RESULTS_KEPT


def _sentence(batch: EndedBatch) -> str:
    text = (
        f"The results of {batch.api_id} can no longer be read: the API keeps them for {RESULTS_KEPT.days} days, and "
        f"it was made on {batch.created_at:%Y-%m-%d}. Whether this request was answered, and billed, cannot be told."
    )
    if batch.counts is None:
        return text
    return f"{text} The API counted {batch.counts.succeeded} of its {batch.request_count} requests as answered."
