"""A database that cannot be written, or that fails: what is waited for, what ends the process, and what is kept."""

import sqlite3
from pathlib import Path

import pytest

from batchbox.errors import ConfigurationError, StateBrokenError, StateNotWritableError
from batchbox.store import faults
from batchbox.store.database import FILE_NAME, Database, open_database
from batchbox.store.faults import understood

PUT = "INSERT INTO meta (key, value) VALUES (?, ?)"
ALL = "SELECT key FROM meta"
LONG = "x" * 1_000_000


async def fill(database: Database) -> None:
    """Let the database have no page more."""
    async with database.transaction() as transaction:
        await transaction.all("PRAGMA max_page_count = 1")  # as many as it has


async def make_room(database: Database) -> None:
    """Let it grow again."""
    async with database.transaction() as transaction:
        await transaction.all("PRAGMA max_page_count = 1000000")


async def put(database: Database, key: str, value: str) -> None:
    """Write one fact."""
    async with database.transaction() as transaction:
        await transaction.run(PUT, (key, "1"))
        await transaction.run(PUT, (f"{key} again", value))


async def put_and_fail(database: Database, fault: Exception) -> None:
    """Write a fact, and then meet the fault."""
    async with database.transaction() as transaction:
        await transaction.run(PUT, ("a", "1"))
        raise fault


def error(code: int, text: str = "it went wrong") -> sqlite3.OperationalError:
    """Return an error as SQLite's own."""
    made = sqlite3.OperationalError(text)
    made.sqlite_errorcode = code
    return made


async def test_where_there_is_no_room_nothing_of_a_transaction_is_kept(database: Database) -> None:
    await put(database, "before", "1")
    await fill(database)

    with pytest.raises(
        StateNotWritableError, match=r"batchbox\.db: nothing can be recorded: its disk or quota is full"
    ):
        await put(database, "a", LONG)

    assert await database.all(ALL) == [("before",), ("before again",)]


async def test_the_same_transaction_goes_through_once_there_is_room(database: Database) -> None:
    await fill(database)
    with pytest.raises(StateNotWritableError):
        await put(database, "a", LONG)

    await make_room(database)
    await put(database, "a", LONG)

    assert await database.all(ALL) == [("a",), ("a again",)]


async def test_a_database_that_another_program_holds_is_waited_for(tmp_path: Path, database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.all("PRAGMA busy_timeout = 1")
    holder = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(StateNotWritableError, match="another program holds the database"):
        await put(database, "a", "1")
    holder.execute("ROLLBACK")
    holder.close()
    await put(database, "a", "1")

    assert await database.all(ALL) == [("a",), ("a again",)]


@pytest.mark.parametrize(
    "code",
    [
        *(sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CORRUPT),
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB),
    ],
)
async def test_after_a_fault_of_the_disk_nothing_more_is_written_or_believed(database: Database, code: int) -> None:
    """What became of the commit is not known to this process, and a later success of the disk means nothing."""
    with pytest.raises(StateBrokenError, match="it went wrong"):
        await put_and_fail(database, error(code))

    with pytest.raises(StateBrokenError, match="it went wrong"):
        await put(database, "b", "1")
    with pytest.raises(StateBrokenError):
        await database.all(ALL)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE])
@pytest.mark.parametrize(("is_full", "meaning"), [(True, StateNotWritableError), (False, StateBrokenError)])
def test_a_write_that_fails_is_no_fault_where_the_quota_is_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_full: bool, meaning: type[Exception]
) -> None:
    """SQLite calls only ENOSPC "full"; whether it was a quota is found out by writing."""
    monkeypatch.setattr(faults, "_is_full", lambda folder: is_full and folder == tmp_path)

    with pytest.raises(meaning), understood(tmp_path / FILE_NAME):
        raise error(code)


def test_finding_out_whether_the_disk_is_full_leaves_nothing_behind(tmp_path: Path) -> None:
    assert not faults._is_full(tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISUSE])
def test_what_is_no_fault_of_the_disk_flies_as_it_is(tmp_path: Path, code: int) -> None:
    with pytest.raises(sqlite3.OperationalError), understood(tmp_path / FILE_NAME):
        raise error(code)


def test_an_error_of_the_module_itself_flies_as_it_is(tmp_path: Path) -> None:
    """It has no code."""
    with pytest.raises(sqlite3.ProgrammingError), understood(tmp_path / FILE_NAME):
        raise sqlite3.ProgrammingError("Cannot operate on a closed database.")


async def test_a_disk_that_fails_while_the_database_is_opened_needs_no_backup(tmp_path: Path) -> None:
    """The next start may find it well again; a configuration error would keep it from being tried."""
    (tmp_path / FILE_NAME).mkdir()

    with pytest.raises(StateBrokenError) as caught:
        async with open_database(tmp_path):
            pass

    assert not isinstance(caught.value, ConfigurationError)
    assert caught.value.exit_code == 1
