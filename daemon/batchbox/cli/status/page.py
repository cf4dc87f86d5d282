"""What `status` looks like on a terminal. Names come from strangers, so nothing is ever read as markup."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from io import TextIOWrapper

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from batchbox.api import RESULTS_KEPT
from batchbox.cli.paragraphs import counted
from batchbox.cli.status.situation import Situation, lane_counts
from batchbox.cli.undecided import age
from batchbox.folders.takeover import Neighbour
from batchbox.logs import shown
from batchbox.model import INBOX_LANE, BatchState, Lane, SourceState
from batchbox.store.holds import Hold, HoldName
from batchbox.store.overview import BatchOverview

BATCHES_SHOWN_MAX = 40
"""The oldest; --json has them all."""

_STATE_WORDS = {
    BatchState.SEALED: Text("to be sent"),
    BatchState.SUBMITTING: Text("being sent"),
    BatchState.IN_PROGRESS: Text("in progress"),
    BatchState.ENDED: Text("ended"),
    BatchState.LOST: Text("LOST", style="bold red"),
}
_IN_DOUBT = Text("IN DOUBT", style="bold yellow")
_HELD = Text("HELD", style="bold yellow")

_HOLD_WORDS = {
    HoldName.SENDING: "Nothing is sent",
    HoldName.ROOT: "The root is offline",
    HoldName.DISK: "A disk is nearly full",
    HoldName.CREDIT: "The account has no credit, one request at a time tries it",
    HoldName.ACCOUNT: "Open work belongs to another account",
    HoldName.API: "Batches cannot be followed",
}

_RUNNING_WORDS = {
    True: Text("running", style="bold green"),
    False: Text("not running", style="bold yellow"),
    None: Text("not known: this user may not ask"),
}


def plain_console() -> Console:
    """Return a console that takes every text as it is, and survives a terminal that cannot show all of it."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(markup=False, emoji=False, highlight=False)


def page(situation: Situation, *, grace_seconds: float) -> RenderableType:
    """Return everything as one renderable."""
    tables = [*_lanes(situation), *_batches(situation)]
    notes = [*_holds(situation), *_doubts(situation, grace_seconds), *_losses(situation), *_urgent(situation)]
    notes += [*_waiting(situation), *_held(situation), *_orphans(situation)]
    return Group(_head(situation), *(Padding(part, (1, 0, 0, 0)) for part in [*tables, *notes]))


def _head(situation: Situation) -> RenderableType:
    files = situation.files
    counts = [
        f"{files.get(SourceState.READING, 0)} being read",
        f"{files.get(SourceState.OPEN, 0)} open",
        f"{files.get(SourceState.SETTLED, 0) + files.get(SourceState.DONE, 0)} done",
        f"{files.get(SourceState.REJECTING, 0) + files.get(SourceState.REJECTED, 0)} rejected",
    ]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("daemon", _RUNNING_WORDS[situation.is_running])
    grid.add_row("root", Text(shown(str(situation.root))))
    grid.add_row("files", ", ".join(counts))
    grid.add_row("cost", f"{situation.cost_usd:.2f} USD so far")
    return grid


