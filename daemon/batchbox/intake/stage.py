"""From a dropped file to recorded requests: look, wait until it is still, claim, read, parse, record, or put aside.

The scan is the truth; bells only say "look now". One step does all that is due: whatever lies in processing/ without
a row is read and recorded first, which is the same act after a claim and after a crash; then what can never become a
request is moved to rejected/; then the inbox is listed, sampled and claimed from, lanes in turn.

What goes wrong with one file or one lane is that one's alone: it is told once, waits, and is tried again. Only an error
of the root's own folders ends the step.

What this leaves to others: whether a file is still (`settling`), which marker it has (`markers`), who takes it back
(`cancelling`), what is in it (`formats`), which ids it may have (`store.intake`).

If we die              | what is left                                  | what the next step does
-----------------------+-----------------------------------------------+------------------------------------------
before a claim         | the file in the inbox                         | sees it again
after a claim          | a file in processing/ that no row knows       | reads and records it
while reading a long one | a READING row, INCOMING requests            | forgets them and reads it again
before an explanation  | a REJECTING row                               | writes the explanation
during an explanation  | its beginning, no name recorded               | writes it to its end, takes the name
after an explanation   | the explanation, no name recorded             | finds its own words, takes the name
after the move         | a REJECTING row, the file in rejected/        | finds nothing to move, records it
after a file was found | its row READING, its claim unsettled          | forgets the row, waits until the file is
changed                |                                               | still, reads it again
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, islice

from batchbox.errors import NoRoomError, RootOfflineError, StateNotWritableError
from batchbox.folders.inbox import ClaimOutcome, Inbox, Wanted
from batchbox.folders.layout import Presence
from batchbox.folders.listing import BROKEN, Listing, Unread
from batchbox.folders.reading import Claim
from batchbox.formats import FileKind, breaks_off, kind_of
from batchbox.intake.cancelling import Canceller
from batchbox.intake.markers import Paired, is_leftover, pair
from batchbox.intake.recording import Recorder
from batchbox.intake.rejecting import Rejecter
from batchbox.intake.settling_anew import SettlingAnew
from batchbox.intake.sightings import Pace, Sightings
from batchbox.logs import shown
from batchbox.model import Lane, Now
from batchbox.naming import claim_name, is_ignored
from batchbox.settling import Readiness, Sample, Sighting, refused, sight, unfinished
from batchbox.store.columns import to_ms
from batchbox.store.holds import Keeper
from batchbox.store.intake import Backlog, IntakeStore

GROUP_FILES = 256
SIGHTINGS_MAX = 20_000
"""So many files are watched at once until they are still; the inbox itself is the queue of the others."""
HEARTBEAT_SECONDS = 60.0
REREAD_SECONDS = 30.0
"""When claims that could not be read are tried again."""
REFUSED_TOLD_MAX = 5
STEP_SECONDS_MIN = 0.02
"""Files that arrive in a stream become due one by one; so much is gathered into one step."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """When files are looked at and taken. Durations are seconds; what depends on where the root is may change."""

    quiet: Callable[[], float]
    rescan: Callable[[], float]
    incomplete_after: float
    pending_max: int
    pending_bytes_max: int


@dataclass(slots=True)
class _Scan:
    """What one scan of the inbox has found and done. Written by that scan alone."""

    left_count: int
    """Files that are in the inbox and not claimed."""
    backlog: Backlog
    markers: Mapping[Lane, Mapping[str, str]]
    """By lane and file: the marker beside it."""


class Intake:
    """The stage that turns files into requests."""

    def __init__(
        self,
        settings: IntakeSettings,
        *,
        store: IntakeStore,
        inbox: Inbox,
        presence: Presence,
        recorder: Recorder,
        rejecter: Rejecter,
        canceller: Canceller,
        settling_anew: SettlingAnew,
        root_keeper: Keeper,
        disk_keeper: Keeper,
        watch: Callable[[Mapping[Lane, tuple[int, int]]], None],
        demands_markers: Callable[[Lane], bool],
    ) -> None:
        self._settings = settings
        self._store = store
        self._inbox = inbox
        self._presence = presence
        self._recorder = recorder
        self._rejecter = rejecter
        self._canceller = canceller
        self._settling_anew = settling_anew
        self._root_keeper = root_keeper
        self._disk_keeper = disk_keeper
        self._watch = watch  # told after each listing which folders there are, each by device and inode
        self._demands_markers = demands_markers
        self._sightings: dict[Lane, Sightings] = {}
        self._beat_at = 0.0
        self._unread: Mapping[str, Unread] = {}
        self._left_count = 0
        self._served_last = ""
        self._is_idle = False

    @property
    def is_idle(self) -> bool:
        """Whether the last step found nothing in the inbox and left nothing half done."""
        return self._is_idle and not self._settling_anew.is_waiting

    @property
    def left_count(self) -> int:
        """How many files the last step that came to its end has left in the inbox."""
        return self._left_count

    def refused(self) -> Sequence[str]:
        """Return a few of the files that could not be taken when that was last tried."""
        of_lanes = (of_lane.refused() for of_lane in self._sightings.values())
        return list(islice(chain.from_iterable(of_lanes), REFUSED_TOLD_MAX))

    @property
    def broken_folders(self) -> Mapping[str, Unread]:
        """The lanes, or the inbox, whose files wait until somebody has cured the folder, and why."""
        return {name: why for name, why in self._unread.items() if why in BROKEN}

    async def step(self, now: Now) -> float:
        """Do what is due; return the monotonic moment of the next step."""
        held_until = max(self._root_keeper.until, self._disk_keeper.until)
        if now.monotonic < held_until:
            return held_until
        try:
            next_due = await self._work(now)
        except (OSError, RootOfflineError) as error:
            self._start_over()
            self._watch({})
            if not self._root_keeper.is_failing:
                log.warning("root cannot be worked on", extra={"why": str(error)})
            await self._root_keeper.fail(str(error), now)
            return self._root_keeper.until
        except NoRoomError as error:
            self._start_over()
            await self._wait_for_room(error, now)
            return self._disk_keeper.until
        except StateNotWritableError:
            self._start_over()
            raise
        if await self._root_keeper.succeed():
            log.info("root is back")
        if await self._disk_keeper.succeed():
            log.info("there is room on the disk again")
        return max(next_due, now.monotonic + STEP_SECONDS_MIN)

    def _start_over(self) -> None:
        """Trust nothing that the step has learned: what was claimed before it failed is found in processing/."""
        self._is_idle = False
        self._recorder.forget()

    async def _wait_for_room(self, error: NoRoomError, now: Now) -> None:
        if not self._disk_keeper.is_failing:
            log.warning("nothing is taken for lack of room", extra={"why": str(error)})
        await self._disk_keeper.fail(str(error), now)
        await self._root_keeper.succeed()

    async def _work(self, now: Now) -> float:
        if now.monotonic >= self._beat_at:
            await self._presence.confirm()
            await self._presence.beat()
            self._recorder.forget()  # a claim may appear late, when its rename had failed, or become readable
            self._beat_at = now.monotonic + HEARTBEAT_SECONDS
        is_one_still, look_due = await self._settling_anew.step(now)
        if is_one_still:
            self._recorder.forget()
        await self._recorder.record([], now)
        await self._rejecter.put_aside(now)
        next_due = min(look_due, await self._scan(now))
        await self._rejecter.put_aside(now)
        if self._recorder.has_unread:
            self._beat_at = min(self._beat_at, now.monotonic + REREAD_SECONDS)
        return min(next_due, self._beat_at)

    async def _scan(self, now: Now) -> float:
        listing = await self._inbox.listing(is_ignored)
        self._watch(listing.folders)
        self._tell_folders(listing)
        paired = {lane: await self._sort_out(lane, names, now) for lane, names in listing.names.items()}
        lanes = {lane: set(of_lane.names) for lane, of_lane in paired.items() if of_lane.names}
        self._is_idle = not lanes and not self._recorder.has_unread
        pace = Pace(quiet=self._settings.quiet(), incomplete_after=self._settings.incomplete_after)
        self._sightings = {lane: self._sightings.get(lane) or Sightings(pace) for lane in lanes}
        for lane, names in lanes.items():
            self._sightings[lane].keep(names)
            self._sightings[lane].keep_pace(pace)
        rescan = now.monotonic + self._settings.rescan()
        backlog = await self._store.backlog()
        markers = {lane: of_lane.markers for lane, of_lane in paired.items()}
        scan = _Scan(left_count=sum(map(len, lanes.values())), backlog=backlog, markers=markers)
        self._left_count = scan.left_count
        if not self._takes_more(scan):
            return rescan
        in_turn = _in_turn(lanes, after=self._served_last)
        looks = [await self._look(lane, paired[lane].names, scan, now) for lane in in_turn]
        self._left_count = scan.left_count
        self._is_idle = scan.left_count == 0 and not self._recorder.has_unread
        return min([rescan, *looks])

    async def _sort_out(self, lane: Lane, names: Sequence[str], now: Now) -> Paired:
        """Obey what takes back others; return the names that are left, with the markers out of the way."""
        paired = pair(names, is_demanded=self._demands_markers(lane))
        taken = await self._canceller.obey(lane, names, paired.markers, now)
        if not taken.names and not taken.waiting:
            return paired
        await self._recorder.record(taken.claims, now)
        left = [name for name in names if name not in taken.names and name not in taken.waiting]
        return pair(left, is_demanded=self._demands_markers(lane))

    def _tell_folders(self, listing: Listing) -> None:
        for name, why in sorted(listing.unread.items() - self._unread.items()):
            log.warning("folder is not read", extra={"folder": shown(name), "why": str(why)})
        self._unread = listing.unread

    async def _look(self, lane: Lane, names: Sequence[str], scan: _Scan, now: Now) -> float:
        """Claim those of a lane's files that are still, and sample the others whose time has come.

        Returns the monotonic moment of the next look.
        """
        sightings = self._sightings[lane]
        room = SIGHTINGS_MAX // len(self._sightings)
        new = sorted(name for name in names if name not in sightings)[: max(0, room - len(sightings))]
        looked_for = sightings.looked_for(now.monotonic)
        still = [name for name in looked_for if sightings.is_due(name, now.monotonic)]
        leftovers = {name: seen.sample for name in still if is_leftover(name, (seen := sightings[name]).sample)}
        await self._remove(lane, leftovers, scan)
        for group in _groups([name for name in still if name not in leftovers]):
            if self._takes_more(scan):
                await self._recorder.require_room(max(self._bytes_to_read(lane, name) for name in group))
                await self._claim(lane, group, scan, now)
        for group in _groups(new + [name for name in looked_for if name in sightings]):
            samples, sampled_at = await self._inbox.sample(lane, group, _unfinished(sightings, group))
            for name in group:
                is_marked = name in scan.markers[lane]
                _sight(sightings, name, samples.get(name), is_marked=is_marked, now=sampled_at)
        return sightings.next_look()

    def _bytes_to_read(self, lane: Lane, name: str) -> int:
        return self._recorder.bytes_to_read(name, self._sightings[lane][name].sample.size_bytes)

    async def _remove(self, lane: Lane, leftovers: Mapping[str, Sample], scan: _Scan) -> None:
        """Delete markers that have had no file for long enough."""
        if not leftovers:
            return
        await self._inbox.remove(lane, leftovers)
        log.info("markers without a file are deleted", extra={"lane": shown(lane), "count": len(leftovers)})
        for name in leftovers:
            self._sightings[lane].forget(name)
        scan.left_count -= len(leftovers)

    def _takes_more(self, scan: _Scan) -> bool:
        settings, backlog = self._settings, scan.backlog
        return backlog.request_count < settings.pending_max and backlog.size_bytes < settings.pending_bytes_max

    async def _claim(self, lane: Lane, names: Sequence[str], scan: _Scan, now: Now) -> None:
        """Claim files, each looked at once more, and record them; those that are still watched keep their sighting."""
        sightings = self._sightings[lane]
        files = [_wanted(name, sightings[name], scan.markers[lane].get(name), now) for name in names]
        outcomes = await self._inbox.claim(lane, files)
        claims = []
        for file, outcome in zip(files, outcomes, strict=True):
            if outcome is ClaimOutcome.UNFINISHED:
                sightings[file.name] = unfinished(sightings[file.name])
            elif outcome in {ClaimOutcome.CLAIMED, ClaimOutcome.GONE}:
                sightings.forget(file.name)
                scan.left_count -= 1
            elif outcome in {ClaimOutcome.BUSY, ClaimOutcome.UNCLEAR}:
                _tell_refused(file.name, lane, sightings[file.name])
                sightings[file.name] = refused(sightings[file.name])
            if outcome is ClaimOutcome.CLAIMED:
                claims.append(Claim(lane=lane, name=file.claim_name))
        if claims:
            self._served_last = lane
        scan.backlog += await self._recorder.record(claims, now)
        if {ClaimOutcome.GONE, ClaimOutcome.UNCLEAR} & set(outcomes):
            self._recorder.forget()  # the server may have moved the file, or do so yet, whatever it said


def _in_turn(lanes: Iterable[Lane], *, after: str) -> list[Lane]:
    """Return the lanes, first those after the one served last: where there is little room, each has its turn."""
    return sorted(lanes, key=lambda lane: (lane <= after, lane))


def _groups(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), GROUP_FILES):
        yield names[start : start + GROUP_FILES]


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


def _tell_refused(name: str, lane: Lane, sighting: Sighting) -> None:
    if not sighting.refusals:
        log.warning("file cannot be taken: in use, or not ours", extra={"file": shown(name), "lane": shown(lane)})


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
        marker is None
        and sighting.sample.is_regular
        and sighting.readiness is Readiness.PLAUSIBLE
        and kind in {FileKind.JSON, FileKind.JSON_LINES}
    )
    return Wanted(
        name=name,
        claim_name=claim_name(name, dropped_ms=to_ms(still_since), random_bytes=os.urandom(8)),
        sample=sighting.sample,
        check=kind if is_checked else None,
        marker=marker,
    )
