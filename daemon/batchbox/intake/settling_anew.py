"""Waits for claimed files that had changed when they were looked at again, until they are still, and lets them be read.

Every change doubles how long a file has to be still, because the last time was not enough. One that still changes an
hour after our first look, and has not been still for so long in between, is rejected: nobody could say what of it is
meant. A new process begins that hour anew, because clocks that outlive a process can be set. One that has gone in two
looks is explained: nothing is left of it that could be asked.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence

from batchbox.folders.inbox import Inbox
from batchbox.folders.layout import by_lane
from batchbox.logs import shown
from batchbox.model import Lane, Now, RejectReason
from batchbox.settling import LOOK_AGAIN_SECONDS, Readiness, Sighting, has_gone, next_look, sight
from batchbox.store.recording import Rejection, source_of
from batchbox.store.verifying import UnsettledClaim, VerifyingStore

QUIET_SECONDS_MAX = 600.0
UNSTABLE_SECONDS = 3600.0

log = logging.getLogger(__name__)


class SettlingAnew:
    """Watches the claims that are unsettled.

    Args:
        store: The rows about files that change.
        inbox: The claims.
        forget_unfinished: Removes what is recorded of files whose reading had no end.
        quiet: Seconds for which a file has to be still that never changed after its claim.
    """

    def __init__(
        self,
        store: VerifyingStore,
        inbox: Inbox,
        *,
        forget_unfinished: Callable[[], Awaitable[None]],
        quiet: Callable[[], float],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._forget_unfinished = forget_unfinished
        self._quiet = quiet
        self._sightings: dict[tuple[Lane, str], Sighting] = {}
        self._since: dict[tuple[Lane, str], float] = {}  # monotonic, of our own first look since it was last still
        self._away_since: dict[tuple[Lane, str], float] = {}  # monotonic, of the first look that did not find it

    @property
    def is_waiting(self) -> bool:
        """Whether there were such claims at the last step."""
        return bool(self._sightings or self._away_since)

    async def step(self, now: Now) -> tuple[bool, float]:
        """Look at every such claim; return whether one may be read now, and the monotonic moment of the next look."""
        waiting = [one for one in await self._store.unsettled() if not one.is_still]
        if {_key(one) for one in waiting} - self._sightings.keys():
            await self._forget_unfinished()
        self._prune(waiting)
        for lane, of_lane in by_lane(waiting).items():
            await self._look(lane, of_lane, now)
        still = [one for one in waiting if self._is_still(one)]
        if still:
            await self._store.settle(still)
        for one in still:
            self._forget(one)
        return bool(still), self._next_look(waiting)

    def _prune(self, waiting: Sequence[UnsettledClaim]) -> None:
        keys = {_key(one) for one in waiting}
        self._since = {key: since for key, since in self._since.items() if key in keys}
        self._sightings = {key: seen for key, seen in self._sightings.items() if key in keys}
        self._away_since = {key: since for key, since in self._away_since.items() if key in keys}

    def _forget(self, one: UnsettledClaim) -> None:
        self._since.pop(_key(one), None)
        self._sightings.pop(_key(one), None)
        self._away_since.pop(_key(one), None)

    async def _look(self, lane: Lane, claims: Sequence[UnsettledClaim], now: Now) -> None:
        samples, sampled_at = await self._inbox.sample_claims(lane, [one.claim for one in claims])
        for one in claims:
            key, sample = _key(one), samples.get(one.claim)
            if sample is None:
                if has_gone(self._away_since.setdefault(key, sampled_at), now=now.monotonic):
                    await self._give_up(one, _withdrawn(one), now)
                continue
            self._away_since.pop(key, None)
            seen = sight(self._sightings.get(key), sample, readiness=Readiness.PLAUSIBLE, now=sampled_at)
            self._sightings[key] = seen
            if seen.since - self._since.setdefault(key, sampled_at) >= UNSTABLE_SECONDS:
                await self._give_up(one, _unstable(one), now)

    def _is_still(self, one: UnsettledClaim) -> bool:
        seen = self._sightings.get(_key(one))
        return seen is not None and seen.looked_at - seen.since >= self._quiet_of(one)

    def _quiet_of(self, one: UnsettledClaim) -> float:
        return max(self._quiet(), min(self._quiet() * 2.0 ** min(one.change_count, 64), QUIET_SECONDS_MAX))

    def _next_look(self, waiting: Sequence[UnsettledClaim]) -> float:
        found = [one for one in waiting if _key(one) in self._sightings and _key(one) not in self._away_since]
        looks = [
            next_look(self._sightings[_key(one)], quiet=self._quiet_of(one), incomplete_after=0.0) for one in found
        ]
        return min([*looks, *(since + LOOK_AGAIN_SECONDS for since in self._away_since.values())], default=math.inf)

    async def _give_up(self, one: UnsettledClaim, rejection: Rejection, now: Now) -> None:
        source = source_of(one.lane, one.claim, found_at=one.found_at)
        await self._store.give_up(source, rejection, now=now.wall)
        facts = {"file": shown(source.name), "lane": shown(one.lane), "reason": rejection.reason.value}
        log.warning("file rejected", extra=facts)
        self._forget(one)


def _unstable(one: UnsettledClaim) -> Rejection:
    return Rejection(
        reason=RejectReason.UNSTABLE,
        detail=f"it changed after it was taken, {one.change_count} times; it has not been still for an hour",
        what_to_do="Drop it again when the program that writes it has closed it.",
    )


def _withdrawn(one: UnsettledClaim) -> Rejection:
    return Rejection(
        reason=RejectReason.WITHDRAWN,
        detail=f"it changed after it was taken, {one.change_count} times; it was deleted while it was waited for",
        what_to_do="Nothing of it was sent; to have the answer all the same, drop the file again.",
    )


def _key(one: UnsettledClaim) -> tuple[Lane, str]:
    return one.lane, one.claim
