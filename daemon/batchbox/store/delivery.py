"""What delivery reads and records: what a result line is about, how each request ended, and what was paid.

A group of answers is recorded in one transaction, after its files are in the outbox; the stems are recorded in an
earlier one, before the first rename, so that a repetition writes the same names.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.api import RequestCounts
from batchbox.lifecycle import BatchEvent, RequestEvent, SourceEvent
from batchbox.model import ApiBatchId, CustomId, ErrorType, Lane, LostReason, Nonce, WireId
from batchbox.naming import wire_id
from batchbox.store.body import remove_params
from batchbox.store.charges import Charge, insert_charges
from batchbox.store.columns import (
    from_blob,
    from_ms,
    optional_moment,
    to_ms,
)
from batchbox.store.condemning import condemn
from batchbox.store.database import Database, Row, Transaction
from batchbox.store.holds import HoldName
from batchbox.store.transitions import move_batch, move_requests, move_sources

_HAS_STEM = "stem IS NOT NULL AND state IN ('batched', 'failing')"
"""Spelled as in the index requests_stem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedBatch:
    """A batch whose results can be read, or will never be."""

    id: int
    api_id: ApiBatchId
    nonce: Nonce
    lane: Lane
    request_count: int
    short_reads: int
    created_at: datetime
    """By the API's clock."""
    counts: RequestCounts | None
    """How the API says that its requests ended; None: it has not said so."""
    key_hash: bytes
    """Of the key that it was sent with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One batch that a request was sent in."""

    batch_id: ApiBatchId
    wire_id: WireId
    api_request_id: str | None
    sent_at: datetime
    ended_at: datetime | None
    is_recovered: bool
    """Whether the batch is known from its manifest alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """A request that has not been delivered, with all that its files will say of it."""

    request_id: int
    custom_id: CustomId
    lane: Lane
    model: str
    max_tokens: int
    extension: str
    attempts: int
    """Tries before this one that failed and count."""
    max_attempts: int
    stem: str | None
    is_canceled: bool
    """It ends as an error, whatever its line of results says."""
    source: str
    owner: str
    line: int | None
    dropped_at: datetime
    tries: Sequence[Try]
    error_type: str | None
    error_text: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a request fared; its files, if the event asks for any, are in the outbox."""

    request_id: int
    event: RequestEvent
    """ANSWER, CUT_SHORT, FAIL, PUBLISH, or REQUEUE."""
    counts_as_attempt: bool = True
    """For REQUEUE: whether the try was the request's own failure."""
    error_type: str | None = None
    error_text: str | None = None
    charge: Charge | None = None


_BATCHES = """
    SELECT b.id, b.api_id, b.nonce, b.lane, b.request_count, b.short_reads, b.created_at, b.counts, s.key_hash
    FROM batches AS b JOIN sendings AS s ON s.nonce = b.nonce
"""

_UNDELIVERED = """
    SELECT r.id, r.custom_id, r.lane, r.model, r.max_tokens, r.extension, r.attempts, r.max_attempts, r.stem,
           r.canceled_at IS NOT NULL, s.name, s.owner, a.line, s.dropped_at, r.error_type, r.error_text, r.ended_at
    FROM requests AS r
    JOIN attachments AS a ON a.request_id = r.id
         AND a.source_id = (SELECT min(source_id) FROM attachments WHERE request_id = r.id)
    JOIN sources AS s ON s.id = a.source_id
"""


