import os
import sqlite3
from pathlib import Path

import anyio
import pytest

from batchbox.errors import ConfigurationError, StateBrokenError
from batchbox.store import open_store
from batchbox.store.database import FILE_NAME, Database, open_database, read_database
from batchbox.store.meta import Fact, MetaStore
from batchbox.store.schema import MIGRATIONS

from .rows import record, request

PUT = "INSERT INTO meta (key, value) VALUES (?, ?)"


async def keys(database: Database) -> list[str]:
    """Return the keys of all facts."""
    return [key for (key,) in await database.all("SELECT key FROM meta ORDER BY key")]


def make_newer(path: Path) -> None:
    """Make a database such as a later batchbox may have."""
    connection = sqlite3.connect(path / FILE_NAME)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.execute("CREATE TABLE later (x)")
    connection.close()


def tables_of(path: Path) -> list[str]:
    """Return the names of a database's tables, as a stranger sees them."""
    connection = sqlite3.connect(path / FILE_NAME)
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    return [name for (name,) in rows]


async def write_and_fail(database: Database) -> None:
    """Write something, and fail before the end of the transaction."""
    async with database.transaction() as transaction:
        await transaction.run(PUT, ("a", "1"))
        raise ArithmeticError


async def write_twice(database: Database) -> None:
    """Write something, and then the same key twice."""
    async with database.transaction() as transaction:
        await transaction.run(PUT, ("a", "1"))
        await transaction.run_many(PUT, [("b", "1"), ("b", "2")])


async def test_an_empty_file_becomes_a_database_of_the_newest_schema(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()

    async with open_database(tmp_path) as database:
        version = await database.one("PRAGMA user_version")
        tables = {name for (name,) in await database.all("SELECT name FROM sqlite_master WHERE type = 'table'")}

    assert version == (len(MIGRATIONS),)
    assert {"meta", "sources", "requests", "batches", "sendings", "charges", "holds"} <= tables


async def test_opening_again_keeps_everything(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await record(store, request())

    async with open_store(tmp_path) as store:
        assert (await store.intake.backlog()).request_count == 1


async def test_every_commit_is_synced(database: Database) -> None:
    """With less, commits that were acknowledged are lost in a power cut, and batches are bought twice."""
    async with database.transaction() as transaction:
        synchronous = await transaction.one("PRAGMA synchronous")
        journal_mode = await transaction.one("PRAGMA journal_mode")

    assert synchronous == (2,)
    assert journal_mode == ("wal",)


@pytest.mark.parametrize("opened", [open_database, read_database])
async def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path, opened: object) -> None:
    make_newer(tmp_path)

    assert callable(opened)
    with pytest.raises(ConfigurationError, match=r"schema is version \d+.*Install the newer batchbox"):
        async with opened(tmp_path):
            pass

    assert tables_of(tmp_path) == ["later"]


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is not SQLite" * 100)

    with pytest.raises(ConfigurationError, match="not a database that can be used"):
        async with open_database(tmp_path):
            pass


async def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    """Going on with it would mean to send, or to forget, what it says wrongly."""
    async with open_store(tmp_path) as store:
        await record(store, *(request(f"r{number}", params=bytes(3000)) for number in range(100)))
    damaged = bytearray((tmp_path / FILE_NAME).read_bytes())
    half = len(damaged) // 2
    damaged[half:] = b"\x55" * half
    (tmp_path / FILE_NAME).write_bytes(damaged)

    with pytest.raises(ConfigurationError):
        async with open_store(tmp_path):
            pass


async def test_reading_needs_a_database_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no database yet"):
        async with read_database(tmp_path):
            pass

    assert os.listdir(tmp_path) == []


async def test_a_reader_beside_the_daemon_sees_what_is_committed_and_writes_nothing(
    tmp_path: Path, database: Database
) -> None:
    async with database.transaction() as transaction:
        await transaction.run(PUT, ("seen", "1"))

    async with read_database(tmp_path) as reading:
        seen = await keys(reading)
        with pytest.raises(StateBrokenError, match="readonly"):
            await MetaStore(reading).get_or_record(Fact.KEY_SALT, lambda: "x")

    assert seen == ["seen"]
    assert await keys(database) == ["seen"]


async def test_a_transaction_is_invisible_until_it_is_whole(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.run(PUT, ("a", "1"))
        assert await keys(database) == []
        await transaction.run(PUT, ("b", "1"))

    assert await keys(database) == ["a", "b"]


async def test_a_transaction_that_raises_leaves_nothing_and_the_next_one_works(database: Database) -> None:
    with pytest.raises(ArithmeticError):
        await write_and_fail(database)

    async with database.transaction() as transaction:
        await transaction.run(PUT, ("b", "1"))
    assert await keys(database) == ["b"]


async def test_a_statement_that_fails_takes_its_whole_transaction_along(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await write_twice(database)

    assert await keys(database) == []


async def test_a_transaction_that_is_cancelled_inside_is_finished_first(database: Database) -> None:
    """A cancelled statement runs in its thread all the same, and would leave the transaction open for the next."""
    with anyio.CancelScope() as scope:
        async with database.transaction() as transaction:
            await transaction.run(PUT, ("a", "1"))
            scope.cancel()
            await transaction.run(PUT, ("b", "1"))
        await anyio.lowlevel.checkpoint()
        raise AssertionError("the cancellation was swallowed")

    async with database.transaction() as transaction:
        await transaction.run(PUT, ("c", "1"))
    assert await keys(database) == ["a", "b", "c"]


async def test_whoever_is_cancelled_while_waiting_for_a_turn_writes_nothing(database: Database) -> None:
    scope = anyio.CancelScope()

    async def wait_and_write() -> None:
        with scope:
            async with database.transaction() as transaction:
                await transaction.run(PUT, ("waited", "1"))

    async with anyio.create_task_group() as tasks, database.transaction() as transaction:
        tasks.start_soon(wait_and_write)
        await anyio.lowlevel.checkpoint()
        await transaction.run(PUT, ("a", "1"))
        scope.cancel()

    async with database.transaction() as transaction:
        await transaction.run(PUT, ("b", "1"))
    assert await keys(database) == ["a", "b"]


async def test_transactions_of_many_tasks_come_one_after_the_other(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.run(PUT, ("count", "0"))

    async def add() -> None:
        async with database.transaction() as transaction:
            row = await transaction.one("SELECT value FROM meta WHERE key = 'count'")
            assert row is not None
            await anyio.lowlevel.checkpoint()
            await transaction.run("UPDATE meta SET value = ? WHERE key = 'count'", (str(int(row[0]) + 1),))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(add)

    assert await database.one("SELECT value FROM meta") == ("20",)


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start finds the old schema, whole, and not half of the new one."""
    async with open_database(tmp_path):
        pass
    broken = (*MIGRATIONS, "CREATE TABLE halfway (x); CREATE TABLE halfway (x);")
    monkeypatch.setattr("batchbox.store.database.MIGRATIONS", broken)

    with pytest.raises(sqlite3.OperationalError):
        async with open_database(tmp_path):
            pass
    monkeypatch.undo()

    async with open_database(tmp_path) as database:
        assert await database.one("SELECT count(*) FROM sqlite_master WHERE name = 'halfway'") == (0,)
        assert await database.one("PRAGMA user_version") == (len(MIGRATIONS),)
