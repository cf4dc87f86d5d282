"""What tests of the simulator do over and over: make requests, buy a batch, read its results."""

from collections.abc import AsyncIterator
from typing import Any

from anthropic import AsyncAnthropic
from anthropic.types.beta import BetaMessage
from anthropic.types.beta.messages import BetaMessageBatch, BetaMessageBatchResult
from anthropic.types.beta.messages import BetaMessageBatchIndividualResponse as Line
from anthropic.types.beta_error import BetaError

from batchbox.simulator import Simulator

OUTPUT_300K = "output-300k-2026-03-24"

Asked = Any
"""Any: requests go to the SDK as its TypedDicts or, to be wrong on purpose, as anything."""


def client_of(simulator: Simulator, *, key: str = "test", timeout_seconds: float = 30) -> AsyncAnthropic:
    """Return the SDK's client, without its own retries."""
    return AsyncAnthropic(base_url=simulator.base_url, api_key=key, max_retries=0, timeout=timeout_seconds)


def ask(custom_id: str, prompt: str = "Say something.", **params: object) -> Asked:
    """Return one request of a batch."""
    message = {"role": "user", "content": prompt}
    ordinary = {"model": "claude-haiku-4-5", "max_tokens": 4000, "messages": [message]}
    return {"custom_id": custom_id, "params": {**ordinary, **params}}


async def buy(client: AsyncAnthropic, *requests: Asked, betas: tuple[str, ...] = ()) -> BetaMessageBatch:
    """Create a batch."""
    return await client.beta.messages.batches.create(requests=requests, betas=[*betas])


async def read(client: AsyncAnthropic, batch: BetaMessageBatch) -> list[Line]:
    """Return the results, in the order in which they come."""
    return [line async for line in await client.beta.messages.batches.results(batch.id)]


async def result_of(simulator: Simulator, request: Asked, *, betas: tuple[str, ...] = ()) -> BetaMessageBatchResult:
    """Buy one request, let time pass, and return its result."""
    async with client_of(simulator) as client:
        batch = await buy(client, request, betas=betas)
        simulator.clock.advance(61)
        (line,) = await read(client, batch)
        return line.result


async def message_of(simulator: Simulator, request: Asked, *, betas: tuple[str, ...] = ()) -> BetaMessage:
    """Buy one request and return its answer."""
    result = await result_of(simulator, request, betas=betas)
    assert result.type == "succeeded", result
    return result.message


async def error_of(simulator: Simulator, request: Asked) -> BetaError:
    """Buy one request and return its error."""
    result = await result_of(simulator, request)
    assert result.type == "errored", result
    return result.error.error


async def raw_results(client: AsyncAnthropic, batch: BetaMessageBatch) -> bytes:
    """Return the bytes of the results."""
    response = await client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=str)
    return response.encode()


async def drain(pieces: AsyncIterator[bytes], into: bytearray) -> None:
    """Gather a stream as far as it comes."""
    async for piece in pieces:
        into += piece
