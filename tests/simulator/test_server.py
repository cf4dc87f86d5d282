"""The server is a quiet guest: it stops at once, takes no signals, prints nothing and keeps no more than it must."""

import asyncio
import signal
import tracemalloc

import httpx2
import pytest
from anthropic import APIConnectionError

from batchbox.simulator import Call, Fault, FaultKind, Simulator, SimulatorSettings, serve

from .bench import OUTPUT_300K, ask, buy, client_of


async def test_it_listens_on_loopback_alone(simulator: Simulator) -> None:
    assert simulator.base_url.startswith("http://127.0.0.1:")


async def test_two_simulators_know_nothing_of_each_other(simulator: Simulator) -> None:
    async with serve(SimulatorSettings()) as other, client_of(simulator) as here, client_of(other) as there:
        await buy(here, ask("a"))

        assert (await there.beta.messages.batches.list()).data == []


async def test_a_port_may_be_chosen_and_is_free_again_afterwards() -> None:
    async with serve(SimulatorSettings()) as first:
        port = int(first.base_url.rsplit(":", 1)[1])

    async with serve(SimulatorSettings(port=port)) as second:
        assert second.base_url == first.base_url


async def test_it_stops_at_once_while_calls_hang() -> None:
    """A call that would wait for an hour ends with the server, as a connection error."""
    async with asyncio.timeout(5):
        async with serve(SimulatorSettings()) as simulator, client_of(simulator) as client:
            simulator.faults.add(Fault(kind=FaultKind.SLOW_REPLY, call=Call.CREATE, seconds=3600))
            hanging = asyncio.create_task(buy(client, ask("a")))
            await until_arrived(simulator, 1)

        with pytest.raises(APIConnectionError):
            await hanging


async def test_it_takes_no_signal_handlers() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    async with serve(SimulatorSettings()):
        during = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    assert during == before


async def test_it_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither for calls that work nor for connections that break in the middle of a body or of results."""
    settings = SimulatorSettings(processing_seconds=0, answer_tokens=300_000)
    async with serve(settings) as simulator, client_of(simulator) as client:
        batch = await buy(client, *(ask(f"r{n}", max_tokens=300_000, model="claude-opus-5-5") for n in range(20)))
        async with client.beta.messages.batches.with_streaming_response.results(batch.id) as response:
            await anext(response.iter_bytes())
        simulator.faults.add(Fault(kind=FaultKind.RESET_BEFORE, call=Call.CREATE))
        with pytest.raises(APIConnectionError):
            await buy(client, ask("b"))
        await break_off_a_body(simulator)

    assert capfd.readouterr() == ("", "")


async def break_off_a_body(simulator: Simulator) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", int(simulator.base_url.rsplit(":", 1)[1]))
    writer.write(
        b"POST /v1/messages/batches HTTP/1.1\r\nhost: simulator\r\nx-api-key: k\r\nanthropic-version: 2023-06-01\r\n"
        b'content-length: 1000\r\n\r\n{"requests":'
    )
    await until_arrived(simulator, 3)
    writer.close()
    await writer.wait_closed()


async def until_arrived(simulator: Simulator, count: int) -> None:
    async with httpx2.AsyncClient(base_url=simulator.base_url) as http:
        while len((await http.get("/simulator/ledger")).json()["attempts"]) < count:
            pass  # the call itself lets the others go on


@pytest.mark.slow
async def test_a_stream_of_200_mb_keeps_memory_flat() -> None:
    settings = SimulatorSettings(speed=0, processing_seconds=1, answer_tokens=250_000, keep_params=False)
    async with serve(settings) as simulator, client_of(simulator) as client:
        requests = [ask(f"r{n}", model="claude-opus-5-5", max_tokens=300_000) for n in range(200)]
        batch = await buy(client, *requests, betas=(OUTPUT_300K,))
        simulator.clock.advance(1)
        await client.beta.messages.batches.retrieve(batch.id)
        tracemalloc.start()

        received = await drained_bytes(simulator, batch.id)

        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert received > 200_000_000
        assert peak_bytes < 15_000_000


async def drained_bytes(simulator: Simulator, batch_id: str) -> int:
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    received = 0
    async with (
        httpx2.AsyncClient(base_url=simulator.base_url, headers=headers, timeout=30) as http,
        http.stream("GET", f"/v1/messages/batches/{batch_id}/results") as response,
    ):
        async for piece in response.aiter_raw():
            received += len(piece)
    return received
