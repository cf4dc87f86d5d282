"""Batches that were bought beside the one that is delivered, and sendings that may still turn out to be one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.api import BatchInfo
from batchbox.lifecycle import BatchEvent, RequestEvent
from batchbox.model import ApiBatchId, BatchState, Nonce
from batchbox.store.charges import Charge, insert_charges
from batchbox.store.columns import from_ms, optional_moment, to_ms
from batchbox.store.database import Database
from batchbox.store.dispatch import Doubt, note_accepted
from batchbox.store.regrouping import take_out
from batchbox.store.transitions import move_batch, move_requests

_MEMBERS = "members AS m JOIN requests AS r ON r.id = m.request_id LEFT JOIN batches AS o ON o.id = r.batch_id"
"""Those of one batch, with the batch that each of them is in now."""
_IS_UNSENT = "(r.state = 'waiting' OR (r.state = 'batched' AND (o.state = 'sealed' OR o.is_undecided = 1)))"
_IS_IN_DOUBT = "(r.state = 'batched' AND o.state = 'submitting')"
_LATE = f"""
    SELECT b.id, s.nonce, b.request_count, s.mark, s.key_hash,
           (SELECT json_group_array(api_id) FROM candidates AS c WHERE c.nonce = s.nonce AND c.verdict = 'open')
    FROM sendings AS s JOIN batches AS b ON b.id = s.batch_id
    WHERE s.withdrawn_at >= ?1 AND s.outcome IN ('withdrawn', 'twin') AND s.candidates_closed = 1 AND (
        coalesce((SELECT max(intended_at) FROM sendings WHERE replaces = s.nonce), s.withdrawn_at) >= ?2
        OR EXISTS (SELECT 1 FROM {_MEMBERS} WHERE m.batch_id = b.id AND ({_IS_UNSENT} OR {_IS_IN_DOUBT}))
        OR EXISTS (SELECT 1 FROM candidates AS c WHERE c.nonce = s.nonce AND c.verdict = 'open'))
    ORDER BY s.withdrawn_at
