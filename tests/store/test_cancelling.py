"""Which names a `.cancel` file takes back, and what it costs to ask."""

from batchbox.model import INBOX_LANE, Lane
from batchbox.store import assemble
from batchbox.store.cancelling import Standing
from batchbox.store.database import Database

from .rows import record, request
from .watched import WatchedDatabase


async def test_many_names_are_asked_for_in_few_statements(database: Database) -> None:
    """Whoever drops thousands of `.cancel` files that name nothing has them looked at in every scan."""
    watched = WatchedDatabase(database)
    store = assemble(watched)
    await record(store, request("one"), request("two"), name="first.md")
    await record(store, request("three"), name="caf\udce9.md")
    names = [*(f"nothing {number}" for number in range(2000)), "first.md", "caf\udce9.md", "two"]
    watched.statements.run_count = 0

    standings = await store.cancelling.standings(INBOX_LANE, names)

    assert standings == dict.fromkeys(["first.md", "caf\udce9.md", "two"], Standing.OPEN)
    assert watched.statements.run_count <= 10
    assert await store.cancelling.standings(Lane("other"), names) == {}
