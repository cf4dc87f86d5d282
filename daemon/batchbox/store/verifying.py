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
from batchbox.store.recording import ASKED_BY_READ_OTHERS, IS_OPEN, NewSource, Rejection, RowWriter
from batchbox.store.regrouping import part, take_out
from batchbox.store.transitions import move_requests, move_requests_of, move_sources

_IS_UNSENT = (
    "(r.state IN ('incoming', 'waiting') OR r.state = 'batched' "
    "AND EXISTS (SELECT 1 FROM batches WHERE id = r.batch_id AND state = 'sealed'))"
)
"""Only such a request may be taken back, whoever asked for it: any other one is with the API, or has ended."""

_UNVERIFIED = (
    "members AS m JOIN attachments AS a ON a.request_id = m.request_id JOIN sources AS s ON s.id = a.source_id "
    "WHERE m.batch_id = ? AND s.state = 'open' AND s.is_verified = 0 AND NOT EXISTS "
    "(SELECT 1 FROM attachments AS other JOIN sources AS v ON v.id = other.source_id "
    "WHERE other.request_id = m.request_id AND v.state = 'open' AND v.is_verified = 1)"
)
"""A request goes for the sake of one file that is as it was read, whatever becomes of others that ask for it too: what
was sent once never waits for a file again."""

