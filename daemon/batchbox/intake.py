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

import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from batchbox.config import LaneSettings
from batchbox.documents import Explanation, explanation
from batchbox.errors import RejectedError, RootOfflineError
from batchbox.folders.inbox import Claim, ClaimOutcome, Inbox, Read, ReadRules, Wanted
from batchbox.folders.layout import Presence
from batchbox.folders.shelves import Move, Rejected, Shelves
from batchbox.formats import Draft, FileKind, JsonLinesParser, Rules, breaks_off, kind_of, parse_file
from batchbox.logs import shown
from batchbox.model import Lane, Now, RejectReason
from batchbox.naming import claim_name, is_ignored, parse_claim_name
from batchbox.settling import Readiness, Sample, Sighting, due, sight, unfinished
from batchbox.store.columns import from_ms, to_ms
from batchbox.store.holds import HoldName, HoldStore
from batchbox.store.intake import (
    Backlog,
    DuplicateIdError,
    IntakeStore,
    NewRequest,
    NewSource,
    RejectedSource,
    Rejection,
    duplicate_id,
)
from batchbox.timing import Backoff

GROUP_FILES = 256
SIGHTINGS_MAX = 20_000
"""So many files are watched at once until they are still; the inbox itself is the queue of the others."""
LONG_FROM_BYTES = 4 * 1024 * 1024
HEARTBEAT_SECONDS = 60.0
STEP_SECONDS_MIN = 0.02
"""Files that arrive in a stream become due one by one; so much is gathered into one step."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """What intake needs of the settings. Durations are seconds."""

    quiet: float
    rescan: float
    incomplete_after: float
    file_bytes_max: int
    jsonl_bytes_max: int
    pending_max: int
    pending_bytes_max: int
    reject_hard_links: bool


class Intake:
    """The stage that turns files into requests."""

    def __init__(
        self,
        settings: IntakeSettings,
        *,
        store: IntakeStore,
        holds: HoldStore,
        inbox: Inbox,
        shelves: Shelves,
        presence: Presence,
        lane: Callable[[Lane], LaneSettings],
        rules: Callable[[Lane], Rules],
        backoff: Backoff,
        chance: Callable[[], float],
        ring_dispatch: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._holds = holds
        self._inbox = inbox
        self._shelves = shelves
        self._presence = presence
        self._lane = lane
        self._rules = rules
        self._backoff = backoff
        self._chance = chance
        self._ring_dispatch = ring_dispatch
        self._claimed: deque[Claim] | None = None  # claims without a row; None: processing/ was not listed yet
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
        self._claimed = None  # what was claimed just before the failure is found by listing processing/
        until = self._backoff.fail(now.monotonic, chance=self._chance())
        next_attempt_at = now.wall + timedelta(seconds=until - now.monotonic)
        await self._holds.put(HoldName.ROOT, str(error), now=now.wall, next_attempt_at=next_attempt_at)
        log.warning("root cannot be worked on", extra={"why": str(error), "next_attempt_at": next_attempt_at})
        return until

    async def _work(self, now: Now) -> float:
        if now.monotonic >= self._beat_at:
            await self._presence.beat()
            self._beat_at = now.monotonic + HEARTBEAT_SECONDS
        await self._record_claims(now)
        await self._put_aside(now)
        next_due = await self._scan(now)
        await self._put_aside(now)
        return min(next_due, self._beat_at)

    async def _record_claims(self, now: Now) -> None:
        """Record every claim that no row knows, whether it was made just now or before a crash."""
        if self._claimed is None:
            await self._presence.confirm()
            await self._store.forget_unfinished()
            found = await self._inbox.claims()
            unrecorded = await self._store.unrecorded([(claim.lane, claim.name) for claim in found])
            self._claimed = deque(Claim(lane=lane, name=name) for lane, name in unrecorded)
        while self._claimed:
            group = [self._claimed[index] for index in range(min(GROUP_FILES, len(self._claimed)))]
            reads, count = await self._inbox.read(group, self._parse, self._read_rules())
            await self._record([read for read in reads if not read.is_long], now)
            for read in reads:
                if read.is_long:
                    await self._record_long(read, now)
            for _ in range(count):
                self._claimed.popleft()

    def _read_rules(self) -> ReadRules:
        settings = self._settings

        def is_json_lines(claim: str) -> bool:
            return kind_of(claim) is FileKind.JSON_LINES

        return ReadRules(
            bytes_max=lambda claim: settings.jsonl_bytes_max if is_json_lines(claim) else settings.file_bytes_max,
            long_from=lambda claim: LONG_FROM_BYTES if is_json_lines(claim) else None,
            reject_hard_links=settings.reject_hard_links,
        )

    def _parse(self, claim: Claim, data: bytes) -> list[NewRequest]:
        _, name = _origin(claim)
        drafts = parse_file(name, data, self._rules(claim.lane))
        return _requests(drafts, self._lane(claim.lane))

    async def _record(self, reads: Sequence[Read[list[NewRequest]]], now: Now) -> None:
        if not reads:
            return
        files = [(_source(read, now.wall), _content(read)) for read in reads]
        rejections = await self._store.record(files, now=now.wall)
        for (source, _), rejection in zip(files, rejections, strict=True):
            _log_file(source, rejection)
        self._ring_dispatch()

    async def _record_long(self, read: Read[list[NewRequest]], now: Now) -> None:
        source = _source(read, now.wall)
        source_id = await self._store.begin(source)
        try:
            size_bytes, digest = await self._record_parts(source_id, read.claim, now)
        except RejectedError as error:
            rejection = _rejection(error)
        except DuplicateIdError as error:
            rejection = duplicate_id(error)
        else:
            await self._store.finish(source_id, sha256=digest, size_bytes=size_bytes)
            _log_file(source, None)
            self._ring_dispatch()
            return
        await self._store.reject(source_id, rejection, now=now.wall)
        _log_file(source, rejection)

    async def _record_parts(self, source_id: int, claim: Claim, now: Now) -> tuple[int, bytes]:
        _, name = _origin(claim)
        lane = self._lane(claim.lane)
        parser = JsonLinesParser(name, self._rules(claim.lane))
        digest = hashlib.sha256()
        offset = 0
        while part := await self._inbox.read_part(claim, offset=offset, length=LONG_FROM_BYTES):
            offset += len(part)
            digest.update(part)
            requests = _requests(parser.feed(part), lane)
            await self._store.add_part(source_id, claim.lane, requests, now=now.wall)
            if offset > self._settings.jsonl_bytes_max:
                raise RejectedError(
                    RejectReason.TOO_LARGE,
                    f"it grew over {self._settings.jsonl_bytes_max} bytes while it was read",
                    "Drop the file when it is complete, or split it.",
                )
        await self._store.add_part(source_id, claim.lane, _requests(parser.finish(), lane), now=now.wall)
        return offset, digest.digest()

    async def _put_aside(self, now: Now) -> None:
        """Move files that can never become requests to rejected/, each beside its explanation."""
        while rejected := await self._store.rejected(limit=GROUP_FILES):
            for lane, sources in _by_lane(rejected).items():
                await self._put_aside_in(lane, sources, now)

    async def _put_aside_in(self, lane: Lane, sources: Sequence[RejectedSource], now: Now) -> None:
        unnamed = [source for source in sources if source.target is None]
        names = await self._shelves.take_rejected_names(lane, [_explained(source) for source in unnamed])
        taken = {source.id: name for source, name in zip(unnamed, names, strict=True)}
        await self._store.take_targets(taken.items())
        moves = [Move(claim=source.claim, target=source.target or taken[source.id]) for source in sources]
        await self._shelves.put_aside(lane, moves)
        await self._store.put_aside([source.id for source in sources], now=now.wall)

    async def _scan(self, now: Now) -> float:
        listing = await self._inbox.listing(is_ignored)
        self._tell_ignored(listing.ignored_folders)
        lanes = {lane: names for lane, names in listing.names.items() if names}
        self._is_idle = not lanes
        self._sightings = {
            lane: {name: seen for name, seen in self._sightings.get(lane, {}).items() if name in set(names)}
            for lane, names in lanes.items()
        }
        backlog = await self._store.backlog()
        for lane, names in lanes.items():
            backlog = await self._look(lane, names, backlog, now)
        return min(self._next_looks(default=now.monotonic + self._settings.rescan))

    def _tell_ignored(self, folders: Sequence[str]) -> None:
        if folders != self._ignored_folders:
            for name in folders:
                log.warning("folder is not read: its name is taken or not UTF-8", extra={"folder": shown(name)})
            self._ignored_folders = folders

    def _next_looks(self, *, default: float) -> list[float]:
        looks = [self._next_look(sighting) for seen in self._sightings.values() for sighting in seen.values()]
        return [default, *looks]

    def _next_look(self, sighting: Sighting) -> float:
        return min(self._due(sighting), sighting.looked_at + self._settings.quiet)

    def _due(self, sighting: Sighting) -> float:
        return due(sighting, quiet=self._settings.quiet, incomplete_after=self._settings.incomplete_after)

    async def _look(self, lane: Lane, names: Sequence[str], backlog: Backlog, now: Now) -> Backlog:
        """Sample one lane's files and claim those that are still; return the backlog with what that added."""
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
            if still and self._has_room(backlog):
                backlog = await self._claim(lane, still, backlog, now)
        return backlog

    def _sight(self, sightings: dict[str, Sighting], name: str, sample: Sample | None, now: Now) -> None:
        if sample is None:
            sightings.pop(name, None)
            return
        before = sightings.get(name)
        readiness = before.readiness if before and before.sample == sample else _readiness(name, sample)
        sightings[name] = sight(before, sample, readiness=readiness, now=now.monotonic)

    def _has_room(self, backlog: Backlog) -> bool:
        settings = self._settings
        return backlog.request_count < settings.pending_max and backlog.size_bytes < settings.pending_bytes_max

    async def _claim(self, lane: Lane, names: Sequence[str], backlog: Backlog, now: Now) -> Backlog:
        """Claim still files and record them; return the backlog with what that added, at most."""
        sightings = self._sightings[lane]
        files = [_wanted(name, sightings[name], now) for name in names]
        outcomes = await self._inbox.claim(lane, files)
        size_bytes = 0
        for file, outcome in zip(files, outcomes, strict=True):
            if outcome is ClaimOutcome.UNFINISHED:
                sightings[file.name] = unfinished(sightings[file.name])
            elif outcome is not ClaimOutcome.BUSY:
                del sightings[file.name]
            if outcome is ClaimOutcome.CLAIMED:
                size_bytes += file.sample.size_bytes
                self._own_claims().append(Claim(lane=lane, name=file.claim_name))
        count = len(self._own_claims())
        await self._record_claims(now)
        return Backlog(request_count=backlog.request_count + count, size_bytes=backlog.size_bytes + size_bytes)

    def _own_claims(self) -> deque[Claim]:
        if self._claimed is None:
            raise AssertionError("claims are made after processing/ was listed")
        return self._claimed


