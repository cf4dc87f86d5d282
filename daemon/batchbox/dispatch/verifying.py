"""Looks at dropped files once more, before anything of them is sent: writers may have gone on after the claim.

A rename takes a file away from its folder, not from a program that has it open. What such a writer adds after we have
read the file would be missing from what is bought, so before the first batch with any of its requests gets its wire
ids the file is read again and compared. One that has changed is recalled, and settles anew; one that has gone in two
looks is withdrawn. What has been compared is never looked at again: from then on only the database's copy counts.

If we die                  | what is left                            | what the next step does
---------------------------+------------------------------------------+------------------------------
before it was recorded     | a sealed batch, files not verified       | looks again
after a recall             | a file whose reading had no end, and its | intake forgets the one and waits
                           | claim noted as unsettled                 | for the other
after a withdrawal         | errors that are to be published          | delivery publishes them
"""

import logging
from collections.abc import Callable, Sequence
from enum import StrEnum

from batchbox.folders.inbox import Inbox
from batchbox.folders.layout import by_lane
from batchbox.logs import shown
from batchbox.model import Lane, Now
from batchbox.store.verifying import UnverifiedSource, VerifyingStore

GROUP_FILES = 256
GONE_SECONDS = 5.0
"""A file must be away in two looks that are so far apart: a share may lose sight of one for a moment."""

log = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What the look at a batch's files says."""

    AS_READ = "as_read"
    CHANGED = "changed"
    """The batch is not what it was: there may be another one to send in its place."""
    MISSING = "missing"
    """A file cannot be seen, for the first time: the batch waits for another look."""


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
        self._missing: dict[int, float] = {}  # monotonic moment since when, by file

    async def verify(self, batch_id: int, now: Now) -> Verdict:
        """Look at the files of a batch that are still to be looked at. Raises OSError and RootOfflineError."""
        verdicts: set[Verdict] = set()
        while sources := await self._store.unverified(batch_id, limit=GROUP_FILES):
            for lane, of_lane in by_lane(sources).items():
                verdicts |= await self._verify(lane, of_lane, now)
            if verdicts != {Verdict.AS_READ}:
                break
        if Verdict.CHANGED in verdicts:
            return Verdict.CHANGED
        return Verdict.MISSING if Verdict.MISSING in verdicts else Verdict.AS_READ

    async def _verify(self, lane: Lane, sources: Sequence[UnverifiedSource], now: Now) -> set[Verdict]:
        digests = await self._inbox.digests(lane, [source.claim for source in sources])
        pairs = list(zip(sources, digests, strict=True))
        as_read = [source.id for source, digest in pairs if digest == source.sha256]
        await self._store.mark_verified(as_read)
        verdicts = {Verdict.AS_READ}
        for source, digest in pairs:
            if digest is None:
                verdicts.add(await self._note_missing(source, now))
            elif digest != source.sha256:
                await self._recall(source, now)
                verdicts.add(Verdict.CHANGED)
        return verdicts

    async def _recall(self, source: UnverifiedSource, now: Now) -> None:
        log.warning("file has changed since it was read: it is read again", extra=_facts(source))
        await self._store.recall(source.id, now=now.wall)
        self._ring_intake()

    async def _note_missing(self, source: UnverifiedSource, now: Now) -> Verdict:
        if now.monotonic < self._missing.setdefault(source.id, now.monotonic) + GONE_SECONDS:
            return Verdict.MISSING
        log.warning("file has gone before it was sent: it is not bought", extra=_facts(source))
        text = "The file was deleted from processing/ before it was sent."
        await self._store.withdraw(source.id, text=text, now=now.wall)
        del self._missing[source.id]
        self._ring_delivery()
        return Verdict.CHANGED


def _facts(source: UnverifiedSource) -> dict[str, str]:
    return {"claim": shown(source.claim), "lane": shown(source.lane)}
