"""Moves originals whose every request has ended to done/, or deletes them if nobody keeps them."""

from collections.abc import Sequence

from batchbox.folders.layout import by_lane
from batchbox.folders.shelves import Move, Original, Shelves
from batchbox.model import Lane, Now
from batchbox.store.originals import OriginalStore, SettledSource

GROUP_FILES = 256


class Archiver:
    """Clears processing/ of what has settled."""

    def __init__(self, store: OriginalStore, shelves: Shelves, *, is_kept: bool) -> None:
        self._store = store
        self._shelves = shelves
        self._is_kept = is_kept

    async def step(self, now: Now) -> None:
        """Clear away everything that has settled."""
        while settled := await self._store.settled(limit=GROUP_FILES):
            for lane, sources in by_lane(settled).items():
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
