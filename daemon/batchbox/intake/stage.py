"""From a dropped file to recorded requests: look, wait until it is still, claim, read, parse, record, or put aside.

The scan is the truth; bells only say "look now". One step does all that is due: whatever lies in processing/ without
a row is read and recorded first, which is the same act after a claim and after a crash; then what can never become a
request is moved to rejected/; then the inbox is listed, sampled and claimed from, lanes in turn.

What this leaves to others: whether a file is still (`settling`), what is in it (`formats`), which ids it may have
(`store.intake`).

If we die              | what is left                                  | what the next step does
-----------------------+-----------------------------------------------+------------------------------------------
before a claim         | the file in the inbox                         | sees it again
after a claim          | a file in processing/ that no row knows       | reads and records it
while reading a long one | a READING row, INCOMING requests            | forgets them and reads it again
before an explanation  | a REJECTING row                               | writes the explanation
after an explanation   | the explanation, no name recorded             | finds its own words, takes the name
after the move         | a REJECTING row, the file in rejected/        | finds nothing to move, records it
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from batchbox.errors import RootOfflineError
from batchbox.folders.inbox import Claim, ClaimOutcome, Inbox, Wanted
from batchbox.folders.layout import Presence
from batchbox.formats import FileKind, breaks_off, kind_of
from batchbox.intake.recording import Recorder
from batchbox.intake.rejecting import Rejecter
from batchbox.logs import shown
from batchbox.model import Lane, Now
from batchbox.naming import claim_name, is_ignored
from batchbox.settling import Readiness, Sample, Sighting, due, next_look, sight, unfinished
from batchbox.store.columns import to_ms
from batchbox.store.holds import HoldName, HoldStore
from batchbox.store.intake import Backlog, IntakeStore
from batchbox.timing import Backoff

GROUP_FILES = 256
SIGHTINGS_MAX = 20_000
"""So many files are watched at once until they are still; the inbox itself is the queue of the others."""
HEARTBEAT_SECONDS = 60.0
STEP_SECONDS_MIN = 0.02
"""Files that arrive in a stream become due one by one; so much is gathered into one step."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """When files are looked at and taken. Durations are seconds."""

    quiet: float
    rescan: float
    incomplete_after: float
    pending_max: int
    pending_bytes_max: int


@dataclass(slots=True)
class _Scan:
    """What one scan of the inbox has found and done. Written by that scan alone."""

    left_count: int
    """Files that are in the inbox and not claimed."""
    backlog: Backlog


class Intake:
    """The stage that turns files into requests."""

    def __init__(
        self,
        settings: IntakeSettings,
        *,
        store: IntakeStore,
        holds: HoldStore,
        inbox: Inbox,
        presence: Presence,
        recorder: Recorder,
        rejecter: Rejecter,
        backoff: Backoff,
        chance: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._store = store
        self._holds = holds
        self._inbox = inbox
        self._presence = presence
        self._recorder = recorder
        self._rejecter = rejecter
        self._backoff = backoff
        self._chance = chance
        self._sightings: dict[Lane, dict[str, Sighting]] = {}
        self._beat_at = 0.0
        self._ignored_folders: Sequence[str] = ()
        self._is_idle = False

    @property
    def is_idle(self) -> bool:
        """Whether the last step found nothing in the inbox and left nothing half done."""
        return self._is_idle

    async def step(self, now: Now) -> float:
        """Do what is due; return the monotonic moment of the next step."""
        if now.monotonic < self._backoff.until:
            return self._backoff.until
        try:
            next_due = await self._work(now)
        except (OSError, RootOfflineError) as error:
            return await self._wait_for_root(error, now)
        if self._backoff.is_failing:
            self._backoff.succeed()
            await self._holds.release(HoldName.ROOT)
            log.info("root is back")
        return max(next_due, now.monotonic + STEP_SECONDS_MIN)

    async def _wait_for_root(self, error: OSError | RootOfflineError, now: Now) -> float:
        self._is_idle = False
        self._recorder.forget()  # what was claimed just before the failure is found by listing processing/
        until = self._backoff.fail(now.monotonic, chance=self._chance())
        next_attempt_at = now.wall + timedelta(seconds=until - now.monotonic)
        await self._holds.put(HoldName.ROOT, str(error), now=now.wall, next_attempt_at=next_attempt_at)
        log.warning("root cannot be worked on", extra={"why": str(error), "next_attempt_at": next_attempt_at})
        return until

    async def _work(self, now: Now) -> float:
        if now.monotonic >= self._beat_at:
            await self._presence.confirm()
            await self._presence.beat()
            self._beat_at = now.monotonic + HEARTBEAT_SECONDS
        await self._recorder.record([], now)
        await self._rejecter.put_aside(now)
        next_due = await self._scan(now)
        await self._rejecter.put_aside(now)
        return min(next_due, self._beat_at)

    async def _scan(self, now: Now) -> float:
        listing = await self._inbox.listing(is_ignored)
        self._tell_ignored(listing.ignored_folders)
        lanes = {lane: set(names) for lane, names in listing.names.items() if names}
        self._is_idle = not lanes
        self._sightings = {
            lane: {name: seen for name, seen in self._sightings.get(lane, {}).items() if name in names}
            for lane, names in lanes.items()
        }
        rescan = now.monotonic + self._settings.rescan
        backlog = await self._store.backlog()
        scan = _Scan(left_count=sum(map(len, lanes.values())), backlog=backlog)
        if not self._has_room(scan):
            return rescan
        for lane in lanes:
            await self._look(lane, listing.names[lane], scan, now)
        self._is_idle = scan.left_count == 0
        looks = (self._next_look(seen) for sightings in self._sightings.values() for seen in sightings.values())
        return min([rescan, *looks])

    def _tell_ignored(self, folders: Sequence[str]) -> None:
        if folders != self._ignored_folders:
            for name in folders:
                log.warning("folder is not read: its name is taken or not UTF-8", extra={"folder": shown(name)})
            self._ignored_folders = folders

    def _next_look(self, sighting: Sighting) -> float:
        settings = self._settings
        return next_look(sighting, quiet=settings.quiet, incomplete_after=settings.incomplete_after)

    def _due(self, sighting: Sighting) -> float:
        return due(sighting, quiet=self._settings.quiet, incomplete_after=self._settings.incomplete_after)

    async def _look(self, lane: Lane, names: Sequence[str], scan: "_Scan", now: Now) -> None:
        """Sample one lane's files, and claim those that are still."""
        sightings = self._sightings[lane]
        room = SIGHTINGS_MAX // len(self._sightings)
        wanted = [name for name in names if name not in sightings][: max(0, room - len(sightings))]
        wanted += [name for name, seen in sightings.items() if self._next_look(seen) <= now.monotonic]
        for start in range(0, len(wanted), GROUP_FILES):
            group = wanted[start : start + GROUP_FILES]
            samples = await self._inbox.sample(lane, group)
            for name in group:
                self._sight(sightings, name, samples.get(name), now)
            still = [name for name in group if name in sightings and self._due(sightings[name]) <= now.monotonic]
            if still and self._has_room(scan):
                await self._claim(lane, still, scan, now)

    def _sight(self, sightings: dict[str, Sighting], name: str, sample: Sample | None, now: Now) -> None:
        if sample is None:
            sightings.pop(name, None)
            return
        before = sightings.get(name)
        readiness = before.readiness if before and before.sample == sample else _readiness(name, sample)
        sightings[name] = sight(before, sample, readiness=readiness, now=now.monotonic)

    def _has_room(self, scan: "_Scan") -> bool:
        settings, backlog = self._settings, scan.backlog
        return backlog.request_count < settings.pending_max and backlog.size_bytes < settings.pending_bytes_max

    async def _claim(self, lane: Lane, names: Sequence[str], scan: "_Scan", now: Now) -> None:
        """Claim still files and record them."""
        sightings = self._sightings[lane]
        files = [_wanted(name, sightings[name], now) for name in names]
        outcomes = await self._inbox.claim(lane, files)
        claims = []
        for file, outcome in zip(files, outcomes, strict=True):
            if outcome is ClaimOutcome.UNFINISHED:
                sightings[file.name] = unfinished(sightings[file.name])
            elif outcome in {ClaimOutcome.CLAIMED, ClaimOutcome.GONE}:
                del sightings[file.name]
                scan.left_count -= 1
            if outcome is ClaimOutcome.CLAIMED:
                claims.append(Claim(lane=lane, name=file.claim_name))
        scan.backlog += await self._recorder.record(claims, now)


def _readiness(name: str, sample: Sample) -> Readiness:
    if not sample.is_regular:
        return Readiness.PLAUSIBLE
    kind = kind_of(name)
    if kind is None or sample.size_bytes == 0 or breaks_off(FileKind.TEXT, sample.tail) is not None:
        return Readiness.UNFINISHED
    return Readiness.PLAUSIBLE


def _wanted(name: str, sighting: Sighting, now: Now) -> Wanted:
    still_since = now.wall - timedelta(seconds=now.monotonic - sighting.since)
    kind = kind_of(name)
    is_checked = (
        sighting.sample.is_regular
        and sighting.readiness is Readiness.PLAUSIBLE
        and kind in {FileKind.JSON, FileKind.JSON_LINES}
    )
    return Wanted(
        name=name,
        claim_name=claim_name(name, dropped_ms=to_ms(still_since), random_bytes=os.urandom(8)),
        sample=sighting.sample,
        check=kind if is_checked else None,
    )