def _origin(claim: Claim) -> tuple[datetime, str]:
    parsed = parse_claim_name(claim.name)
    if parsed is None:
        raise RejectedError(
            RejectReason.FORGED,
            "it lay in processing/ under a name that batchbox does not give",
            "Drop files into the inbox; processing/ is batchbox's own.",
        )
    dropped_ms, name = parsed
    return from_ms(dropped_ms), name


def _source(read: Read[list[NewRequest]], now: datetime) -> NewSource:
    try:
        dropped_at, name = _origin(read.claim)
    except RejectedError:
        dropped_at, name = now, read.claim.name
    return NewSource(
        lane=read.claim.lane,
        claim=read.claim.name,
        name=name,
        owner=read.facts.owner,
        size_bytes=read.facts.size_bytes,
        sha256=read.sha256,
        dropped_at=dropped_at,
    )


def _content(read: Read[list[NewRequest]]) -> list[NewRequest] | Rejection:
    if isinstance(read.content, RejectedError):
        return _rejection(read.content)
    return read.content or []


def _rejection(error: RejectedError) -> Rejection:
    return Rejection(reason=error.reason, detail=error.detail, what_to_do=error.what_to_do)


def _requests(drafts: Sequence[Draft], lane: LaneSettings) -> list[NewRequest]:
    return [
        NewRequest(
            custom_id=draft.custom_id,
            explicit=draft.explicit,
            line=draft.line,
            params=draft.params,
            betas=",".join(draft.betas),
            model=draft.model,
            max_tokens=draft.max_tokens,
            extension=lane.output_extension,
            max_attempts=lane.max_attempts,
        )
        for draft in drafts
    ]


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


def _explained(source: RejectedSource) -> Rejected:
    said = Explanation(
        name=source.name,
        reason=source.rejection.reason,
        detail=source.rejection.detail,
        what_to_do=source.rejection.what_to_do,
        received_at=source.dropped_at,
        rejected_at=source.rejected_at,
    )
    return Rejected(name=source.name, explanation=explanation(said))


def _by_lane(sources: Sequence[RejectedSource]) -> Mapping[Lane, list[RejectedSource]]:
    lanes: dict[Lane, list[RejectedSource]] = {}
    for source in sources:
        lanes.setdefault(source.lane, []).append(source)
    return lanes


def _log_file(source: NewSource, rejection: Rejection | None) -> None:
    facts = {"file": shown(source.name), "lane": shown(source.lane), "owner": source.owner}
    if rejection is None:
        log.info("file taken", extra=facts)
    else:
        log.warning("file rejected", extra={**facts, "reason": rejection.reason.value})
