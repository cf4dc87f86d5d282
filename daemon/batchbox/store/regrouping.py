"""What becomes of the members of a batch that did not get through: halved, put together again, or ended as errors.

A refused batch keeps its members until that is decided, because it depends on how its other half fares.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.lifecycle import BatchEvent
from batchbox.model import BatchState, ErrorType, Lane
from batchbox.store.condemning import condemn
from batchbox.store.database import Database, Transaction
from batchbox.store.dispatch import insert_batch
from batchbox.store.transitions import move_batch

_KIND = "parent_id, refusal, is_joined, break_count, is_probe, held_reason, needs_person"
"""What a batch without some of its members has in common with the one that it comes from."""

_RELATIVES = (
    "SELECT b.id, b.request_count, b.betas, b.refusal, b.is_too_large, "
    "h.id, h.state, h.refusal, h.held_reason IS NOT NULL OR h.needs_person, h.is_undecided "
    "FROM batches AS b LEFT JOIN batches AS h ON h.parent_id = b.parent_id AND h.id <> b.id "
    "WHERE b.is_undecided = 1 ORDER BY b.id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherHalf:
    """The other half of the batch that a refused batch is a half of."""

    batch_id: int
    state: BatchState
    refusal: str | None
    is_held: bool
    is_undecided: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedBatch:
    """A batch whose members wait for a decision."""

    id: int
    request_count: int
    betas: tuple[str, ...]
    refusal: str
    is_too_large: bool
    other_half: OtherHalf | None


class RegroupingStore:
    """The rows about members that change their batch without having been answered."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def undecided(self) -> list[RefusedBatch]:
        """Return the refused batches whose members wait for a decision, oldest first."""
        rows = await self._database.all(_RELATIVES)
        return [
            RefusedBatch(
                id=id_,
                request_count=count,
                betas=tuple(betas.split(",")),
                refusal=refusal,
                is_too_large=bool(too_large),
                other_half=None
                if half_id is None
                else OtherHalf(
                    batch_id=half_id,
                    state=BatchState(half_state),
                    refusal=half_refusal,
                    is_held=bool(half_held),
                    is_undecided=bool(half_undecided),
                ),
            )
            for (
                id_, count, betas, refusal, too_large,
                half_id, half_state, half_refusal, half_held, half_undecided,
            ) in rows
        ]  # fmt: skip

    async def is_held_for(self, refusal: str) -> bool:
        """Say whether a batch is held because all of its parts were refused with these words."""
        row = await self._database.one(
            "SELECT 1 FROM batches WHERE state IN ('sealed', 'submitting') AND is_joined = 1 AND refusal = ? LIMIT 1",
            (refusal,),
        )
        return row is not None

    async def halve(self, batch_id: int, *, now: datetime) -> None:
        """Put the members into two new batches; the batch may have been refused, or be sealed."""
        async with self._database.transaction() as transaction:
            lane, betas, request_ids = await _leave(transaction, batch_id)
            middle = len(request_ids) // 2
            for half in (request_ids[:middle], request_ids[middle:]):
                await insert_batch(transaction, lane, betas, half, now=now, parent_id=batch_id)

    async def part_probe(self, batch_id: int, *, now: datetime) -> None:
        """Take the first member of a sealed batch out, to be sent alone as a probe; if it is alone, it is that."""
        alone = "UPDATE batches SET is_probe = 1 WHERE id = ? AND request_count = 1 AND state = 'sealed'"
        async with self._database.transaction() as transaction:
            if await transaction.run(alone, (batch_id,)):
                return
            lane, betas, request_ids = await _leave(transaction, batch_id)
            probe_id = await insert_batch(transaction, lane, betas, request_ids[:1], now=now)
            await transaction.run("UPDATE batches SET is_probe = 1 WHERE id = ?", (probe_id,))
            await insert_batch(transaction, lane, betas, request_ids[1:], now=now)

    async def join(self, batch_ids: Sequence[int], *, refusal: str, held_reason: str, now: datetime) -> None:
        """Put the members of refused batches into one that is tried again as a whole, and never halved for this."""
        async with self._database.transaction() as transaction:
            parts = [await _leave(transaction, batch_id) for batch_id in batch_ids]
            lane, betas, _ = parts[0]
            request_ids = sorted(request_id for _, _, members in parts for request_id in members)
            joined_id = await insert_batch(transaction, lane, betas, request_ids, now=now)
            await transaction.run(
                "UPDATE batches SET is_joined = 1, refusal = ?, held_reason = ? WHERE id = ?",
                (refusal, held_reason, joined_id),
            )

    async def fail(self, batch_id: int, *, error_text: str, now: datetime) -> None:
        """End the members as errors: the API will not take them."""
        async with self._database.transaction() as transaction:
            _, _, request_ids = await _leave(transaction, batch_id)
            await condemn(transaction, request_ids, ErrorType.REFUSED, text=error_text, now=now)


async def take_out(transaction: Transaction, request_ids: Sequence[int], *, now: datetime) -> None:
    """Take requests out of the sealed or refused batches that they are in; the others go on in one of the same kind.

    Those that are in no such batch are left alone. The caller says what becomes of the ones that are taken out.
    """
    rows = await transaction.all(
        "SELECT DISTINCT b.id FROM requests AS r JOIN batches AS b ON b.id = r.batch_id "
        "WHERE r.id IN (SELECT value FROM json_each(?)) AND r.state = 'batched' "
        "AND (b.state = 'sealed' OR b.is_undecided = 1)",
        (json.dumps(request_ids),),
    )
    going = set(request_ids)
    for (batch_id,) in rows:
        lane, betas, members = await _leave(transaction, batch_id)
        if staying := [request_id for request_id in members if request_id not in going]:
            successor_id = await insert_batch(transaction, lane, betas, staying, now=now)
            await transaction.run(
                f"UPDATE batches SET ({_KIND}) = (SELECT {_KIND} FROM batches WHERE id = ?) WHERE id = ?",  # noqa: S608 - our own constant
                (batch_id, successor_id),
            )
        await transaction.run("UPDATE batches SET parent_id = NULL WHERE id = ?", (batch_id,))


async def part(transaction: Transaction, batch_id: int, request_ids: Sequence[int], *, now: datetime) -> bool:
    """Put members of a sealed batch into one of their own, behind the one in which the others go on.

    Returns False, and changes nothing, if there are no others.
    """
    row = await transaction.one(
        "SELECT lane, betas, request_count FROM batches WHERE id = ? AND state = 'sealed'", (batch_id,)
    )
    if row is None or not request_ids:  # it was found after all, or nobody has to be parted any more
        return True
    lane, betas, count = row
    if len(request_ids) == count:
        return False
    await take_out(transaction, request_ids, now=now)
    await insert_batch(transaction, lane, betas, request_ids, now=now)
    return True


async def _leave(transaction: Transaction, batch_id: int) -> tuple[Lane, str, list[int]]:
    """Let the members go on without their batch; return its lane, its betas and who they are."""
    decided = await transaction.run(
        "UPDATE batches SET is_undecided = 0 WHERE id = ? AND is_undecided = 1", (batch_id,)
    )
    if not decided and not await move_batch(transaction, batch_id, BatchEvent.DISBAND):
        raise AssertionError(f"the members of batch {batch_id} are not free to leave it")
    ((lane, betas),) = await transaction.all("SELECT lane, betas FROM batches WHERE id = ?", (batch_id,))
    members = await transaction.all("SELECT request_id FROM members WHERE batch_id = ? ORDER BY number", (batch_id,))
    return lane, betas, [request_id for (request_id,) in members]
