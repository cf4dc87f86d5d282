"""The real database, whose statements are remembered, so that a test can ask how SQLite goes about them."""

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from batchbox.store.database import Database, Parameters, Row, Transaction

BOUNDED = re.compile(
    r"VIRTUAL TABLE|CONSTANT ROW|SCAN (ended|holds|wanted|unsettled)$|INDEX requests_(waiting|failing)\b"
)
"""What may be read from end to end: arguments, holds, the few unsettled claims, and indexes of only what waits."""


@dataclass(slots=True)
class Statements:
    """What was run, with the parameters of the first time."""

    seen: dict[str, Parameters] = field(default_factory=dict)
    run_count: int = 0

    def note(self, sql: str, parameters: Parameters) -> None:
        """Remember a statement."""
        self.seen.setdefault(sql, parameters)
        self.run_count += 1


class WatchedTransaction(Transaction):
    """A real transaction, whose statements are remembered."""

    def __init__(self, transaction: Transaction, statements: Statements) -> None:
        super().__init__(transaction._connection)
        self._statements = statements

    async def run(self, sql: str, parameters: Parameters = ()) -> int:
        """Run, and remember."""
        self._statements.note(sql, parameters)
        return await super().run(sql, parameters)

    async def run_many(self, sql: str, rows: Iterable[Parameters]) -> None:
        """Run, and remember with the first row."""
        listed = list(rows)
        for row in listed[:1]:
            self._statements.note(sql, row)
        await super().run_many(sql, listed)

    async def all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Ask, and remember."""
        self._statements.note(sql, parameters)
        return await super().all(sql, parameters)


class WatchedDatabase(Database):
    """The real database, whose statements are remembered."""

    def __init__(self, database: Database) -> None:
        super().__init__(writer=database._writer, reader=database._reader, path=database.path)
        self.statements = Statements()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction that is watched."""
        async with super().transaction() as transaction:
            yield WatchedTransaction(transaction, self.statements)

    async def all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Ask, and remember."""
        self.statements.note(sql, parameters)
        return await super().all(sql, parameters)

    async def scans(self) -> list[str]:
        """Say which statement reads which table from end to end."""
        found = []
        for sql, parameters in self.statements.seen.items():
            plan = [str(row[3]) for row in await self._reader.execute_fetchall(f"EXPLAIN QUERY PLAN {sql}", parameters)]
            found += [f"{step}: {sql}" for step in plan if step.startswith("SCAN") and not BOUNDED.search(step)]
        return found
