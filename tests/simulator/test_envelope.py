"""A create call is judged by its envelope at once: ids, shape and size."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from anthropic import APIStatusError, AsyncAnthropic, BadRequestError
from anthropic.types.beta.messages import BetaMessageBatch

from batchbox.simulator import Simulator, SimulatorSettings, serve

from .bench import ask, buy, client_of, raw_results

WRONG = {
    "not JSON": (b"{", "not valid JSON"),
    "trailing garbage": (b'{"requests": []} x', "not valid JSON"),
    "not UTF-8": (b'{"requests": "\xff"}', "UTF-8"),
    "cut UTF-8": (b'{"requests": 1}\xc3', "UTF-8"),
    "a list": (b"[]", "Expected `object`"),
    "no requests": (b"{}", "requests: Field required"),
    "an empty list": (b'{"requests": []}', "at least 1 item"),
    "another field": (b'{"requests": [], "model": "x"}', "model: Extra inputs"),
    "no custom_id": (b'{"requests": [{"params": {}}]}', "requests.0.custom_id: Field required"),
    "no params": (b'{"requests": [{"custom_id": "a"}]}', "requests.0.params: Field required"),
    "params no object": (b'{"requests": [{"custom_id": "a", "params": []}]}', "requests.0.params: Input should be"),
    "a field beside": (b'{"requests": [{"custom_id": "a", "params": {}, "betas": []}]}', "requests.0.betas: Extra"),
    "an empty id": (b'{"requests": [{"custom_id": "", "params": {}}]}', "requests.0.custom_id"),
    "a line end in an id": (b'{"requests": [{"custom_id": "a\\n", "params": {}}]}', "requests.0.custom_id"),
    "a number as id": (b'{"requests": [{"custom_id": 1, "params": {}}]}', "requests.0.custom_id"),
}


async def post(client: AsyncAnthropic, body: bytes) -> BetaMessageBatch:
    headers = {"content-type": "application/json"}
    return await client.post(
        "/v1/messages/batches?beta=true", content=body, cast_to=BetaMessageBatch, options={"headers": headers}
    )


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_envelope_refuses_the_whole_batch(
    simulator: Simulator, client: AsyncAnthropic, wrong: str
) -> None:
    body, reason = WRONG[wrong]

    with pytest.raises(BadRequestError) as caught:
        await post(client, body)

    assert caught.value.type == "invalid_request_error"
    assert reason in caught.value.message
    assert simulator.ledger.purchases == []
    assert [attempt.refused for attempt in simulator.ledger.attempts] == ["invalid_request_error"]


@pytest.mark.parametrize("custom_id", ["a.b", "a b", "ä", "x" * 65, "a/b"])
async def test_an_id_outside_the_pattern_refuses_the_batch(client: AsyncAnthropic, custom_id: str) -> None:
    with pytest.raises(BadRequestError, match=r"requests\.1\.custom_id"):
        await buy(client, ask("fine"), ask(custom_id))


async def test_an_id_that_comes_twice_refuses_the_batch(client: AsyncAnthropic) -> None:
    with pytest.raises(BadRequestError, match=r"requests\.2\.custom_id: a is not unique"):
        await buy(client, ask("a"), ask("A"), ask("a"))


async def test_the_longest_id_is_taken(client: AsyncAnthropic) -> None:
    batch = await buy(client, ask("x" * 64))

    assert batch.request_counts.processing == 1


@pytest.mark.parametrize(
    "params",
    [
        {"stream": True},
        {"speed": "fast"},
        {"store": True},
        {"previous_thread_event_id": "x"},
        {"cache_hint": {}},
        {"context_hint": {}},
        {"max_tokens": 0},
    ],
    ids=lambda params: next(iter(params)),
)
async def test_what_the_api_refuses_in_batches_refuses_the_batch(
    client: AsyncAnthropic, params: dict[str, object]
) -> None:
    with pytest.raises(BadRequestError, match=f"requests.1.params.{next(iter(params))}"):
        await buy(client, ask("fine"), ask("wrong", "Say something.", **params))


async def test_stream_false_is_taken(client: AsyncAnthropic) -> None:
    batch = await buy(client, ask("a", stream=False))

    assert batch.request_counts.processing == 1


async def test_a_body_that_announces_more_than_256_mb_is_refused_unread(simulator: Simulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(simulator.base_url.rsplit(":", 1)[1]))
    writer.write(
        b"POST /v1/messages/batches HTTP/1.1\r\nhost: simulator\r\nx-api-key: k\r\nanthropic-version: 2023-06-01\r\n"
        b"content-length: 256000001\r\n\r\n"
    )

    answer = await reader.readuntil(b"\r\n")

    assert b" 413 " in answer
    assert [attempt.refused for attempt in simulator.ledger.attempts] == ["request_too_large"]
    writer.close()
    await writer.wait_closed()


@pytest.mark.slow
async def test_a_body_that_grows_beyond_256_mb_is_refused(simulator: Simulator) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(257):
            yield b" " * 1_000_000

    async with httpx2.AsyncClient(base_url=simulator.base_url, timeout=50) as http:
        response = await http.post(
            "/v1/messages/batches", content=endless(), headers={"x-api-key": "k", "anthropic-version": "2023-06-01"}
        )

    assert response.status_code == 413
    assert response.json()["error"]["type"] == "request_too_large"


def body_of(count: int, size_bytes: int) -> bytes:
    entry = json.dumps(ask("ID", "x" * size_bytes)).encode()
    return b'{"requests":[' + b",".join(entry.replace(b"ID", b"r%d" % number) for number in range(count)) + b"]}"


async def test_ten_thousand_requests_of_2_kb_are_taken_quickly(simulator: Simulator, client: AsyncAnthropic) -> None:
    body = body_of(10_000, 2000)
    started = time.monotonic()

    batch = await post(client, body)

    assert time.monotonic() - started < 2
    assert batch.request_counts.processing == 10_000
    assert len({purchase.custom_id for purchase in simulator.ledger.purchases}) == 10_000


@pytest.mark.slow
async def test_a_hundred_thousand_requests_are_taken_and_one_more_is_not() -> None:
    async with serve(SimulatorSettings(speed=0, keep_params=False)) as simulator, client_of(simulator) as client:
        batch = await post(client, body_of(100_000, 50))
        simulator.clock.advance(60)

        lines = (await raw_results(client, batch)).splitlines()

        assert len({json.loads(line)["custom_id"] for line in lines}) == 100_000
        with pytest.raises(APIStatusError, match="at most 100000"):
            await post(client, body_of(100_001, 1))
