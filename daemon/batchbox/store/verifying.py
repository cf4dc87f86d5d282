"""What is known of files that may have changed since they were read: which are to be looked at, and which settle anew.

A file is looked at once more before anything of it is sent. One that has changed is *recalled*: its row becomes that
of a file whose reading had no end, which intake forgets, and its claim is noted as unsettled, with how often that
has happened. When it is still again it is read as if it had just been claimed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.lifecycle import RequestEvent, SourceEvent
from batchbox.model import ErrorType, Lane
from batchbox.store.columns import from_blob, from_ms, to_blob, to_ms
from batchbox.store.condemning import condemn
from batchbox.store.database import Database, Transaction
from batchbox.store.recording import NewSource, Rejection, RowWriter
from batchbox.store.regrouping import take_out
from batchbox.store.transitions import move_requests_of, move_sources

_OF_OTHERS_TOO = "request_id IN (SELECT request_id FROM attachments WHERE source_id <> ?1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedSource:
    """A file that was read, and not looked at since."""

    id: int
    lane: Lane
    claim: str
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsettledClaim:
    """A claimed file that has changed after it was read."""

    lane: Lane
    claim: str
    change_count: int
    found_at: datetime
    """When it was found changed for the first time."""
    is_still: bool
    """It has been still since, and is read again; it is remembered until it has left processing/."""


class VerifyingStore:
    """The rows about files that change after they were claimed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unverified(self, batch_id: int, *, limit: int) -> list[UnverifiedSource]:
        """Return files that ask for a request of the batch and are still to be looked at."""
        rows = await self._database.all(
            "SELECT DISTINCT s.id, s.lane, s.claim, s.sha256 FROM members AS m "
            "JOIN attachments AS a ON a.request_id = m.request_id JOIN sources AS s ON s.id = a.source_id "
            "WHERE m.batch_id = ? AND s.state = 'open' AND s.is_verified = 0 LIMIT ?",
            (batch_id, limit),
        )
        return [
            UnverifiedSource(id=id_, lane=lane, claim=from_blob(claim), sha256=sha256)
            for id_, lane, claim, sha256 in rows
        ]

    async def mark_verified(self, source_ids: Sequence[int]) -> None:
        """Record that the files are what was read: from now on only the database's copy counts."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "UPDATE sources SET is_verified = 1 WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(source_ids),),
            )

    async def recall(self, source_id: int, *, now: datetime) -> None:
        """Take back what was recorded of a file of which nothing was sent. What others ask for as well stays.

        One of whose requests was cancelled meanwhile stays as it was read: it would forget the cancelling.
        """
        async with self._database.transaction() as transaction:
            if await _is_part_canceled(transaction, source_id):
                await transaction.run("UPDATE sources SET is_verified = 1 WHERE id = ?", (source_id,))
                return
            if not await move_sources(transaction, [source_id], SourceEvent.RECALL):
                return
            await _leave_to_others(transaction, source_id)
            await take_out(transaction, await _batched(transaction, source_id), now=now)
            await move_requests_of(transaction, source_id, RequestEvent.RECALL)
            await transaction.run(
                "UPDATE requests SET batch_id = NULL "
                "WHERE id IN (SELECT request_id FROM attachments WHERE source_id = ?) AND batch_id IS NOT NULL",
                (source_id,),
            )
            await transaction.run(
                "INSERT INTO unsettled (lane, claim, found_at) SELECT lane, claim, ?2 FROM sources WHERE id = ?1 "
                "ON CONFLICT (lane, claim) DO UPDATE SET change_count = change_count + 1, is_still = 0",
                (source_id, to_ms(now)),
            )

    async def withdraw(self, source_id: int, *, text: str, now: datetime) -> None:
        """End the requests of a file that has gone before any of them was sent. What others ask for as well stays."""
        async with self._database.transaction() as transaction:
            await _leave_to_others(transaction, source_id)
            rows = await transaction.all("SELECT request_id FROM attachments WHERE source_id = ?", (source_id,))
            own = [request_id for (request_id,) in rows]
            await transaction.run(  # with a name in done/ it takes none: that would be an empty promise
                "UPDATE sources SET open_count = ?, is_verified = 1, target = claim WHERE id = ?",
                (len(own), source_id),
            )
            await take_out(transaction, await _batched(transaction, source_id), now=now)
            await condemn(transaction, own, ErrorType.WITHDRAWN, text=text, now=now)
            if not own:
                await move_sources(transaction, [source_id], SourceEvent.SETTLE)

    async def unsettled(self) -> list[UnsettledClaim]:
        """Return the claims that have ever changed, in the order in which they were found to have."""
        rows = await self._database.all(
            "SELECT lane, claim, change_count, found_at, is_still FROM unsettled ORDER BY found_at"
        )
        return [
            UnsettledClaim(
                lane=lane,
                claim=from_blob(claim),
                change_count=count,
                found_at=from_ms(found_at),
                is_still=bool(is_still),
            )
            for lane, claim, count, found_at, is_still in rows
        ]

    async def settle(self, claims: Sequence[UnsettledClaim]) -> None:
        """Record that the files are still: they are to be read again. How often they changed is remembered."""
        async with self._database.transaction() as transaction:
            await transaction.run_many(
                "UPDATE unsettled SET is_still = 1 WHERE lane = ? AND claim = ?",
                [(one.lane, to_blob(one.claim)) for one in claims],
            )

    async def give_up(self, source: NewSource, rejection: Rejection, *, now: datetime) -> None:
        """Reject a file that is never still."""
        async with self._database.transaction() as transaction:
            writer = RowWriter(transaction, now=now)
            await writer.add_file(source, rejection)
            await writer.write()
            await transaction.run(
                "DELETE FROM unsettled WHERE lane = ? AND claim = ?", (source.lane, to_blob(source.claim))
            )


async def _leave_to_others(transaction: Transaction, source_id: int) -> None:
    """Let the file ask no more for what another file asks for too."""
    await transaction.run(f"DELETE FROM attachments WHERE source_id = ?1 AND {_OF_OTHERS_TOO}", (source_id,))  # noqa: S608 - our own constant


async def _is_part_canceled(transaction: Transaction, source_id: int) -> bool:
    row = await transaction.one(
        "SELECT 1 FROM attachments AS a JOIN requests AS r ON r.id = a.request_id "
        "WHERE a.source_id = ? AND r.canceled_at IS NOT NULL LIMIT 1",
        (source_id,),
    )
    return row is not None


async def _batched(transaction: Transaction, source_id: int) -> list[int]:
    rows = await transaction.all(
        "SELECT r.id FROM attachments AS a JOIN requests AS r ON r.id = a.request_id "
        "WHERE a.source_id = ? AND r.state = 'batched'",
        (source_id,),
    )
    return [request_id for (request_id,) in rows]
