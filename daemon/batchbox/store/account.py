"""Whose account our work lies in: the address, the organisation and the keys that it was sent under."""

from collections.abc import Sequence

from batchbox.model import ApiBatchId
from batchbox.store.database import Database
from batchbox.store.meta import Fact

BATCHES_ASKED_MAX = 5
"""So many of the newest batches are asked about before a key counts as another workspace's."""


class AccountStore:
    """The rows about whose account it is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def has_open_batches(self) -> bool:
        """Say whether the API has, or may have, anything of ours that is not delivered."""
        row = await self._database.one(
            "SELECT 1 FROM batches WHERE state IN ('submitting', 'in_progress', 'ended', 'lost') "
            "UNION ALL SELECT 1 FROM twins WHERE is_booked = 0 LIMIT 1"
        )
        return row is not None

    async def get(self, fact: Fact) -> str | None:
        """Return what our work was sent under, None if that was never recorded."""
        row = await self._database.one("SELECT value FROM meta WHERE key = ?", (fact,))
        return None if row is None else str(row[0])

    async def record(self, fact: Fact, value: str) -> None:
        """Record what our work is sent under from now on."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (fact, value),
            )

    async def sent_with(self, key_hash: bytes) -> Sequence[ApiBatchId]:
        """Return the newest batches that were accepted under the key."""
        rows = await self._database.all(
            "SELECT b.api_id FROM batches AS b JOIN sendings AS s ON s.nonce = b.nonce "
            "WHERE s.key_hash = ? AND b.api_id IS NOT NULL ORDER BY b.id DESC LIMIT ?",
            (key_hash, BATCHES_ASKED_MAX),
        )
        return [api_id for (api_id,) in rows]

    async def replace_key(self, old: bytes, new: bytes) -> None:
        """Record that the new key is of the same workspace: what was sent under the old one is believed under it."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE sendings SET key_hash = ? WHERE key_hash = ?", (new, old))
