"""Why something waits that is not the files' fault: written by whoever finds out, read by dispatch and by people.

A hold outlives the process that wrote it, so whoever keeps one releases it at the first success of each process too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from batchbox.model import Now
from batchbox.store.columns import from_ms, optional_moment, optional_ms, to_ms
from batchbox.store.database import Database
from batchbox.timing import Backoff


class HoldName(StrEnum):
    """What is held. Each has at most one reason at a time."""

    SENDING = "sending"
    """No batch is POSTed. Written by dispatch."""
    ROOT = "root"
    """The root is offline: nothing is read, written or sent. Written by intake."""
    DISK = "disk"
    """A disk has too little room: nothing is taken. Written by intake."""
    CREDIT = "credit"
    """One request goes alone, to see whether the account has credit again. Written by delivery, for such a result."""
    ACCOUNT = "account"
    """The key, base_url or organisation is not the one that open work was sent under. Written by account."""
    API = "api"
    """Polls fail. Written by polling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One thing that waits, and why."""

    name: HoldName
    reason: str
    since_at: datetime
    next_attempt_at: datetime | None
    """None: it is news that nobody has begun to wait out."""


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

    async def release(self, name: HoldName) -> bool:
        """Hold no longer, unless there is news that nobody has begun to wait out; return whether anything was held."""
        async with self._database.transaction() as transaction:
            count = await transaction.run("DELETE FROM holds WHERE name = ? AND next_attempt_at IS NOT NULL", (name,))
        return count > 0


class Keeper:
    """Keeps one hold for the stage that tries again and again: each failure prolongs it, a success releases it."""

    def __init__(self, name: HoldName, *, holds: HoldStore, backoff: Backoff, chance: Callable[[], float]) -> None:
        self._name = name
        self._holds = holds
        self._backoff = backoff
        self._chance = chance
        self._may_be_held = True  # by an earlier process, until the first success of this one

    @property
    def until(self) -> float:
        """The monotonic moment before which nothing is tried; 0 if nothing failed."""
        return self._backoff.until

    @property
    def is_failing(self) -> bool:
        """Whether the last try failed."""
        return self._backoff.is_failing

    async def fail(self, reason: str, now: Now, *, at_least: float = 0.0, at_most: float = math.inf) -> datetime:
        """Hold, for so many seconds and longer with every failure in a row; return when to try again."""
        until = self._backoff.fail(now.monotonic, chance=self._chance(), at_least=at_least, at_most=at_most)
        next_attempt_at = now.wall + timedelta(seconds=until - now.monotonic)
        self._may_be_held = True
        await self._holds.put(self._name, reason, now=now.wall, next_attempt_at=next_attempt_at)
        return next_attempt_at

    async def succeed(self) -> bool:
        """Hold no longer; return whether anything was held."""
        self._backoff.succeed()
        if not self._may_be_held:
            return False
        was_held = await self._holds.release(self._name)
        self._may_be_held = False
        return was_held
