"""State changes as compare-and-set: the only statements that write a `state` column of an existing row.

Their SQL is made from the tables in `lifecycle`, so that a transition exists in one place only. Rows that are not in
a state that knows the event are left alone; each function returns how many rows it moved, and the caller says whether
fewer than asked for is a repetition (fine) or a mistake.
"""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from batchbox.lifecycle import (
    BATCH_TRANSITIONS,
    REQUEST_TRANSITIONS,
    SOURCE_TRANSITIONS,
    BatchEvent,
    RequestEvent,
    SourceEvent,
)
from batchbox.store.database import Transaction

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


_LISTED = "SELECT value FROM json_each(?)"
_ASKED_FOR = "SELECT request_id FROM attachments WHERE source_id = ?"


def _statements(table: str, transitions: Mapping[tuple[S, E], S], chosen: str = _LISTED) -> dict[E, str]:
    by_event: dict[E, list[tuple[S, S]]] = {}
    for (before, event), after in transitions.items():
        by_event.setdefault(event, []).append((before, after))
    return {event: _statement(table, pairs, chosen) for event, pairs in by_event.items()}


def _statement(table: str, pairs: Sequence[tuple[S, S]], chosen: str) -> str:
    cases = " ".join(f"WHEN '{before}' THEN '{after}'" for before, after in pairs)
    befores = ", ".join(f"'{before}'" for before, _ in pairs)
    return (
        f"UPDATE {table} SET state = CASE state {cases} END "  # noqa: S608 - made of our own constants alone
        f"WHERE id IN ({chosen}) AND state IN ({befores})"
    )


_BATCHES = _statements("batches", BATCH_TRANSITIONS)
_REQUESTS = _statements("requests", REQUEST_TRANSITIONS)
_REQUESTS_OF = _statements("requests", REQUEST_TRANSITIONS, _ASKED_FOR)
_SOURCES = _statements("sources", SOURCE_TRANSITIONS)


async def move_batch(transaction: Transaction, batch_id: int, event: BatchEvent) -> bool:
    """Apply the event to one batch; return whether it moved."""
    return await transaction.run(_BATCHES[event], (json.dumps([batch_id]),)) == 1


async def move_requests(transaction: Transaction, request_ids: Sequence[int], event: RequestEvent) -> int:
    """Apply the event to the requests; return how many moved."""
    return await transaction.run(_REQUESTS[event], (json.dumps(request_ids),))


async def move_requests_of(transaction: Transaction, source_id: int, event: RequestEvent) -> int:
    """Apply the event to every request that the file asks for, which may be a million; return how many moved."""
    return await transaction.run(_REQUESTS_OF[event], (source_id,))


async def move_sources(transaction: Transaction, source_ids: Sequence[int], event: SourceEvent) -> int:
    """Apply the event to the files; return how many moved."""
    return await transaction.run(_SOURCES[event], (json.dumps(source_ids),))
