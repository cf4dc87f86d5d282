"""What intake records: files that were claimed, the requests in them, and files that can never become requests.

A small file is recorded whole in one transaction with others. A long one is recorded in parts: its source stays
READING and its requests INCOMING, invisible to dispatch, until the last part; a crash in between leaves a READING
source, which `forget_unfinished` removes so that the file is read again from the start.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.lifecycle import RequestEvent, SourceEvent
from batchbox.model import Lane, RejectReason, RequestState, SourceState
from batchbox.store.body import remove_params
from batchbox.store.columns import from_blob, from_ms, to_blob, to_ms
from batchbox.store.database import Database, Row, Transaction
from batchbox.store.originals import move_away, take_targets
from batchbox.store.readings import end_reading_of, end_readings
from batchbox.store.recording import (
    ASKED_BY_READ_OTHERS,
    IS_OPEN,
    NewRequest,
    NewSource,
    Rejection,
    RowWriter,
)
from batchbox.store.transitions import move_requests, move_requests_of, move_sources

CLAIMS_MAX = 500
"""So many claims are looked up with one statement; their names may be no text, which rules JSON out."""


FORGET_REQUESTS = 10_000
"""So many requests of a long file are removed in one transaction; others write in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedSource:
    """A file on its way to rejected/, with everything its explanation says."""

    id: int
    lane: Lane
    claim: str
    name: str
    rejection: Rejection
    dropped_at: datetime
    rejected_at: datetime
    target: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedClaim:
    """A file that is recorded as done or rejected, by its name in processing/."""

    lane: Lane
    name: str
    state: SourceState
    target: str | None
    """Its name in done/ or rejected/; None: nobody keeps it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How much waits for a batch."""

    request_count: int
    size_bytes: int

    def __add__(self, other: "Backlog") -> "Backlog":
        return Backlog(
            request_count=self.request_count + other.request_count, size_bytes=self.size_bytes + other.size_bytes
        )


