"""Obeys `<file name>.cancel` and `<custom_id>.cancel` files: at once if they name something, else when time is up.

Such a file is claimed like any other, so that what becomes of it is recorded with what it does. It needs no content
and is not waited for until it is still; but one that names nothing yet stays in the inbox, where another daemon may
obey it, or where its file may still arrive.

A dropped file that is still in the inbox is claimed before the file that takes it back. Whatever is claimed and not
recorded is recorded as usual, and after it the `.cancel` file, which then names its requests.

If we die                  | what is left                              | what the next step does
---------------------------+--------------------------------------------+-----------------------------------------
after the file's claim     | its claim, the `.cancel` in the inbox     | records the file, obeys
after the `.cancel`'s      | both claims without a row                 | records the file, then obeys
after it was recorded      | a row that says so, the claim             | deletes the claim
"""

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from batchbox.folders.inbox import ClaimOutcome, Inbox, Wanted
from batchbox.folders.layout import by_lane
from batchbox.folders.reading import Claim, FileFacts
from batchbox.folders.root import is_about_one_name
from batchbox.folders.shelves import Shelves
from batchbox.logs import shown
from batchbox.model import Lane, Now, RejectReason
from batchbox.naming import canceled_by, claim_name, marked_by, parse_claim_name, visible
from batchbox.settling import Sample
from batchbox.store.cancelling import Cancel, CancelStore, Obeyed, Standing
from batchbox.store.columns import from_ms, to_ms
from batchbox.store.recording import NewSource

GROUP_FILES = 256

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedCancel:
    """A `.cancel` file in processing/ that no row knows."""

    claim: Claim
    target: str
    facts: FileFacts

    @property
    def lane(self) -> Lane:
        """The lane that it was dropped into."""
        return self.claim.lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was claimed on account of a lane's `.cancel` files."""

    names: Collection[str] = ()
    """Files that are not in the inbox any more."""
    claims: Sequence[Claim] = ()
    """Those of which nothing is recorded yet."""
    waiting: Collection[str] = ()
    """`.cancel` files whose file could not be taken just now: their time does not run out before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """A `.cancel` file that names something, and the dropped files of that name."""

    name: str
    files: Sequence[str]


class Canceller:
    """Takes back what people do not want any more."""

    def __init__(
        self,
        store: CancelStore,
        *,
        inbox: Inbox,
        shelves: Shelves,
        ring_dispatch: Callable[[], None],
        ring_polling: Callable[[], None],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._shelves = shelves
        self._ring_dispatch = ring_dispatch
        self._ring_polling = ring_polling

    async def obey(self, lane: Lane, names: Sequence[str], markers: Mapping[str, str], now: Now) -> Taken:
        """Obey those of a lane's `.cancel` files that name something; the others are left where they are."""
        targets = canceled_by(names)
        if not targets:
            return Taken()
        due = await self._due(lane, names, targets)
        gone: set[str] = set()
        claims: list[Claim] = []
        for start in range(0, len(due), GROUP_FILES):
            taken = await self._take(lane, due[start : start + GROUP_FILES], markers, now)
            gone |= set(taken.names)
            claims += taken.claims
        return Taken(names=gone, claims=claims, waiting={one.name for one in due if one.files} - gone)

    async def sort_out(self, claims: Sequence[Claim]) -> tuple[list[Claim], list[ClaimedCancel]]:
        """Return the claims that are to be read, and those that are `.cancel` files.

        What only has such a name, and is a link or a pipe, is read like any odd file: it is told what it is.
        """
        named = [(claim, target) for claim in claims if (target := _target(claim)) is not None]
        facts = await self._inbox.facts([claim for claim, _ in named]) if named else []
        cancels = [
            ClaimedCancel(claim=claim, target=target, facts=found)
            for (claim, target), found in zip(named, facts, strict=True)
            if found is not None
        ]
        sorted_out = {cancel.claim for cancel in cancels}
        return [claim for claim in claims if claim not in sorted_out], cancels

    async def record(self, cancels: Sequence[ClaimedCancel], now: Now) -> list[ClaimedCancel]:
        """Obey claimed `.cancel` files, or reject them; return those whose target is being read just now."""
        left: list[ClaimedCancel] = []
        for lane, of_lane in by_lane(cancels).items():
            for start in range(0, len(of_lane), GROUP_FILES):
                left += await self._record(lane, of_lane[start : start + GROUP_FILES], {}, now)
        return left

    async def _due(self, lane: Lane, names: Sequence[str], targets: Mapping[str, str]) -> list[_Due]:
        standings = await self._store.standings(lane, list(targets.values()))
        files = _files_by_name(names, set(targets.values()))
        return [
            _Due(name=name, files=files.pop(target, ()))
            for (name, target), standing in zip(targets.items(), standings, strict=True)
            if standing is Standing.OPEN or (standing is Standing.NOTHING and target in files)
        ]

    async def _take(self, lane: Lane, group: Sequence[_Due], markers: Mapping[str, str], now: Now) -> Taken:
        looked_for = [name for due in group for name in (*due.files, due.name)]
        samples, _ = await self._inbox.sample(lane, looked_for)
        ready = [due for due in group if due.name in samples and samples[due.name].is_regular]
        wanted = [
            _wanted(name, samples[name], markers.get(name), now)
            for due in ready
            for name in due.files
            if name in samples
        ]
        files = await self._claim(lane, wanted)
        free = [due for due in ready if all(name in files for name in due.files)]
        cancels = await self._claim(lane, [_wanted(due.name, samples[due.name], None, now) for due in free])
        theirs = {cancels[due.name]: [files[name] for name in due.files] for due in free if due.name in cancels}
        recorded = await self._record_taken(lane, theirs, now)
        unrecorded = [claim for claim in (*files.values(), *cancels.values()) if claim not in recorded]
        return Taken(names={*files, *cancels}, claims=unrecorded)

    async def _claim(self, lane: Lane, wanted: Sequence[Wanted]) -> dict[str, Claim]:
        """Return, by its name, what could be claimed; the rest is tried again with the next listing."""
        outcomes = await self._inbox.claim(lane, wanted) if wanted else []
        return {
            file.name: Claim(lane=lane, name=file.claim_name)
            for file, outcome in zip(wanted, outcomes, strict=True)
            if outcome is ClaimOutcome.CLAIMED
        }

    async def _record_taken(self, lane: Lane, theirs: Mapping[Claim, Sequence[Claim]], now: Now) -> set[Claim]:
        """Return the claims of which it is recorded what became of them."""
        _, cancels = await self.sort_out(list(theirs))
        left = {cancel.claim for cancel in await self._record(lane, cancels, theirs, now)}
        done = [cancel.claim for cancel in cancels if cancel.claim not in left]
        return {*done, *(claim for one in done for claim in theirs[one])}

    async def _record(
        self, lane: Lane, cancels: Sequence[ClaimedCancel], theirs: Mapping[Claim, Sequence[Claim]], now: Now
    ) -> list[ClaimedCancel]:
        files = [file for cancel in cancels for file in theirs.get(cancel.claim, ())]
        facts = dict(zip(files, await self._inbox.facts(files), strict=True))
        rows = [
            Cancel(
                source=_source(cancel.claim, cancel.facts, now),
                target=cancel.target,
                files=[_source(file, facts[file], now) for file in theirs.get(cancel.claim, ())],
            )
            for cancel in cancels
        ]
        outcomes = await self._store.obey(rows, now=now.wall) if rows else []
        for row, outcome in zip(rows, outcomes, strict=True):
            _log(row, outcome)
        obeyed = [row.source.claim for row, one in zip(rows, outcomes, strict=True) if one.standing is Standing.OPEN]
        if obeyed:
            self._ring_dispatch()
            self._ring_polling()
            await self._drop(lane, obeyed)
        pairs = zip(cancels, outcomes, strict=True)
        return [cancel for cancel, outcome in pairs if outcome.standing is Standing.BEING_READ]

    async def _drop(self, lane: Lane, claims: Sequence[str]) -> None:
        try:
            await self._shelves.drop_claims(lane, claims)
        except OSError as error:
            if not is_about_one_name(error):
                raise
            log.warning("obeyed files stay in processing/", extra={"lane": shown(lane), "why": str(error)})


