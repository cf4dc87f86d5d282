"""Looks at what lies in the lanes until it is still, and claims it: the part of a scan that follows the listing.

Lanes have their turns, and so have the files of a lane where more lie there than can be watched. A file that cannot be
taken, because it is in use, not ours, or too large for the room that is left, waits alone: it is told once, and tried
again less and less often. Raises NoRoomError only where there is no room for anything.
"""

import logging
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, islice

from batchbox.folders.inbox import ClaimOutcome, Inbox, Wanted
from batchbox.folders.reading import Claim
from batchbox.formats import REQUEST_BYTES_MAX, FileKind, breaks_off, kind_of
from batchbox.intake.markers import Paired, is_leftover
from batchbox.intake.recording import Recorder
from batchbox.intake.sightings import Pace, Sightings
from batchbox.logs import shown
from batchbox.model import Lane, Now
from batchbox.naming import claim_name
from batchbox.settling import Readiness, Sample, Sighting, sight, unfinished
from batchbox.store.columns import to_ms
from batchbox.store.intake import Backlog

GROUP_FILES = 256
GROUP_CHECKED_BYTES = 64_000_000
"""So much of the files of a group is read whole at most, before they are claimed: the root is kept busy so long."""
SIGHTINGS_MAX = 20_000
"""So many files are watched at once until they are still; the inbox itself is the queue of the others."""
REFUSED_TOLD_MAX = 5
_CHECKED = {FileKind.JSON, FileKind.JSON_LINES}
_NOT_TAKEN = "file cannot be taken: in use, or not ours"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Scan:
    """What one scan of the inbox has found and done. Written by that scan alone."""

    lanes: Mapping[Lane, Paired]
    """Those in which something lies."""
    backlog: Backlog
    left_count: int = 0
    """Files that are in the inbox and not claimed."""

    def __post_init__(self) -> None:
        self.left_count = sum(len(of_lane.names) for of_lane in self.lanes.values())


