"""Where dropped files go in the end: what rejected/ and done/ have in common."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime

from batchbox.lifecycle import SourceEvent
from batchbox.store.columns import to_blob, to_ms
from batchbox.store.database import Transaction
from batchbox.store.transitions import move_sources


async def take_targets(transaction: Transaction, targets: Iterable[tuple[int, str]]) -> None:
    """Record the names that files will have where they go, before they move there."""
    await transaction.run_many(
        "UPDATE sources SET target = ? WHERE id = ?", [(to_blob(name), source_id) for source_id, name in targets]
    )


async def move_away(transaction: Transaction, source_ids: Sequence[int], event: SourceEvent, *, now: datetime) -> None:
    """Record that files have left processing/. The event says where to."""
    await transaction.run_many(
        "UPDATE sources SET settled_at = ? WHERE id = ?", [(to_ms(now), source_id) for source_id in source_ids]
    )
    await move_sources(transaction, source_ids, event)
    await transaction.run(
        "DELETE FROM unsettled WHERE (lane, claim) IN "
        "(SELECT lane, claim FROM sources WHERE id IN (SELECT value FROM json_each(?)))",
        (json.dumps(source_ids),),
    )
