"""What `recover` records: sendings that this database never heard of, each as a batch in doubt.

A request is waited for in one batch only, the latest that held it: before it was sent again its earlier try had surely
failed. A recovered batch is never sent again by itself, because the database that could have said that nothing of it
was bought is the one that is gone.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.documents import ManifestEntry, ManifestHead
from batchbox.lifecycle import BatchEvent, RequestEvent
from batchbox.model import OUTPUT_300K_BETA, BatchState, Instance, Lane, Nonce
from batchbox.naming import numbered, parse_claim_name
from batchbox.store.columns import from_blob, optional_ms, to_blob, to_ms
from batchbox.store.database import Database, Transaction
from batchbox.store.meta import Fact
from batchbox.store.originals import take_targets
from batchbox.store.recording import IS_OPEN, SUFFIXES_MAX
from batchbox.store.transitions import move_batch, move_requests

HELD_SINCE_MOVED = "some of its requests were sent again in other batches, before the database was lost"

_OPEN_REQUESTS = (
    "SELECT wanted.value ->> 0, r.id FROM json_each(?) AS wanted "  # noqa: S608 - our own constant
    f"CROSS JOIN requests AS r ON r.lane = wanted.value ->> 1 AND r.custom_id = wanted.value ->> 2 AND r.{IS_OPEN} "
    "JOIN attachments AS a ON a.request_id = r.id "
    "JOIN sources AS s ON s.id = a.source_id AND s.claim >= CAST(wanted.value ->> 3 || '~' AS BLOB) "
    "AND s.claim < CAST(wanted.value ->> 3 || char(127) AS BLOB) WHERE r.state IN ('waiting', 'batched')"
)
"""A claim is found by its mark, which is unique; the rest of its name may not be text."""

_LEFT_IN = "SELECT id FROM requests WHERE batch_id = ? AND state = 'batched'"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredBatch:
    """One batch as its manifests describe it."""

    heads: Sequence[ManifestHead]
    """A chain of sendings, each but the last surely not accepted."""
    lane: Lane
    requests: Mapping[int, int]
    """By number in the batch, the requests that are waited for in it."""
    unknown: Sequence[ManifestEntry]
    """Requests that were sent and that no row knows."""
    extension: str
    """Of the unknown ones' answers."""
    key_hash: bytes
    held_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """A file whose requests are open, or have just ended, and whose place in done/ is not known."""

    id: int
    lane: Lane
    claim: str
    name: str
    sha256: bytes | None


