"""The simulator's own calls, for tests in another process."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from anthropic import APIConnectionError, AsyncAnthropic

from batchbox.simulator import Simulator

from .bench import ask, buy


@pytest.fixture
async def http(simulator: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=simulator.base_url) as made:
        yield made


async def test_a_fault_added_over_http_meets_its_call(
    simulator: Simulator, client: AsyncAnthropic, http: httpx2.AsyncClient
) -> None:
    added = await http.post("/simulator/faults", json={"kind": "lost_reply", "call": "create"})

    with pytest.raises(APIConnectionError):
        await buy(client, ask("a"))

    assert [fault["kind"] for fault in added.json()] == ["lost_reply"]
    assert len(simulator.ledger.purchases) == 1


async def test_faults_may_be_cleared_over_http(client: AsyncAnthropic, http: httpx2.AsyncClient) -> None:
    await http.post("/simulator/faults", json={"kind": "status", "call": "list", "times": None, "headers": {"a": "b"}})

    cleared = await http.delete("/simulator/faults")

    assert cleared.json() == []
    assert (await client.beta.messages.batches.list()).data == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"kind": "nothing", "call": "create"}, "nothing"),
        ({"kind": "lost_reply"}, "call"),
        ({"kind": "lost_reply", "call": "create", "secnds": 1}, "secnds"),
        ({"kind": "missing_line", "call": "create"}, "only results"),
    ],
)
async def test_a_wrong_fault_is_named(http: httpx2.AsyncClient, body: dict[str, object], reason: str) -> None:
    answer = await http.post("/simulator/faults", json=body)

    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert (await http.get("/simulator/faults")).json() == []


async def test_the_clock_is_pushed_over_http(client: AsyncAnthropic, http: httpx2.AsyncClient) -> None:
    batch = await buy(client, ask("a"))

    await http.post("/simulator/clock", json={"advance_seconds": 60})

    assert (await client.beta.messages.batches.retrieve(batch.id)).processing_status == "ended"


async def test_the_clock_is_never_pushed_back(http: httpx2.AsyncClient) -> None:
    before = (await http.get("/simulator/clock")).json()

    refused = await http.post("/simulator/clock", json={"advance_seconds": -1})

    assert refused.status_code == 400
    assert (await http.get("/simulator/clock")).json() == before


async def test_the_ledger_is_read_over_http(
    simulator: Simulator, client: AsyncAnthropic, http: httpx2.AsyncClient
) -> None:
    batch = await buy(client, ask("good"), ask("bad", nonsense=1))
    simulator.clock.advance(60)

    ledger = (await http.get("/simulator/ledger")).json()

    assert [attempt["batch_id"] for attempt in ledger["attempts"]] == [batch.id]
    assert [(row["custom_id"], row["outcome"], row["is_billed"]) for row in ledger["purchases"]] == [
        ("good", "succeeded", True),
        ("bad", "errored", False),
    ]
    assert ledger["purchases"][0]["params_sha256"] == simulator.ledger.bought[0].params_sha256


async def test_another_program_s_batch_is_in_the_list_and_not_in_the_ledger(
    simulator: Simulator, client: AsyncAnthropic, http: httpx2.AsyncClient
) -> None:
    over_http = (await http.post("/simulator/batches", json={"request_count": 3})).json()["id"]
    in_process = simulator.create_foreign_batch(2)

    listed = (await client.beta.messages.batches.list()).data

    assert [(batch.id, batch.request_counts.processing) for batch in listed] == [(in_process, 2), (over_http, 3)]
    assert simulator.ledger.purchases == []
    assert simulator.ledger.attempts == ()
