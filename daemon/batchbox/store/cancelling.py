"""What is recorded of files that take back others: `<file name>.cancel` and `<custom_id>.cancel`.

A request that is cancelled is marked, all that a file names in one transaction, together with the row that says that
the file was obeyed; if a dropped file of that name cannot be taken yet, that row is written when it is, and the
requests are marked at once all the same. What becomes of a marked one depends on where it is. One that waits, or is in
a sealed batch, is taken out before anything is sent (`end_unsent`); one that is in doubt or with the API stays where it
is, comes back to a sealed batch or has a line of results, and ends as an error either way. The mark is never taken
back.

A request whose files have their name in the outbox already is being delivered, and counts as ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from batchbox.model import ErrorType, Lane, RejectReason, SourceState
from batchbox.naming import parse_claim_name, visible
from batchbox.store.columns import from_blob, from_ms, to_blob, to_ms
from batchbox.store.condemning import condemn
from batchbox.store.database import Database, Parameters, Transaction
from batchbox.store.recording import IS_OPEN, NewSource, Rejection, RowWriter, source_of
from batchbox.store.regrouping import take_out
from batchbox.store.verifying import HAS_NO_ROW

ENDED_AT_ONCE = 10_000
"""So many requests are taken out in one transaction."""

NOT_SENT = "It was cancelled while it waited to be sent. Nothing of it was bought."

CANCELED = Rejection(
    reason=RejectReason.CANCELED,
    detail="a file of its name with .cancel behind it was dropped beside it",
    what_to_do="Nothing is left to do; to have it answered after all, drop it again.",
)
NOTHING_TO_CANCEL = Rejection(
    reason=RejectReason.NOTHING_TO_CANCEL,
    detail="no file and no request of that name waits or is on its way; what has ended cannot be cancelled",
    what_to_do="Look into the outbox for the answer; if the name is misspelled, drop it as <file name>.cancel.",
)

ASKED_TOGETHER = 500
"""Of so many names one statement asks how things stand."""

_NAMED = "s.lane = ?1 AND coalesce(s.visible_name, s.name) = wanted.name AND s.state IN ('reading', 'open')"
_BY_FILE = (
    f"sources AS s JOIN attachments AS a ON a.source_id = s.id JOIN requests AS r ON r.id = a.request_id WHERE {_NAMED}"
)
_BY_ID = f"requests AS r WHERE r.lane = ?1 AND r.custom_id = CAST(wanted.name AS TEXT) AND r.{IS_OPEN}"
_IS_HEARD = (
    "(r.state IN ('waiting', 'batched') AND (r.stem IS NULL OR r.canceled_at IS NOT NULL) OR r.state = 'failing')"
)
"""What is named in vain is told so. Who names what was cancelled before, or ends as an error anyway, has what he wants,
although nothing is left to be marked."""
_STANDING = (
    f"SELECT wanted.name, EXISTS (SELECT 1 FROM sources AS s WHERE {_NAMED} AND s.state = 'reading') "  # noqa: S608 - our own constants
    f"OR EXISTS (SELECT 1 FROM {_BY_FILE} AND r.state = 'incoming') "
    f"OR EXISTS (SELECT 1 FROM {_BY_ID} AND r.state = 'incoming'), "
    f"EXISTS (SELECT 1 FROM {_BY_FILE} AND {_IS_HEARD}) OR EXISTS (SELECT 1 FROM {_BY_ID} AND {_IS_HEARD}) FROM wanted"
)
_MARK = (
    "WITH wanted (name) AS (VALUES (?2)) UPDATE requests SET canceled_at = ?3 WHERE id IN "  # noqa: S608 - our own constants
    f"(SELECT a.request_id FROM wanted CROSS JOIN {_BY_FILE} UNION SELECT r.id FROM wanted CROSS JOIN {_BY_ID}) "
    "AND state IN ('waiting', 'batched') AND stem IS NULL AND canceled_at IS NULL"
)
_STAND_BY = f"WITH wanted (name) AS (VALUES (?2)) UPDATE sources AS s SET is_verified = 1 FROM wanted WHERE {_NAMED}"  # noqa: S608 - our own constants
"""A file that is cancelled as a whole is not read again, should it change: nothing of it is wanted."""
_MARKED = "canceled_at IS NOT NULL AND state IN ('waiting', 'batched')"
"""Spelled as in the index requests_canceled."""


class Standing(StrEnum):
    """How things stand with what a `.cancel` file names. If several are true of it, the first one counts."""

    BEING_READ = "being_read"
    """Its file is just being read, or is still to be: to be asked once more after that."""
    OPEN = "open"
    """It waits, or is on its way."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """What is taken back on account of a `.cancel` file."""

    lane: Lane
    target: str
    """The name that it takes back, as people see it."""
    known: Standing
    """How things stand as far as no row says."""
    sign: NewSource | None
    """The file itself; None: it stays in the inbox, because not all that it names could be taken."""
    files: Sequence[NewSource] = ()
    """Dropped files of that name that were still in the inbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canceled:
    """What became of it."""

    standing: Standing
    request_count: int = 0
    """Requests that were cancelled."""


