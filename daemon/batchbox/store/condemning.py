"""How a request ends that has no line of results: its error is written down, and its file follows."""

import json
from collections.abc import Sequence
from datetime import datetime

from batchbox.lifecycle import RequestEvent
from batchbox.model import ErrorType
from batchbox.store.columns import to_ms
from batchbox.store.database import Transaction
from batchbox.store.transitions import move_requests


async def condemn(
    transaction: Transaction, request_ids: Sequence[int], error_type: ErrorType, *, text: str, now: datetime
) -> None:
    """End the requests as errors of this type; what has ended stays as it is."""
    await transaction.run(
        "UPDATE requests SET error_type = ?, error_text = ?, ended_at = ? "
        "WHERE id IN (SELECT value FROM json_each(?)) AND ended_at IS NULL",
        (error_type, text, to_ms(now), json.dumps(request_ids)),
    )
    await move_requests(transaction, request_ids, RequestEvent.CONDEMN)
