from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from itertools import product
from typing import TypeVar

import pytest

from batchbox.lifecycle import (
    BATCH_TRANSITIONS,
    REQUEST_TRANSITIONS,
    SOURCE_TRANSITIONS,
    BatchEvent,
    RequestEvent,
    SourceEvent,
)
from batchbox.model import BatchState, RequestState, SourceState
from batchbox.store.database import Database, Transaction
from batchbox.store.transitions import move_batch, move_requests, move_sources

from .rows import states

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)

BATCH = "INSERT INTO batches (id, state, lane, betas, request_count, sealed_at) VALUES (?, ?, '_', '', 1, 0)"
SOURCE = (
    "INSERT INTO sources (id, state, lane, claim, name, owner, size_bytes, dropped_at) "
    "VALUES (?1, ?2, '_', CAST(?1 AS BLOB), x'61', '', 0, 0)"
)
REQUEST = (
    "INSERT INTO requests (id, state, lane, custom_id, digest, betas, model, max_tokens, extension, max_attempts, "
    "size_bytes, accepted_at) VALUES (?1, ?2, '_', 'r' || ?1, x'', '', '', 1, '', 1, 1, 0)"
)

Move = Callable[[Transaction, list[int]], Awaitable[int]]


async def after(database: Database, sql: str, table: str, *, state: StrEnum, move: Move) -> tuple[int, list[str]]:
    """Apply an event to one row in the state, beside others in every way alike; return how many moved, and to where."""
    async with database.transaction() as transaction:
        await transaction.run_many(sql, [(1, state), (2, state)])
        moved = await move(transaction, [1])
    return moved, list(await states(database, table))


def expected(table: Mapping[tuple[S, E], S], state: S, event: E) -> tuple[int, list[str]]:
    """Return what the table says: the row has moved and its neighbour has not, or nothing has happened."""
    moved_to = table.get((state, event))
    return (0, [state, state]) if moved_to is None else (1, [moved_to, state])


@pytest.mark.parametrize(("state", "event"), list(product(BatchState, BatchEvent)))
async def test_a_batch_moves_as_the_table_says_or_not_at_all(
    database: Database, state: BatchState, event: BatchEvent
) -> None:
    result = await after(
        database, BATCH, "batches", state=state, move=lambda transaction, ids: move_batch(transaction, ids[0], event)
    )

    assert result == expected(BATCH_TRANSITIONS, state, event)


@pytest.mark.parametrize(("state", "event"), list(product(RequestState, RequestEvent)))
async def test_a_request_moves_as_the_table_says_or_not_at_all(
    database: Database, state: RequestState, event: RequestEvent
) -> None:
    result = await after(
        database, REQUEST, "requests", state=state, move=lambda transaction, ids: move_requests(transaction, ids, event)
    )

    assert result == expected(REQUEST_TRANSITIONS, state, event)


@pytest.mark.parametrize(("state", "event"), list(product(SourceState, SourceEvent)))
async def test_a_file_moves_as_the_table_says_or_not_at_all(
    database: Database, state: SourceState, event: SourceEvent
) -> None:
    result = await after(
        database, SOURCE, "sources", state=state, move=lambda transaction, ids: move_sources(transaction, ids, event)
    )

    assert result == expected(SOURCE_TRANSITIONS, state, event)


async def test_of_many_rows_those_move_that_can(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.run_many(REQUEST, [(1, "batched"), (2, "waiting"), (3, "batched"), (4, "batched")])
        moved = await move_requests(transaction, [1, 2, 3, 99], RequestEvent.ANSWER)

    assert moved == 2
    assert await states(database, "requests") == ["answered", "waiting", "answered", "batched"]


async def test_an_event_that_comes_twice_happens_once(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.run(BATCH, (1, "sealed"))
        moved = [await move_batch(transaction, 1, BatchEvent.INTEND) for _ in range(2)]

    assert moved == [True, False]


async def test_nothing_moves_if_nothing_is_asked_for(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.run(REQUEST, (1, "waiting"))

        assert await move_requests(transaction, [], RequestEvent.SEAL) == 0
