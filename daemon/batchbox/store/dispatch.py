"""What dispatch reads and records: windows, batches, the intent of every sending and how it ended."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.api import BatchInfo
from batchbox.lifecycle import BatchEvent, RequestEvent
from batchbox.model import ApiBatchId, BatchState, CustomId, Lane, Nonce
from batchbox.store.body import REQUEST_OVERHEAD_BYTES, StoredBody
from batchbox.store.columns import from_blob, from_ms, optional_moment, optional_ms, to_ms
from batchbox.store.database import Database, Transaction
from batchbox.store.transitions import move_batch, move_requests

_FOUND = (
    "SELECT m.batch_id FROM twins AS t CROSS JOIN members AS f ON f.batch_id = t.batch_id "
    "CROSS JOIN members AS m ON m.request_id = f.request_id WHERE t.is_booked = 0 AND t.is_undecided = 1"
)
"""Batches of which a request is answered by one that has turned up, as far as is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Requests of one lane and one set of beta headers that wait for a batch."""

    lane: Lane
    betas: str
    request_count: int
    size_bytes: int
    """What they will take in a create call's body, at most."""
    oldest_at: datetime
    """Since when one of them has been waiting; being sent anew begins a new wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBatch:
    """A batch that may be sent."""

    id: int
    lane: Lane
    betas: tuple[str, ...]
    request_count: int
    replaces: Nonce | None
    """Its latest sending that surely was not accepted."""
    refusal: str | None
    """What the API said of it, or of its halves, before."""
    is_joined: bool
    """Whether its halves were refused alike, so that it was put together again."""
    break_count: int
    """How often its upload was ended by the connection or a 5xx."""
    is_probe: bool
    held_reason: str | None
    """Why it waits between its tries while others go on."""
    file_trouble: str | None
    """Which of its files could not be told to be as it was read, when they were looked at last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """The intent to POST a batch, written before the call."""

    nonce: Nonce
    batch_id: int
    mark: datetime | None
    """created_at of the newest batch in the workspace's list just before; None: the list was empty."""
    base_url: str
    key_hash: bytes
    replaces: Nonce | None
    intended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A batch whose sending has no known outcome."""

    batch_id: int
    nonce: Nonce
    request_count: int
    mark: datetime | None
    candidates_closed: bool
    key_hash: bytes
    """Of the key that it was sent with."""
    candidates: Sequence[ApiBatchId]
    """Batches of the API's that may be this one and have not been ruled out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestLine:
    """One request, as the manifest on the root names it."""

    number: int
    custom_id: CustomId
    lane: Lane
    source: str
    claim: str
    sha256: str | None