class RecoveryStore:
    """The rows that recovering writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unknown(self, nonces: Collection[Nonce]) -> set[Nonce]:
        """Return the nonces that no sending has, and that no manifest had that nobody waits for."""
        rows = await self._database.all(
            "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT nonce FROM sendings) "
            "AND value NOT IN (SELECT nonce FROM old_manifests)",
            (json.dumps(list(nonces)),),
        )
        return {Nonce(nonce) for (nonce,) in rows}

    async def open_requests(self, entries: Sequence[ManifestEntry]) -> dict[int, int]:
        """Return, by number, the requests that wait or are in a batch, of those that a manifest names.

        A derived id that was numbered because another one was open, or was not, may have been numbered anew since.
        """
        found = await self._find([(entry.number, entry.lane, entry.custom_id, mark_of(entry)) for entry in entries])
        left = [entry for entry in entries if entry.number not in found]
        others = [(one.number, one.lane, other, mark_of(one)) for one in left for other in _other_names(one.custom_id)]
        return await self._find(others) | found

    async def _find(self, wanted: Sequence[tuple[int, Lane, str, str]]) -> dict[int, int]:
        rows = await self._database.all(_OPEN_REQUESTS, (json.dumps(wanted),)) if wanted else []
        return {int(number): request_id for number, request_id in rows}

    async def settle(self, nonces: Collection[Nonce]) -> None:
        """Record manifests of whose requests none is waited for: they are no news any more."""
        async with self._database.transaction() as transaction:
            await transaction.run_many(
                "INSERT INTO old_manifests (nonce) VALUES (?) ON CONFLICT DO NOTHING", [(nonce,) for nonce in nonces]
            )

    async def over(self, nonces: Collection[Nonce]) -> list[Nonce]:
        """Return those of whose requests none is waited for because of them: their manifests need not be open."""
        rows = await self._database.all(
            "SELECT nonce FROM sendings WHERE outcome IN ('withdrawn', 'refused') "
            "AND nonce IN (SELECT value FROM json_each(?1)) "
            "UNION SELECT nonce FROM old_manifests WHERE nonce IN (SELECT value FROM json_each(?1))",
            (json.dumps(list(nonces)),),
        )
        return [Nonce(nonce) for (nonce,) in rows]

    async def enter(self, batch: RecoveredBatch, *, now: datetime) -> None:
        """Record a batch in doubt, in which its requests are waited for from now on."""
        async with self._database.transaction() as transaction:
            requests = dict(batch.requests) | await _invent(transaction, batch, now=now)
            batch_id = await _seal(transaction, batch, list(requests.values()))
            left = await _take(transaction, batch_id, list(requests.values()), now=now)
            await transaction.run_many(
                "INSERT INTO members (batch_id, number, request_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(batch_id, number, request_id) for number, request_id in requests.items()],
            )
            await _intend(transaction, batch_id, batch)
            await transaction.run("DELETE FROM unsettled")  # what was still to be read may have been sent since
            for left_id in left:
                await _dissolve(transaction, left_id, now=now)

    async def unplaced(self) -> list[Unplaced]:
        """Return the files that are to lie in processing/ yet."""
        rows = await self._database.all(
            "SELECT id, lane, claim, name, sha256 FROM sources WHERE state IN ('open', 'settled') "
            "AND (target IS NULL OR target = claim)"
        )
        return [
            Unplaced(id=id_, lane=lane, claim=from_blob(claim), name=from_blob(name), sha256=sha256)
            for id_, lane, claim, name, sha256 in rows
        ]

    async def place(self, targets: Mapping[int, str]) -> None:
        """Record where files are that have left processing/ before this database heard of it."""
        async with self._database.transaction() as transaction:
            await take_targets(transaction, targets.items())

    async def adopt(self, instance: Instance) -> None:
        """Record that the work in this database is this instance's now."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE meta SET value = ? WHERE key = ?", (instance, Fact.INSTANCE))


def mark_of(entry: ManifestEntry) -> str:
    """Return what makes the entry's claim unique."""
    return entry.claim.partition("~")[0]


def _other_names(custom_id: str) -> list[str]:
    base, _, number = custom_id.rpartition("-")
    without = [base] if base and number.isdecimal() else []
    return [*without, *(numbered(custom_id, number) for number in range(2, 10))]  # type: ignore[arg-type] # a CustomId


async def _seal(transaction: Transaction, batch: RecoveredBatch, request_ids: Sequence[int]) -> int:
    """Return a sealed batch for the sendings: the one whose sending they replace, if we know it; else a new one."""
    replaced = batch.heads[0].replaces
    row = await transaction.one(
        "SELECT b.id, b.state FROM sendings AS s JOIN batches AS b ON b.id = s.batch_id WHERE s.nonce = ?", (replaced,)
    )
    if row is not None and row[1] in {BatchState.SEALED, BatchState.SUBMITTING}:
        await _end_sendings(transaction, row[0], "withdrawn", now=batch.heads[0].intended_at)
        await move_batch(transaction, row[0], BatchEvent.WITHDRAW)
        return int(row[0])
    betas = await transaction.one("SELECT betas FROM requests WHERE id = ?", (request_ids[0],))
    rows = await transaction.all("SELECT coalesce(max(id), 0) + 1 FROM batches")
    await transaction.run(
        "INSERT INTO batches (id, state, lane, betas, request_count, sealed_at) VALUES (?, 'sealed', ?, ?, ?, ?)",
        (rows[0][0], batch.lane, betas and betas[0], batch.heads[-1].count, to_ms(batch.heads[0].intended_at)),
    )
    return int(rows[0][0])


