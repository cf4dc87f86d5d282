"""Obeys `<file name>.cancel` and `<custom_id>.cancel` files: at once if they name something, else when time is up.

Such a file is claimed like any other, so that what becomes of it is recorded with what it does. It needs no content
and is not waited for until it is still; but one that names nothing yet stays in the inbox, where another daemon may
obey it, or where its file may still arrive.

A dropped file that is still in the inbox is claimed before the file that takes it back. What was recorded of the name
is cancelled at once, and so is every file that could be claimed. If one of them cannot be claimed, or read, just now,
the `.cancel` file waits in the inbox until it can, and nothing of that name is taken as a request meanwhile.

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
from itertools import chain

from batchbox.folders.inbox import ClaimOutcome, Inbox, Wanted
from batchbox.folders.layout import by_lane
from batchbox.folders.reading import Claim
from batchbox.folders.root import is_about_one_name
from batchbox.folders.shelves import Shelves
from batchbox.logs import shown
from batchbox.model import Lane, Now, RejectReason
from batchbox.naming import canceled_by, claim_name, marked_by, parse_claim_name, visible
from batchbox.settling import Sample
from batchbox.store.cancelling import Cancel, Canceled, CancelStore, Standing
from batchbox.store.columns import to_ms
from batchbox.store.recording import source_of

GROUP_FILES = 256

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A `.cancel` file in processing/ that no row knows."""

    claim: Claim
    target: str

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
    """Those that stay: their time does not run out before they could be taken, and none becomes a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A `.cancel` file in the inbox that names something, and the dropped files of that name."""

    name: str
    target: str
    files: Sequence[str]
    known: Standing
    """How things stand as far as no row says."""
    is_being_read: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claimed:
    """What could be claimed of that; without the `.cancel` file itself if something else could not."""

    target: str
    sign: Claim | None
    files: Sequence[Claim] = ()
    known: Standing


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
        self._waiting: dict[Lane, frozenset[str]] = {}  # by lane: what stayed in the inbox at the last listing

    @property
    def waiting(self) -> Collection[str]:
        """What waits in the inbox: `.cancel` files, and files of the names in them that cannot be taken just now."""
        return sorted(chain.from_iterable(self._waiting.values()))

    def keep(self, lanes: Collection[Lane]) -> None:
        """Forget what waited in lanes other than these: they are not there any more."""
        self._waiting = {lane: names for lane, names in self._waiting.items() if lane in lanes}

    async def obey(
        self, lane: Lane, names: Sequence[str], markers: Mapping[str, str], *, unread: Collection[Claim], now: Now
    ) -> Taken:
        """Obey those of a lane's `.cancel` files that name something; the others are left where they are.

        Args:
            lane: The lane.
            names: What was listed in it.
            markers: By file: the marker beside it.
            unread: Claims that could not be read yet, of any lane.
            now: The clocks.
        """
        named = await self._named(lane, names, unread)
        gone: set[str] = set()
        waiting: set[str] = set()
        claims: list[Claim] = []
        for start in range(0, len(named), GROUP_FILES):
            taken = await self._take(lane, named[start : start + GROUP_FILES], markers, now)
            gone |= set(taken.names)
            waiting |= set(taken.waiting)
            claims += taken.claims
        self._wait(lane, waiting)
        return Taken(names=gone, claims=claims, waiting=waiting)

    async def sort_out(self, claims: Sequence[Claim]) -> tuple[list[Claim], list[Sign]]:
        """Return the claims that are to be read, and those that are `.cancel` files.

        What only has such a name, and is a link or a pipe, is read like any odd file: it is told what it is.
        """
        signs = [Sign(claim=claim, target=target) for claim in claims if (target := _target(claim)) is not None]
        facts = await self._inbox.facts([sign.claim for sign in signs]) if signs else []
        regular = [sign for sign, found in zip(signs, facts, strict=True) if found is not None]
        sorted_out = {sign.claim for sign in regular}
        return [claim for claim in claims if claim not in sorted_out], regular

    async def record(self, signs: Sequence[Sign], *, unread: Collection[Claim], now: Now) -> list[Sign]:
        """Obey claimed `.cancel` files, or reject them; return those whose target is still to be read."""
        being_read = _being_read(unread)
        left: list[Sign] = []
        for lane, of_lane in by_lane(signs).items():
            for start in range(0, len(of_lane), GROUP_FILES):
                group = of_lane[start : start + GROUP_FILES]
                known = [Standing.BEING_READ if (lane, one.target) in being_read else Standing.NOTHING for one in group]
                claimed = [
                    _Claimed(target=sign.target, sign=sign.claim, known=standing)
                    for sign, standing in zip(group, known, strict=True)
                ]
                standings = await self._record(lane, claimed, now)
                pairs = zip(group, standings, strict=True)
                left += [sign for sign, standing in pairs if standing is Standing.BEING_READ]
        return left

    async def _named(self, lane: Lane, names: Sequence[str], unread: Collection[Claim]) -> list[_Named]:
        targets = canceled_by(names)
        if not targets:
            return []
        standings = await self._store.standings(lane, list(targets.values()))
        files = _files_by_name(names, set(targets.values()))
        being_read = _being_read(unread)
        heard_before = self._waiting.get(lane, frozenset())
        named = []
        for name, target in targets.items():
            if (lane, target) in being_read:
                known = Standing.BEING_READ
            elif target in files or name in heard_before:
                known = Standing.OPEN
            elif target in standings:
                known = Standing.NOTHING
            else:
                continue
            is_being_read = Standing.BEING_READ in {known, standings.get(target)}
            of_name = files.pop(target, ())
            named.append(_Named(name=name, target=target, files=of_name, known=known, is_being_read=is_being_read))
        return named

    async def _take(self, lane: Lane, group: Sequence[_Named], markers: Mapping[str, str], now: Now) -> Taken:
        samples, _ = await self._inbox.sample(lane, [name for one in group for name in (*one.files, one.name)])
        regular = [one for one in group if one.name in samples and samples[one.name].is_regular]
        wanted = [name for one in regular for name in one.files if name in samples]
        files = await self._claim(lane, [_wanted(name, samples[name], markers.get(name), now) for name in wanted])
        free = [one.name for one in regular if not one.is_being_read and files.keys() >= set(one.files)]
        signs = await self._claim(lane, [_wanted(name, samples[name], None, now) for name in free])
        claimed = [
            _Claimed(
                target=one.target,
                sign=signs.get(one.name),
                files=[files[name] for name in one.files if name in files],
                known=one.known,
            )
            for one in regular
        ]
        standings = await self._record(lane, claimed, now)
        pairs = zip(claimed, standings, strict=True)
        unrecorded = [one.sign for one, standing in pairs if one.sign and standing is Standing.BEING_READ]
        gone = {*files, *signs}
        waiting = {name for one in regular for name in (*one.files, one.name)} - gone
        return Taken(names=gone, claims=unrecorded, waiting=waiting)

    async def _claim(self, lane: Lane, wanted: Sequence[Wanted]) -> dict[str, Claim]:
        """Return, by its name, what could be claimed; the rest is tried again with the next listing."""
        outcomes = await self._inbox.claim(lane, wanted) if wanted else []
        return {
            file.name: Claim(lane=lane, name=file.claim_name)
            for file, outcome in zip(wanted, outcomes, strict=True)
            if outcome is ClaimOutcome.CLAIMED
        }

    async def _record(self, lane: Lane, claimed: Sequence[_Claimed], now: Now) -> list[Standing]:
        """Cancel what is named, and record the claims; return how things stood with each."""
        claims = [claim for one in claimed for claim in (*one.files, one.sign) if claim is not None]
        facts = dict(zip(claims, await self._inbox.facts(claims), strict=True)) if claims else {}
        sources = {
            claim: source_of(
                lane,
                claim.name,
                found_at=now.wall,
                owner="" if found is None else found.owner,
                size_bytes=0 if found is None else found.size_bytes,
            )
            for claim, found in facts.items()
        }
        rows = [
            Cancel(
                lane=lane,
                target=one.target,
                known=one.known,
                sign=None if one.sign is None else sources[one.sign],
                files=[sources[file] for file in one.files],
            )
            for one in claimed
        ]
        canceled = await self._store.cancel(rows, now=now.wall) if rows else []
        await self._follow(lane, rows, canceled)
        return [one.standing for one in canceled]

    async def _follow(self, lane: Lane, rows: Sequence[Cancel], canceled: Sequence[Canceled]) -> None:
        """Tell people and the other stages what was recorded, and delete what was obeyed."""
        pairs = list(zip(rows, canceled, strict=True))
        for row, one in pairs:
            _log(row, one)
        if any(one.request_count for one in canceled):
            self._ring_dispatch()
            self._ring_polling()
        obeyed = [row.sign.claim for row, one in pairs if row.sign is not None and one.standing is Standing.OPEN]
        if obeyed:
            await self._drop(lane, obeyed)

    async def _drop(self, lane: Lane, claims: Sequence[str]) -> None:
        try:
            await self._shelves.drop_claims(lane, claims)
        except OSError as error:
            if not is_about_one_name(error):
                raise
            log.warning("obeyed files stay in processing/", extra={"lane": shown(lane), "why": str(error)})

    def _wait(self, lane: Lane, names: Collection[str]) -> None:
        for name in sorted(set(names) - self._waiting.pop(lane, frozenset())):
            log.warning(
                "cancelling waits: a file cannot be taken, or not be read, just now",
                extra={"file": shown(name), "lane": shown(lane)},
            )
        if names:
            self._waiting[lane] = frozenset(names)


def _being_read(unread: Collection[Claim]) -> set[tuple[Lane, str]]:
    named = ((claim.lane, parse_claim_name(claim.name)) for claim in unread)
    return {(lane, visible(parsed[1])) for lane, parsed in named if parsed is not None}


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


def _log(row: Cancel, canceled: Canceled) -> None:
    said: dict[str, object] = {"file": shown(row.target), "lane": shown(row.lane)}
    if row.sign is not None:
        said |= {"file": shown(row.sign.name), "owner": row.sign.owner}
    if row.sign is not None and canceled.standing is Standing.NOTHING:
        log.warning("file rejected", extra={**said, "reason": RejectReason.NOTHING_TO_CANCEL.value})
    elif row.files or canceled.request_count or (row.sign is not None and canceled.standing is Standing.OPEN):
        log.info("cancelled", extra={**said, "file_count": len(row.files), "request_count": canceled.request_count})
