"""What polling reads and records: batches that the API is working on, and that they ended or are lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from batchbox.api import BatchInfo
from batchbox.lifecycle import BatchEvent
from batchbox.model import ApiBatchId
from batchbox.store.columns import optional_ms
from batchbox.store.database import Database
from batchbox.store.transitions import move_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class PolledBatch:
    """A batch that the API is working on."""

    id: int
    api_id: ApiBatchId
    is_lost: bool
    """The API said that it does not know it; a later poll may find it again."""


class PollingStore:
    """The rows that polling writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def in_progress(self) -> Sequence[PolledBatch]:
        """Return the batches to ask about, oldest first."""
        rows = await self._database.all(
            "SELECT id, api_id, state = 'lost' FROM batches WHERE state IN ('in_progress', 'lost') ORDER BY id"
        )
        return [PolledBatch(id=id_, api_id=api_id, is_lost=bool(is_lost)) for id_, api_id, is_lost in rows]

    async def find(self, batch_id: int) -> None:
        """Record that the API knows a lost batch after all."""
        async with self._database.transaction() as transaction:
            await move_batch(transaction, batch_id, BatchEvent.FIND)

    async def end(self, batch_id: int, batch: BatchInfo) -> None:
        """Record that the batch has ended, and when."""
        async with self._database.transaction() as transaction:
            if await move_batch(transaction, batch_id, BatchEvent.END):
                await transaction.run(
                    "UPDATE batches SET ended_at = ? WHERE id = ?", (optional_ms(batch.ended_at), batch_id)
                )

    async def lose(self, batch_id: int) -> None:
        """Record that the API says it does not know the batch."""
        async with self._database.transaction() as transaction:
            await move_batch(transaction, batch_id, BatchEvent.LOSE)
