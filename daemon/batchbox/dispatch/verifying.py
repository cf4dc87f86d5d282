"""Looks at dropped files once more, before anything of them is sent: writers may have gone on after the claim.

A rename takes a file away from its folder, not from a program that has it open. What such a writer adds after we have
read the file would be missing from what is bought, so before the first batch with any of its requests gets its wire
ids the file is read again and compared. One that has changed is recalled, and settles anew; one that has gone in two
looks is withdrawn. What one asks for that cannot be looked at just now waits in a batch of its own, unless another
file asks for the same that is as it was read. What has been compared is never looked at again: from then on only the
database's copy counts.

If we die                  | what is left                            | what the next step does
---------------------------+------------------------------------------+------------------------------
before it was recorded     | a sealed batch, files not verified       | looks again
after a recall             | a file whose reading had no end, and its | intake forgets the one and waits
                           | claim noted as unsettled                 | for the other
after a withdrawal         | errors that are to be published          | delivery publishes them
after a batch was parted   | a sealed batch that may go, and one that | sends the one, and looks again at files
                           | waits                                    | of the other
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from batchbox.folders.comparing import Comparison, KnownFile
from batchbox.folders.inbox import Inbox
from batchbox.folders.layout import by_lane
from batchbox.logs import shown
from batchbox.model import Lane, Now
from batchbox.settling import has_gone
from batchbox.store.verifying import UnverifiedMember, UnverifiedSource, VerifyingStore

GROUP_FILES = 256
REMEMBERED_SECONDS = 3600.0
"""So long a look that found no file, or could not tell, is remembered, if there is no other one."""

log = logging.getLogger(__name__)

_Key = tuple[Lane, str]
_Found = Mapping[Comparison, list[UnverifiedSource]]


class Verdict(StrEnum):
    """What the look at a batch's files says."""

    AS_READ = "as_read"
    CHANGED = "changed"
    """The batch is not what it was: there may be another one to send in its place."""
    WAITING = "waiting"
    """It cannot be told yet what a file is, or whether it has gone: the batch waits for another look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What becomes of a batch."""

    verdict: Verdict
    file_trouble: str | None = None
    """If it waits: for which file, and why, for people to see."""


