"""What people ask about the work as a whole: how much waits, what is in flight, what became of the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from batchbox.api import RESULTS_KEPT
from batchbox.model import ApiBatchId, BatchState, Lane, LostReason, Nonce, RequestState, SourceState
from batchbox.store.columns import from_ms, from_nanodollars, optional_moment, to_ms
from batchbox.store.database import Database
from batchbox.store.verifying import HAS_NO_ROW


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOverview:
    """One batch that has not come to its end."""

    id: int
    state: BatchState
    lane: Lane
    request_count: int
    sealed_at: datetime
    api_id: ApiBatchId | None
    nonce: Nonce | None
    """Of its latest sending."""
    sent_at: datetime | None
    expires_at: datetime | None
    results_until: datetime | None
    """Until when the API has its results to read; None: it does not have the batch."""
    lost_reason: LostReason | None
    """What of it could not be had, the last time that it was lost."""
    held_reason: str | None
    """Why it is not sent although others are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneOverview:
    """How one lane's requests fare."""

    lane: Lane
    counts: Mapping[RequestState, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How things ended since a moment."""

    answered: int
    incomplete: int
    failed: int
    rejected_files: int


_FOR_A_PERSON = """
    iif(b.state = 'sealed', b.needs_person = 1, b.state = 'submitting' AND EXISTS (
        SELECT 1 FROM sendings AS s JOIN candidates AS c ON c.nonce = s.nonce AND c.verdict = 'open'
        WHERE s.batch_id = b.id AND s.outcome = 'open' AND s.candidates_closed = 1 AND c.trouble IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM candidates WHERE nonce = s.nonce AND verdict = 'open' AND trouble IS NULL)))
"""


class OverviewStore:
    """Questions about the whole, answered from the tables of all stages. Writes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lanes(self) -> Sequence[LaneOverview]:
        """Return, per lane, how many requests are in which state."""
        rows = await self._database.all("SELECT lane, state, count(*) FROM requests GROUP BY lane, state ORDER BY lane")
        lanes: dict[Lane, dict[RequestState, int]] = {}
        for lane, state, count in rows:
            lanes.setdefault(lane, {})[RequestState(state)] = count
        return [LaneOverview(lane=lane, counts=counts) for lane, counts in lanes.items()]

    async def sources(self) -> Mapping[SourceState, int]:
        """Return how many dropped files are in which state."""
        rows = await self._database.all("SELECT state, count(*) FROM sources GROUP BY state")
        return {SourceState(state): count for state, count in rows}

    async def batches(self) -> Sequence[BatchOverview]:
        """Return the batches that have not come to their end, oldest first."""
        rows = await self._database.all(
            "SELECT b.id, b.state, b.lane, b.request_count, b.sealed_at, b.api_id, s.nonce, s.intended_at, "
            "b.expires_at, b.created_at, b.lost_reason, "
            "iif(b.state = 'sealed', coalesce(b.file_trouble, b.held_reason), NULL) "
            "FROM batches AS b LEFT JOIN sendings AS s ON s.nonce = "
            "(SELECT nonce FROM sendings WHERE batch_id = b.id ORDER BY intended_at DESC LIMIT 1) "
            "WHERE b.state IN ('sealed', 'submitting', 'in_progress', 'ended', 'lost') ORDER BY b.id"
        )
        return [
            BatchOverview(
                id=id_,
                state=BatchState(state),
                lane=lane,
                request_count=count,
                sealed_at=from_ms(sealed_at),
                api_id=api_id,
                nonce=nonce,
                sent_at=optional_moment(sent_at),
                expires_at=optional_moment(expires_at),
                results_until=None if created_at is None else from_ms(created_at) + RESULTS_KEPT,
                lost_reason=None if lost_reason is None else LostReason(lost_reason),
                held_reason=held_reason,
            )
            for (
                id_, state, lane, count, sealed_at, api_id, nonce, sent_at,
                expires_at, created_at, lost_reason, held_reason,
            ) in rows
        ]  # fmt: skip

    async def cost_usd(self) -> Decimal:
        """Return what all answers have cost, as far as their models have a price."""
        row = await self._database.one("SELECT coalesce(sum(cost_nanousd), 0) FROM charges")
        return from_nanodollars(int(row[0]) if row else 0)

    async def has_open_work(self) -> bool:
        """Say whether anything would still move by itself: a file on its way, or a request that is not lost."""
        row = await self._database.one(  # an INCOMING request is one of a READING file
            "SELECT EXISTS (SELECT 1 FROM sources WHERE state IN ('reading', 'settled', 'rejecting')) "  # noqa: S608 - our own
            f"OR EXISTS (SELECT 1 FROM unsettled WHERE is_still = 0 OR {HAS_NO_ROW}) "
            "OR EXISTS (SELECT 1 FROM requests WHERE state = 'waiting') "
            "OR EXISTS (SELECT 1 FROM requests WHERE state = 'failing') "
            "OR EXISTS (SELECT 1 FROM batches AS b WHERE b.state IN ('sealed', 'submitting', 'in_progress', 'ended') "
            f"AND NOT {_FOR_A_PERSON})"
        )
        return bool(row and row[0])

    async def for_a_person(self) -> Sequence[int]:
        """Return our numbers of the batches that wait for a decision: recovered and not found, or not to be told."""
        rows = await self._database.all(
            f"SELECT b.id FROM batches AS b WHERE b.state IN ('sealed', 'submitting') AND {_FOR_A_PERSON} "  # noqa: S608 - our own constant
            "ORDER BY b.id"
        )
        return [batch_id for (batch_id,) in rows]

    async def lost_batches(self) -> Sequence[ApiBatchId]:
        """Return the batches about which a person must decide."""
        rows = await self._database.all("SELECT api_id FROM batches WHERE state = 'lost' ORDER BY id")
        return [api_id for (api_id,) in rows]

    async def tally_since(self, moment: datetime) -> Tally:
        """Return how many requests ended how since the moment, and how many files were rejected."""
        rows = await self._database.all(
            "SELECT state, count(*) FROM requests WHERE ended_at >= ? GROUP BY state", (to_ms(moment),)
        )
        counts = {RequestState(state): count for state, count in rows}
        row = await self._database.one("SELECT count(*) FROM sources WHERE rejected_at >= ?", (to_ms(moment),))
        return Tally(
            answered=counts.get(RequestState.ANSWERED, 0),
            incomplete=counts.get(RequestState.INCOMPLETE, 0),
            failed=counts.get(RequestState.FAILED, 0) + counts.get(RequestState.FAILING, 0),
            rejected_files=int(row[0]) if row else 0,
        )