def _lanes(situation: Situation) -> Iterator[RenderableType]:
    if not situation.lanes:
        yield Text(f"Nothing has been dropped yet. Drop a file into {shown(str(situation.root))}/inbox.")
        return
    table = _table("lane")
    for heading in ("waiting", "in flight", "answered", "incomplete", "failed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for lane in situation.lanes:
        counts = lane_counts(lane)
        numbers = (counts.waiting, counts.in_flight, counts.answered, counts.incomplete, counts.failed)
        styles = ("", "", "green", "yellow", "red")
        cells = [
            Text(str(number), style=style if number else "dim") for number, style in zip(numbers, styles, strict=True)
        ]
        table.add_row(_lane_name(lane.lane), *cells)
    yield table


def _batches(situation: Situation) -> Iterator[RenderableType]:
    if not situation.batches:
        return
    table = _table("#")
    table.add_column("lane", overflow="fold", min_width=8)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("left", justify="right", no_wrap=True)
    table.add_column("name at the API", no_wrap=True)
    for batch in situation.batches[:BATCHES_SHOWN_MAX]:
        table.add_row(*_batch_cells(batch, situation))
    yield table
    left = len(situation.batches) - BATCHES_SHOWN_MAX
    if left > 0:
        yield Text(f"and {left} more; --json lists them all")


def _batch_cells(batch: BatchOverview, situation: Situation) -> Sequence[RenderableType]:
    return [
        str(batch.id),
        _lane_name(batch.lane),
        str(batch.request_count),
        _state(batch, situation),
        age(situation.at - (batch.sent_at or batch.sealed_at)),
        _time_left(batch, situation.at),
        Text(shown(batch.api_id or "")),
    ]


def _state(batch: BatchOverview, situation: Situation) -> Text:
    if situation.is_in_doubt(batch):
        return _IN_DOUBT
    if any(held.batch_id == batch.id for held in situation.held):
        return _HELD
    return _STATE_WORDS.get(batch.state, Text(batch.state))


def _time_left(batch: BatchOverview, at: datetime) -> str:
    until = batch.expires_at if batch.state is BatchState.IN_PROGRESS else batch.results_until
    return "" if until is None else age(until - at)


def _holds(situation: Situation) -> Iterator[Text]:
    for hold in situation.holds:
        text = Text(_HOLD_WORDS[hold.name], style="bold yellow")
        text.append(
            f", for {age(situation.at - hold.since_at)} now: {_sentence(hold.reason)}", style="not bold default"
        )
        text.append(f" {_next_attempt(hold, situation)}", style="not bold default")
        yield text


def _next_attempt(hold: Hold, situation: Situation) -> str:
    if not situation.is_running:
        return "Next attempt: when `batchbox run` is started."
    if hold.next_attempt_at is None:
        return "It goes on by itself once that is mended."
    left = hold.next_attempt_at - situation.at
    return f"Next attempt: in {age(left)}." if left > timedelta() else "Next attempt: now."


def _doubts(situation: Situation, grace_seconds: float) -> Iterator[Text]:
    doubts = [batch for batch in situation.batches if situation.is_in_doubt(batch)]
    if not doubts:
        return
    text = Text(f"In doubt: {_numbered(doubts)}. ", style="bold yellow")
    told = (
        f"{_since(doubts, situation)} the answer to the send call is missing; nothing of it is sent again until it is "
        f"known whether the API has it. {_candidates(doubts, situation)}"
    )
    if situation.is_running:
        grace = age(timedelta(seconds=grace_seconds))
        told += f"Next: batchbox searches the API's list, for {grace} at least, and then adopts the batch or sends it."
    else:
        told += "Next: start `batchbox run`, which looks for it in the API's list."
    told += " `batchbox reconcile` shows more."
    yield text.append(told, style="not bold default")


def _since(doubts: Sequence[BatchOverview], situation: Situation) -> str:
    return f"For {age(situation.at - min(batch.sent_at or batch.sealed_at for batch in doubts))} now"


def _candidates(doubts: Sequence[BatchOverview], situation: Situation) -> str:
    """Say how many of the API's batches it may be, and how many of them only a person can judge."""
    numbers = {batch.id for batch in doubts}
    found = [one for doubt in situation.doubts if doubt.batch_id in numbers for one in doubt.candidates]
    still_open = [one for one in found if one.verdict == "open"]
    unreadable = [one for one in still_open if one.trouble is not None]
    if not still_open:
        return ""
    judged = f", {len(unreadable)} of which only a person can judge" if unreadable else ""
    return f"Candidates at the API: {len(still_open)}{judged}. "


def _waiting(situation: Situation) -> Iterator[Text]:
    held = {one.batch_id for one in situation.held}
    waiting = {batch.id: batch.held_reason for batch in situation.batches if batch.held_reason and batch.id not in held}
    for batch_id, reason in [*waiting.items()][:BATCHES_SHOWN_MAX]:
        text = Text(f"Waiting: batch {batch_id}. ", style="bold yellow")
        yield text.append(f"It is tried again by itself: {_sentence(reason)}", style="not bold default")


def _held(situation: Situation) -> Iterator[Text]:
    for held in situation.held:
        text = Text(f"Held: batch {held.batch_id}. ", style="bold yellow")
        told = (
            f"Its {held.left_count} requests wait for a person: {_sentence(held.reason)} Next: `batchbox reconcile "
            f"--resend {held.batch_id}`, or `--give-up {held.batch_id}`."
        )
        yield text.append(told, style="not bold default")


def _orphans(situation: Situation) -> Iterator[Text]:
    if situation.orphans is None:
        text = Text("Other instances: ", style="bold yellow")
        told = "not known, because the root cannot be looked at. Next: `batchbox check` says why."
        yield text.append(told, style="not bold default")
    for orphan in situation.orphans or ():
        yield _orphan(orphan)


def _orphan(orphan: Neighbour) -> Text:
    name = shown(orphan.instance)
    if orphan.unreadable is not None:
        text = Text(f"Not to be looked at: {name}. ", style="bold yellow")
        told = (
            f"Whether it has left work behind is not known ({orphan.unreadable.strerror}). Next: `batchbox check` says "
            "what to do."
        )
    else:
        text = Text(f"Left behind by {name}: ", style="bold yellow")
        batches = counted(orphan.open_manifest_count, "open batch", "open batches")
        told = (
            f"{counted(orphan.claim_count, 'file')}, {batches}; no daemon is at work there. Next: start it again; or, "
            f"if that machine is lost, stop this one and run `batchbox recover {name}`."
        )
    return text.append(told, style="not bold default")


def _losses(situation: Situation) -> Iterator[Text]:
    losses = [batch for batch in situation.batches if batch.state is BatchState.LOST]
    if not losses:
        return
    text = Text(f"Lost: {_numbered(losses)}. ", style="bold red")
    told = (
        "The API does not know it any more, or its results have gone; it is asked about on and on, and nothing is "
        "bought again. Next: make sure that the key belongs to the workspace that it was sent in, and look for its "
        "name in the Console; `batchbox reconcile --give-up` ends its requests as errors."
    )
    yield text.append(told, style="not bold default")


def _urgent(situation: Situation) -> Iterator[Text]:
    urgent = [batch for batch in situation.batches if situation.is_urgent(batch)]
    if not urgent:
        return
    text = Text(f"Soon gone: {_numbered(urgent)}. ", style="bold red")
    told = (
        f"The API deletes results {RESULTS_KEPT.days} days after a batch was made, and these are not delivered; then "
        "their requests end as errors. Next: mend what holds them up."
    )
    yield text.append(told, style="not bold default")


def _numbered(batches: Sequence[BatchOverview]) -> str:
    numbers = ", ".join(str(batch.id) for batch in batches[:BATCHES_SHOWN_MAX])
    more = " and more" if len(batches) > BATCHES_SHOWN_MAX else ""
    return f"batch {numbers}{more}" if len(batches) == 1 else f"batches {numbers}{more}"


def _table(first_heading: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_edge=False)
    table.add_column(first_heading, overflow="fold")
    return table


def _lane_name(lane: Lane) -> Text:
    return Text("(inbox)", style="dim") if lane == INBOX_LANE else Text(shown(lane))


def _sentence(reason: str) -> str:
    text = shown(reason)
    return text if text.endswith((".", "!", "?")) else f"{text}."
