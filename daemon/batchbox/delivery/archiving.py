"""Moves originals whose every request has ended to done/, or deletes them if nobody keeps them."""

from collections.abc import Callable, Sequence

from batchbox.folders.patience import Patience
from batchbox.folders.shelves import Move, Original, Shelves
from batchbox.model import Lane, Now
from batchbox.store.originals import OriginalStore, SettledSource

GROUP_FILES = 256


class Archiver:
    """Clears processing/ of what has settled.

    Args:
        store: The rows about originals.
        shelves: The folders.
        is_kept: Whether originals are kept.
        ring_dispatch: Called when files have settled that are to be looked at once more before they leave.
    """

    def __init__(
        self, store: OriginalStore, shelves: Shelves, *, is_kept: bool, ring_dispatch: Callable[[], None]
    ) -> None:
        self._store = store
        self._shelves = shelves
        self._is_kept = is_kept
        self._ring_dispatch = ring_dispatch
        self._patience = Patience("originals", group=GROUP_FILES)

    async def step(self, now: Now) -> None:
        """Clear away everything that may leave, except what is of lanes whose folder cannot be worked on just now."""
        await self._patience.work(lambda limit: self._store.settled(limit=limit), self._clear, now=now)
        if await self._store.has_unverified():
            self._ring_dispatch()

    async def _clear(self, lane: Lane, sources: Sequence[SettledSource], now: Now) -> None:
        if self._is_kept:
            await self._move_to_done(lane, sources)
        else:
            await self._shelves.drop_claims(lane, [source.claim for source in sources])
        await self._store.archive([source.id for source in sources], now=now.wall)

    async def _move_to_done(self, lane: Lane, sources: Sequence[SettledSource]) -> None:
        unnamed = [source for source in sources if source.target is None]
        names = await self._shelves.take_done_names(
            lane, [Original(name=source.name, claim=source.claim) for source in unnamed]
        )
        taken = {source.id: name for source, name in zip(unnamed, names, strict=True)}
        await self._store.take_targets(taken.items())
        moves = [Move(claim=source.claim, target=source.target or taken[source.id]) for source in sources]
        await self._shelves.archive(lane, moves)  # what stays in processing/ is moved when that is listed next
