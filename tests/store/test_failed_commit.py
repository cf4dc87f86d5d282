import sqlite3

import pytest

from batchbox.store.database import Database


async def test_a_transaction_whose_commit_fails_leaves_nothing_open(database: Database) -> None:
    """Else the next transaction could not begin, or worse, would commit what this one wrote."""
    await database._writer.executescript(
        "PRAGMA foreign_keys = ON; CREATE TABLE parents (id INTEGER PRIMARY KEY); "
        "CREATE TABLE children (parent_id INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED);"
    )

    with pytest.raises(sqlite3.IntegrityError):
        async with database.transaction() as transaction:
            await transaction.run("INSERT INTO children (parent_id) VALUES (1)")

    async with database.transaction() as transaction:
        await transaction.run("INSERT INTO parents (id) VALUES (2)")
    assert await database.all("SELECT * FROM children") == []
    assert await database.all("SELECT * FROM parents") == [(2,)]
