"""Gives the daemon an order, beside it, and waits a moment for what becomes of it."""

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

import anyio

from batchbox.cli.reading import has_database
from batchbox.cli.running import is_running
from batchbox.errors import BatchboxError, ConfigurationError
from batchbox.logs import shown
from batchbox.model import ApiBatchId
from batchbox.store import Store, join_store
from batchbox.store.decisions import why_not_to_judge
from batchbox.store.orders import OrderKind

ANSWER_SECONDS = 15.0
"""A daemon that is not inside a call of its own answers within a few seconds."""
LOOK_SECONDS = 0.2
NOT_DONE = "not done: "


async def give_order(state: Path, kind: OrderKind, argument: str) -> str:
    """Give the order; return what became of it. Raises BatchboxError if it is not for a person to give it."""
    has_database(state)
    try:
        async with join_store(state) as store:
            await _require_sense(store, kind, argument)
            order_id = await store.orders.give(kind, argument, now=datetime.now(UTC))
            if is_running(state) is False:
                return "Ordered. No daemon is at work: it will be obeyed at the next start of `batchbox run`."
            answer = await _answer(store, order_id)
    except sqlite3.OperationalError as error:
        raise ConfigurationError(
            f"{shown(str(state))}: the database cannot be written ({error}). Run this as the user who runs batchbox."
        ) from error
    if answer is None:
        return "Ordered. The daemon is busy and will obey when it comes by; `batchbox reconcile` shows whether it has."
    if answer.startswith(NOT_DONE):
        raise BatchboxError(answer)
    return answer


async def _answer(store: Store, order_id: int) -> str | None:
    until = time.monotonic() + ANSWER_SECONDS
    answer = await store.orders.answer_to(order_id)
    while answer is None and time.monotonic() < until:
        await anyio.sleep(LOOK_SECONDS)
        answer = await store.orders.answer_to(order_id)
    return answer


async def _require_sense(store: Store, kind: OrderKind, argument: str) -> None:
    """Refuse at once what the daemon would refuse; it looks again when it obeys."""
    if kind in {OrderKind.OURS, OrderKind.NOT_OURS}:
        why_not = why_not_to_judge(await store.decisions.doubts(), ApiBatchId(argument.partition(" ")[0]))
    else:
        why_not = await store.decisions.why_not_to_end(int(argument), may_be_lost=kind is OrderKind.GIVE_UP)
    if why_not is not None:
        raise BatchboxError(NOT_DONE + shown(why_not))
