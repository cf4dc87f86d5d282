"""Waits for claimed files that had changed when they were looked at again, until they are still, and lets them be read.

Every change doubles how long a file has to be still, because the last time was not enough. One that still changes an
hour after our first look is rejected: nobody could say what of it is meant. A new process begins that hour anew,
because clocks that outlive a process can be set.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence

from batchbox.folders.inbox import Inbox
from batchbox.folders.layout import by_lane
from batchbox.logs import shown
from batchbox.model import Lane, Now, RejectReason
from batchbox.naming import parse_claim_name
from batchbox.settling import Readiness, Sighting, next_look, sight
from batchbox.store.columns import from_ms
from batchbox.store.recording import NewSource, Rejection
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
        self._since: dict[tuple[Lane, str], float] = {}  # monotonic, of our own first look
        self._missing: set[tuple[Lane, str]] = set()

    @property
    def is_waiting(self) -> bool:
        """Whether there were such claims at the last step."""
        return bool(self._sightings or self._missing)

    async def step(self, now: Now) -> tuple[bool, float]:
        """Look at every such claim; return whether one may be read now, and the monotonic moment of the next look."""
        known = await self._store.unsettled()
        waiting = [one for one in known if not one.is_still]
        if {_key(one) for one in waiting} - self._sightings.keys():
            await self._forget_unfinished()
        self._prune(known, waiting)
        for lane, of_lane in by_lane(waiting).items():
            await self._look(lane, of_lane, now)
        still = [one for one in waiting if self._is_still(one)]
        if still:
            await self._store.settle(still)
        for one in still:
            del self._sightings[_key(one)]
        return bool(still), self._next_look(waiting, now)

    def _prune(self, known: Sequence[UnsettledClaim], waiting: Sequence[UnsettledClaim]) -> None:
        known_keys, waiting_keys = {_key(one) for one in known}, {_key(one) for one in waiting}
        self._since = {key: since for key, since in self._since.items() if key in known_keys}
        self._sightings = {key: seen for key, seen in self._sightings.items() if key in waiting_keys}
        self._missing &= waiting_keys

    async def _look(self, lane: Lane, claims: Sequence[UnsettledClaim], now: Now) -> None:
        samples, sampled_at = await self._inbox.sample_claims(lane, [one.claim for one in claims])
        for one in claims:
            key, sample = _key(one), samples.get(one.claim)
            if sample is not None:
                self._missing.discard(key)
                seen = sight(self._sightings.get(key), sample, readiness=Readiness.PLAUSIBLE, now=sampled_at)
                self._sightings[key] = seen
                if seen.since - self._since.setdefault(key, sampled_at) >= UNSTABLE_SECONDS:
                    await self._give_up(one, "it has not been still for an hour", now)
            elif key in self._missing:
                await self._give_up(one, "it went away while it was waited for", now)
            else:
                self._missing.add(key)

    def _is_still(self, one: UnsettledClaim) -> bool:
        seen = self._sightings.get(_key(one))
        return seen is not None and seen.looked_at - seen.since >= self._quiet_of(one)

    def _quiet_of(self, one: UnsettledClaim) -> float:
        return max(self._quiet(), min(self._quiet() * 2.0 ** min(one.change_count, 64), QUIET_SECONDS_MAX))

    def _next_look(self, waiting: Sequence[UnsettledClaim], now: Now) -> float:
        seen = [(one, self._sightings[_key(one)]) for one in waiting if _key(one) in self._sightings]
        looks = [next_look(sighting, quiet=self._quiet_of(one), incomplete_after=0.0) for one, sighting in seen]
        return min([*looks, *([now.monotonic + self._quiet()] if self._missing else [])], default=math.inf)

    async def _give_up(self, one: UnsettledClaim, fact: str, now: Now) -> None:
        origin = parse_claim_name(one.claim)
        source = NewSource(
            lane=one.lane,
            claim=one.claim,
            name=one.claim if origin is None else origin[1],
            owner="",
            size_bytes=0,
            sha256=None,
            dropped_at=one.found_at if origin is None else from_ms(origin[0]),
        )
        rejection = Rejection(
            reason=RejectReason.UNSTABLE,
            detail=f"it changed after it was taken, {one.change_count} times; {fact}",
            what_to_do="Drop it again when the program that writes it has closed it.",
        )
        await self._store.give_up(source, rejection, now=now.wall)
        log.warning("file rejected", extra={"file": shown(source.name), "lane": shown(one.lane), "reason": "unstable"})
        self._sightings.pop(_key(one), None)
        self._missing.discard(_key(one))


def _key(one: UnsettledClaim) -> tuple[Lane, str]:
    return one.lane, one.claim
