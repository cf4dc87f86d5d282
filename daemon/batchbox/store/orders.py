"""Orders: what people ask of the daemon, written beside it into the database and obeyed when it comes by."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from batchbox.store.columns import from_ms, to_ms
from batchbox.store.database import Database


class OrderKind(StrEnum):
    """What may be asked."""

    OURS = "ours"
    """A candidate, by its name at the API, is the batch in doubt: `<name>`, or `<name> <our number of the batch>`."""
    NOT_OURS = "not_ours"
    """The candidate, by its name at the API, is not ours."""
    RESEND = "resend"
    """What is left of a recovered batch, by our number of it, is sent again."""
    GIVE_UP = "give_up"
    """What is left of a lost or recovered batch, by our number of it, ends as errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order that was not obeyed yet."""

    id: int
    kind: OrderKind
    argument: str
    ordered_at: datetime


class OrderStore:
    """The rows of orders."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give(self, kind: OrderKind, argument: str, *, now: datetime) -> int:
        """Write an order; return its number."""
        async with self._database.transaction() as transaction:
            row = await transaction.one(
                "INSERT INTO orders (kind, argument, ordered_at) VALUES (?, ?, ?) RETURNING id",
                (kind, argument, to_ms(now)),
            )
        if row is None:
            raise AssertionError("an inserted row has an id")
        return int(row[0])

    async def open(self) -> Sequence[Order]:
        """Return the orders that were not obeyed yet, in the order in which they were given."""
        rows = await self._database.all(
            "SELECT id, kind, argument, ordered_at FROM orders WHERE obeyed_at IS NULL ORDER BY id"
        )
        return [
            Order(id=id_, kind=OrderKind(kind), argument=argument, ordered_at=from_ms(ordered_at))
            for id_, kind, argument, ordered_at in rows
        ]

    async def answer(self, order_id: int, answer: str, *, now: datetime) -> None:
        """Record that an order was obeyed, or why it could not be."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "UPDATE orders SET obeyed_at = ?, answer = ? WHERE id = ?", (to_ms(now), answer, order_id)
            )

    async def answer_to(self, order_id: int) -> str | None:
        """Return what became of an order; None while it waits."""
        row = await self._database.one("SELECT answer FROM orders WHERE id = ? AND obeyed_at IS NOT NULL", (order_id,))
        return None if row is None else str(row[0])