def _files_by_name(names: Sequence[str], targets: Collection[str]) -> dict[str, list[str]]:
    """Return the dropped files of these names, as people see them."""
    files: dict[str, list[str]] = {}
    for name in names:
        if visible(name) in targets and not canceled_by([name]) and not marked_by([name]):
            files.setdefault(visible(name), []).append(name)
    return files


def _target(claim: Claim) -> str | None:
    parsed = parse_claim_name(claim.name)
    return None if parsed is None else canceled_by([parsed[1]]).get(parsed[1])


def _wanted(name: str, sample: Sample, marker: str | None, now: Now) -> Wanted:
    return Wanted(
        name=name,
        claim_name=claim_name(name, dropped_ms=to_ms(now.wall), random_bytes=os.urandom(8)),
        sample=sample,
        check=None,
        marker=marker,
    )


def _source(claim: Claim, facts: FileFacts | None, now: Now) -> NewSource:
    parsed = parse_claim_name(claim.name)
    dropped_at, name = (now.wall, claim.name) if parsed is None else (from_ms(parsed[0]), parsed[1])
    return NewSource(
        lane=claim.lane,
        claim=claim.name,
        name=name,
        owner="" if facts is None else facts.owner,
        size_bytes=0 if facts is None else facts.size_bytes,
        sha256=None,
        dropped_at=dropped_at,
    )


def _log(cancel: Cancel, outcome: Obeyed) -> None:
    facts = {"file": shown(cancel.source.name), "lane": shown(cancel.source.lane), "owner": cancel.source.owner}
    match outcome.standing:
        case Standing.OPEN:
            counts = {"file_count": len(cancel.files), "request_count": outcome.request_count}
            log.info("cancelled", extra={**facts, **counts})
        case Standing.NOTHING:
            log.warning("file rejected", extra={**facts, "reason": RejectReason.NOTHING_TO_CANCEL.value})
        case Standing.BEING_READ:
            log.info("cancelling waits: the file is being read", extra=facts)