async def _take(transaction: Transaction, batch_id: int, request_ids: Sequence[int], *, now: datetime) -> list[int]:
    """Let the requests wait in the batch, wherever they waited before; return the batches that they have left."""
    ids = json.dumps(request_ids)
    rows = await transaction.all(
        "SELECT DISTINCT batch_id FROM requests WHERE id IN (SELECT value FROM json_each(?)) "
        "AND batch_id IS NOT NULL AND batch_id <> ?",
        (ids, batch_id),
    )
    await transaction.run(  # a batch that was accepted has failed for whoever was in a later one
        "UPDATE requests SET attempts = attempts + 1 WHERE id IN (SELECT value FROM json_each(?)) "
        "AND batch_id IN (SELECT id FROM batches WHERE api_id IS NOT NULL)",
        (ids,),
    )
    await move_requests(transaction, request_ids, RequestEvent.REQUEUE)
    moved = await move_requests(transaction, request_ids, RequestEvent.SEAL)
    if moved != len(request_ids):
        raise AssertionError(f"{len(request_ids) - moved} requests were not free to be waited for")
    await transaction.run(
        "UPDATE requests SET batch_id = ?, waiting_since = ? WHERE id IN (SELECT value FROM json_each(?))",
        (batch_id, to_ms(now), ids),
    )
    await transaction.run(  # something of them has been sent: what they are by now counts no more
        "UPDATE sources SET is_verified = 1 WHERE id IN (SELECT source_id FROM attachments "
        "WHERE request_id IN (SELECT value FROM json_each(?)))",
        (ids,),
    )
    return [left_id for (left_id,) in rows]


async def _intend(transaction: Transaction, batch_id: int, batch: RecoveredBatch) -> None:
    """Enter the sendings, the last one in doubt."""
    replaced_at = [head.intended_at for head in batch.heads[1:]]
    await transaction.run_many(
        "INSERT INTO sendings (nonce, batch_id, outcome, mark, base_url, key_hash, replaces, intended_at, "
        "candidates_closed, withdrawn_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                head.nonce, batch_id, "open" if ended_at is None else "withdrawn", optional_ms(head.mark),
                head.base_url, batch.key_hash, head.replaces, to_ms(head.intended_at),
                int(ended_at is not None), optional_ms(ended_at),
            )
            for head, ended_at in zip(batch.heads, [*replaced_at, None], strict=True)
        ],
    )  # fmt: skip
    await _hold(transaction, batch_id, batch.held_reason)
    if not await move_batch(transaction, batch_id, BatchEvent.INTEND):
        raise AssertionError(f"batch {batch_id} is not sealed")


async def _dissolve(transaction: Transaction, batch_id: int, *, now: datetime) -> None:
    """Decide about a batch that requests have left.

    One that is to be sent, or whose members wait for a decision, must not take those along that have left. One in
    doubt that nobody waits for is over; else a person must say whether what is left of it is sent again.
    """
    left = [request_id for (request_id,) in await transaction.all(_LEFT_IN, (batch_id,))]
    is_undecided = await transaction.run(
        "UPDATE batches SET is_undecided = 0 WHERE id = ? AND is_undecided = 1", (batch_id,)
    )
    if is_undecided or await move_batch(transaction, batch_id, BatchEvent.DISBAND):
        await requeue(transaction, left, now=now)
    elif left:
        await transaction.run(
            "UPDATE batches SET needs_person = 1, held_reason = ? WHERE id = ? AND state = 'submitting'",
            (HELD_SINCE_MOVED, batch_id),
        )
    elif await move_batch(transaction, batch_id, BatchEvent.REFUSE):
        await _end_sendings(transaction, batch_id, "refused", now=now)


async def requeue(transaction: Transaction, request_ids: Sequence[int], *, now: datetime) -> None:
    """Let requests of a batch wait for another one."""
    await transaction.run(
        "UPDATE requests SET batch_id = NULL, waiting_since = ? WHERE id IN (SELECT value FROM json_each(?))",
        (to_ms(now), json.dumps(request_ids)),
    )
    await move_requests(transaction, request_ids, RequestEvent.REQUEUE)