class Verifier:
    """Compares files with what was read of them.

    Args:
        store: The rows about files that change.
        inbox: The claims.
        ring_intake: Called when a file has to settle anew.
        ring_delivery: Called when requests have ended as errors.
    """

    def __init__(
        self,
        store: VerifyingStore,
        inbox: Inbox,
        *,
        ring_intake: Callable[[], None],
        ring_delivery: Callable[[], None],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._ring_intake = ring_intake
        self._ring_delivery = ring_delivery
        self._away_since: dict[_Key, float] = {}  # monotonic, of the first look in a row that did not find the file
        self._unreadable_at: dict[_Key, float] = {}  # monotonic, of the last look that could not read the file

    async def verify(self, batch_id: int, now: Now) -> Outlook:
        """Look at the files of a batch that are still to be looked at. Raises OSError and RootOfflineError."""
        waiting: dict[int, str] = {}
        last: UnverifiedMember | None = None
        while members := await self._store.unverified(batch_id, after=last, limit=GROUP_FILES):
            last = members[-1]
            sources = {one.source.id: one.source for one in members if one.source.id not in waiting}
            for lane, of_lane in by_lane(list(sources.values())).items():
                why_by_id = await self._verify(lane, of_lane, now)
                if why_by_id is None:
                    return Outlook(verdict=Verdict.CHANGED)
                waiting |= why_by_id
        if not waiting:
            return Outlook(verdict=Verdict.AS_READ)
        if await self._store.part_unverified(batch_id, now=now.wall):
            return Outlook(verdict=Verdict.CHANGED)
        return Outlook(verdict=Verdict.WAITING, file_trouble=next(iter(waiting.values())))

    async def verify_settled(self, now: Now) -> None:
        """Look at files of which nothing had to be sent, before they leave processing/. Raises as `verify` does."""
        last_id = 0
        while sources := await self._store.unverified_settled(after=last_id, limit=GROUP_FILES):
            last_id = sources[-1].id
            for lane, of_lane in by_lane(sources).items():
                await self._verify_settled(lane, of_lane, now)

    async def _verify_settled(self, lane: Lane, sources: Sequence[UnverifiedSource], now: Now) -> None:
        found, looked_at = await self._look(lane, sources, now)
        # All that they ask for has ended, so that it does not matter if one has gone.
        if may_leave := found[Comparison.SAME] + found[Comparison.GONE]:
            await self._store.mark_verified([source.id for source in may_leave])
            self._ring_delivery()  # only now: it rings in turn for those that are still to be looked at
        await self._recall(found[Comparison.CHANGED], now)
        self._wait_for(found[Comparison.UNREADABLE], looked_at)

    async def _verify(self, lane: Lane, sources: Sequence[UnverifiedSource], now: Now) -> dict[int, str] | None:
        """Return for each file that has to wait, by its id, why; None if one does not ask any more for what it did."""
        found, looked_at = await self._look(lane, sources, now)
        if found[Comparison.SAME]:
            await self._store.mark_verified([source.id for source in found[Comparison.SAME]])
        waits = {
            "has changed, and a part of it is being sent": await self._recall(found[Comparison.CHANGED], now),
            "cannot be found": await self._withdraw(found[Comparison.GONE], looked_at, now),
            "cannot be read once more": self._wait_for(found[Comparison.UNREADABLE], looked_at),
        }
        why_by_id = {
            source.id: f"{shown(f'{lane}/{source.claim}')} {why}"
            for why, of_kind in waits.items()
            for source in of_kind
        }
        return None if len(why_by_id) < len(sources) - len(found[Comparison.SAME]) else why_by_id

    async def _look(self, lane: Lane, sources: Sequence[UnverifiedSource], now: Now) -> tuple[_Found, float]:
        """Compare files; forget that they were away when they are seen, and that they could not be read when they were.

        Returns the monotonic moment of the end of that, too.
        """
        comparisons, looked_at = await self._inbox.compare(lane, [_known(source) for source in sources])
        pairs = list(zip(sources, comparisons, strict=True))
        seen = {_key(source) for source, comparison in pairs if comparison is not Comparison.GONE}
        told = {_key(source) for source, comparison in pairs if comparison is not Comparison.UNREADABLE}
        self._away_since = _without(self._away_since, seen, now)
        self._unreadable_at = _without(self._unreadable_at, told, now)
        return {one: [source for source, comparison in pairs if comparison is one] for one in Comparison}, looked_at

    async def _recall(self, sources: Sequence[UnverifiedSource], now: Now) -> list[UnverifiedSource]:
        """Let files settle anew; return those of which that has to wait."""
        if not sources:
            return []
        waiting = await self._store.recall([source.id for source in sources], now=now.wall)
        for source in sources:
            if source.id not in waiting:
                log.warning("file has changed since it was read: it is read again", extra=_facts(source))
        self._ring_intake()
        return [source for source in sources if source.id in waiting]

    async def _withdraw(
        self, sources: Sequence[UnverifiedSource], looked_at: float, now: Now
    ) -> list[UnverifiedSource]:
        """Give up those that were away long enough ago; remember when the others were away first, and return them."""
        if new := [source for source in sources if _key(source) not in self._away_since]:
            log.warning("file cannot be found in processing/: it is looked for once more", extra=_first_of(new))
        self._away_since |= {_key(source): looked_at for source in new}
        gone = [source for source in sources if has_gone(self._away_since[_key(source)], now=now.monotonic)]
        if gone:
            text = "The file was deleted from processing/ before it was sent."
            await self._store.withdraw([source.id for source in gone], text=text, now=now.wall)
            self._ring_delivery()
        for source in gone:
            log.warning("file has gone before it was sent: it is not bought", extra=_facts(source))
            del self._away_since[_key(source)]
        return [source for source in sources if source not in gone]

    def _wait_for(self, sources: Sequence[UnverifiedSource], looked_at: float) -> Sequence[UnverifiedSource]:
        if new := [source for source in sources if _key(source) not in self._unreadable_at]:
            log.warning("file cannot be read once more: what it asks for waits until it can", extra=_first_of(new))
        self._unreadable_at |= {_key(source): looked_at for source in sources}
        return sources


def _without(moments: Mapping[_Key, float], keys: set[_Key], now: Now) -> dict[_Key, float]:
    since = now.monotonic - REMEMBERED_SECONDS
    return {key: moment for key, moment in moments.items() if key not in keys and moment > since}


def _known(source: UnverifiedSource) -> KnownFile:
    return KnownFile(claim=source.claim, size_bytes=source.size_bytes, sha256=source.sha256)


def _key(source: UnverifiedSource) -> _Key:
    return source.lane, source.claim


def _facts(source: UnverifiedSource) -> dict[str, str]:
    return {"claim": shown(source.claim), "lane": shown(source.lane)}


def _first_of(sources: Sequence[UnverifiedSource]) -> dict[str, str | int]:
    return {**_facts(sources[0]), "count": len(sources)}
