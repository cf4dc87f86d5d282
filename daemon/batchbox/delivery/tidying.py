"""Deletes what has been kept for its time: originals in done/, bodies of errors, closed manifests."""

from collections.abc import Sequence
from datetime import timedelta

from batchbox.folders.manifests import Manifests
from batchbox.folders.patience import Patience
from batchbox.folders.shelves import Shelves
from batchbox.model import Lane, Now
from batchbox.store.delivery import DeliveryStore
from batchbox.store.originals import KeptOriginal, OriginalStore

GROUP_ROWS = 256
TIDY_SECONDS = 3600.0
BODIES_KEPT = timedelta(days=30)
"""For so long the body of a request that has no whole answer is there to be sent again."""
MANIFESTS_KEPT = timedelta(days=30)
"""For so long a closed manifest tells a database that was restored from a backup what it does not know."""
MANIFEST_PARTS_KEPT = timedelta(days=1)
"""A manifest takes minutes to write: what is older was broken off."""


class Tidying:
    """Looks once an hour."""

    def __init__(
        self,
        *,
        store: DeliveryStore,
        originals: OriginalStore,
        shelves: Shelves,
        manifests: Manifests,
        done_days: int,
    ) -> None:
        self._store = store
        self._originals = originals
        self._shelves = shelves
        self._manifests = manifests
        self._done_days = done_days
        self._due = 0.0
        self._patience = Patience("old originals", group=GROUP_ROWS)

    async def step(self, now: Now) -> None:
        """Delete what is due."""
        if now.monotonic < self._due:
            return
        before = now.wall - timedelta(days=self._done_days)
        await self._patience.work(
            lambda limit: self._originals.kept_since(before, limit=limit), self._remove_originals, now=now
        )
        await self._manifests.tidy(closed_before=now.wall - MANIFESTS_KEPT, parts_before=now.wall - MANIFEST_PARTS_KEPT)
        while await self._store.remove_bodies(now.wall - BODIES_KEPT, limit=GROUP_ROWS) == GROUP_ROWS:
            pass
        self._due = now.monotonic + TIDY_SECONDS

    async def _remove_originals(self, lane: Lane, originals: Sequence[KeptOriginal], _now: Now) -> None:
        await self._shelves.remove_done(lane, [original.target for original in originals])
        await self._originals.forget([original.id for original in originals])
