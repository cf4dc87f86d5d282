"""What polling reads and records: batches that the API is working on, and that they ended, are lost or found again."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from batchbox.api import BatchInfo
from batchbox.lifecycle import BatchEvent
from batchbox.model import ApiBatchId, LostReason
from batchbox.store.columns import optional_ms, to_ms
from batchbox.store.database import Database
from batchbox.store.transitions import move_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class PolledBatch:
    """A batch that the API is working on, or that is lost."""

    id: int
    api_id: ApiBatchId
    key_hash: bytes
    """Of the key that it was sent with."""
    lost_reason: LostReason | None
    """What could not be had; a later poll may find it again. None: it is not lost."""
    is_canceled: bool
    """Whether everybody who waits for it has been cancelled."""


_ALL_CANCELED = (
    "EXISTS (SELECT 1 FROM requests WHERE batch_id = b.id AND canceled_at IS NOT NULL "
    "AND state IN ('waiting', 'batched')) "
    "AND NOT EXISTS (SELECT 1 FROM members AS m JOIN requests AS r ON r.id = m.request_id "
    "WHERE m.batch_id = b.id AND r.batch_id = b.id AND r.state = 'batched' AND r.canceled_at IS NULL)"
)


class PollingStore:
    """The rows that polling writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def in_progress(self) -> Sequence[PolledBatch]:
        """Return the batches to ask about, oldest first."""
        rows = await self._database.all(
            "SELECT b.id, b.api_id, s.key_hash, iif(b.state = 'lost', b.lost_reason, NULL), "  # noqa: S608 - our own
            f"{_ALL_CANCELED} FROM batches AS b JOIN sendings AS s ON s.nonce = b.nonce "
            "WHERE b.state IN ('in_progress', 'lost') ORDER BY b.id"
        )
        return [
            PolledBatch(
                id=id_,
                api_id=api_id,
                key_hash=key_hash,
                lost_reason=None if lost_reason is None else LostReason(lost_reason),
                is_canceled=bool(is_canceled),
            )
            for id_, api_id, key_hash, lost_reason, is_canceled in rows
        ]

    async def undelivered_since(self, before: datetime) -> Sequence[ApiBatchId]:
        """Return the batches that the API has had since before the moment and that are not delivered."""
        rows = await self._database.all(
            "SELECT api_id FROM batches WHERE state IN ('in_progress', 'ended', 'lost') AND created_at <= ? "
            "ORDER BY id",
            (to_ms(before),),
        )
        return [api_id for (api_id,) in rows]

    async def find(self, batch_id: int) -> None:
        """Record that the API knows a lost batch after all."""
        async with self._database.transaction() as transaction:
            await move_batch(transaction, batch_id, BatchEvent.FIND)

    async def find_results(self, batch_id: int) -> None:
        """Record that the results of a lost batch, which had ended, can be read after all."""
        async with self._database.transaction() as transaction:
            if await move_batch(transaction, batch_id, BatchEvent.FIND):
                await move_batch(transaction, batch_id, BatchEvent.END)

    async def end(self, batch_id: int, batch: BatchInfo) -> None:
        """Record that the batch has ended, when, and how its requests fared."""
        async with self._database.transaction() as transaction:
            if await move_batch(transaction, batch_id, BatchEvent.END):
                await transaction.run(
                    "UPDATE batches SET ended_at = ?, counts = ? WHERE id = ?",
                    (optional_ms(batch.ended_at), json.dumps(asdict(batch.counts)), batch_id),
                )

    async def lose(self, batch_id: int) -> None:
        """Record that the API says it does not know the batch."""
        async with self._database.transaction() as transaction:
            if await move_batch(transaction, batch_id, BatchEvent.LOSE):
                await transaction.run(
                    "UPDATE batches SET lost_reason = ? WHERE id = ?", (LostReason.UNKNOWN_BATCH, batch_id)
                )
