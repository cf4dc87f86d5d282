import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchbox.model import Nonce
from batchbox.store import Store, assemble
from batchbox.store.body import PAGE_BYTES, PAGE_REQUESTS, StoredBody
from batchbox.store.database import Database, open_database
from batchbox.store.recording import PIECE_BYTES

from .rows import as_json, read_body, record, request, seal

NONCE = Nonce("abcdefgh")
SMALLEST = len(b'{"x":""}')


def params_of(size_bytes: int) -> bytes:
    """Return params of so many bytes."""
    return b'{"x":"%s"}' % (b"y" * (size_bytes - SMALLEST))


def near(*bounds: int) -> st.SearchStrategy[int]:
    """Return sizes around the bounds, where one piece or one page ends and another begins."""
    return st.sampled_from(bounds).flatmap(lambda bound: st.integers(bound - 2, bound + 2))


SIZES = st.lists(
    st.integers(SMALLEST, 200) | near(PIECE_BYTES, 2 * PIECE_BYTES, PAGE_BYTES, PAGE_BYTES // 2), min_size=1, max_size=8
)


async def body_of(store: Store, sizes: Sequence[int]) -> StoredBody:
    """Record requests of these sizes, seal them, and return the create call's body."""
    await record(store, *(request(f"r{number}", params=params_of(size)) for number, size in enumerate(sizes)))
    return await store.dispatch.body(await seal(store, requests_max=len(sizes)), NONCE)


async def check_body(folder: Path, sizes: Sequence[int]) -> None:
    """Make sure of everything that a body promises."""
    async with open_database(folder) as database:
        body = await body_of(assemble(database), sizes)
        first, second = await read_body(body), await read_body(body)

    requests = as_json(first)["requests"]
    assert first == second
    assert len(first) == body.size_bytes
    assert len(requests) == body.request_count == len(sizes)
    assert [one["custom_id"] for one in requests] == [f"r{n}__abcdefgh-{n + 1}" for n in range(len(sizes))]
    assert [len(json.dumps(one["params"], separators=(",", ":"))) for one in requests] == list(sizes)


@settings(deadline=None, max_examples=25)
@given(sizes=SIZES)
@example(sizes=[PAGE_BYTES])
@example(sizes=[PAGE_BYTES + 1])
@example(sizes=[PAGE_BYTES - 8, SMALLEST, PAGE_BYTES + 1, SMALLEST])
@example(sizes=[PAGE_BYTES + 1, PAGE_BYTES + 1])
@example(sizes=[3 * PIECE_BYTES, 100, 3 * PIECE_BYTES])
def test_a_body_is_json_of_exactly_the_length_that_was_announced(sizes: list[int]) -> None:
    """A length that is not exact would leave the outcome of the call unknown."""
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(check_body, Path(folder), sizes)


@pytest.mark.parametrize("count", [1, 2, 9, 10, 99, 100, PAGE_REQUESTS - 1, PAGE_REQUESTS, PAGE_REQUESTS + 1, 2000])
async def test_a_body_of_many_small_requests_is_exact(tmp_path: Path, count: int) -> None:
    """The numbers in the wire ids grow longer, and pages end after so many requests."""
    await check_body(tmp_path, [SMALLEST + number % 7 for number in range(count)])


async def test_a_large_request_is_never_in_memory_whole(store: Store) -> None:
    body = await body_of(store, [SMALLEST, 8 * PAGE_BYTES + 3, SMALLEST])

    longest = max([len(piece) async for piece in body])

    assert longest <= PIECE_BYTES


async def test_many_requests_are_never_in_memory_at_once(store: Store) -> None:
    body = await body_of(store, [PAGE_BYTES // 10] * 100)

    longest = max([len(piece) async for piece in body])

    assert longest <= PAGE_BYTES + 100 * 100


async def test_a_body_that_was_left_in_the_middle_starts_from_the_first_byte_again(store: Store) -> None:
    body = await body_of(store, [PAGE_BYTES + 1, SMALLEST])
    whole = await read_body(body)

    pieces = body.__aiter__()
    await anext(pieces)
    await anext(pieces)
    again = await read_body(body)

    assert again == whole


async def test_what_is_recorded_while_a_body_is_sent_does_not_get_into_it(store: Store, database: Database) -> None:
    body = await body_of(store, [PAGE_BYTES // 2] * 4)
    received = bytearray()

    async for piece in body:
        received += piece
        await record(store, request(f"late-{len(received)}"))

    assert len(received) == body.size_bytes
    assert len(as_json(bytes(received))["requests"]) == 4
