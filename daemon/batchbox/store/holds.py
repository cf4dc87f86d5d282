"""Why something waits that is not the files' fault: written by whoever finds out, read by dispatch and by people."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from batchbox.store.columns import from_ms, optional_moment, optional_ms, to_ms
from batchbox.store.database import Database


class HoldName(StrEnum):
    """What is held. Each has at most one reason at a time."""

    SENDING = "sending"
    """No batch is POSTed. Written by dispatch; delivery writes it for a credit message in a result."""
    ROOT = "root"
    """The root is offline: nothing is read, written or sent."""
    API = "api"
    """Polls or results fail. Written by polling and delivery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One thing that waits, and why."""

    name: HoldName
    reason: str
    since_at: datetime
    next_attempt_at: datetime | None


class HoldStore:
    """The rows about what is held."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> Sequence[Hold]:
        """Return what is held now."""
        rows = await self._database.all("SELECT name, reason, since_at, next_attempt_at FROM holds ORDER BY name")
        return [
            Hold(
                name=HoldName(name),
                reason=reason,
                since_at=from_ms(since_at),
                next_attempt_at=optional_moment(next_attempt_at),
            )
            for name, reason, since_at, next_attempt_at in rows
        ]

    async def get(self, name: HoldName) -> Hold | None:
        """Return the hold of that name, if there is one."""
        return next((hold for hold in await self.all() if hold.name is name), None)

    async def put(self, name: HoldName, reason: str, *, now: datetime, next_attempt_at: datetime | None) -> None:
        """Hold, or say anew why and until when; `since_at` stays what it was."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "INSERT INTO holds (name, reason, since_at, next_attempt_at) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET reason = excluded.reason, next_attempt_at = excluded.next_attempt_at",
                (name, reason, to_ms(now), optional_ms(next_attempt_at)),
            )

    async def release(self, name: HoldName) -> None:
        """Hold no longer."""
        async with self._database.transaction() as transaction:
            await transaction.run("DELETE FROM holds WHERE name = ?", (name,))
