"""What is known of files that may have changed since they were read: which are to be looked at, and which settle anew.

A file is looked at once more before anything of it is sent or, if nothing of it has to be sent because others have
asked for the same, before it leaves processing/. One that has changed is *recalled*: its row becomes that of a file
whose reading had no end, which intake forgets, and its claim is noted as unsettled, with how often that has happened.
When it is still again it is read as if it had just been claimed; only what it has asked for already, and what was sent
for others, has ended or was cancelled, is remembered and not asked for anew.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.lifecycle import RequestEvent, SourceEvent
from batchbox.model import ErrorType, Lane
from batchbox.store.columns import from_blob, from_ms, to_blob, to_ms
from batchbox.store.condemning import condemn
from batchbox.store.database import Database, Row, Transaction
from batchbox.store.originals import MAY_LEAVE
from batchbox.store.recording import NewSource, Rejection, RowWriter
from batchbox.store.regrouping import take_out
from batchbox.store.transitions import move_requests_of, move_sources

_OF_OTHERS_TOO = "request_id IN (SELECT request_id FROM attachments WHERE source_id <> ?1)"
_HAS_ENDED = "r.state IN ('answered', 'incomplete', 'failed')"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedSource:
    """A file that was read, and not looked at since."""

    id: int
    lane: Lane
    claim: str
    size_bytes: int
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
            "SELECT DISTINCT s.id, s.lane, s.claim, s.size_bytes, s.sha256 FROM members AS m "
            "JOIN attachments AS a ON a.request_id = m.request_id JOIN sources AS s ON s.id = a.source_id "
            "WHERE m.batch_id = ? AND s.state = 'open' AND s.is_verified = 0 LIMIT ?",
            (batch_id, limit),
        )
        return [_unverified_source(row) for row in rows]

    async def unverified_settled(self, *, after: int, limit: int) -> list[UnverifiedSource]:
        """Return the next files, after the id, that have settled without anything of them having had to be sent."""
        rows = await self._database.all(
            "SELECT id, lane, claim, size_bytes, sha256 FROM sources "  # noqa: S608 - our own constant
            f"WHERE state = 'settled' AND NOT {MAY_LEAVE} AND id > ? ORDER BY id LIMIT ?",
            (after, limit),
        )
        return [_unverified_source(row) for row in rows]

    async def mark_verified(self, source_ids: Sequence[int]) -> None:
        """Record that the files are what was read: from now on only the database's copy counts."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "UPDATE sources SET is_verified = 1 WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(source_ids),),
            )

    async def recall(self, source_ids: Sequence[int], *, now: datetime) -> set[int]:
        """Take back what was recorded of files that have changed, and of which nothing was sent on their account.

        Returns those that have to wait: a cancelled request of theirs has no error in the outbox yet.
        """
        async with self._database.transaction() as transaction:
            waiting = await _with_unpublished(transaction, source_ids)
            recalled = [source_id for source_id in source_ids if source_id not in waiting]
            batched = [await _recall(transaction, source_id) for source_id in recalled]
            await take_out(transaction, [request_id for of_file in batched for request_id in of_file], now=now)
            for source_id in recalled:
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
        return waiting

    async def withdraw(self, source_ids: Sequence[int], *, text: str, now: datetime) -> None:
        """End the requests of files that have gone before any of them was sent. What others ask for as well stays."""
        async with self._database.transaction() as transaction:
            own_by_source = {source_id: await _withdraw(transaction, source_id) for source_id in source_ids}
            own = [request_id for of_file in own_by_source.values() for request_id in of_file]
            await take_out(transaction, own, now=now)
            await condemn(transaction, own, ErrorType.WITHDRAWN, text=text, now=now)
            emptied = [source_id for source_id, of_file in own_by_source.items() if not of_file]
            await move_sources(transaction, emptied, SourceEvent.SETTLE)

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


def _unverified_source(row: Row) -> UnverifiedSource:
    id_, lane, claim, size_bytes, sha256 = row
    return UnverifiedSource(id=id_, lane=lane, claim=from_blob(claim), size_bytes=size_bytes, sha256=sha256)


async def _with_unpublished(transaction: Transaction, source_ids: Sequence[int]) -> set[int]:
    rows = await transaction.all(
        "SELECT DISTINCT a.source_id FROM json_each(?) AS wanted "
        "JOIN attachments AS a ON a.source_id = wanted.value JOIN requests AS r ON r.id = a.request_id "
        "WHERE r.state = 'failing' OR (r.canceled_at IS NOT NULL AND r.state IN ('waiting', 'batched'))",
        (json.dumps(source_ids),),
    )
    return {source_id for (source_id,) in rows}


async def _recall(transaction: Transaction, source_id: int) -> list[int]:
    """Detach what the file is not to ask for anew, and remember it; return what has to leave its batch."""
    if not await move_sources(transaction, [source_id], SourceEvent.RECALL):
        return []
    await transaction.run(
        "INSERT INTO recalled (lane, claim, custom_id, digest, request_id) "  # noqa: S608 - our own constants
        "SELECT s.lane, s.claim, coalesce(r.numbered_from, r.custom_id), r.digest, r.id "
        "FROM attachments AS a JOIN requests AS r ON r.id = a.request_id JOIN sources AS s ON s.id = a.source_id "
        f"WHERE a.source_id = ?1 AND (a.{_OF_OTHERS_TOO} OR {_HAS_ENDED}) ON CONFLICT DO NOTHING",
        (source_id,),
    )
    await transaction.run(
        "DELETE FROM attachments WHERE source_id = ?1 AND request_id IN "
        "(SELECT k.request_id FROM recalled AS k JOIN sources AS s ON s.lane = k.lane AND s.claim = k.claim "
        "WHERE s.id = ?1)",
        (source_id,),
    )
    return await _batched(transaction, source_id)


async def _withdraw(transaction: Transaction, source_id: int) -> list[int]:
    """Let the file ask no more for what another file asks for too; return its own requests."""
    await transaction.run(f"DELETE FROM attachments WHERE source_id = ?1 AND {_OF_OTHERS_TOO}", (source_id,))  # noqa: S608 - our own constant
    rows = await transaction.all("SELECT request_id FROM attachments WHERE source_id = ?", (source_id,))
    own = [request_id for (request_id,) in rows]
    await transaction.run(  # with a name in done/ it takes none: that would be an empty promise
        "UPDATE sources SET open_count = ?, is_verified = 1, target = claim WHERE id = ?", (len(own), source_id)
    )
    return own


async def _batched(transaction: Transaction, source_id: int) -> list[int]:
    rows = await transaction.all(
        "SELECT r.id FROM attachments AS a JOIN requests AS r ON r.id = a.request_id "
        "WHERE a.source_id = ? AND r.state = 'batched'",
        (source_id,),
    )
    return [request_id for (request_id,) in rows]