class IntakeStore:
    """The rows that intake writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unrecorded(self, claims: Sequence[tuple[Lane, str]]) -> tuple[list[tuple[Lane, str]], list[EndedClaim]]:
        """Return those claims (lane, name in processing/) that no row knows, in the order given, and those that ended.

        Of the former, those that are waited for until they are still are left out. The latter should not be in
        processing/ any more. At most CLAIMS_MAX are looked up at once.
        """
        rows = await self._database.all(
            "SELECT s.lane, s.claim, s.state, s.target FROM (VALUES "  # noqa: S608 - nothing but question marks
            f"{', '.join(['(?, ?)'] * len(claims))}) AS wanted "
            "CROSS JOIN sources AS s ON s.lane = wanted.column1 AND s.claim = wanted.column2",
            [value for lane, claim in claims for value in (lane, to_blob(claim))],
        )
        unsettled = await self._database.all("SELECT lane, claim FROM unsettled WHERE is_still = 0")
        known = {(lane, from_blob(claim)) for lane, claim, *_ in (*rows, *unsettled)}
        ended = [_ended_claim(row) for row in rows if row[2] in {SourceState.DONE, SourceState.REJECTED}]
        return [claim for claim in claims if claim not in known], ended

    async def backlog(self) -> Backlog:
        """Return what waits for a batch."""
        row = await self._database.one(
            "SELECT count(*), coalesce(sum(size_bytes), 0) FROM requests WHERE state = 'waiting'"
        )
        count, size_bytes = row or (0, 0)
        return Backlog(request_count=count, size_bytes=size_bytes)

    async def reusable_bytes(self) -> int:
        """Return how much the database takes before its file grows: pages that hold nothing any more."""
        row = await self._database.one("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size")
        return int(row[0]) if row else 0

    async def record(
        self, files: Sequence[tuple[NewSource, Sequence[NewRequest] | Rejection]], *, now: datetime
    ) -> list[Rejection | None]:
        """Record whole files, all in one transaction; return what each was rejected for, or None.

        A file is taken whole or not at all. A request whose id is open on the lane with the same content is attached
        to that one; with other content an explicit id rejects its file, and a derived one gets `-2`, `-3` and so on.
        """
        async with self._database.transaction() as transaction:
            writer = RowWriter(transaction, now=now)
            await writer.look_up(
                [(source.lane, request) for source, requests in files for request in _listed(requests)]
            )
            await writer.remember([(source.lane, source.claim, _listed(requests)) for source, requests in files])
            outcomes = [await writer.add_file(source, requests) for source, requests in files]
            await writer.write()
            await end_readings(transaction, [(source.lane, source.claim) for source, _ in files])
        return outcomes

    async def begin(self, source: NewSource) -> int:
        """Record that a long file is being read; return the id for `add_part` and `finish`."""
        async with self._database.transaction() as transaction:
            writer = RowWriter(transaction, now=source.dropped_at)
            source_id = await writer.add_source(source, state=SourceState.READING)
            await writer.write()
        return source_id

    async def add_part(
        self, source_id: int, claim: tuple[Lane, str], requests: Sequence[NewRequest], *, now: datetime
    ) -> None:
        """Record the next requests of a long file, by lane and claim.

        Raises DuplicateIdError, and then records none of them.
        """
        async with self._database.transaction() as transaction:
            writer = RowWriter(transaction, now=now, source_id=source_id)
            await writer.look_up([(claim[0], request) for request in requests])
            await writer.remember([(*claim, requests)])
            await writer.add_requests(source_id, claim, requests)
            await writer.write()

    async def finish(self, source_id: int, *, sha256: bytes, size_bytes: int) -> bool:
        """Let a long file's requests be sent; return whether all have ended meanwhile, so that it has settled."""
        async with self._database.transaction() as transaction:
            await move_requests_of(transaction, source_id, RequestEvent.ADMIT)
            await transaction.run(
                "UPDATE sources SET sha256 = ?1, size_bytes = ?2, open_count = (SELECT count(*) FROM attachments "  # noqa: S608 - our own constant
                f"JOIN requests ON id = request_id WHERE source_id = ?3 AND {IS_OPEN}) WHERE id = ?3",
                (sha256, size_bytes, source_id),
            )
            await move_sources(transaction, [source_id], SourceEvent.RECORD)
            await end_reading_of(transaction, source_id)
            row = await transaction.one("SELECT open_count = 0 FROM sources WHERE id = ?", (source_id,))
            has_settled = bool(row and row[0])
            if has_settled:
                await move_sources(transaction, [source_id], SourceEvent.SETTLE)
        return has_settled

    async def reject(self, source_id: int, rejection: Rejection, *, now: datetime) -> None:
        """Give up a long file: remove what was recorded of it, and set it on its way to rejected/."""
        await self._remove_requests(source_id)
        async with self._database.transaction() as transaction:
            await transaction.run(
                "UPDATE sources SET reason = ?, detail = ?, what_to_do = ?, rejected_at = ? WHERE id = ?",
                (rejection.reason, rejection.detail, rejection.what_to_do, to_ms(now), source_id),
            )
            await move_sources(transaction, [source_id], SourceEvent.REJECT)
            await end_reading_of(transaction, source_id)

    async def forget_unfinished(self) -> None:
        """Remove what was recorded of long files whose reading had no end, so that they are read again."""
        for (source_id,) in await self._database.all("SELECT id FROM sources WHERE state = 'reading'"):
            await self._remove_requests(source_id)
            async with self._database.transaction() as transaction:
                await transaction.run("DELETE FROM sources WHERE id = ?", (source_id,))

    async def rejected(self, *, limit: int) -> list[RejectedSource]:
        """Return files on their way to rejected/, oldest first."""
        rows = await self._database.all(
            "SELECT id, lane, claim, name, reason, detail, what_to_do, dropped_at, rejected_at, target "
            "FROM sources WHERE state = 'rejecting' ORDER BY id LIMIT ?",
            (limit,),
        )
        return [
            RejectedSource(
                id=id_,
                lane=lane,
                claim=from_blob(claim),
                name=from_blob(name),
                rejection=Rejection(reason=RejectReason(reason), detail=detail, what_to_do=what_to_do),
                dropped_at=from_ms(dropped_at),
                rejected_at=from_ms(rejected_at),
                target=None if target is None else from_blob(target),
            )
            for id_, lane, claim, name, reason, detail, what_to_do, dropped_at, rejected_at, target in rows
        ]

    async def take_targets(self, targets: Iterable[tuple[int, str]]) -> None:
        """Record the names that files will have in rejected/."""
        async with self._database.transaction() as transaction:
            await take_targets(transaction, targets)

    async def put_aside(self, source_ids: Sequence[int], *, now: datetime) -> None:
        """Record that the files are in rejected/."""
        async with self._database.transaction() as transaction:
            await move_away(transaction, source_ids, SourceEvent.PUT_ASIDE, now=now)

    async def _remove_requests(self, source_id: int) -> None:
        """Remove a READING file's requests, a slice at a time: a crash in between leaves a READING file with fewer."""
        is_left = True
        while is_left:
            async with self._database.transaction() as transaction:
                is_left = await _remove_some_requests(transaction, source_id)


def _ended_claim(row: Row) -> EndedClaim:
    lane, claim, state, target = row
    return EndedClaim(
        lane=lane,
        name=from_blob(claim),
        state=SourceState(state),
        target=None if target is None else from_blob(target),
    )


def _listed(requests: Sequence[NewRequest] | Rejection) -> Sequence[NewRequest]:
    return () if isinstance(requests, Rejection) else requests


async def _remove_some_requests(transaction: Transaction, source_id: int) -> bool:
    rows = await transaction.all(
        "SELECT request_id, state, EXISTS (SELECT 1 FROM attachments AS other "  # noqa: S608 - our own constant
        f"WHERE other.request_id = a.request_id AND other.source_id <> a.source_id), {ASKED_BY_READ_OTHERS} "
        "FROM attachments AS a JOIN requests ON id = request_id WHERE source_id = ? LIMIT ?",
        (source_id, FORGET_REQUESTS),
    )
    own = [id_ for id_, state, is_shared, _ in rows if state == RequestState.INCOMING and not is_shared]
    await remove_params(transaction, own)
    await transaction.run_many("DELETE FROM requests WHERE id = ?", [(request_id,) for request_id in own])
    await transaction.run_many(
        "DELETE FROM attachments WHERE request_id = ? AND source_id = ?",
        [(request_id, source_id) for request_id, *_ in rows],
    )
    asked_for = [request_id for request_id, _, _, is_asked_for in rows if is_asked_for]
    await move_requests(transaction, asked_for, RequestEvent.ADMIT)  # by a file that has been read to its end
    return len(rows) == FORGET_REQUESTS
