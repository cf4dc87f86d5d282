"""Waits for claimed files that had changed when they were looked at again, until they are still, and lets them be read.

Every change doubles how long a file has to be still, because the last time was not enough. One that still changes an
hour after our first look, and has not been still for so long in between, is rejected: nobody could say what of it is
meant. A new process begins that hour anew, because clocks that outlive a process can be set. One that has gone in two
looks is explained, until it has been read again: nothing is left of it that could be asked.

A file is looked at when that may tell something, as in the inbox, and not in every step: there may be thousands.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from batchbox.folders.inbox import Inbox
from batchbox.folders.layout import by_lane
from batchbox.logs import shown
from batchbox.model import Lane, Now, RejectReason
from batchbox.settling import LOOK_AGAIN_SECONDS, Readiness, Sample, Sighting, due, has_gone, next_look, sight
from batchbox.store.recording import Rejection, source_of
from batchbox.store.verifying import UnsettledClaim, VerifyingStore

QUIET_SECONDS_MAX = 600.0
UNSTABLE_SECONDS = 3600.0

log = logging.getLogger(__name__)

_Key = tuple[Lane, str, int, bool]


@dataclass(slots=True)
class _Watched:
    """What is known of a claim. Written by SettlingAnew alone; moments are monotonic."""

    look_at: float = -math.inf
    """When it is looked at next."""
    sighting: Sighting | None = None
    seen_since: float = math.inf
    """The first look that found it, since it was last still."""
    away_since: float | None = None
    """The first look that did not find it; None: the last one did."""


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
        self._watched: dict[_Key, _Watched] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether there were such claims at the last step."""
        return bool(self._watched)

    async def step(self, now: Now) -> tuple[bool, float]:
        """Look at those whose time has come; return whether one may be read now, and when the next look is due."""
        unsettled = {_key(one): one for one in await self._store.unsettled()}
        if any(not one.is_still for key, one in unsettled.items() if key not in self._watched):
            await self._forget_unfinished()
        self._watched = {key: self._watched.get(key) or _Watched() for key in unsettled}
        looked_for = [unsettled[key] for key, watched in self._watched.items() if watched.look_at <= now.monotonic]
        still: list[UnsettledClaim] = []
        for lane, of_lane in by_lane(looked_for).items():
            still += await self._look(lane, of_lane, now)
        if still:
            await self._store.settle(still)
            return True, now.monotonic  # what is not read in this step is looked for at once: it may have gone
        return False, min((watched.look_at for watched in self._watched.values()), default=math.inf)

    async def _look(self, lane: Lane, claims: Sequence[UnsettledClaim], now: Now) -> list[UnsettledClaim]:
        """Look at claims; return those that may be read from now on."""
        samples, sampled_at = await self._inbox.sample_claims(lane, [one.claim for one in claims])
        still = []
        for one in claims:
            watched, sample = self._watched[_key(one)], samples.get(one.claim)
            if sample is None:
                await self._miss(one, watched, sampled_at, now)
                continue
            seen = _see(watched, sample, quiet=self._quiet_of(one), now=sampled_at)
            if one.is_still:
                continue
            if due(seen, quiet=self._quiet_of(one), incomplete_after=0.0) <= sampled_at:
                still.append(one)
            elif seen.since - watched.seen_since >= UNSTABLE_SECONDS:
                await self._give_up(one, _unstable(one), now)
        return still

    async def _miss(self, one: UnsettledClaim, watched: _Watched, sampled_at: float, now: Now) -> None:
        if watched.away_since is None:
            watched.away_since = sampled_at
            watched.look_at = sampled_at + LOOK_AGAIN_SECONDS
        elif has_gone(watched.away_since, now=now.monotonic):
            await self._give_up(one, _withdrawn(one), now)

    def _quiet_of(self, one: UnsettledClaim) -> float:
        return max(self._quiet(), min(self._quiet() * 2.0 ** min(one.change_count, 64), QUIET_SECONDS_MAX))

    async def _give_up(self, one: UnsettledClaim, rejection: Rejection, now: Now) -> None:
        source = source_of(one.lane, one.claim, found_at=one.found_at)
        await self._store.give_up(source, rejection, now=now.wall)
        facts = {"file": shown(source.name), "lane": shown(one.lane), "reason": rejection.reason.value}
        log.warning("file rejected", extra=facts)
        del self._watched[_key(one)]


def _see(watched: _Watched, sample: Sample, *, quiet: float, now: float) -> Sighting:
    seen = sight(watched.sighting, sample, readiness=Readiness.PLAUSIBLE, now=now)
    watched.sighting = seen
    watched.seen_since = min(watched.seen_since, now)
    watched.away_since = None
    watched.look_at = next_look(seen, quiet=quiet, incomplete_after=0.0)
    return seen


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


def _key(one: UnsettledClaim) -> _Key:
    """Return what the file is known by, until it has been read again, or changes once more after that."""
    return one.lane, one.claim, one.change_count, one.is_still
