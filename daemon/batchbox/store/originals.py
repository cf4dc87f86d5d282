"""Where dropped files go in the end: what is recorded of those in done/, and what rejected/ has in common with it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.lifecycle import SourceEvent
from batchbox.model import Lane
from batchbox.store.columns import from_blob, to_blob, to_ms
from batchbox.store.database import Database, Transaction
from batchbox.store.transitions import move_sources

MAY_LEAVE = "(is_verified = 1 OR sha256 IS NULL)"
"""Of a settled file: it has been looked at once more, or there is nothing to compare it with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledSource:
    """A file whose every request has ended."""

    id: int
    lane: Lane
    claim: str
    name: str
    target: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOriginal:
    """A file in done/ whose time has come."""

    id: int
    lane: Lane
    target: str


class OriginalStore:
    """The rows about files on their way to done/, and in it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def settled(self, *, limit: int) -> Sequence[SettledSource]:
        """Return files whose every request has ended, and which may leave processing/."""
        rows = await self._database.all(
            "SELECT id, lane, claim, name, target FROM sources "  # noqa: S608 - our own constant
            f"WHERE state = 'settled' AND {MAY_LEAVE} ORDER BY id LIMIT ?",
            (limit,),
        )
        return [
            SettledSource(
                id=id_,
                lane=lane,
                claim=from_blob(claim),
                name=from_blob(name),
                target=None if target is None else from_blob(target),
            )
            for id_, lane, claim, name, target in rows
        ]

    async def has_unverified(self) -> bool:
        """Say whether a settled file is still to be looked at once more."""
        row = await self._database.one(
            f"SELECT 1 FROM sources WHERE state = 'settled' AND NOT {MAY_LEAVE} LIMIT 1"  # noqa: S608 - our own constant
        )
        return row is not None

    async def take_targets(self, targets: Iterable[tuple[int, str]]) -> None:
        """Record the names that originals will have in done/."""
        async with self._database.transaction() as transaction:
            await take_targets(transaction, targets)

    async def archive(self, source_ids: Sequence[int], *, now: datetime) -> None:
        """Record that the originals have left processing/."""
        async with self._database.transaction() as transaction:
            await move_away(transaction, source_ids, SourceEvent.ARCHIVE, now=now)

    async def kept_since(self, before: datetime, *, limit: int) -> Sequence[KeptOriginal]:
        """Return originals that have been in done/ since before the moment."""
        rows = await self._database.all(
            "SELECT id, lane, target FROM sources WHERE state = 'done' AND target IS NOT NULL AND settled_at < ? "
            "ORDER BY settled_at LIMIT ?",
            (to_ms(before), limit),
        )
        return [KeptOriginal(id=id_, lane=lane, target=from_blob(target)) for id_, lane, target in rows]

    async def forget(self, source_ids: Sequence[int]) -> None:
        """Record that originals are not in done/ any more."""
        async with self._database.transaction() as transaction:
            await transaction.run_many("UPDATE sources SET target = NULL WHERE id = ?", [(id_,) for id_ in source_ids])


async def take_targets(transaction: Transaction, targets: Iterable[tuple[int, str]]) -> None:
    """Record the names that files will have where they go, before they move there."""
    await transaction.run_many(
        "UPDATE sources SET target = ? WHERE id = ?", [(to_blob(name), source_id) for source_id, name in targets]
    )


async def move_away(transaction: Transaction, source_ids: Sequence[int], event: SourceEvent, *, now: datetime) -> None:
    """Record that files have left processing/. The event says where to."""
    await transaction.run_many(
        "UPDATE sources SET settled_at = ? WHERE id = ?", [(to_ms(now), source_id) for source_id in source_ids]
    )
    await move_sources(transaction, source_ids, event)
    for table in ("unsettled", "recalled"):
        await transaction.run(
            f"DELETE FROM {table} WHERE (lane, claim) IN "  # noqa: S608 - two constants
            "(SELECT lane, claim FROM sources WHERE id IN (SELECT value FROM json_each(?)))",
            (json.dumps(source_ids),),
        )