class DeliveryStore:
    """The rows that delivery writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ended(self) -> Sequence[EndedBatch]:
        """Return the batches whose results can be read, oldest first."""
        rows = await self._database.all(f"{_BATCHES} WHERE b.state = 'ended' ORDER BY b.id")
        return [_ended_batch(row) for row in rows]

    async def lost_since(self, before: datetime) -> Sequence[EndedBatch]:
        """Return the lost batches that the API has had since before the moment, oldest first."""
        rows = await self._database.all(
            f"{_BATCHES} WHERE b.state = 'lost' AND b.created_at <= ? ORDER BY b.id", (to_ms(before),)
        )
        return [_ended_batch(row) for row in rows]

    async def undelivered(self, batch_id: int, numbers: Sequence[int]) -> dict[int, Undelivered]:
        """Return, by number in the batch, those members that still wait for this batch's answer."""
        rows = await self._database.all(
            "SELECT number, request_id FROM members WHERE batch_id = ? AND number IN (SELECT value FROM json_each(?))",
            (batch_id, json.dumps(numbers)),
        )
        number_of = {request_id: number for number, request_id in rows}
        details = await self._database.all(
            _UNDELIVERED + "WHERE r.id IN (SELECT value FROM json_each(?)) AND r.state = 'batched' AND r.batch_id = ?",  # noqa: S608
            (json.dumps(list(number_of)), batch_id),
        )
        return {number_of[one.request_id]: one for one in await self._undelivered(details)}

    async def failing(
        self, *, limit: int, closed_lanes: Collection[Lane] = (), waiting: Collection[int] = ()
    ) -> Sequence[Undelivered]:
        """Return requests that ended without a line of results and whose file is not written yet.

        Leaves out those of lanes that cannot be written, and those that wait for a name.
        """
        others = (
            "WHERE r.state = 'failing' AND r.lane NOT IN (SELECT value FROM json_each(?)) "
            "AND r.id NOT IN (SELECT value FROM json_each(?))"
        )
        rows = await self._database.all(
            f"{_UNDELIVERED} {others} ORDER BY r.id LIMIT ?",
            (json.dumps(list(closed_lanes)), json.dumps(list(waiting)), limit),
        )
        return await self._undelivered(rows)

    async def take_stems(self, stems: Mapping[int, str], *, canceled: Collection[int] = ()) -> set[int]:
        """Record the names that requests have in the outbox, before the first file of any is visible.

        From then on nobody can cancel them: what is written stays as it is. Those that were cancelled before, and are
        not among the ones known to be, take no name, and are returned.
        """
        async with self._database.transaction() as transaction:
            rows = await transaction.all(
                "SELECT id FROM requests WHERE id IN (SELECT value FROM json_each(?)) "
                "AND canceled_at IS NOT NULL AND stem IS NULL",
                (json.dumps([request_id for request_id in stems if request_id not in canceled]),),
            )
            overtaken = {request_id for (request_id,) in rows}
            await transaction.run_many(
                "UPDATE requests SET stem = ? WHERE id = ?",
                [(stem, request_id) for request_id, stem in stems.items() if request_id not in overtaken],
            )
        return overtaken

    async def stems_in_use(self, lane: Lane) -> set[str]:
        """Return, case-folded, the stems that unpublished requests of the lane have taken."""
        rows = await self._database.all(f"SELECT stem FROM requests WHERE lane = ? AND {_HAS_STEM}", (lane,))  # noqa: S608 - our own constant
        return {stem.casefold() for (stem,) in rows}

    async def all_stems_in_use(self) -> set[str]:
        """Return, case-folded, the stems that unpublished requests of any lane have taken."""
        rows = await self._database.all(f"SELECT stem FROM requests WHERE {_HAS_STEM}")  # noqa: S608 - our own constant
        return {stem.casefold() for (stem,) in rows}

    async def record(self, outcomes: Sequence[Ended], *, now: datetime) -> None:
        """Record how requests fared, what they cost, and which files have nothing open any more."""
        async with self._database.transaction() as transaction:
            await insert_charges(transaction, [ended.charge for ended in outcomes if ended.charge is not None])
            requeued = [ended for ended in outcomes if ended.event is RequestEvent.REQUEUE]
            finished = [ended for ended in outcomes if ended.event is not RequestEvent.REQUEUE]
            await _requeue(transaction, requeued, now=now)
            await _finish(transaction, finished, now=now)

    async def count_short_read(self, batch_id: int) -> None:
        """Record that the results were read to their end and had too few lines."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE batches SET short_reads = short_reads + 1 WHERE id = ?", (batch_id,))

    async def undelivered_count(self, batch_id: int) -> int:
        """Return how many members still wait for this batch's answer."""
        row = await self._database.one(
            "SELECT count(*) FROM members AS m JOIN requests AS r ON r.id = m.request_id "
            "WHERE m.batch_id = ?1 AND r.batch_id = ?1 AND r.state = 'batched'",
            (batch_id,),
        )
        return int(row[0]) if row else 0

    async def condemn_rest(self, batch_id: int, error_type: ErrorType, error_text: str, *, now: datetime) -> None:
        """End the members that have no line of results as errors."""
        async with self._database.transaction() as transaction:
            rows = await transaction.all(
                "SELECT r.id FROM members AS m JOIN requests AS r ON r.id = m.request_id "
                "WHERE m.batch_id = ?1 AND r.batch_id = ?1 AND r.state = 'batched'",
                (batch_id,),
            )
            request_ids = [request_id for (request_id,) in rows]
            await condemn(transaction, request_ids, error_type, text=error_text, now=now)

    async def close(self, batch_id: int) -> bool:
        """Record that nobody waits for the batch any more; return whether it released what waited for credit.

        It does if it is the probe, one request that went alone, and no line of it was about credit. News of missing
        credit that came meanwhile, from an older batch, stays.
        """
        async with self._database.transaction() as transaction:
            if not await move_batch(transaction, batch_id, BatchEvent.CLOSE):
                return False
            released = await transaction.run(
                "DELETE FROM holds WHERE name = ? AND next_attempt_at IS NOT NULL "
                "AND EXISTS (SELECT 1 FROM batches WHERE id = ? AND is_probe = 1)",
                (HoldName.CREDIT, batch_id),
            )
        return released > 0

    async def lose(self, batch_id: int, reason: LostReason) -> None:
        """Record that the batch's results cannot be had, and why."""
        async with self._database.transaction() as transaction:
            if await move_batch(transaction, batch_id, BatchEvent.LOSE):
                await transaction.run("UPDATE batches SET lost_reason = ? WHERE id = ?", (reason, batch_id))

    async def remove_bodies(self, before: datetime, *, limit: int) -> int:
        """Delete the bodies of requests that ended without a whole answer before the moment; return how many."""
        async with self._database.transaction() as transaction:
            rows = await transaction.all(
                "SELECT id FROM requests WHERE state IN ('incomplete', 'failed') AND is_body_gone = 0 "
                "AND ended_at < ? ORDER BY ended_at LIMIT ?",
                (to_ms(before), limit),
            )
            request_ids = [request_id for (request_id,) in rows]
            await remove_params(transaction, request_ids)
            await transaction.run(
                "UPDATE requests SET is_body_gone = 1 WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(request_ids),),
            )
        return len(request_ids)

    async def _undelivered(self, rows: Sequence[Row]) -> list[Undelivered]:
        tries = await self._tries([row[0] for row in rows])
        return [
            Undelivered(
                request_id=id_,
                custom_id=custom_id,
                lane=lane,
                model=model,
                max_tokens=max_tokens,
                extension=extension,
                attempts=attempts,
                max_attempts=max_attempts,
                stem=stem,
                is_canceled=bool(is_canceled),
                source=from_blob(name),
                owner=owner,
                line=line,
                dropped_at=from_ms(dropped_at),
                tries=tries.get(id_, []),
                error_type=error_type,
                error_text=error_text,
                ended_at=optional_moment(ended_at),
            )
            for (
                id_, custom_id, lane, model, max_tokens, extension, attempts, max_attempts, stem,
                is_canceled, name, owner, line, dropped_at, error_type, error_text, ended_at,
            ) in rows
        ]  # fmt: skip

    async def _tries(self, request_ids: Sequence[int]) -> dict[int, list[Try]]:
        rows = await self._database.all(
            "SELECT r.id, r.custom_id, m.number, b.api_id, b.nonce, b.ended_at, s.api_request_id, s.intended_at, "
            "b.needs_person "
            "FROM json_each(?) AS wanted CROSS JOIN requests AS r ON r.id = wanted.value "
            "JOIN members AS m ON m.request_id = r.id JOIN batches AS b ON b.id = m.batch_id "
            "JOIN sendings AS s ON s.nonce = b.nonce WHERE b.api_id IS NOT NULL ORDER BY b.id",
            (json.dumps(request_ids),),
        )
        tries: dict[int, list[Try]] = {}
        for id_, custom_id, number, api_id, nonce, ended_at, api_request_id, intended_at, needs_person in rows:
            tries.setdefault(id_, []).append(
                Try(
                    batch_id=api_id,
                    wire_id=wire_id(custom_id, nonce=nonce, number=number),
                    api_request_id=api_request_id,
                    sent_at=from_ms(intended_at),
                    ended_at=optional_moment(ended_at),
                    is_recovered=bool(needs_person),
                )
            )
        return tries


