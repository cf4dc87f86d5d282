"""Moves files that can never become requests to rejected/, each beside its explanation."""

from collections.abc import Sequence

from batchbox.documents import Explanation, explanation
from batchbox.folders.patience import Patience
from batchbox.folders.shelves import Move, Rejected, Shelves
from batchbox.model import Lane, Now
from batchbox.naming import parse_claim_name
from batchbox.store.intake import IntakeStore, RejectedSource

GROUP_FILES = 256


class Rejecter:
    """Brings REJECTING files to their place."""

    def __init__(self, *, store: IntakeStore, shelves: Shelves) -> None:
        self._store = store
        self._shelves = shelves
        self._patience = Patience("rejected files", group=GROUP_FILES)

    async def put_aside(self, now: Now) -> None:
        """Put aside every file that waits for it, except those of lanes that cannot have theirs just now."""
        await self._patience.work(lambda limit: self._store.rejected(limit=limit), self._put_aside_in, now=now)

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
