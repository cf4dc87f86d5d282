"""What only a person can decide: batches in doubt, lost or recovered, and what becomes of them by a person's word."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.lifecycle import BatchEvent
from batchbox.model import ApiBatchId, BatchState, ErrorType, Lane, LostReason, Nonce
from batchbox.store.columns import from_ms, optional_moment
from batchbox.store.condemning import condemn
from batchbox.store.database import Database, Transaction
from batchbox.store.recovery import requeue
from batchbox.store.transitions import move_batch

_LEFT = (
    "(SELECT count(*) FROM members AS m JOIN requests AS r ON r.id = m.request_id "
    "WHERE m.batch_id = b.id AND r.batch_id = b.id AND r.state = 'batched')"
)
_LEFT_IN = "SELECT id, size_bytes FROM requests WHERE batch_id = ? AND state = 'batched'"
_NO_CONTENT = "What was asked is not known any more, so it cannot be sent again."

_WHY_NOT = {
    BatchState.SUBMITTING: "it is still looked for; it is decided by itself",
    BatchState.IN_PROGRESS: "the API has it and works on it",
    BatchState.ENDED: "it has ended, and its answers are being delivered",
    BatchState.CLOSED: "its requests have ended",
    BatchState.REFUSED: "its requests have gone on without it",
    BatchState.LOST: "the API had it: what it cost is paid; it may be given up",
    BatchState.SEALED: "it is sent by itself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A batch of the API's that may be one of ours in doubt."""

    api_id: ApiBatchId
    verdict: str
    """open, foreign or ours."""
    trouble: str | None
    """Why nobody but a person can say whose it is; None: it has not ended yet, or was not read yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDoubt:
    """A batch in doubt, as a person is told of it."""

    batch_id: int
    lane: Lane
    nonce: Nonce
    request_count: int
    sent_at: datetime
    is_recovered: bool
    """It is not sent again by itself."""
    is_closed: bool
    """No further candidate can turn up."""
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A batch that the API had, and does not know, or has no results of."""

    batch_id: int
    lane: Lane
    api_id: ApiBatchId
    left_count: int
    created_at: datetime | None
    reason: LostReason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBatch:
    """A batch that waits for a person."""

    batch_id: int
    lane: Lane
    left_count: int
    reason: str
    sent_at: datetime | None