class Looker:
    """Knows what has been seen of every file that is watched."""

    def __init__(self, *, inbox: Inbox, recorder: Recorder, takes_more: Callable[[Backlog], bool]) -> None:
        self._inbox = inbox
        self._recorder = recorder
        self._takes_more = takes_more
        self._sightings: dict[Lane, Sightings] = {}
        self._served_last = ""

    def refused(self) -> Sequence[str]:
        """Return a few of the files that could not be taken when that was last tried."""
        of_lanes = (of_lane.refused() for of_lane in self._sightings.values())
        return list(islice(chain.from_iterable(of_lanes), REFUSED_TOLD_MAX))

    async def look(self, scan: Scan, pace: Pace, now: Now) -> float:
        """Claim what is still, and sample the rest as its time comes; return the monotonic moment of the next look."""
        self._sightings = {lane: self._sightings.get(lane) or Sightings(pace) for lane in scan.lanes}
        for lane, sightings in self._sightings.items():
            sightings.keep(set(scan.lanes[lane].names))
            sightings.keep_pace(pace)
        if not self._takes_more(scan.backlog):
            return math.inf
        looks = [await self._look(lane, scan, now) for lane in self._in_turn(scan.lanes)]
        return min(looks, default=math.inf)

    def _in_turn(self, lanes: Collection[Lane]) -> list[Lane]:
        """Return the lanes, first those after the one served last: where there is little room, each has its turn."""
        after = self._served_last
        return sorted(lanes, key=lambda lane: (lane <= after, lane))

    async def _look(self, lane: Lane, scan: Scan, now: Now) -> float:
        sightings = self._sightings[lane]
        new = sightings.admit(scan.lanes[lane].names, room=SIGHTINGS_MAX // len(self._sightings))
        looked_for = sightings.looked_for(now.monotonic)
        still = [name for name in looked_for if sightings.is_due(name, now.monotonic)]
        leftovers = {name: seen.sample for name in still if is_leftover(name, (seen := sightings[name]).sample)}
        await self._remove(lane, leftovers, scan)
        wanted = [name for name in still if name not in leftovers]
        for group in groups(wanted, lambda name: _bytes_to_check(name, sightings[name].sample)):
            if self._takes_more(scan.backlog):
                await self._claim(lane, await self._fitting(lane, group), scan, now)
        await self._sample(lane, new + [name for name in looked_for if name in sightings], scan)
        return sightings.next_look()

    async def _sample(self, lane: Lane, names: Sequence[str], scan: Scan) -> None:
        sightings = self._sightings[lane]
        markers = scan.lanes[lane].markers
        for group in groups(names, lambda _: 0):
            samples, sampled_at = await self._inbox.sample(lane, group, _unfinished(sightings, group))
            for name in group:
                _sight(sightings, name, samples.get(name), is_marked=name in markers, now=sampled_at)

    async def _fitting(self, lane: Lane, names: Sequence[str]) -> list[str]:
        """Return the files without the largest, if there is no room for those. Raises NoRoomError if there is none."""

        def size_bytes(name: str) -> int:
            return self._recorder.bytes_to_read(name, self._sightings[lane][name].sample.size_bytes)

        fitting = sorted(names, key=size_bytes)
        while fitting and (shortage := await self._recorder.shortage(size_bytes(fitting[-1]))) is not None:
            self._refuse(lane, fitting.pop(), "file waits: there is too little room for it", why=shortage)
        left = set(fitting)
        return [name for name in names if name in left]

    def _refuse(self, lane: Lane, name: str, message: str, **facts: str) -> None:
        if self._sightings[lane].refuse(name):
            log.warning(message, extra={"file": shown(name), "lane": shown(lane), **facts})

    async def _remove(self, lane: Lane, leftovers: Mapping[str, Sample], scan: Scan) -> None:
        """Delete markers that have had no file for long enough."""
        if not leftovers:
            return
        removed = await self._inbox.remove(lane, leftovers)
        if removed:
            log.info("markers without a file are deleted", extra={"lane": shown(lane), "count": len(removed)})
        for name in removed:
            self._sightings[lane].forget(name)
        for name in leftovers.keys() - removed:
            self._refuse(lane, name, "marker without a file cannot be deleted")
        scan.left_count -= len(removed)

    async def _claim(self, lane: Lane, names: Sequence[str], scan: Scan, now: Now) -> None:
        """Claim files, each looked at once more, and record them; those that are still watched keep their sighting."""
        sightings = self._sightings[lane]
        files = [_wanted(name, sightings[name], scan.lanes[lane].markers.get(name), now) for name in names]
        outcomes = await self._inbox.claim(lane, files) if files else []
        claims = []
        for file, outcome in zip(files, outcomes, strict=True):
            if outcome is ClaimOutcome.UNFINISHED:
                sightings[file.name] = unfinished(sightings[file.name])
            elif outcome in {ClaimOutcome.CLAIMED, ClaimOutcome.GONE}:
                sightings.forget(file.name)
                scan.left_count -= 1
            elif outcome in {ClaimOutcome.BUSY, ClaimOutcome.UNCLEAR}:
                self._refuse(lane, file.name, _NOT_TAKEN)
            if outcome is ClaimOutcome.CLAIMED:
                claims.append(Claim(lane=lane, name=file.claim_name))
        if claims:
            self._served_last = lane
        scan.backlog += await self._recorder.record(claims, now)
        if {ClaimOutcome.GONE, ClaimOutcome.UNCLEAR} & set(outcomes):
            self._recorder.forget()  # the server may have moved the file, or do so yet, whatever it said


def groups(names: Sequence[str], size_bytes: Callable[[str], int]) -> Iterator[Sequence[str]]:
    """Part the files so that in no group there is more than can be done in one turn of the root."""
    group: list[str] = []
    left = GROUP_CHECKED_BYTES
    for name in names:
        size = size_bytes(name)
        if group and (len(group) == GROUP_FILES or size > left):
            yield group
            group, left = [], GROUP_CHECKED_BYTES
        group.append(name)
        left -= size
    if group:
        yield group


def _bytes_to_check(name: str, sample: Sample) -> int:
    return min(sample.size_bytes, REQUEST_BYTES_MAX) if kind_of(name) in _CHECKED else 0


def _sight(sightings: Sightings, name: str, sample: Sample | None, *, is_marked: bool, now: float) -> None:
    if sample is None:
        sightings.forget(name)
        return
    before = sightings.get(name)
    readiness = before.readiness if before and before.sample == sample else _readiness(name, sample)
    if is_marked:  # whoever wrote it says that it is complete
        readiness = Readiness.PLAUSIBLE
    sightings[name] = sight(before, sample, readiness=readiness, now=now)


def _unfinished(sightings: Sightings, names: Sequence[str]) -> Mapping[str, Sample]:
    """Return the samples of the files that are not taken as they are, as far as they could be opened."""
    seen = {name: sightings[name] for name in names if name in sightings}
    return {
        name: one.sample
        for name, one in seen.items()
        if one.readiness is Readiness.UNFINISHED and one.sample.tail is not None
    }


def _readiness(name: str, sample: Sample) -> Readiness:
    if not sample.is_regular:
        return Readiness.PLAUSIBLE
    kind = kind_of(name)
    if kind is None or sample.size_bytes == 0 or breaks_off(FileKind.TEXT, sample.tail or b"") is not None:
        return Readiness.UNFINISHED
    return Readiness.PLAUSIBLE


def _wanted(name: str, sighting: Sighting, marker: str | None, now: Now) -> Wanted:
    still_since = now.wall - timedelta(seconds=now.monotonic - sighting.since)
    kind = kind_of(name)
    is_checked = (
        marker is None and sighting.sample.is_regular and sighting.readiness is Readiness.PLAUSIBLE and kind in _CHECKED
    )
    return Wanted(
        name=name,
        claim_name=claim_name(name, dropped_ms=to_ms(still_since), random_bytes=os.urandom(8)),
        sample=sighting.sample,
        check=kind if is_checked else None,
        marker=marker,
    )
