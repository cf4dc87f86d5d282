"""Moves files that can never become requests to rejected/, each beside its explanation.

A lane's folder in rejected/ may be somebody's own, or no folder at all: then this lane's files wait, and no others.
"""

import logging
from collections.abc import Sequence

from batchbox.documents import Explanation, explanation
from batchbox.folders.layout import by_lane
from batchbox.folders.root import is_about_one_name
from batchbox.folders.shelves import Move, Rejected, Shelves
from batchbox.logs import shown
from batchbox.model import Lane, Now
from batchbox.naming import parse_claim_name
from batchbox.store.intake import IntakeStore, RejectedSource

GROUP_FILES = 256
RETRY_SECONDS = 60.0
"""How long a lane waits after its folder in rejected/ could not be worked on."""

log = logging.getLogger(__name__)


class Rejecter:
    """Brings REJECTING files to their place."""

    def __init__(self, *, store: IntakeStore, shelves: Shelves) -> None:
        self._store = store
        self._shelves = shelves
        self._retry_at: dict[Lane, float] = {}  # monotonic, of the lanes that wait

    async def put_aside(self, now: Now) -> None:
        """Put aside every file that waits for it, except those of lanes that cannot have theirs just now."""
        limit = GROUP_FILES
        while rejected := await self._store.rejected(limit=limit):
            ready = [source for source in rejected if self._retry_at.get(source.lane, 0.0) <= now.monotonic]
            for lane, sources in by_lane(ready).items():
                await self._try_lane(lane, sources, now)
            if not ready:
                if len(rejected) < limit:
                    return
                limit *= 2  # all of these wait for their lane: others may be behind them

    async def _try_lane(self, lane: Lane, sources: Sequence[RejectedSource], now: Now) -> None:
        try:
            for start in range(0, len(sources), GROUP_FILES):
                await self._put_aside_in(lane, sources[start : start + GROUP_FILES], now)
        except OSError as error:
            if not is_about_one_name(error):
                raise
            log.warning("rejected files wait", extra={"lane": shown(lane), "why": str(error)})
            self._retry_at[lane] = now.monotonic + RETRY_SECONDS
        else:
            self._retry_at.pop(lane, None)

    async def _put_aside_in(self, lane: Lane, sources: Sequence[RejectedSource], now: Now) -> None:
        unnamed = [source for source in sources if source.target is None]
        names = await self._shelves.take_rejected_names(lane, [_explained(source) for source in unnamed])
        taken = {source.id: name for source, name in zip(unnamed, names, strict=True)}
        await self._store.take_targets(taken.items())
        moves = [Move(claim=source.claim, target=source.target or taken[source.id]) for source in sources]
        await self._shelves.put_aside(lane, moves)  # what stays in processing/ is moved when that is listed next
        await self._store.put_aside([source.id for source in sources], now=now.wall)


def _explained(source: RejectedSource) -> Rejected:
    said = Explanation(
        name=source.name,
        reason=source.rejection.reason,
        detail=source.rejection.detail,
        what_to_do=source.rejection.what_to_do,
        received_at=source.dropped_at,
        rejected_at=source.rejected_at,
        receipt=_receipt(source.claim),
    )
    return Rejected(name=source.name, explanation=explanation(said))


def _receipt(claim: str) -> str:
    """Return what makes a claim's name unique: its mark, or all of it if it is none that we gave."""
    return claim.partition("~")[0] if parse_claim_name(claim) else claim