async def _hold(transaction: Transaction, batch_id: int, reason: str) -> None:
    await transaction.run("UPDATE batches SET needs_person = 1, held_reason = ? WHERE id = ?", (reason, batch_id))


async def _end_sendings(transaction: Transaction, batch_id: int, outcome: str, *, now: datetime) -> None:
    await transaction.run(
        "UPDATE sendings SET outcome = ?, candidates_closed = 1, withdrawn_at = ? "
        "WHERE batch_id = ? AND outcome = 'open'",
        (outcome, to_ms(now), batch_id),
    )


async def _invent(transaction: Transaction, batch: RecoveredBatch, *, now: datetime) -> dict[int, int]:
    """Make rows for requests that were sent and that no row knows, because their file is gone or taken no more.

    What was asked is not known, so they are never sent again: their answer is delivered, or an error.
    """
    invented = {}
    for entry in batch.unknown:
        source_id = await _source_of(transaction, entry, batch.heads[-1].nonce)
        custom_id = await _free_id(transaction, entry)
        digest = hashlib.sha256(f"{batch.heads[-1].nonce}-{entry.number}".encode()).digest()
        rows = await transaction.all("SELECT coalesce(max(id), 0) + 1 FROM requests")
        request_id = int(rows[0][0])
        await transaction.run(
            "INSERT INTO requests (id, state, lane, custom_id, digest, betas, model, max_tokens, extension, "
            "max_attempts, size_bytes, accepted_at, waiting_since) "
            "VALUES (?, 'waiting', ?, ?, ?, ?, '', 0, ?, 1, 0, ?, ?)",
            (request_id, entry.lane, custom_id, digest, OUTPUT_300K_BETA, batch.extension, to_ms(now), to_ms(now)),
        )
        await transaction.run("INSERT INTO attachments (request_id, source_id) VALUES (?, ?)", (request_id, source_id))
        await transaction.run("UPDATE sources SET open_count = open_count + 1 WHERE id = ?", (source_id,))
        invented[entry.number] = request_id
    return invented


async def _source_of(transaction: Transaction, entry: ManifestEntry, nonce: Nonce) -> int:
    """Return an open file of the entry's name, made if there is none."""
    claims = [to_blob(entry.claim), to_blob(f"{entry.claim}#{nonce}")]
    rows = await transaction.all(
        "SELECT id, state, claim FROM sources WHERE lane = ? AND claim IN (?, ?)", (entry.lane, *claims)
    )
    for source_id, state, _ in rows:
        if state == "open":
            return int(source_id)
    taken = {claim for _, _, claim in rows}
    origin = parse_claim_name(entry.claim)
    row = await transaction.one(
        "INSERT INTO sources (state, lane, claim, target, name, owner, size_bytes, sha256, dropped_at) "
        "VALUES ('open', ?1, ?2, ?2, ?3, '', 0, ?4, ?5) RETURNING id",
        (
            entry.lane,
            next(claim for claim in claims if claim not in taken),
            to_blob(entry.source),
            None if entry.sha256 is None else bytes.fromhex(entry.sha256),
            0 if origin is None else origin[0],
        ),
    )
    if row is None:
        raise AssertionError("an inserted row has an id")
    return int(row[0])


async def _free_id(transaction: Transaction, entry: ManifestEntry) -> str:
    choices = (
        entry.custom_id if number == 1 else numbered(entry.custom_id, number) for number in range(1, SUFFIXES_MAX)
    )
    for custom_id in choices:
        row = await transaction.one(
            f"SELECT 1 FROM requests WHERE lane = ? AND custom_id = ? AND {IS_OPEN}",  # noqa: S608 - our own constant
            (entry.lane, custom_id),
        )
        if row is None:
            return custom_id
    raise AssertionError(f"{SUFFIXES_MAX} open requests have one id")
