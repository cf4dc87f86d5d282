"""What is noted of files before they are parsed, so that one that ends the process is known at the next start.

A row is written before its file is parsed and goes with the transaction that records the file. What is left at a start
was being parsed when a process ended: the file itself may have ended it, or a neighbour, or somebody's SIGKILL.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from batchbox.model import Lane
from batchbox.store.columns import from_blob, to_blob
from batchbox.store.database import Database, Transaction


class ReadingStore:
    """The rows about readings that have not ended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, claims: Sequence[tuple[Lane, str]]) -> None:
        """Note that these claims (lane, name in processing/) are about to be parsed."""
        async with self._database.transaction() as transaction:
            await transaction.run_many(
                "INSERT INTO readings (lane, claim, begun_count) VALUES (?, ?, 1) "
                "ON CONFLICT DO UPDATE SET begun_count = begun_count + 1",
                _keys(claims),
            )

    async def left_behind(self, claims: Collection[tuple[Lane, str]]) -> Mapping[tuple[Lane, str], int]:
        """Return how often the parsing of each of the claims was begun without an end; forget what is no claim."""
        rows = await self._database.all("SELECT lane, claim, begun_count FROM readings")
        counts = {(lane, from_blob(claim)): count for lane, claim, count in rows}
        gone = counts.keys() - set(claims)
        if gone:
            async with self._database.transaction() as transaction:
                await end_readings(transaction, gone)
        return {claim: count for claim, count in counts.items() if claim not in gone}


async def end_readings(transaction: Transaction, claims: Iterable[tuple[Lane, str]]) -> None:
    """Note that these claims have been parsed: what came of it is recorded in the same transaction."""
    await transaction.run_many("DELETE FROM readings WHERE lane = ? AND claim = ?", _keys(claims))


async def end_reading_of(transaction: Transaction, source_id: int) -> None:
    """Note that a long file has been parsed."""
    await transaction.run(
        "DELETE FROM readings WHERE (lane, claim) = (SELECT lane, claim FROM sources WHERE id = ?)", (source_id,)
    )


def _keys(claims: Iterable[tuple[Lane, str]]) -> list[tuple[Lane, bytes]]:
    return [(lane, to_blob(claim)) for lane, claim in claims]
