"""What is in doubt, lost or held at one moment, read from the database, in sentences and as a JSON object."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from batchbox.cli.reading import open_to_read
from batchbox.cli.running import is_running
from batchbox.logs import shown
from batchbox.model import INBOX_LANE, Lane, LostReason
from batchbox.store.decisions import Candidate, HeldBatch, Loss, OpenDoubt
from batchbox.store.orders import Order, OrderKind

FORMAT = 1
"""The version of the JSON object's shape."""

_LOST_WORDS = {
    LostReason.UNKNOWN_BATCH: "the API does not know it",
    LostReason.NO_RESULTS: "the API has no results of it",
    None: "it cannot be had",
}
_ORDER_WORDS = {
    OrderKind.OURS: "--ours",
    OrderKind.NOT_OURS: "--not-ours",
    OrderKind.RESEND: "--resend",
    OrderKind.GIVE_UP: "--give-up",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """Everything that `reconcile` shows."""

    at: datetime
    is_running: bool | None
    doubts: Sequence[OpenDoubt]
    losses: Sequence[Loss]
    held: Sequence[HeldBatch]
    orders: Sequence[Order]


async def read_undecided(state: Path) -> Undecided:
    """Read everything. Raises BatchboxError as `open_to_read` does."""
    async with open_to_read(state) as store:
        return Undecided(
            at=datetime.now(UTC),
            is_running=is_running(state),
            doubts=await store.decisions.doubts(),
            losses=await store.decisions.losses(),
            held=await store.decisions.held(),
            orders=await store.orders.open(),
        )


def sentences(undecided: Undecided, *, grace_seconds: float) -> Iterator[str]:
    """Say it to a person, with what comes next."""
    for doubt in undecided.doubts:
        yield from _doubt(doubt, undecided, grace_seconds)
    for loss in undecided.losses:
        yield from _loss(loss, undecided)
    for held in undecided.held:
        yield from _held(held, undecided)
    for order in undecided.orders:
        yield f"Ordered, and not obeyed yet: {_ORDER_WORDS[order.kind]} {shown(order.argument)}"
    if not (undecided.doubts or undecided.losses or undecided.held):
        yield "Nothing is in doubt, lost or held."


def _doubt(doubt: OpenDoubt, undecided: Undecided, grace_seconds: float) -> Iterator[str]:
    recovered = ", recovered" if doubt.is_recovered else ""
    yield (
        f"In doubt: batch {doubt.batch_id} ({doubt.nonce}{recovered}), {doubt.request_count} requests of "
        f"{_lane(doubt.lane)}, sent {age(undecided.at - doubt.sent_at)} ago: nobody knows whether the API has it."
    )
    for candidate in doubt.candidates:
        yield f"  {shown(candidate.api_id)}: {_verdict(candidate)}"
    yield f"  Next: {_next(doubt, undecided, grace_seconds)}"


def _verdict(candidate: Candidate) -> str:
    if candidate.verdict != "open":
        return "not ours" if candidate.verdict == "foreign" else "ours"
    if candidate.trouble is None:
        return "may be it; its first result will say so, once it has ended"
    return f"may be it, and only a person can say so: {shown(candidate.trouble)}"


def _next(doubt: OpenDoubt, undecided: Undecided, grace_seconds: float) -> str:
    if any(one.verdict == "open" and one.trouble is not None for one in doubt.candidates):
        return "look for the candidate in the Console, then `batchbox reconcile --ours` or `--not-ours` with its name."
    if not undecided.is_running:
        return "start `batchbox run`, which looks for it in the API's list."
    if any(one.verdict == "open" for one in doubt.candidates):
        return "batchbox waits for the candidates to end."
    after = "waits for a person" if doubt.is_recovered else "sends it again"
    return (
        f"batchbox searches the API's list, for {age(timedelta(seconds=grace_seconds))} at least, and then adopts the "
        f"batch or {after}."
    )


def _loss(loss: Loss, undecided: Undecided) -> Iterator[str]:
    since = "" if loss.created_at is None else f", made {age(undecided.at - loss.created_at)} ago"
    yield (
        f"Lost: batch {loss.batch_id} ({shown(loss.api_id)}), {loss.left_count} requests of {_lane(loss.lane)}{since}: "
        f"{_LOST_WORDS[loss.reason]}. It is asked about on and on, and nothing is bought again."
    )
    yield (
        "  Next: make sure that the key belongs to the workspace that it was sent from, and look in the Console; "
        f"`batchbox reconcile --give-up {loss.batch_id}` ends its requests as errors."
    )


def _held(held: HeldBatch, undecided: Undecided) -> Iterator[str]:
    since = "" if held.sent_at is None else f", sent {age(undecided.at - held.sent_at)} ago"
    yield (
        f"Held: batch {held.batch_id}, {held.left_count} requests of {_lane(held.lane)}{since}: {shown(held.reason)}. "
        "It is not sent again by itself."
    )
    yield (
        f"  Next: `batchbox reconcile --resend {held.batch_id}` sends it, and "
        f"`batchbox reconcile --give-up {held.batch_id}` ends its requests as errors."
    )


def age(span: timedelta) -> str:
    """Return a length of time in its largest fitting unit: 45s, 3m, 5h, 2d."""
    seconds = max(0, int(span.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length or seconds == length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _lane(lane: Lane) -> str:
    return "the inbox" if lane == INBOX_LANE else f"lane {shown(lane)}"


def as_json_object(undecided: Undecided) -> Mapping[str, object]:
    """Return the object of `--json`; its shape is described in the command's help."""
    return {
        "format": FORMAT,
        "at": undecided.at.isoformat(),
        "running": undecided.is_running,
        "in_doubt": [_doubt_object(doubt) for doubt in undecided.doubts],
        "lost": [_loss_object(loss) for loss in undecided.losses],
        "held": [_held_object(held) for held in undecided.held],
        "orders": [
            {"kind": order.kind.value, "argument": order.argument, "ordered_at": order.ordered_at.isoformat()}
            for order in undecided.orders
        ],
    }


def _doubt_object(doubt: OpenDoubt) -> Mapping[str, object]:
    return {
        "id": doubt.batch_id,
        "lane": doubt.lane,
        "nonce": doubt.nonce,
        "request_count": doubt.request_count,
        "sent_at": doubt.sent_at.isoformat(),
        "recovered": doubt.is_recovered,
        "closed": doubt.is_closed,
        "candidates": [
            {"batch_id": one.api_id, "verdict": one.verdict, "trouble": one.trouble} for one in doubt.candidates
        ],
    }


def _loss_object(loss: Loss) -> Mapping[str, object]:
    return {
        "id": loss.batch_id,
        "lane": loss.lane,
        "batch_id": loss.api_id,
        "request_count": loss.left_count,
        "created_at": None if loss.created_at is None else loss.created_at.isoformat(),
        "reason": loss.reason,
    }


def _held_object(held: HeldBatch) -> Mapping[str, object]:
    return {
        "id": held.batch_id,
        "lane": held.lane,
        "request_count": held.left_count,
        "sent_at": None if held.sent_at is None else held.sent_at.isoformat(),
        "reason": held.reason,
    }