class DecisionStore:
    """Questions about what a person must decide, and the decisions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def doubts(self) -> Sequence[OpenDoubt]:
        """Return the batches in doubt, oldest first."""
        rows = await self._database.all(
            "SELECT b.id, b.lane, s.nonce, b.request_count, s.intended_at, b.needs_person, s.candidates_closed, "
            "(SELECT json_group_array(json_array(api_id, verdict, trouble)) FROM candidates WHERE nonce = s.nonce) "
            "FROM batches AS b JOIN sendings AS s ON s.batch_id = b.id AND s.outcome = 'open' "
            "WHERE b.state = 'submitting' ORDER BY b.id"
        )
        return [
            OpenDoubt(
                batch_id=id_,
                lane=lane,
                nonce=nonce,
                request_count=count,
                sent_at=from_ms(sent_at),
                is_recovered=bool(needs_person),
                is_closed=bool(closed),
                candidates=[
                    Candidate(api_id=api_id, verdict=verdict, trouble=trouble)
                    for api_id, verdict, trouble in json.loads(candidates)
                ],
            )
            for id_, lane, nonce, count, sent_at, needs_person, closed, candidates in rows
        ]

    async def losses(self) -> Sequence[Loss]:
        """Return the lost batches, oldest first."""
        rows = await self._database.all(
            f"SELECT b.id, b.lane, b.api_id, {_LEFT}, b.created_at, b.lost_reason "  # noqa: S608 - our own constant
            "FROM batches AS b WHERE b.state = 'lost' ORDER BY b.id"
        )
        return [
            Loss(
                batch_id=id_,
                lane=lane,
                api_id=api_id,
                left_count=left,
                created_at=optional_moment(created_at),
                reason=None if reason is None else LostReason(reason),
            )
            for id_, lane, api_id, left, created_at, reason in rows
        ]

    async def held(self) -> Sequence[HeldBatch]:
        """Return the batches that are not sent before a person says so, oldest first."""
        rows = await self._database.all(
            f"SELECT b.id, b.lane, {_LEFT}, b.held_reason, "  # noqa: S608 - our own constant
            "(SELECT max(intended_at) FROM sendings WHERE batch_id = b.id) "
            "FROM batches AS b WHERE b.state = 'sealed' AND b.needs_person = 1 ORDER BY b.id"
        )
        return [
            HeldBatch(batch_id=id_, lane=lane, left_count=left, reason=reason or "", sent_at=optional_moment(sent_at))
            for id_, lane, left, reason, sent_at in rows
        ]

    async def why_not_to_end(self, batch_id: int, *, may_be_lost: bool) -> str | None:
        """Say why it is not for a person to decide what becomes of a batch that is held, or lost; None if it is."""
        row = await self._database.one("SELECT state, needs_person FROM batches WHERE id = ?", (batch_id,))
        if row is None:
            return f"there is no batch {batch_id}"
        state, needs_person = row
        if (state == BatchState.SEALED and needs_person) or (state == BatchState.LOST and may_be_lost):
            return None
        return f"batch {batch_id}: {_WHY_NOT[BatchState(state)]}"

    async def sendings(self, batch_id: int) -> list[Nonce]:
        """Return the nonces of all sendings of a batch."""
        rows = await self._database.all("SELECT nonce FROM sendings WHERE batch_id = ?", (batch_id,))
        return [Nonce(nonce) for (nonce,) in rows]

    async def resend(self, batch_id: int, *, now: datetime) -> int:
        """Let what is left of a held batch wait to be sent again; return how many requests that are.

        Requests whose content is not known end as errors.
        """
        async with self._database.transaction() as transaction:
            if not await _release(transaction, batch_id):
                return 0
            rows = await transaction.all(_LEFT_IN, (batch_id,))
            with_content = [request_id for request_id, size_bytes in rows if size_bytes]
            without = [request_id for request_id, size_bytes in rows if not size_bytes]
            await requeue(transaction, with_content, now=now)
            await condemn(transaction, without, ErrorType.RESULTS_GONE, text=_NO_CONTENT, now=now)
        return len(with_content)

    async def give_up(self, batch_id: int, text: str, *, now: datetime) -> None:
        """End what is left of a lost or held batch as errors. Any other is left alone."""
        async with self._database.transaction() as transaction:
            if await _close_lost(transaction, batch_id) or await _release(transaction, batch_id):
                rows = await transaction.all(_LEFT_IN, (batch_id,))
                left = [request_id for request_id, _ in rows]
                await condemn(transaction, left, ErrorType.RESULTS_GONE, text=text, now=now)


def doubts_about(doubts: Sequence[OpenDoubt], api_id: ApiBatchId) -> list[OpenDoubt]:
    """Return the batches in doubt that the API's batch is a candidate for."""
    return [doubt for doubt in doubts if any(one.api_id == api_id for one in doubt.candidates)]


def why_not_to_judge(doubts: Sequence[OpenDoubt], api_id: ApiBatchId) -> str | None:
    """Say why it is not for a person to decide whose the batch is; None if it is."""
    found = [one for doubt in doubts for one in doubt.candidates if one.api_id == api_id]
    if not found:
        return f"{api_id} is no candidate for a batch in doubt"
    if all(one.verdict != "open" for one in found):
        return f"it is known whose {api_id} is: {'ours' if found[0].verdict == 'ours' else 'not ours'}"
    if all(one.trouble is None for one in found):
        return f"{api_id} decides it by itself: its first result says whose it is, once it has ended"
    return None


async def _release(transaction: Transaction, batch_id: int) -> bool:
    row = await transaction.one("SELECT needs_person FROM batches WHERE id = ?", (batch_id,))
    return row is not None and bool(row[0]) and await move_batch(transaction, batch_id, BatchEvent.DISBAND)


async def _close_lost(transaction: Transaction, batch_id: int) -> bool:
    row = await transaction.one("SELECT 1 FROM batches WHERE id = ? AND state = 'lost'", (batch_id,))
    return row is not None and await move_batch(transaction, batch_id, BatchEvent.CLOSE)
