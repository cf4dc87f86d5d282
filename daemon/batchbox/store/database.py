"""The SQLite file: connections, transactions and migrations, and nothing about what the tables mean.

One connection writes and one reads. A transaction is a short block that is shielded from cancellation, because a
cancelled aiosqlite call still runs in its thread and would leave the transaction open for the next caller.
`synchronous=FULL` with WAL is what makes an acknowledged commit survive a power cut; NORMAL loses some.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

from batchbox.errors import ConfigurationError
from batchbox.store.schema import MIGRATIONS

FILE_NAME = "batchbox.db"
BUSY_TIMEOUT_SECONDS = 30.0

Row = Sequence[Any]  # Any: SQLite's columns are typed by the schema, which mypy cannot see
Parameters = Sequence[object]


class Transaction:
    """The statements that may be run inside `Database.transaction`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def run(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement; return how many rows it changed."""
        async with self._connection.execute(sql, parameters) as cursor:
            return cursor.rowcount

    async def run_many(self, sql: str, rows: Iterable[Parameters]) -> None:
        """Run one statement for every row, in one hop to the database's thread."""
        async with self._connection.executemany(sql, rows):
            pass

    async def all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Return every row, as this transaction sees it."""
        return list(await self._connection.execute_fetchall(sql, parameters))

    async def one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """Return the first row, or None."""
        rows = await self.all(sql, parameters)
        return rows[0] if rows else None


class Database:
    """An open database. Reading sees what was last committed."""

    def __init__(self, *, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._writer = writer
        self._reader = reader
        self._turn = anyio.Lock()  # one transaction at a time: all of them share the writer

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commit the block's statements together, or none of them if it raises. No waiting for anything else inside."""
        async with self._turn:
            with anyio.CancelScope(shield=True):
                await self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield Transaction(self._writer)
                    await self._writer.commit()  # a commit that fails may leave the transaction open
                except BaseException:
                    await self._writer.rollback()
                    raise

    async def all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Return every row of one SELECT."""
        return list(await self._reader.execute_fetchall(sql, parameters))

    async def one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """Return the first row of one SELECT, or None."""
        rows = await self.all(sql, parameters)
        return rows[0] if rows else None


@asynccontextmanager
async def open_database(state: Path) -> AsyncIterator[Database]:
    """Open the state folder's database, make it if it is missing, and bring its schema up to date.

    Raises ConfigurationError if its schema is newer than this program, or if it is damaged.
    """
    path = state / FILE_NAME
    async with _connect(path) as writer, _connect(path) as reader:
        await _require_sound(writer, path)
        await _migrate(writer, path)
        yield Database(writer=writer, reader=reader)


@asynccontextmanager
async def read_database(state: Path) -> AsyncIterator[Database]:
    """Open the database beside a running daemon, for reading. Raises ConfigurationError if there is none."""
    path = state / FILE_NAME
    if not path.exists():
        raise ConfigurationError(
            f"{path}: there is no database yet. Start `batchbox run` once, or check [paths] state."
        )
    async with _connect(path) as connection:
        await connection.execute("PRAGMA query_only = ON")
        await _require_known_schema(connection, path)
        yield Database(writer=connection, reader=connection)


@asynccontextmanager
async def _connect(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS) as connection:
        try:
            await connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError as error:
            raise _unusable(path, str(error)) from error
        await connection.execute("PRAGMA synchronous = FULL")
        yield connection


async def _require_sound(connection: aiosqlite.Connection, path: Path) -> None:
    try:
        rows = list(await connection.execute_fetchall("PRAGMA quick_check(1)"))
    except sqlite3.DatabaseError as error:
        raise _unusable(path, str(error)) from error
    if rows[0][0] != "ok":
        raise _unusable(path, str(rows[0][0]))


def _unusable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: this is not a database that can be used ({why}). Restore a backup of it.")


async def _migrate(connection: aiosqlite.Connection, path: Path) -> None:
    version = await _require_known_schema(connection, path)
    for number in range(version, len(MIGRATIONS)):
        await connection.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
        )


async def _require_known_schema(connection: aiosqlite.Connection, path: Path) -> int:
    rows = list(await connection.execute_fetchall("PRAGMA user_version"))
    version = int(rows[0][0])
    if version > len(MIGRATIONS):
        raise ConfigurationError(
            f"{path}: its schema is version {version}, and this batchbox knows up to {len(MIGRATIONS)}. "
            "Install the newer batchbox again."
        )
    return version