def _ended_batch(row: Row) -> EndedBatch:
    id_, api_id, nonce, lane, request_count, short_reads, created_at, counts, key_hash = row
    return EndedBatch(
        id=id_,
        api_id=api_id,
        nonce=nonce,
        lane=lane,
        request_count=request_count,
        short_reads=short_reads,
        created_at=from_ms(created_at),
        counts=None if counts is None else RequestCounts(**json.loads(counts)),
        key_hash=key_hash,
    )


async def _requeue(transaction: Transaction, requeued: Sequence[Ended], *, now: datetime) -> None:
    await transaction.run_many(  # a line about credit costs no attempt; a probe that brings one has proved nothing
        "UPDATE batches SET is_probe = 0 WHERE is_probe = 1 AND id = (SELECT batch_id FROM requests WHERE id = ?)",
        [(ended.request_id,) for ended in requeued if not ended.counts_as_attempt],
    )
    await transaction.run_many(
        "UPDATE requests SET attempts = attempts + ?, batch_id = NULL, waiting_since = ? "
        "WHERE id = ? AND state = 'batched'",
        [(int(ended.counts_as_attempt), to_ms(now), ended.request_id) for ended in requeued],
    )
    await move_requests(transaction, [ended.request_id for ended in requeued], RequestEvent.REQUEUE)


