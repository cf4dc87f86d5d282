"""What is recorded of files that take back others: `<file name>.cancel` and `<custom_id>.cancel`.

A request that is cancelled is marked, all that a file names in one transaction, together with the row that says that
the file was obeyed. What becomes of it then depends on where it is. One that waits, or is in a sealed batch, is taken
out before anything is sent (`end_unsent`); one that is in doubt or with the API stays where it is, comes back to a
sealed batch or has a line of results, and ends as an error either way. The mark is never taken back.

A request whose files have their name in the outbox already is being delivered, and counts as ended.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from batchbox.model import ErrorType, Lane, RejectReason, SourceState
from batchbox.naming import parse_claim_name, visible
from batchbox.store.columns import from_blob, from_ms, to_blob, to_ms
from batchbox.store.condemning import condemn
from batchbox.store.database import Database, Row, Transaction
from batchbox.store.recording import IS_OPEN, NewSource, Rejection, RowWriter
from batchbox.store.regrouping import take_out

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

_NAMED = "s.lane = ?1 AND coalesce(s.visible_name, s.name) = ?2 AND s.state IN ('reading', 'open')"
_BY_FILE = (
    "FROM sources AS s JOIN attachments AS a ON a.source_id = s.id JOIN requests AS r ON r.id = a.request_id "
    f"WHERE {_NAMED}"
)
_BY_ID = f"FROM requests AS r WHERE r.lane = ?1 AND r.custom_id = CAST(?2 AS TEXT) AND r.{IS_OPEN}"
_CAN_BE = "(r.state IN ('waiting', 'batched') AND (r.stem IS NULL OR r.canceled_at IS NOT NULL) OR r.state = 'failing')"
_STANDING = (
    f"SELECT EXISTS (SELECT 1 FROM sources AS s WHERE {_NAMED} AND s.state = 'reading') "  # noqa: S608 - our own constants
    f"OR EXISTS (SELECT 1 {_BY_FILE} AND r.state = 'incoming') OR EXISTS (SELECT 1 {_BY_ID} AND r.state = 'incoming'), "
    f"EXISTS (SELECT 1 {_BY_FILE} AND {_CAN_BE}) OR EXISTS (SELECT 1 {_BY_ID} AND {_CAN_BE})"
)
_MARK = (
    "UPDATE requests SET canceled_at = ?3 WHERE id IN "  # noqa: S608 - our own constants
    f"(SELECT a.request_id {_BY_FILE} UNION SELECT r.id {_BY_ID}) "
    "AND state IN ('waiting', 'batched') AND stem IS NULL AND canceled_at IS NULL"
)
_MARKED = "canceled_at IS NOT NULL AND state IN ('waiting', 'batched')"
"""Spelled as in the index requests_canceled."""


class Standing(StrEnum):
    """How things stand with what a `.cancel` file names."""

    OPEN = "open"
    """It waits, or is on its way."""
    BEING_READ = "being_read"
    """Its file is just being read, or read again: to be asked once more after that."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A claimed `.cancel` file, and what is claimed on its account."""

    source: NewSource
    target: str
    """The name that it takes back, as people see it."""
    files: Sequence[NewSource] = ()
    """Dropped files of that name that were still in the inbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obeyed:
    """What became of a `.cancel` file."""

    standing: Standing
    request_count: int = 0
    """Requests that were cancelled."""


class CancelStore:
    """The rows about what was taken back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standings(self, lane: Lane, targets: Sequence[str]) -> list[Standing]:
        """Say of each name, as people see it, how things stand with what it names in the lane."""
        unsettled = await self._database.all("SELECT claim FROM unsettled WHERE lane = ? AND is_still = 0", (lane,))
        waiting = {_name_in(claim) for (claim,) in unsettled}
        standings = []
        for target in targets:
            (row,) = await self._database.all(_STANDING, (lane, to_blob(target)))
            standings.append(_judge(row, is_unsettled=target in waiting))
        return standings

    async def obey(self, cancels: Sequence[Cancel], *, now: datetime) -> list[Obeyed]:
        """Cancel what the files name and record that they are done with, or that they name nothing.

        One whose target is being read is left alone, with its files: nothing of it is recorded.
        """
        async with self._database.transaction() as transaction:
            writer = RowWriter(transaction, now=now)
            obeyed = [await _obey(transaction, writer, cancel, now=now) for cancel in cancels]
            await writer.write()
        return obeyed

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
                await _stand_by_what_was_read(transaction, request_ids)
        return len(request_ids)


async def _obey(transaction: Transaction, writer: RowWriter, cancel: Cancel, *, now: datetime) -> Obeyed:
    lane, target = cancel.source.lane, cancel.target
    unsettled = await _unsettled(transaction, lane, target)
    (row,) = await transaction.all(_STANDING, (lane, to_blob(target)))
    standing = _judge(row, is_unsettled=bool(unsettled or cancel.files))
    if standing is Standing.BEING_READ:
        return Obeyed(standing=standing)
    count = await transaction.run(_MARK, (lane, to_blob(target), to_ms(now)))
    for source in (*cancel.files, *unsettled):
        await writer.add_file(source, CANCELED)
    await transaction.run_many(
        "DELETE FROM unsettled WHERE lane = ? AND claim = ?", [(lane, to_blob(one.claim)) for one in unsettled]
    )
    if standing is Standing.NOTHING:
        await writer.add_file(cancel.source, NOTHING_TO_CANCEL)
    else:
        await writer.add_source(cancel.source, state=SourceState.DONE)
    return Obeyed(standing=standing, request_count=count)


async def _unsettled(transaction: Transaction, lane: Lane, target: str) -> list[NewSource]:
    """Return the files of that name that are waited for in processing/, because they had changed."""
    rows = await transaction.all("SELECT claim, found_at FROM unsettled WHERE lane = ? AND is_still = 0", (lane,))
    return [
        NewSource(
            lane=lane,
            claim=from_blob(claim),
            name=parsed[1],
            owner="",
            size_bytes=0,
            sha256=None,
            dropped_at=from_ms(found_at),
        )
        for claim, found_at in rows
        if (parsed := parse_claim_name(from_blob(claim))) is not None and visible(parsed[1]) == target
    ]


async def _stand_by_what_was_read(transaction: Transaction, request_ids: Sequence[int]) -> None:
    """Let their files not be read again, should they change: that would bring back what was taken out of them."""
    await transaction.run(
        "UPDATE sources SET is_verified = 1 WHERE id IN "
        "(SELECT source_id FROM attachments WHERE request_id IN (SELECT value FROM json_each(?)))",
        (json.dumps(request_ids),),
    )


def _judge(row: Row, *, is_unsettled: bool) -> Standing:
    is_being_read, is_open = row
    if is_being_read:
        return Standing.BEING_READ
    return Standing.OPEN if is_open or is_unsettled else Standing.NOTHING


def _name_in(claim: bytes) -> str | None:
    parsed = parse_claim_name(from_blob(claim))
    return None if parsed is None else visible(parsed[1])