class DispatchStore:
    """The rows that dispatch writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def windows(self) -> list[Window]:
        """Return every window that has a request in it."""
        rows = await self._database.all(
            "SELECT lane, betas, count(*), sum(size_bytes + ?), min(waiting_since) FROM requests "
            "WHERE state = 'waiting' GROUP BY lane, betas ORDER BY lane, betas",
            (REQUEST_OVERHEAD_BYTES,),
        )
        return [
            Window(lane=lane, betas=betas, request_count=count, size_bytes=size, oldest_at=from_ms(oldest))
            for lane, betas, count, size, oldest in rows
        ]

    async def seal(
        self, window: Window, *, requests_max: int, bytes_max: int, now: datetime, is_probe: bool = False
    ) -> int | None:
        """Make a batch of the window's oldest requests; return its id, or None if nothing waits any more."""
        async with self._database.transaction() as transaction:
            rows = await transaction.all(
                "SELECT id, size_bytes FROM requests WHERE state = 'waiting' AND lane = ? AND betas = ? "
                "ORDER BY id LIMIT ?",
                (window.lane, window.betas, requests_max),
            )
            request_ids = _first_that_fit(rows, bytes_max)
            if not request_ids:
                return None
            batch_id = await insert_batch(transaction, window.lane, window.betas, request_ids, now=now)
            await transaction.run("UPDATE batches SET is_probe = ? WHERE id = ?", (int(is_probe), batch_id))
            await move_requests(transaction, request_ids, RequestEvent.SEAL)
        return batch_id

    async def sealed(self) -> list[SealedBatch]:
        """Return the batches that may be sent, oldest first.

        Those that wait for a person may not, nor those of which a request may be answered already.
        """
        rows = await self._database.all(
            "SELECT id, lane, betas, request_count, "  # noqa: S608 - our own constant
            "(SELECT nonce FROM sendings WHERE batch_id = batches.id ORDER BY intended_at DESC LIMIT 1), "
            "refusal, is_joined, break_count, is_probe, held_reason, file_trouble "
            f"FROM batches WHERE state = 'sealed' AND needs_person = 0 AND id NOT IN ({_FOUND}) ORDER BY id"
        )
        return [
            SealedBatch(
                id=id_,
                lane=lane,
                betas=tuple(betas.split(",")),
                request_count=count,
                replaces=replaces,
                refusal=refusal,
                is_joined=bool(is_joined),
                break_count=break_count,
                is_probe=bool(is_probe),
                held_reason=held_reason,
                file_trouble=file_trouble,
            )
            for (
                id_, lane, betas, count, replaces, refusal, is_joined, break_count, is_probe, held_reason, file_trouble
            ) in rows
        ]  # fmt: skip

    async def has_open_probe(self) -> bool:
        """Say whether a request that was sent alone, to see how the account fares, has not ended."""
        row = await self._database.one(
            "SELECT 1 FROM batches WHERE is_probe = 1 AND state IN ('submitting', 'in_progress', 'ended') LIMIT 1"
        )
        return row is not None

    async def intend(self, sending: Sending) -> bool:
        """Write down that the batch is about to be POSTed. From here on it is in doubt until its outcome is known.

        Returns False, and writes nothing, if a request in it was cancelled since it was chosen.
        """
        async with self._database.transaction() as transaction:
            if await _has_canceled(transaction, sending.batch_id):
                return False
            await transaction.run(
                "INSERT INTO sendings (nonce, batch_id, outcome, mark, base_url, key_hash, replaces, intended_at) "
                "VALUES (?, ?, 'open', ?, ?, ?, ?, ?)",
                (
                    sending.nonce,
                    sending.batch_id,
                    optional_ms(sending.mark),
                    sending.base_url,
                    sending.key_hash,
                    sending.replaces,
                    to_ms(sending.intended_at),
                ),
            )
            if not await move_batch(transaction, sending.batch_id, BatchEvent.INTEND):
                raise AssertionError(f"batch {sending.batch_id} is not sealed")
        return True

    async def body(self, batch_id: int, nonce: Nonce) -> StoredBody:
        """Return the create call's body, which reads itself from the database while it is sent."""
        return await StoredBody.of(self._database, batch_id, nonce)

    async def manifest_lines(self, batch_id: int, *, after: int, limit: int) -> list[ManifestLine]:
        """Return the next members after the number, each with the first file that asked for it."""
        rows = await self._database.all(
            "SELECT m.number, r.custom_id, r.lane, s.name, s.claim, s.sha256 FROM members AS m "
            "JOIN requests AS r ON r.id = m.request_id "
            "JOIN sources AS s ON s.id = (SELECT min(source_id) FROM attachments WHERE request_id = m.request_id) "
            "WHERE m.batch_id = ? AND m.number > ? ORDER BY m.number LIMIT ?",
            (batch_id, after, limit),
        )
        return [
            ManifestLine(
                number=number,
                custom_id=custom_id,
                lane=lane,
                source=from_blob(name),
                claim=from_blob(claim),
                sha256=None if sha256 is None else sha256.hex(),
            )
            for number, custom_id, lane, name, claim, sha256 in rows
        ]

    async def accept(
        self, batch_id: int, nonce: Nonce, batch: BatchInfo, *, api_request_id: str | None, now: datetime
    ) -> bool:
        """Record that the API has the batch: by its answer, or found again. Return False if it has it already.

        A later sending of the same batch that is still in doubt becomes a *twin*: it may exist as well.
        """
        async with self._database.transaction() as transaction:
            return await _accept(transaction, batch_id, nonce, batch, api_request_id=api_request_id, now=now)

    async def adopt(self, batch_id: int, nonce: Nonce, batch: BatchInfo, *, now: datetime) -> bool:
        """Record that a candidate is the batch, by a person's word alone.

        Returns False, and records nothing, if that was decided meanwhile: the batch may be on its way again.
        """
        async with self._database.transaction() as transaction:
            row = await transaction.one(
                "SELECT 1 FROM candidates AS c JOIN sendings AS s ON s.nonce = c.nonce "
                "WHERE c.nonce = ? AND c.api_id = ? AND c.verdict = 'open' AND s.outcome = 'open'",
                (nonce, batch.id),
            )
            if row is None:
                return False
            return await _accept(transaction, batch_id, nonce, batch, api_request_id=None, now=now)

    async def withdraw(self, batch_id: int, nonce: Nonce, *, now: datetime, is_break: bool) -> None:
        """Record that the sending surely created nothing: the batch may be sent again.

        Args:
            batch_id: The batch.
            nonce: The sending.
            now: When that was found out: a first sending that turns up late is looked for from here on.
            is_break: Whether it was the connection or a 5xx that ended the upload.
        """
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE sendings SET withdrawn_at = ? WHERE nonce = ?", (to_ms(now), nonce))
            await _end_sending(transaction, nonce, "withdrawn")
            if await move_batch(transaction, batch_id, BatchEvent.WITHDRAW):
                await transaction.run(
                    "UPDATE batches SET break_count = break_count + ? WHERE id = ?", (int(is_break), batch_id)
                )

    async def refuse(self, batch_id: int, nonce: Nonce, *, refusal: str, is_too_large: bool) -> None:
        """Record that the API refused the batch; what becomes of its members is decided in `regrouping`."""
        async with self._database.transaction() as transaction:
            await _end_sending(transaction, nonce, "refused")
            if not await move_batch(transaction, batch_id, BatchEvent.REFUSE):
                raise AssertionError(f"batch {batch_id} is not being submitted")
            await transaction.run(
                "UPDATE batches SET refusal = ?, is_too_large = ?, is_undecided = 1 WHERE id = ?",
                (refusal, int(is_too_large), batch_id),
            )

    async def hold(self, batch_id: int, reason: str) -> None:
        """Record why a batch waits between its tries while others go on."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE batches SET held_reason = ? WHERE id = ?", (reason, batch_id))

    async def unmark_probe(self, batch_id: int) -> None:
        """Record that a batch which must wait does not show any more how the account fares."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE batches SET is_probe = 0 WHERE id = ? AND state = 'sealed'", (batch_id,))

    async def note_file_trouble(self, batch_id: int, trouble: str | None) -> None:
        """Record which file of a batch could not be told to be as it was read; None: all could."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE batches SET file_trouble = ? WHERE id = ?", (trouble, batch_id))

    async def doubts(self) -> list[Doubt]:
        """Return the batches in doubt, oldest first."""
        rows = await self._database.all(
            "SELECT b.id, s.nonce, b.request_count, s.mark, s.candidates_closed, s.key_hash, "
            "(SELECT json_group_array(api_id) FROM candidates AS c WHERE c.nonce = s.nonce AND c.verdict = 'open') "
            "FROM batches AS b JOIN sendings AS s ON s.batch_id = b.id AND s.outcome = 'open' "
            "WHERE b.state = ? ORDER BY b.id",
            (BatchState.SUBMITTING,),
        )
        return [
            Doubt(
                batch_id=batch_id,
                nonce=nonce,
                request_count=count,
                mark=optional_moment(mark),
                candidates_closed=bool(closed),
                key_hash=key_hash,
                candidates=json.loads(candidates),
            )
            for batch_id, nonce, count, mark, closed, key_hash, candidates in rows
        ]

    async def known_batches(self, api_ids: Sequence[ApiBatchId]) -> set[ApiBatchId]:
        """Return those of the ids that are batches of ours, delivered or bought beside one that is."""
        rows = await self._database.all(
            "SELECT api_id FROM batches WHERE api_id IN (SELECT value FROM json_each(?1)) "
            "UNION SELECT api_id FROM twins WHERE api_id IN (SELECT value FROM json_each(?1))",
            (json.dumps(api_ids),),
        )
        return {api_id for (api_id,) in rows}

    async def add_candidates(self, nonce: Nonce, api_ids: Sequence[ApiBatchId]) -> None:
        """Record batches that may be the sending's. One that has been ruled out stays so."""
        async with self._database.transaction() as transaction:
            await transaction.run_many(
                "INSERT INTO candidates (nonce, api_id, verdict) VALUES (?, ?, 'open') ON CONFLICT DO NOTHING",
                [(nonce, api_id) for api_id in api_ids],
            )

    async def close_candidates(self, nonce: Nonce) -> None:
        """Record that no further candidate can turn up."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE sendings SET candidates_closed = 1 WHERE nonce = ?", (nonce,))

    async def rule_out(self, api_id: ApiBatchId) -> None:
        """Record that the batch is none of ours, for every sending that thought it might be."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE candidates SET verdict = 'foreign' WHERE api_id = ?", (api_id,))

    async def note_unreadable(self, api_id: ApiBatchId, trouble: str) -> None:
        """Record why it cannot be read whose batch it is, for the person who may have to decide."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE candidates SET trouble = ? WHERE api_id = ?", (trouble, api_id))

    async def batch_of_sending(self, nonce: Nonce) -> int | None:
        """Return the batch that a nonce was made for, or None if the nonce is not ours."""
        row = await self._database.one("SELECT batch_id FROM sendings WHERE nonce = ?", (nonce,))
        return None if row is None else int(row[0])


def _first_that_fit(rows: Sequence[Sequence[int]], bytes_max: int) -> list[int]:
    taken: list[int] = []
    total = 0
    for request_id, size_bytes in rows:
        total += size_bytes + REQUEST_OVERHEAD_BYTES
        if taken and total > bytes_max:
            break
        taken.append(request_id)
    return taken


async def insert_batch(
    transaction: Transaction,
    lane: Lane,
    betas: str,
    request_ids: Sequence[int],
    *,
    now: datetime,
    parent_id: int | None = None,
) -> int:
    """Make a sealed batch of the requests, numbered in their order; return its id."""
    rows = await transaction.all("SELECT coalesce(max(id), 0) + 1 FROM batches")
    batch_id = int(rows[0][0])
    await transaction.run(
        "INSERT INTO batches (id, state, lane, betas, request_count, sealed_at, parent_id) "
        "VALUES (?, 'sealed', ?, ?, ?, ?, ?)",
        (batch_id, lane, betas, len(request_ids), to_ms(now), parent_id),
    )
    await transaction.run_many(
        "INSERT INTO members (batch_id, number, request_id) VALUES (?, ?, ?)",
        [(batch_id, number, request_id) for number, request_id in enumerate(request_ids, start=1)],
    )
    await transaction.run(
        "UPDATE requests SET batch_id = ? WHERE id IN (SELECT value FROM json_each(?))",
        (batch_id, json.dumps(request_ids)),
    )
    return batch_id


async def _accept(
    transaction: Transaction,
    batch_id: int,
    nonce: Nonce,
    batch: BatchInfo,
    *,
    api_request_id: str | None,
    now: datetime,
) -> bool:
    if not await move_batch(transaction, batch_id, BatchEvent.ACCEPT):
        return False
    await note_accepted(transaction, batch_id, nonce, batch, api_request_id=api_request_id)
    await transaction.run(
        "UPDATE sendings SET outcome = 'twin', candidates_closed = 1, withdrawn_at = ? "
        "WHERE batch_id = ? AND outcome = 'open'",
        (to_ms(now), batch_id),
    )
    await transaction.run("UPDATE candidates SET verdict = 'ours' WHERE api_id = ?", (batch.id,))
    return True


async def note_accepted(
    transaction: Transaction, batch_id: int, nonce: Nonce, batch: BatchInfo, *, api_request_id: str | None
) -> None:
    """Record by which sending, and as what, the API has a batch."""
    await transaction.run(
        "UPDATE batches SET api_id = ?, nonce = ?, created_at = ?, expires_at = ?, held_reason = NULL WHERE id = ?",
        (batch.id, nonce, to_ms(batch.created_at), to_ms(batch.expires_at), batch_id),
    )
    await transaction.run(
        "UPDATE sendings SET outcome = 'accepted', api_request_id = ? WHERE nonce = ?", (api_request_id, nonce)
    )


async def _has_canceled(transaction: Transaction, batch_id: int) -> bool:
    row = await transaction.one(
        "SELECT 1 FROM requests WHERE batch_id = ? AND canceled_at IS NOT NULL "
        "AND state IN ('waiting', 'batched') LIMIT 1",
        (batch_id,),
    )
    return row is not None


async def _end_sending(transaction: Transaction, nonce: Nonce, outcome: str) -> None:
    await transaction.run("UPDATE sendings SET outcome = ? WHERE nonce = ? AND outcome = 'open'", (outcome, nonce))