async def _finish(transaction: Transaction, finished: Sequence[Ended], *, now: datetime) -> None:
    await transaction.run_many(
        "UPDATE requests SET error_type = ?, error_text = ?, ended_at = ? WHERE id = ?",
        [
            (ended.error_type, ended.error_text, to_ms(now), ended.request_id)
            for ended in finished
            if ended.event is not RequestEvent.PUBLISH  # its error and its end were recorded when it was condemned
        ],
    )
    for event in (RequestEvent.ANSWER, RequestEvent.CUT_SHORT, RequestEvent.FAIL, RequestEvent.PUBLISH):
        request_ids = [ended.request_id for ended in finished if ended.event is event]
        if not request_ids:
            continue
        moved = await move_requests(transaction, request_ids, event)
        if moved != len(request_ids):
            raise AssertionError(f"{len(request_ids) - moved} requests had ended before")
    answered = [ended.request_id for ended in finished if ended.event is RequestEvent.ANSWER]
    await remove_params(transaction, answered)
    await _settle_sources(transaction, [ended.request_id for ended in finished])


async def _settle_sources(transaction: Transaction, request_ids: Sequence[int]) -> None:
    ids = json.dumps(request_ids)
    await transaction.run(
        "UPDATE sources SET open_count = open_count - ended.requests FROM ("
        "SELECT source_id, count(*) AS requests FROM attachments "
        "WHERE request_id IN (SELECT value FROM json_each(?)) GROUP BY source_id) AS ended "
        "WHERE sources.id = ended.source_id AND sources.state = 'open'",  # one that is being read counts at its end
        (ids,),
    )
    rows = await transaction.all(
        "SELECT DISTINCT s.id FROM attachments AS a JOIN sources AS s ON s.id = a.source_id "
        "WHERE a.request_id IN (SELECT value FROM json_each(?)) AND s.open_count = 0",
        (ids,),
    )
    await move_sources(transaction, [source_id for (source_id,) in rows], SourceEvent.SETTLE)
