"""One reading of one batch's results, from the first line to the last, in constant memory."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict

import anyio.to_thread

from batchbox.api import ApiTrouble, BatchesApi, Trouble, TroubleKind
from batchbox.delivery.composing import Composed, compose
from batchbox.delivery.publishing import Publisher, Written
from batchbox.lifecycle import RequestEvent
from batchbox.model import Now
from batchbox.pricing import Catalogue
from batchbox.results import Decoded, LineSplitter, ResultLine, decode
from batchbox.store.delivery import DeliveryStore, EndedBatch, Undelivered
from batchbox.store.holds import HoldName, HoldStore
from batchbox.triage import KNOWN_RESULT_TYPES, is_known

GROUP_ANSWERS = 256
GROUP_BYTES = 64 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024
"""So much of the stream is cut and decoded in one hop to a thread."""

NOT_THESE_RESULTS = Trouble(
    kind=TroubleKind.SERVER, text="what came as the results names no request of the batch; check base_url and proxy."
)

log = logging.getLogger(__name__)


class Reading:
    """Delivers whatever the stream holds for members that still wait, and counts the rest.

    What was cut off, or is somebody else's page, must not make an error of a request that may be answered and paid
    for: a stream is believed to be the results only if one of its lines names the batch, or if nothing is in it.
    """

    def __init__(
        self,
        batch: EndedBatch,
        *,
        store: DeliveryStore,
        holds: HoldStore,
        api: BatchesApi,
        publisher: Publisher,
        catalogue: Catalogue,
        clock: Callable[[], Now],
        keep_going: Callable[[], bool],
        ring_dispatch: Callable[[], None],
    ) -> None:
        self._batch = batch
        self._store = store
        self._holds = holds
        self._api = api
        self._publisher = publisher
        self._catalogue = catalogue
        self._clock = clock  # a reading may take an hour: what a group records happened when it did, not at the start
        self._keep_going = keep_going
        self._ring_dispatch = ring_dispatch
        self._splitter = LineSplitter()
        self._seen = bytearray(batch.request_count + 1)  # by number: whether this reading has had its line
        self._group: list[Written] = []
        self._group_bytes = 0
        self._is_credit_noted = False
        self._names_batch = False
        self._foreign_count = 0
        self._repeated_count = 0
        self._unknown_count = 0
        self._counts: Counter[str] = Counter()  # of the lines, by kind of result

    async def read(self) -> bool:
        """Read to the end; return False if it was left early because the service stops.

        Raises ApiTrouble, also for what cannot be the results of this batch.
        """
        block: list[bytes] = []
        size_bytes = 0
        try:
            async with self._api.results(self._batch.api_id) as pieces:
                async for piece in pieces:
                    block.append(piece)
                    size_bytes += len(piece)
                    if size_bytes < BLOCK_BYTES:
                        continue
                    await self._take(block)
                    block, size_bytes = [], 0
                    if not self._keep_going():
                        await self._flush()
                        return False
        except ApiTrouble:
            await self._take(block)  # what came before the cut is paid for, and need not come again
            await self._flush()
            raise
        await self._take(block, is_last=True)
        await self._flush()
        self._report()
        if self._foreign_count and not self._names_batch:
            raise ApiTrouble(NOT_THESE_RESULTS)
        return True

    async def _take(self, block: Sequence[bytes], *, is_last: bool = False) -> None:
        decoded = await anyio.to_thread.run_sync(self._decode, block, is_last)
        self._foreign_count += decoded.foreign_count
        lines = [line for line in decoded.lines if self._is_new(line)]
        for start in range(0, len(lines), GROUP_ANSWERS):
            await self._deliver(lines[start : start + GROUP_ANSWERS])

    def _decode(self, block: Sequence[bytes], is_last: bool) -> Decoded:  # noqa: FBT001 - threads take no keywords
        lines = [line for piece in block for line in self._splitter.feed(piece)]
        if is_last:
            lines += self._splitter.finish()
        mark = self._batch.nonce.encode()
        self._names_batch = self._names_batch or any(mark in line for line in lines)
        return decode(lines)

    def _is_new(self, line: ResultLine) -> bool:
        if line.nonce != self._batch.nonce or not 0 < line.number < len(self._seen):
            self._foreign_count += 1
            return False
        if self._seen[line.number]:
            self._repeated_count += 1
            return False
        self._seen[line.number] = 1
        if line.facts.result_type in KNOWN_RESULT_TYPES:
            self._counts[line.facts.result_type] += 1
        self._unknown_count += not is_known(line.facts)
        return True

    async def _deliver(self, lines: Sequence[ResultLine]) -> None:
        waiting = await self._store.undelivered(self._batch.id, [line.number for line in lines])
        pairs = [(waiting[line.number], line) for line in lines if line.number in waiting]
        composed = await anyio.to_thread.run_sync(self._compose, pairs)
        await self._note_credit(composed)
        self._group += await self._publisher.write(composed)
        self._group_bytes += sum(len(piece) for one in composed for file in one.files for piece in file.pieces)
        if len(self._group) >= GROUP_ANSWERS or self._group_bytes >= GROUP_BYTES:
            await self._flush()

    async def _note_credit(self, composed: Sequence[Composed]) -> None:
        """Hold, before the requests wait again, if there is a line about credit. All of one reading are one news."""
        reason = next((one.hold_reason for one in composed if one.hold_reason is not None), None)
        if reason is not None and not self._is_credit_noted:
            await self._holds.put(HoldName.CREDIT, reason, now=self._clock().wall, next_attempt_at=None)
            self._is_credit_noted = True

    def _compose(self, pairs: Sequence[tuple[Undelivered, ResultLine]]) -> list[Composed]:
        return [compose(request, line, self._catalogue) for request, line in pairs]

    async def _flush(self) -> None:
        group, self._group, self._group_bytes = self._group, [], 0
        if not group:
            return
        await self._publisher.publish(group, self._clock())
        requeued_count = sum(1 for written in group if written.ended.event is RequestEvent.REQUEUE)
        log.info(
            "answers delivered",
            extra={"batch": self._batch.api_id, "count": len(group) - requeued_count, "requeued_count": requeued_count},
        )
        if requeued_count:
            self._ring_dispatch()

    def _report(self) -> None:
        odd = {
            "foreign_count": self._foreign_count,
            "repeated_count": self._repeated_count,
            "overlong_count": self._splitter.overlong_count,
            "unknown_count": self._unknown_count,
        }
        if any(odd.values()):
            log.warning("results have lines that are not expected", extra={"batch": self._batch.api_id, **odd})
        if self._batch.counts is None or self._counts.total() < self._batch.request_count:
            return
        told = +Counter(asdict(self._batch.counts))
        if told != self._counts:
            facts = {"counted": dict(told), "read": dict(self._counts)}
            log.warning("results are not what the API counted", extra={"batch": self._batch.api_id, **facts})
