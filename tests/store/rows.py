"""Files, requests and batches as the stages record them, for tests that are about what comes after."""

import itertools
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from batchbox.api import BatchInfo, RequestCounts
from batchbox.lifecycle import RequestEvent
from batchbox.model import INBOX_LANE, ApiBatchId, CustomId, Lane, Nonce
from batchbox.store import Store
from batchbox.store.charges import Charge
from batchbox.store.database import Database
from batchbox.store.delivery import Ended
from batchbox.store.dispatch import Sending, Window
from batchbox.store.recording import NewRequest, NewSource, Rejection

NOW = datetime(2026, 8, 1, 12, 0, 0, 123000, tzinfo=UTC)
BETAS = "output-300k-2026-03-24"
KEY_HASH = b"key"

_numbers = itertools.count(1)


def source(name: str = "a.md", *, lane: str = INBOX_LANE, sha256: bytes | None = b"\x01\xff") -> NewSource:
    """Return a claimed file, another one each time."""
    claim = f"000000000001-{next(_numbers):016x}~{name}"
    return NewSource(
        lane=Lane(lane), claim=claim, name=name, owner="alice", size_bytes=5, sha256=sha256, dropped_at=NOW
    )


def request(
    custom_id: str = "a",
    *,
    explicit: bool = False,
    params: bytes = b'{"x":1}',
    betas: str = BETAS,
    line: int | None = None,
) -> NewRequest:
    """Return a request."""
    return NewRequest(
        custom_id=CustomId(custom_id),
        explicit=explicit,
        line=line,
        params=params,
        betas=betas,
        model="claude-opus-5-5",
        max_tokens=1000,
        extension="md",
        max_attempts=3,
    )


async def record(
    store: Store, *requests: NewRequest, name: str = "a.md", lane: str = INBOX_LANE, now: datetime = NOW
) -> Rejection | None:
    """Record one file with these requests; return what it was rejected for."""
    (rejection,) = await store.intake.record([(source(name, lane=lane), requests)], now=now)
    return rejection


async def seal(store: Store, *, requests_max: int = 1000, bytes_max: int = 10**9) -> int:
    """Seal the first window; return the batch's id."""
    window: Window = (await store.dispatch.windows())[0]
    batch_id = await store.dispatch.seal(window, requests_max=requests_max, bytes_max=bytes_max, now=NOW)
    assert batch_id is not None
    return batch_id


def sending(batch_id: int, nonce: str = "abcdefgh", *, replaces: str | None = None, later: float = 0.0) -> Sending:
    """Return the intent to send a batch."""
    return Sending(
        nonce=Nonce(nonce),
        batch_id=batch_id,
        mark=NOW - timedelta(hours=1),
        base_url="https://api.example",
        key_hash=KEY_HASH,
        replaces=None if replaces is None else Nonce(replaces),
        intended_at=NOW + timedelta(seconds=later),
    )


def batch_info(api_id: str = "msgbatch_1", *, count: int = 1, ended: bool = False) -> BatchInfo:
    """Return a batch as the API describes it."""
    counts = RequestCounts(
        processing=0 if ended else count, succeeded=count if ended else 0, errored=0, canceled=0, expired=0
    )
    return BatchInfo(
        id=ApiBatchId(api_id),
        status="ended" if ended else "in_progress",
        counts=counts,
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
        ended_at=NOW + timedelta(minutes=5) if ended else None,
    )


async def send(store: Store, batch_id: int, *, nonce: str = "abcdefgh", api_id: str = "msgbatch_1") -> None:
    """Send a batch whose files are as they were read, and which the API takes."""
    unverified = await store.verifying.unverified(batch_id, after=None, limit=1000)
    await store.verifying.mark_verified([one.source.id for one in unverified])
    await store.dispatch.intend(sending(batch_id, nonce))
    await store.dispatch.accept(batch_id, Nonce(nonce), batch_info(api_id), api_request_id="req_1", now=NOW)


async def end(store: Store, batch_id: int, *, count: int = 1, api_id: str = "msgbatch_1") -> None:
    """Let a batch end."""
    await store.polling.end(batch_id, batch_info(api_id, count=count, ended=True))


async def ended_batch(store: Store, *requests: NewRequest) -> int:
    """Record, seal, send and end these requests; return the batch's id."""
    await record(store, *requests)
    batch_id = await seal(store)
    await send(store, batch_id)
    await end(store, batch_id, count=len(requests))
    return batch_id


def outcome(
    request_id: int,
    event: RequestEvent = RequestEvent.ANSWER,
    *,
    charge: Charge | None = None,
    counts_as_attempt: bool = True,
) -> Ended:
    """Return how a request fared."""
    return Ended(request_id=request_id, event=event, charge=charge, counts_as_attempt=counts_as_attempt)


async def states(database: Database, table: str) -> Sequence[str]:
    """Return the states of all rows of a table, oldest first."""
    return [state for (state,) in await database.all(f"SELECT state FROM {table} ORDER BY id")]  # noqa: S608 - a table's name


async def ids(database: Database) -> dict[str, int]:
    """Return the ids of the latest request of each custom_id."""
    rows = await database.all("SELECT custom_id, id FROM requests ORDER BY id")
    return dict(tuple(row) for row in rows)


async def bodies(database: Database) -> dict[int, bytes]:
    """Return the params of each request that still has them."""
    parts: dict[int, bytes] = {}
    for key, data in await database.all("SELECT key, data FROM body_pieces ORDER BY key"):
        parts[key // 1024] = parts.get(key // 1024, b"") + data
    return parts


async def read_body(body: object) -> bytes:
    """Return all bytes of a body."""
    return b"".join([piece async for piece in body])  # type: ignore[attr-defined] # a StoredBody, or one like it


def as_json(data: bytes) -> dict[str, list[dict[str, object]]]:
    """Return the body of a create call, understood."""
    value: dict[str, list[dict[str, object]]] = json.loads(data)
    return value