HAS_NO_ROW = "NOT EXISTS (SELECT 1 FROM sources AS s WHERE s.lane = unsettled.lane AND s.claim = unsettled.claim)"
"""Of an unsettled claim: nothing is recorded of the file, or no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedSource:
    """A file that was read, and not looked at since."""

    id: int
    lane: Lane
    claim: str
    size_bytes: int
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedMember:
    """A request of a batch that may not be sent yet, and a file because of which it may not."""

    number: int
    source: UnverifiedSource


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsettledClaim:
    """A claimed file that has changed after it was read."""

    lane: Lane
    claim: str
    change_count: int
    found_at: datetime
    """When it was found changed for the first time."""
    is_still: bool
    """It has been still since, and may be read again; it is remembered until it has left processing/."""


class VerifyingStore:
    """The rows about files that change after they were claimed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unverified(self, batch_id: int, *, after: UnverifiedMember | None, limit: int) -> list[UnverifiedMember]:
        """Return the next requests of the batch, each with a file that is still to be looked at before they may go."""
        position = (0, 0) if after is None else (after.number, after.source.id)
        rows = await self._database.all(
            f"SELECT m.number, s.id, s.lane, s.claim, s.size_bytes, s.sha256 FROM {_UNVERIFIED} "  # noqa: S608 - our own constant
            "AND (m.number, a.source_id) > (?, ?) ORDER BY m.number, a.source_id LIMIT ?",
            (batch_id, *position, limit),
        )
        return [UnverifiedMember(number=number, source=_unverified_source(row)) for number, *row in rows]

    async def part_unverified(self, batch_id: int, *, now: datetime) -> bool:
        """Let the requests that wait for a file wait in a batch of their own. Returns False if all of them do."""
        async with self._database.transaction() as transaction:
            rows = await transaction.all(
                f"SELECT m.request_id FROM {_UNVERIFIED} GROUP BY m.number",  # noqa: S608 - our own constant
                (batch_id,),
            )
            return await part(transaction, batch_id, [request_id for (request_id,) in rows], now=now)

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
            recalled = [one for one in source_ids if one not in waiting and await _recall(transaction, one)]
            batched = [
                request_id
                for one in recalled
                for request_id in await _requests_of(transaction, one, "r.state = 'batched'")
            ]
            await take_out(transaction, batched, now=now)
            await _leave_batch(transaction, batched)
            for source_id in recalled:
                await move_requests_of(transaction, source_id, RequestEvent.RECALL)
                await transaction.run(
                    "INSERT INTO unsettled (lane, claim, found_at) SELECT lane, claim, ?2 FROM sources WHERE id = ?1 "
                    "ON CONFLICT (lane, claim) DO UPDATE SET change_count = change_count + 1, is_still = 0",
                    (source_id, to_ms(now)),
                )
        return waiting

    async def withdraw(self, source_ids: Sequence[int], *, text: str, now: datetime) -> None:
        """End the requests of files that have gone before any of them was sent. What others ask for as well stays.

        What a file asks for that is still being read waits until that has been read to its end.
        """
        async with self._database.transaction() as transaction:
            lent = [request_id for one in source_ids for request_id in await _detach(transaction, one)]
            own = [request_id for one in source_ids for request_id in await _requests_of(transaction, one, _IS_UNSENT)]
            await take_out(transaction, [*own, *lent], now=now)
            await _leave_batch(transaction, lent)
            await move_requests(transaction, lent, RequestEvent.RECALL)
            await condemn(transaction, own, ErrorType.WITHDRAWN, text=text, now=now)
            open_counts = {one: len(await _requests_of(transaction, one, f"r.{IS_OPEN}")) for one in source_ids}
            await transaction.run_many(  # with a name in done/ they take none: that would be an empty promise
                "UPDATE sources SET open_count = ?, is_verified = 1, target = claim WHERE id = ?",
                [(count, source_id) for source_id, count in open_counts.items()],
            )
            emptied = [source_id for source_id, count in open_counts.items() if not count]
            await move_sources(transaction, emptied, SourceEvent.SETTLE)

    async def unsettled(self) -> list[UnsettledClaim]:
        """Return the claims that have changed and were not read since, in the order in which that was found."""
        rows = await self._database.all(
            "SELECT lane, claim, change_count, found_at, is_still FROM unsettled "  # noqa: S608 - our own constant
            f"WHERE is_still = 0 OR {HAS_NO_ROW} ORDER BY found_at"
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
        """Reject a file that is never still, or that is not there any more."""
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


async def _recall(transaction: Transaction, source_id: int) -> bool:
    """Detach what the file is not to ask for anew, and remember it; return whether the file may be recalled."""
    if not await move_sources(transaction, [source_id], SourceEvent.RECALL):
        return False
    rows = await transaction.all(
        "SELECT r.id FROM attachments AS a JOIN requests AS r ON r.id = a.request_id "  # noqa: S608 - our own constants
        f"WHERE a.source_id = ? AND ({ASKED_BY_READ_OTHERS} OR NOT {_IS_UNSENT})",
        (source_id,),
    )
    staying = json.dumps([request_id for (request_id,) in rows])
    await transaction.run(
        "INSERT INTO recalled (lane, claim, custom_id, digest, request_id) "
        "SELECT s.lane, s.claim, coalesce(r.numbered_from, r.custom_id), r.digest, r.id "
        "FROM json_each(?2) AS one JOIN requests AS r ON r.id = one.value JOIN sources AS s ON s.id = ?1 "
        "WHERE true ON CONFLICT DO NOTHING",
        (source_id, staying),
    )
    await _remove_attachments(transaction, source_id, staying)
    return True


async def _detach(transaction: Transaction, source_id: int) -> list[int]:
    """Let the file ask no more for what others ask for too; return what only files ask for that are being read."""
    rows = await transaction.all(
        f"SELECT r.id, {ASKED_BY_READ_OTHERS} OR NOT {_IS_UNSENT} "  # noqa: S608 - our own constants
        "FROM attachments AS a JOIN requests AS r ON r.id = a.request_id "
        "WHERE a.source_id = ?1 AND EXISTS "
        "(SELECT 1 FROM attachments AS other WHERE other.request_id = a.request_id AND other.source_id <> ?1)",
        (source_id,),
    )
    await _remove_attachments(transaction, source_id, json.dumps([request_id for request_id, _ in rows]))
    return [request_id for request_id, stays in rows if not stays]


async def _remove_attachments(transaction: Transaction, source_id: int, request_ids: str) -> None:
    await transaction.run(
        "DELETE FROM attachments WHERE source_id = ? AND request_id IN (SELECT value FROM json_each(?))",
        (source_id, request_ids),
    )


async def _leave_batch(transaction: Transaction, request_ids: Sequence[int]) -> None:
    await transaction.run(
        "UPDATE requests SET batch_id = NULL WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(request_ids),)
    )


async def _requests_of(transaction: Transaction, source_id: int, condition: str) -> list[int]:
    rows = await transaction.all(
        "SELECT r.id FROM attachments AS a JOIN requests AS r ON r.id = a.request_id "  # noqa: S608 - our own constants
        f"WHERE a.source_id = ? AND {condition}",
        (source_id,),
    )
    return [request_id for (request_id,) in rows]