class CancelStore:
    """The rows about what was taken back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standings(self, lane: Lane, targets: Sequence[str]) -> dict[str, Standing]:
        """Say of names, as people see them, how things stand in the lane; those that name nothing are left out."""
        names = [to_blob(target) for target in targets]
        unsettled = await self._database.all("SELECT claim FROM unsettled WHERE lane = ? AND is_still = 0", (lane,))
        waited_for = {name for (claim,) in unsettled if (name := _name_in(claim)) is not None}
        standings = dict.fromkeys(waited_for.intersection(targets), Standing.OPEN)
        for start in range(0, len(names), ASKED_TOGETHER):
            rows = await self._database.all(*_question(lane, names[start : start + ASKED_TOGETHER]))
            standings |= {from_blob(name): _judge(row) for name, *row in rows if any(row)}
        return standings

    async def cancel(self, cancels: Sequence[Cancel], *, now: datetime) -> list[Canceled]:
        """Cancel what is named; record that the `.cancel` files are done with, or that they name nothing.

        Of one whose target is being read nothing is recorded yet: it may name more.
        """
        async with self._database.transaction() as transaction:
            writer = RowWriter(transaction, now=now)
            canceled = [await _cancel(transaction, writer, cancel, now=now) for cancel in cancels]
            await writer.write()
        return canceled

    async def end_unsent(self, *, now: datetime) -> int:
        """End cancelled requests that nothing is sent of, at most ENDED_AT_ONCE; return how many that were."""
        async with self._database.transaction() as transaction:
            rows = await transaction.all(
                f"SELECT id FROM requests WHERE batch_id IS NULL AND {_MARKED} "  # noqa: S608 - our own constants
                "UNION ALL SELECT r.id FROM batches AS b JOIN requests AS r ON r.batch_id = b.id "
                "WHERE b.state = 'sealed' AND r.canceled_at IS NOT NULL AND r.state IN ('waiting', 'batched') LIMIT ?",
                (ENDED_AT_ONCE,),
            )
            request_ids = [request_id for (request_id,) in rows]
            if request_ids:
                await take_out(transaction, request_ids, now=now)
                await condemn(transaction, request_ids, ErrorType.CANCELED, text=NOT_SENT, now=now)
        return len(request_ids)


def _foremost(*standings: Standing) -> Standing:
    """Return the one of several standings that counts."""
    return next(standing for standing in Standing if standing in standings)


async def _cancel(transaction: Transaction, writer: RowWriter, cancel: Cancel, *, now: datetime) -> Canceled:
    lane, target = cancel.lane, cancel.target
    unsettled = await _unsettled(transaction, lane, target)
    ((_, *row),) = await transaction.all(*_question(lane, [to_blob(target)]))
    standing = _foremost(_judge(row), cancel.known, *(Standing.OPEN for _ in (*cancel.files, *unsettled)))
    count = await transaction.run(_MARK, (lane, to_blob(target), to_ms(now)))
    await transaction.run(_STAND_BY, (lane, to_blob(target)))
    for source in (*cancel.files, *unsettled):
        await writer.add_file(source, CANCELED)
    await transaction.run_many(
        "DELETE FROM unsettled WHERE lane = ? AND claim = ?", [(lane, to_blob(one.claim)) for one in unsettled]
    )
    if cancel.sign is not None and standing is Standing.NOTHING:
        await writer.add_file(cancel.sign, NOTHING_TO_CANCEL)
    elif cancel.sign is not None and standing is Standing.OPEN:
        await writer.add_source(cancel.sign, state=SourceState.DONE)
    return Canceled(standing=standing, request_count=count)


async def _unsettled(transaction: Transaction, lane: Lane, target: str) -> list[NewSource]:
    """Return the files of that name that are waited for in processing/, because they had changed.

    One that dispatch has just found to have changed has its row until intake forgets that: it is still being read.
    """
    rows = await transaction.all(
        f"SELECT claim, found_at FROM unsettled WHERE lane = ? AND is_still = 0 AND {HAS_NO_ROW}",  # noqa: S608 - our own
        (lane,),
    )
    return [
        source_of(lane, from_blob(claim), found_at=from_ms(found_at))
        for claim, found_at in rows
        if _name_in(claim) == target
    ]


def _question(lane: Lane, names: Sequence[bytes]) -> tuple[str, Parameters]:
    asked = ", ".join(f"(?{number})" for number in range(2, len(names) + 2))
    return f"WITH wanted (name) AS (VALUES {asked}) {_STANDING}", (lane, *names)


def _judge(row: Sequence[int]) -> Standing:
    is_being_read, is_open = row
    if is_being_read:
        return Standing.BEING_READ
    return Standing.OPEN if is_open else Standing.NOTHING


def _name_in(claim: bytes) -> str | None:
    parsed = parse_claim_name(from_blob(claim))
    return None if parsed is None else visible(parsed[1])