"""  # noqa: S608 - our own constants


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredBatch:
    """Which of the API's batches a batch of ours is delivered from."""

    state: BatchState
    api_id: ApiBatchId | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A batch that has turned up, whose requests went on without it, and whose cost is not booked yet."""

    api_id: ApiBatchId
    batch_id: int
    nonce: Nonce
    key_hash: bytes
    """Of the key that it was sent with."""
    sent_at: datetime
    is_undecided: bool
    """What of it is delivered is not decided yet: no request of it is sent before."""


class TwinStore:
    """The rows about what was, or may have been, bought beside."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def late(self, *, withdrawn_since: datetime, resent_since: datetime) -> list[Doubt]:
        """Return the sendings that were given up as surely not accepted and may turn up all the same.

        Args:
            withdrawn_since: None that was given up before that.
            resent_since: Of these, those not sent again before that, or not at all so far, or with candidates that are
                not read yet.
        """
        rows = await self._database.all(_LATE, (to_ms(withdrawn_since), to_ms(resent_since)))
        return [
            Doubt(
                batch_id=batch_id,
                nonce=nonce,
                request_count=count,
                mark=optional_moment(mark),
                candidates_closed=True,
                key_hash=key_hash,
                candidates=json.loads(candidates),
            )
            for batch_id, nonce, count, mark, key_hash, candidates in rows
        ]

    async def delivered(self, batch_id: int) -> DeliveredBatch:
        """Return what a batch of ours is delivered from."""
        row = await self._database.one("SELECT state, api_id, ended_at FROM batches WHERE id = ?", (batch_id,))
        if row is None:
            raise AssertionError(f"there is no batch {batch_id}")
        state, api_id, ended_at = row
        return DeliveredBatch(state=BatchState(state), api_id=api_id, ended_at=optional_moment(ended_at))

    async def find(self, batch_id: int, nonce: Nonce, api_id: ApiBatchId, *, now: datetime) -> None:
        """Record that a batch has ended whose requests went on without it.

        None of them is sent before it is decided what of it is delivered.
        """
        async with self._database.transaction() as transaction:
            await transaction.run(
                "INSERT INTO twins (api_id, batch_id, nonce, found_at, is_undecided) VALUES (?, ?, ?, ?, 1) "
                "ON CONFLICT DO NOTHING",
                (api_id, batch_id, nonce, to_ms(now)),
            )
            await transaction.run("UPDATE candidates SET verdict = 'ours' WHERE api_id = ?", (api_id,))

    async def is_in_doubt(self, batch_id: int) -> bool:
        """Say whether it is not known if one of the members was sent again."""
        row = await self._database.one(
            f"SELECT 1 FROM {_MEMBERS} WHERE m.batch_id = ? AND {_IS_IN_DOUBT} LIMIT 1",  # noqa: S608 - our own constants
            (batch_id,),
        )
        return row is not None

    async def reclaim(self, batch_id: int, nonce: Nonce, batch: BatchInfo, *, now: datetime) -> bool:
        """Take back, for a batch that was disbanded and has turned up, those members that are still to be sent.

        What the others of it cost is booked as that of any batch that was bought beside. Returns False, and changes
        nothing, if there are none, or the batch was not disbanded.
        """
        async with self._database.transaction() as transaction:
            rows = await transaction.all(
                f"SELECT r.id FROM {_MEMBERS} WHERE m.batch_id = ? AND {_IS_UNSENT}",  # noqa: S608 - our own constants
                (batch_id,),
            )
            request_ids = [request_id for (request_id,) in rows]
            if not request_ids or not await move_batch(transaction, batch_id, BatchEvent.RECLAIM):
                return False
            await take_out(transaction, request_ids, now=now)
            await move_requests(transaction, request_ids, RequestEvent.SEAL)
            await transaction.run(
                "UPDATE requests SET batch_id = ? WHERE id IN (SELECT value FROM json_each(?))",
                (batch_id, json.dumps(request_ids)),
            )
            await note_accepted(transaction, batch_id, nonce, batch, api_request_id=None)
            if len(request_ids) < batch.counts.total:
                await transaction.run("UPDATE twins SET is_undecided = 0 WHERE api_id = ?", (batch.id,))
            else:
                await transaction.run("DELETE FROM twins WHERE api_id = ?", (batch.id,))
        return True

    async def leave_beside(self, nonce: Nonce, api_id: ApiBatchId) -> None:
        """Record that nothing is delivered from the batch: it was bought beside, and is to be booked."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE twins SET is_undecided = 0 WHERE api_id = ?", (api_id,))
            await transaction.run("UPDATE sendings SET outcome = 'twin' WHERE nonce = ?", (nonce,))

    async def swap(self, batch_id: int, nonce: Nonce, batch: BatchInfo, *, now: datetime) -> bool:
        """Deliver from this batch of the first sending; the resend, which still runs, becomes the twin.

        Returns False, and changes nothing, if the resend is being delivered by now.
        """
        async with self._database.transaction() as transaction:
            await move_batch(transaction, batch_id, BatchEvent.FIND)  # if the resend had got lost
            if not await transaction.all("SELECT 1 FROM batches WHERE id = ? AND state = 'in_progress'", (batch_id,)):
                return False
            await transaction.run("DELETE FROM twins WHERE api_id = ?", (batch.id,))
            await transaction.run(
                "INSERT INTO twins (api_id, batch_id, nonce, found_at) SELECT api_id, id, nonce, ? FROM batches "
                "WHERE id = ? ON CONFLICT DO NOTHING",
                (to_ms(now), batch_id),
            )
            await transaction.run(
                "UPDATE sendings SET outcome = 'twin' WHERE nonce = (SELECT nonce FROM batches WHERE id = ?)",
                (batch_id,),
            )
            await transaction.run(
                "UPDATE batches SET api_id = ?, nonce = ?, created_at = ?, expires_at = ? WHERE id = ?",
                (batch.id, nonce, to_ms(batch.created_at), to_ms(batch.expires_at), batch_id),
            )
            await transaction.run("UPDATE sendings SET outcome = 'accepted' WHERE nonce = ?", (nonce,))
        return True

    async def unbooked(self) -> list[Twin]:
        """Return the twins that have to be decided about, or stopped and paid for."""
        rows = await self._database.all(
            "SELECT t.api_id, t.batch_id, t.nonce, s.key_hash, s.intended_at, t.is_undecided FROM twins AS t "
            "JOIN sendings AS s ON s.nonce = t.nonce WHERE t.is_booked = 0 ORDER BY t.found_at"
        )
        return [
            Twin(
                api_id=api_id,
                batch_id=batch_id,
                nonce=nonce,
                key_hash=key_hash,
                sent_at=from_ms(intended_at),
                is_undecided=bool(is_undecided),
            )
            for api_id, batch_id, nonce, key_hash, intended_at, is_undecided in rows
        ]

    async def members(self, batch_id: int, numbers: Sequence[int]) -> dict[int, tuple[int, str]]:
        """Return the id and the model of the members of those numbers."""
        rows = await self._database.all(
            "SELECT m.number, r.id, r.model FROM members AS m JOIN requests AS r ON r.id = m.request_id "
            "WHERE m.batch_id = ? AND m.number IN (SELECT value FROM json_each(?))",
            (batch_id, json.dumps(list(numbers))),
        )
        return {number: (request_id, model) for number, request_id, model in rows}

    async def charge(self, charges: Sequence[Charge]) -> None:
        """Record what lines of a twin's results cost; a line that is charged already is not charged again."""
        async with self._database.transaction() as transaction:
            await insert_charges(transaction, charges)

    async def book(self, api_id: ApiBatchId) -> None:
        """Record that all of a twin's cost is charged, or can no longer be known."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE twins SET is_booked = 1, is_undecided = 0 WHERE api_id = ?", (api_id,))
