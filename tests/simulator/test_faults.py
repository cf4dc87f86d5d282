"""Every fault of the menu, as the unmodified SDK meets it, and what the ledger knows of it."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
import pytest
from anthropic import APIConnectionError, APIStatusError, APITimeoutError, AsyncAnthropic, NotFoundError
from anthropic.types.beta.messages import BetaMessageBatch

from batchbox.simulator import Call, Fault, FaultKind, Simulator

from .bench import ask, buy, client_of, drain, raw_results


class BigBody:
    """A body of 30 MB that counts what was asked of it."""

    handed_out_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(300):
            self.handed_out_bytes += 100_000
            yield b" " * 100_000


async def send_big(client: AsyncAnthropic, body: BigBody) -> BetaMessageBatch:
    headers = {"content-type": "application/json", "content-length": "30000000"}
    return await client.post(
        "/v1/messages/batches", content=body, cast_to=BetaMessageBatch, options={"headers": headers}
    )


async def ended_batch(simulator: Simulator, client: AsyncAnthropic, size: int = 5) -> BetaMessageBatch:
    batch = await buy(client, *(ask(f"r{number}") for number in range(size)))
    simulator.clock.advance(60)
    return batch


def ids(raw: bytes) -> Sequence[str]:
    return [json.loads(line)["custom_id"] for line in raw.splitlines()]


async def test_a_lost_reply_bought_the_batch(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.LOST_REPLY, call=Call.CREATE))

    with pytest.raises(APIConnectionError):
        await buy(client, ask("a"))

    (listed,) = (await client.beta.messages.batches.list()).data
    (attempt,) = simulator.ledger.attempts
    assert (attempt.fault, attempt.batch_id) == ("lost_reply", listed.id)
    assert [purchase.custom_id for purchase in simulator.ledger.purchases] == ["a"]


async def test_the_sdks_own_retries_buy_a_lost_reply_again(simulator: Simulator) -> None:
    """The fault proves what it is for: a client that retries pays twice, and the ledger says so."""
    simulator.faults.add(Fault(kind=FaultKind.LOST_REPLY, call=Call.CREATE))
    async with AsyncAnthropic(base_url=simulator.base_url, api_key="test") as careless:
        await buy(careless, ask("a"))
    simulator.clock.advance(60)

    (bought_twice,) = simulator.ledger.purchases_by_params().values()

    assert len(bought_twice) == 2
    assert len(simulator.ledger.attempts) == 2


async def test_a_slow_reply_outlasts_the_clients_patience(simulator: Simulator) -> None:
    simulator.faults.add(Fault(kind=FaultKind.SLOW_REPLY, call=Call.CREATE, seconds=30))

    async with client_of(simulator, timeout_seconds=0.2) as client:
        with pytest.raises(APITimeoutError):
            await buy(client, ask("a"))

    assert len(simulator.ledger.purchases) == 1


async def test_a_slow_reply_comes_to_a_client_that_waits(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.SLOW_REPLY, call=Call.CREATE, seconds=0.05))

    batch = await buy(client, ask("a"))

    assert batch.request_counts.processing == 1


async def test_a_slow_commit_is_seen_only_later(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.SLOW_COMMIT, call=Call.CREATE, seconds=120))
    with pytest.raises(APIConnectionError):
        await buy(client, ask("a"))
    (attempt,) = simulator.ledger.attempts
    assert attempt.batch_id is not None

    simulator.clock.advance(119)
    early = (await client.beta.messages.batches.list()).data
    with pytest.raises(NotFoundError):
        await client.beta.messages.batches.retrieve(attempt.batch_id)
    simulator.clock.advance(1)
    late = (await client.beta.messages.batches.list()).data

    assert early == []
    assert [batch.id for batch in late] == [attempt.batch_id]


@pytest.mark.parametrize("kind", [FaultKind.RESET_BEFORE, FaultKind.RESET_MID_BODY])
async def test_a_reset_connection_bought_nothing(simulator: Simulator, client: AsyncAnthropic, kind: FaultKind) -> None:
    simulator.faults.add(Fault(kind=kind, call=Call.CREATE, at_bytes=1_000_000))
    body = BigBody()

    with pytest.raises(APIConnectionError):
        await send_big(client, body)

    assert body.handed_out_bytes < 30_000_000
    assert [attempt.fault for attempt in simulator.ledger.attempts] == [kind]
    assert simulator.ledger.purchases == []


async def test_a_reset_of_a_small_call_is_a_connection_error(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.RESET_BEFORE, call=Call.RETRIEVE))

    with pytest.raises(APIConnectionError):
        await client.beta.messages.batches.retrieve("msgbatch_any")


async def test_a_status_before_acceptance_bought_nothing(simulator: Simulator, client: AsyncAnthropic) -> None:
    fault = Fault(
        kind=FaultKind.STATUS,
        call=Call.CREATE,
        status=429,
        error_type="rate_limit_error",
        message="Slow down",
        headers={"retry-after": "7"},
    )
    simulator.faults.add(fault)

    with pytest.raises(APIStatusError, match="Slow down") as caught:
        await buy(client, ask("a"))

    assert (caught.value.status_code, caught.value.type) == (429, "rate_limit_error")
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.request_id is not None
    assert simulator.ledger.purchases == []


async def test_a_status_comes_although_a_large_body_was_not_read(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.STATUS, call=Call.CREATE, status=529, error_type="overloaded_error"))

    with pytest.raises(APIStatusError) as caught:
        await send_big(client, BigBody())

    assert caught.value.status_code == 529


async def test_a_status_after_acceptance_bought_the_batch(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.STATUS_AFTER, call=Call.CREATE, status=504, error_type="timeout_error"))

    with pytest.raises(APIStatusError) as caught:
        await buy(client, ask("a"))

    assert (caught.value.status_code, caught.value.type) == (504, "timeout_error")
    assert len(simulator.ledger.purchases) == 1


@pytest.mark.parametrize(("kind", "bought"), [(FaultKind.HTML, 0), (FaultKind.HTML_AFTER, 1)])
async def test_an_html_page_with_status_200_makes_the_sdk_return_a_text(
    simulator: Simulator, client: AsyncAnthropic, kind: FaultKind, bought: int
) -> None:
    simulator.faults.add(Fault(kind=kind, call=Call.CREATE))

    answer: object = await buy(client, ask("a"))

    assert isinstance(answer, str)
    assert "<html>" in answer
    assert len(simulator.ledger.purchases) == bought


async def test_cut_json_is_no_batch_and_bought_one(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.CUT_JSON, call=Call.CREATE))

    with pytest.raises(json.JSONDecodeError):
        await buy(client, ask("a"))

    assert len(simulator.ledger.purchases) == 1


async def test_a_wrong_count_names_the_batch_that_was_bought(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.WRONG_COUNT, call=Call.CREATE))

    batch = await buy(client, ask("a"))

    assert batch.request_counts.processing == 2
    assert (await client.beta.messages.batches.retrieve(batch.id)).request_counts.processing == 1
    assert simulator.ledger.purchases[0].batch_id == batch.id


async def test_a_spoilt_answer_still_names_the_account(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.WRONG_COUNT, call=Call.CREATE))

    response = await client.beta.messages.batches.with_raw_response.create(requests=[ask("a")])

    assert response.headers["anthropic-organization-id"] == "org_simulated"
    assert response.headers["request-id"].startswith("req_")


async def test_a_wrong_count_does_not_hide_a_refusal(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.WRONG_COUNT, call=Call.CREATE))

    with pytest.raises(APIStatusError) as caught:
        await buy(client, ask("not an id"))

    assert caught.value.status_code == 400


async def test_a_list_that_lags_leaves_young_batches_out(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.LIST_LAG, call=Call.LIST, seconds=30, times=None))
    batch = await buy(client, ask("a"))

    young = (await client.beta.messages.batches.list()).data
    simulator.clock.advance(30)
    old = (await client.beta.messages.batches.list()).data

    assert young == []
    assert [listed.id for listed in old] == [batch.id]
    assert (await client.beta.messages.batches.retrieve(batch.id)).id == batch.id


async def test_not_found_may_be_pretended(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await buy(client, ask("a"))
    simulator.faults.add(Fault(kind=FaultKind.NOT_FOUND, call=Call.RETRIEVE))

    with pytest.raises(NotFoundError):
        await client.beta.messages.batches.retrieve(batch.id)

    assert (await client.beta.messages.batches.retrieve(batch.id)).id == batch.id


async def test_a_redirect_points_elsewhere(simulator: Simulator) -> None:
    location = "http://127.0.0.1:9/v1/messages/batches"
    simulator.faults.add(Fault(kind=FaultKind.REDIRECT, call=Call.CREATE, location=location))
    careful = httpx2.AsyncClient(follow_redirects=False)

    async with AsyncAnthropic(
        base_url=simulator.base_url, api_key="test", max_retries=0, http_client=careful
    ) as client:
        with pytest.raises(APIStatusError) as caught:
            await buy(client, ask("a"))

    assert (caught.value.status_code, caught.value.response.headers["location"]) == (307, location)
    assert simulator.ledger.purchases == []


@pytest.mark.parametrize("at_bytes", [0, 1, 100, 1000])
async def test_results_cut_in_the_middle_end_with_the_connection(
    simulator: Simulator, client: AsyncAnthropic, at_bytes: int
) -> None:
    batch = await ended_batch(simulator, client)
    whole = await raw_results(client, batch)
    simulator.faults.add(Fault(kind=FaultKind.CUT_RESULTS, call=Call.RESULTS, at_bytes=at_bytes))

    received = bytearray()
    async with client.beta.messages.batches.with_streaming_response.results(batch.id) as response:
        with pytest.raises(httpx2.RemoteProtocolError):
            await drain(response.iter_bytes(), received)

    assert received == whole[:at_bytes]


async def test_results_cut_cleanly_at_a_line_end_look_complete(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await ended_batch(simulator, client)
    whole = await raw_results(client, batch)
    simulator.faults.add(Fault(kind=FaultKind.CUT_RESULTS, call=Call.RESULTS, line=3, clean=True))

    cut = await raw_results(client, batch)

    assert cut.splitlines() == whole.splitlines()[:3]


async def test_a_missing_line_is_left_out(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await ended_batch(simulator, client)
    order = ids(await raw_results(client, batch))
    simulator.faults.add(Fault(kind=FaultKind.MISSING_LINE, call=Call.RESULTS, line=2))

    got = ids(await raw_results(client, batch))

    assert got == [*order[:2], *order[3:]]


async def test_a_duplicate_line_comes_twice(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await ended_batch(simulator, client)
    order = ids(await raw_results(client, batch))
    simulator.faults.add(Fault(kind=FaultKind.DUPLICATE_LINE, call=Call.RESULTS, line=4))

    got = ids(await raw_results(client, batch))

    assert got == [*order, order[4]]


async def test_a_foreign_line_comes_in_between(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await ended_batch(simulator, client)
    order = ids(await raw_results(client, batch))
    simulator.faults.add(Fault(kind=FaultKind.FOREIGN_LINE, call=Call.RESULTS, line=1))

    got = ids(await raw_results(client, batch))

    assert got == [order[0], "nobody-asked-for-this", *order[1:]]


async def test_an_overlong_line_is_still_json(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await ended_batch(simulator, client)
    whole = await raw_results(client, batch)
    simulator.faults.add(Fault(kind=FaultKind.OVERLONG_LINE, call=Call.RESULTS, line=1, at_bytes=300_000))

    got = await raw_results(client, batch)

    assert len(got) == len(whole) + 300_000
    assert ids(got) == ids(whole)


async def test_html_may_come_for_results(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await ended_batch(simulator, client)
    simulator.faults.add(Fault(kind=FaultKind.HTML, call=Call.RESULTS))

    assert (await raw_results(client, batch)).startswith(b"<!DOCTYPE html>")


async def test_faults_meet_calls_in_turn_and_only_their_own(simulator: Simulator, client: AsyncAnthropic) -> None:
    for status in (500, 529):
        simulator.faults.add(Fault(kind=FaultKind.STATUS, call=Call.LIST, status=status))
    batch = await buy(client, ask("a"))

    seen = [await status_of_list(client) for _ in range(3)]

    assert batch.processing_status == "in_progress"
    assert seen == [500, 529, 200]
    assert simulator.faults.pending == []


async def test_a_fault_may_wait_and_may_stay(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.STATUS, call=Call.LIST, status=503, skip=2, times=None))

    seen = [await status_of_list(client) for _ in range(5)]
    simulator.faults.clear()

    assert seen == [200, 200, 503, 503, 503]
    assert await status_of_list(client) == 200


async def test_a_counted_fault_goes_before_a_standing_one(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.faults.add(Fault(kind=FaultKind.STATUS, call=Call.LIST, status=503, times=None))
    simulator.faults.add(Fault(kind=FaultKind.STATUS, call=Call.LIST, status=500))

    assert [await status_of_list(client) for _ in range(2)] == [500, 503]


async def status_of_list(client: AsyncAnthropic) -> int:
    try:
        await client.beta.messages.batches.list()
    except APIStatusError as error:
        return error.status_code
    return 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": FaultKind.LIST_LAG, "call": Call.CREATE},
        {"kind": FaultKind.MISSING_LINE, "call": Call.LIST},
        {"kind": FaultKind.WRONG_COUNT, "call": Call.RETRIEVE},
        {"kind": FaultKind.CUT_JSON, "call": Call.RESULTS},
        {"kind": FaultKind.REDIRECT, "call": Call.CREATE},
        {"kind": FaultKind.STATUS, "call": Call.CREATE, "times": 0},
        {"kind": FaultKind.MISSING_LINE, "call": Call.RESULTS, "line": -1},
    ],
)
def test_a_fault_that_could_never_happen_is_an_error(wrong: dict[str, Any]) -> None:  # Any: fields of several types
    with pytest.raises(ValueError, match="fault"):
        Fault(**wrong)
