"""An open database in a state folder of its own, as fixtures."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batchbox.store import Store, assemble
from batchbox.store.database import Database, open_database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Return an open database."""
    async with open_database(tmp_path) as opened:
        yield opened


@pytest.fixture
def store(database: Database) -> Store:
    """Return the parts over that database."""
    return assemble(database)
