"""The SQLite file: connections, transactions and migrations, and nothing about what the tables mean.

One connection writes and one reads. A transaction is a short block that is shielded from cancellation, because a
cancelled aiosqlite call still runs in its thread and would leave the transaction open for the next caller.
`synchronous=FULL` with WAL is what makes an acknowledged commit survive a power cut; NORMAL loses some.

A commit that failed for lack of room is rolled back, and its block may be run again. After any other failure of the
disk nobody in this process can say what became of the commit, so nothing more is written: the next process reads it.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

from batchbox.errors import ConfigurationError, StateBrokenError
from batchbox.store.faults import DAMAGED, primary_code, understood
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

    def __init__(self, *, writer: aiosqlite.Connection, reader: aiosqlite.Connection, path: Path) -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._turn = anyio.Lock()  # one transaction at a time: all of them share the writer
        self._fault: StateBrokenError | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commit the block's statements together, or none of them if it raises. No waiting for anything else inside.

        Raises StateNotWritableError if there is no room: nothing was kept. Raises StateBrokenError if the disk fails,
        now and at every later call: what became of the block is not known.
        """
        async with self._turn:
            with anyio.CancelScope(shield=True):
                with self._trusted():
                    async with self._attempt() as transaction:
                        yield transaction

    @contextmanager
    def _trusted(self) -> Iterator[None]:
        """Let nobody read or write any more once the disk has failed."""
        if self._fault is not None:
            raise self._fault
        try:
            with understood(self.path):
                yield
        except StateBrokenError as error:
            self._fault = error
            raise

    @asynccontextmanager
    async def _attempt(self) -> AsyncIterator[Transaction]:
        await self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield Transaction(self._writer)
            await self._writer.commit()  # a commit that fails may leave the transaction open
        except BaseException:
            await self._writer.rollback()
            raise

    async def all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Return every row of one SELECT. Raises StateBrokenError."""
        with self._trusted():
            return list(await self._reader.execute_fetchall(sql, parameters))

    async def one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """Return the first row of one SELECT, or None."""
        rows = await self.all(sql, parameters)
        return rows[0] if rows else None


@asynccontextmanager
async def open_database(state: Path) -> AsyncIterator[Database]:
    """Open the state folder's database, make it if it is missing, and bring its schema up to date.

    Raises ConfigurationError if its schema is newer than this program, or if it is damaged; StateNotWritableError or
    StateBrokenError if the disk is full or fails.
    """
    path = state / FILE_NAME
    async with AsyncExitStack() as stack:
        with understood(path):
            writer = await stack.enter_async_context(_connect(path))
            reader = await stack.enter_async_context(_connect(path))
            await _require_sound(writer, path)
            await _migrate(writer, path)
        yield Database(writer=writer, reader=reader, path=path)


@asynccontextmanager
async def read_database(state: Path) -> AsyncIterator[Database]:
    """Open the database beside a running daemon, for reading. Raises ConfigurationError if there is none."""
    async with _beside(state, is_reader=True) as database:
        yield database


@asynccontextmanager
async def join_database(state: Path) -> AsyncIterator[Database]:
    """Open the database beside a running daemon, for writing too. Raises ConfigurationError if there is none."""
    async with _beside(state, is_reader=False) as database:
        yield database


@asynccontextmanager
async def _beside(state: Path, *, is_reader: bool) -> AsyncIterator[Database]:
    path = state / FILE_NAME
    if not path.exists():
        raise ConfigurationError(
            f"{path}: there is no database yet. Start `batchbox run` once, or check [paths] state."
        )
    async with _connect(path) as connection:
        await connection.execute(f"PRAGMA query_only = {int(is_reader)}")
        await _require_known_schema(connection, path)
        yield Database(writer=connection, reader=connection, path=path)


@asynccontextmanager
async def _connect(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    # Tried without a thread first: when connecting fails, aiosqlite (0.22) leaves its thread behind, to answer a loop
    # that may be closed by then.
    sqlite3.connect(path).close()
    async with aiosqlite.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS) as connection:
        try:
            await connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError as error:
            _raise_if_damaged(error, path)
            raise
        await connection.execute("PRAGMA synchronous = FULL")
        yield connection


async def _require_sound(connection: aiosqlite.Connection, path: Path) -> None:
    try:
        rows = list(await connection.execute_fetchall("PRAGMA quick_check(1)"))
    except sqlite3.DatabaseError as error:
        _raise_if_damaged(error, path)
        raise
    if rows[0][0] != "ok":
        raise _unusable(path, str(rows[0][0]))


def _raise_if_damaged(error: sqlite3.Error, path: Path) -> None:
    if primary_code(error) in DAMAGED:
        raise _unusable(path, str(error)) from error


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
