"""Finds what lies in processing/: claims to be recorded, and files that have ended and lie there all the same.

The latter are files whose way to done/ or rejected/ was recorded and then undone, by a server that lost a rename or
by a power cut, or was refused because somebody had the file open: they go the last stretch again.
"""

import logging
from collections.abc import Sequence
from itertools import groupby

from batchbox.folders.inbox import Inbox
from batchbox.folders.reading import Claim
from batchbox.folders.root import is_about_one_name
from batchbox.folders.shelves import Move, Shelves
from batchbox.logs import shown
from batchbox.model import Lane, SourceState
from batchbox.store.intake import CLAIMS_MAX, EndedClaim, IntakeStore

log = logging.getLogger(__name__)


async def find_claims(*, inbox: Inbox, store: IntakeStore, shelves: Shelves) -> list[Claim]:
    """Return the claims that no row knows, oldest first; bring those that have ended to their place again."""
    await store.forget_unfinished()
    found = await inbox.claims()
    claims: list[Claim] = []
    for start in range(0, len(found), CLAIMS_MAX):
        group = found[start : start + CLAIMS_MAX]
        unrecorded, ended = await store.unrecorded([(claim.lane, claim.name) for claim in group])
        claims += [Claim(lane=lane, name=name) for lane, name in unrecorded]
        for lane, of_lane in groupby(sorted(ended, key=_lane), key=_lane):
            await _finish_again(lane, list(of_lane), shelves)
    return claims


async def _finish_again(lane: Lane, claims: Sequence[EndedClaim], shelves: Shelves) -> None:
    unkept = [claim.name for claim in claims if claim.state is SourceState.DONE and claim.target is None]
    try:
        stuck = await shelves.put_aside(lane, _moves(claims, SourceState.REJECTED))
        stuck += await shelves.archive(lane, _moves(claims, SourceState.DONE))
        await shelves.drop_claims(lane, unkept)
    except OSError as error:
        if not is_about_one_name(error):
            raise
        log.warning("ended files stay in processing/", extra={"lane": shown(lane), "why": str(error)})
        return
    for place in stuck:
        log.warning(
            "ended file stays in processing/ until its place is free: move away what is there, or close it",
            extra={"lane": shown(lane), "place": shown(str(place))},
        )


def _moves(claims: Sequence[EndedClaim], state: SourceState) -> list[Move]:
    return [
        Move(claim=claim.name, target=claim.target)
        for claim in claims
        if claim.state is state and claim.target is not None
    ]


def _lane(claim: EndedClaim) -> Lane:
    return claim.lane
