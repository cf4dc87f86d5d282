"""The few facts that belong to the whole state folder: written once, read at every start."""

from collections.abc import Callable
from enum import StrEnum

from batchbox.store.database import Database


class Fact(StrEnum):
    """What is remembered."""

    ROOT_IDENTITY = "root_identity"
    """The identity of the root that this state belongs to."""
    ESTABLISHED = "established"
    """That processing/<instance> was made: from then on its absence means that this daemon was retired."""
    INSTANCE = "instance"
    """Whose work is in this database; another one's state folder may have been put in its place."""
    BASE_URL = "base_url"
    """Where the API was when our open work was sent."""
    ORGANIZATION = "organization"
    """Whose account it was, as the API named it."""
    KEY_SALT = "key_salt"
    """Makes the recorded hash of the API key useless elsewhere."""


class MetaStore:
    """The rows about the state folder as a whole."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, fact: Fact) -> str | None:
        """Return a fact, or None if it was never recorded."""
        row = await self._database.one("SELECT value FROM meta WHERE key = ?", (fact,))
        return None if row is None else str(row[0])

    async def get_or_record(self, fact: Fact, make: Callable[[], str]) -> str:
        """Return a fact, recording it now if it never was."""
        async with self._database.transaction() as transaction:
            await transaction.run("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (fact, make()))
            row = await transaction.one("SELECT value FROM meta WHERE key = ?", (fact,))
        if row is None:
            raise AssertionError(f"{fact} was recorded and is not there")
        return str(row[0])
