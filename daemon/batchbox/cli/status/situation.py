"""What is known of the work at one moment, read from the database, and its JSON form."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from batchbox.api import RESULTS_KEPT, RESULTS_URGENT_AFTER
from batchbox.cli.neighbours import Neighbourhood
from batchbox.cli.reading import open_to_read
from batchbox.cli.running import is_running
from batchbox.folders.takeover import Neighbour
from batchbox.model import BatchState, RequestState, SourceState
from batchbox.store.decisions import HeldBatch, OpenDoubt
from batchbox.store.holds import Hold
from batchbox.store.meta import Fact
from batchbox.store.overview import BatchOverview, LaneOverview

FORMAT = 1
"""The version of the JSON object's shape."""

CALL_LONGEST = timedelta(minutes=1)
"""How long a send call of a running daemon is taken for one that is under way; most take seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneCounts:
    """How many of a lane's requests are where, in the words that people are shown."""

    waiting: int
    in_flight: int
    answered: int
    incomplete: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that `status` shows."""

    at: datetime
    root: Path
    state: Path
    is_running: bool | None
    """None: this user may not ask."""
    lanes: Sequence[LaneOverview]
    files: Mapping[SourceState, int]
    batches: Sequence[BatchOverview]
    holds: Sequence[Hold]
    doubts: Sequence[OpenDoubt]
    held: Sequence[HeldBatch]
    orphans: Sequence[Neighbour] | None
    """Other instances on the root that have left work behind, or cannot be looked at; None: the root does not tell."""
    cost_usd: Decimal

    def is_urgent(self, batch: BatchOverview) -> bool:
        """Say whether the API will soon delete results that are not delivered."""
        warned_from = RESULTS_URGENT_AFTER - RESULTS_KEPT
        return batch.results_until is not None and self.at >= batch.results_until + warned_from

    def is_in_doubt(self, batch: BatchOverview) -> bool:
        """Say whether nobody knows if the API has the batch: its call has no answer, and is not just being made."""
        if batch.state is not BatchState.SUBMITTING:
            return False
        is_young = batch.sent_at is not None and self.at - batch.sent_at < CALL_LONGEST
        return not (self.is_running and is_young)


async def read_situation(root: Path, state: Path, at: datetime, neighbourhood: Neighbourhood) -> Situation:
    """Read everything. Raises BatchboxError as `open_to_read` does."""
    async with open_to_read(state) as store:
        return Situation(
            at=at,
            root=root,
            state=state,
            is_running=is_running(state),
            lanes=await store.overview.lanes(),
            files=await store.overview.sources(),
            batches=await store.overview.batches(),
            holds=await store.holds.all(),
            doubts=await store.decisions.doubts(),
            held=await store.decisions.held(),
            orphans=neighbourhood.orphans(await store.meta.get(Fact.INSTANCE)),
            cost_usd=await store.overview.cost_usd(),
        )


def lane_counts(lane: LaneOverview) -> LaneCounts:
    """Return the lane's requests by what people want to know of them."""

    def count(*states: RequestState) -> int:
        return sum(lane.counts.get(state, 0) for state in states)

    return LaneCounts(
        waiting=count(RequestState.INCOMING, RequestState.WAITING),
        in_flight=count(RequestState.BATCHED),
        answered=count(RequestState.ANSWERED),
        incomplete=count(RequestState.INCOMPLETE),
        failed=count(RequestState.FAILING, RequestState.FAILED),
    )


def as_json_object(situation: Situation) -> Mapping[str, object]:
    """Return the object of `--json`; its shape is described in the command's help."""
    return {
        "format": FORMAT,
        "at": situation.at.isoformat(),
        "root": _name(situation.root),
        "state": _name(situation.state),
        "running": situation.is_running,
        "lanes": [_lane(lane) for lane in situation.lanes],
        "files": {state.value: situation.files.get(state, 0) for state in SourceState},
        "batches": [_batch(batch, in_doubt=situation.is_in_doubt(batch)) for batch in situation.batches],
        "holds": [_hold(hold) for hold in situation.holds],
        "orphans": None if situation.orphans is None else [_orphan(orphan) for orphan in situation.orphans],
        "cost_usd": float(situation.cost_usd),
    }


def _lane(lane: LaneOverview) -> Mapping[str, object]:
    counts = lane_counts(lane)
    return {
        "lane": lane.lane,
        "waiting": counts.waiting,
        "in_flight": counts.in_flight,
        "answered": counts.answered,
        "incomplete": counts.incomplete,
        "failed": counts.failed,
    }


def _batch(batch: BatchOverview, *, in_doubt: bool) -> Mapping[str, object]:
    return {
        "id": batch.id,
        "lane": batch.lane,
        "state": batch.state.value,
        "in_doubt": in_doubt,
        "request_count": batch.request_count,
        "sealed_at": _moment(batch.sealed_at),
        "sent_at": _moment(batch.sent_at),
        "expires_at": _moment(batch.expires_at),
        "results_until": _moment(batch.results_until),
        "lost_reason": batch.lost_reason,
        "held_reason": batch.held_reason,
        "batch_id": batch.api_id,
        "nonce": batch.nonce,
    }


def _hold(hold: Hold) -> Mapping[str, object]:
    return {
        "name": hold.name.value,
        "reason": hold.reason,
        "since_at": _moment(hold.since_at),
        "next_attempt_at": _moment(hold.next_attempt_at),
    }


def _orphan(orphan: Neighbour) -> Mapping[str, object]:
    return {
        "instance": orphan.instance,
        "silent_seconds": orphan.silent_seconds,
        "files": orphan.claim_count if orphan.unreadable is None else None,
        "batches": orphan.open_manifest_count if orphan.unreadable is None else None,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _name(path: Path) -> str:
    return os.fsencode(path).decode(errors="replace")
