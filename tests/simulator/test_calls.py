"""The calls behave as the API's documentation says, seen through the unmodified SDK."""

import asyncio
from datetime import timedelta

import httpx2
import pytest
from anthropic import APIStatusError, AsyncAnthropic, BadRequestError, NotFoundError

from batchbox.simulator import Account, Simulator, SimulatorSettings, serve

from .bench import ask, buy, client_of, raw_results, read


async def test_everything_is_processing_until_the_batch_ends(simulator: Simulator, client: AsyncAnthropic) -> None:
    created = await buy(client, ask("a"), ask("b"))
    simulator.clock.advance(59)

    running = await client.beta.messages.batches.retrieve(created.id)

    assert running.processing_status == "in_progress"
    assert running.request_counts.processing == 2
    assert running.results_url is None
    assert running.ended_at is None
    assert running.expires_at - running.created_at == timedelta(hours=24)


async def test_a_batch_ends_after_its_processing_time_with_exact_counts(
    simulator: Simulator, client: AsyncAnthropic
) -> None:
    created = await buy(client, ask("good"), ask("bad", max_tokens="many"))
    simulator.clock.advance(60)

    ended = await client.beta.messages.batches.retrieve(created.id)

    assert ended.processing_status == "ended"
    assert (ended.request_counts.succeeded, ended.request_counts.errored, ended.request_counts.processing) == (1, 1, 0)
    assert ended.results_url == f"{simulator.base_url}/v1/messages/batches/{created.id}/results"
    assert ended.ended_at is not None
    assert ended.ended_at - ended.created_at == timedelta(seconds=60)


async def test_time_passes_by_itself_at_the_given_speed() -> None:
    """A batch of an hour ends within moments at a million seconds a second."""
    async with (
        serve(SimulatorSettings(speed=1e6, processing_seconds=3600)) as simulator,
        client_of(simulator) as client,
    ):
        batch = await buy(client, ask("a"))

        async with asyncio.timeout(10):
            while batch.processing_status != "ended":
                batch = await client.beta.messages.batches.retrieve(batch.id)

        assert batch.request_counts.succeeded == 1


async def test_batches_may_take_differently_long() -> None:
    settings = SimulatorSettings(speed=0, processing_seconds=100, processing_jitter_seconds=100)
    async with serve(settings) as simulator, client_of(simulator) as client:
        created = [await buy(client, ask("a")) for _ in range(5)]
        simulator.clock.advance(200)

        ended = [await client.beta.messages.batches.retrieve(batch.id) for batch in created]

        took = [(batch.ended_at - batch.created_at).total_seconds() for batch in ended if batch.ended_at]
        assert len(set(took)) == 5
        assert all(100 <= seconds <= 200 for seconds in took)


async def test_results_hold_every_request_once_in_an_order_of_their_own(
    simulator: Simulator, client: AsyncAnthropic
) -> None:
    names = [f"r{number}" for number in range(50)]
    batch = await buy(client, *map(ask, names))
    simulator.clock.advance(60)

    got = [line.custom_id for line in await read(client, batch)]

    assert got != names
    assert sorted(got) == sorted(names)


async def test_results_read_twice_are_the_same_bytes(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await buy(client, *(ask(f"r{number}") for number in range(20)))
    simulator.clock.advance(60)

    first, second = await raw_results(client, batch), await raw_results(client, batch)

    assert first == second
    assert first.count(b"\n") == 20


async def test_a_batch_that_runs_has_no_results(client: AsyncAnthropic) -> None:
    batch = await buy(client, ask("a"))

    with pytest.raises(NotFoundError, match="no available results"):
        await raw_results(client, batch)


async def test_the_list_is_newest_first_and_pages_without_gaps(client: AsyncAnthropic) -> None:
    created = [(await buy(client, ask("a"))).id for _ in range(5)]

    listed = [batch.id async for batch in client.beta.messages.batches.list(limit=2)]

    assert listed == created[::-1]


async def test_a_page_says_whether_there_is_more(client: AsyncAnthropic) -> None:
    created = [(await buy(client, ask("a"))).id for _ in range(4)]

    first = await client.beta.messages.batches.list(limit=2)
    second = await client.beta.messages.batches.list(limit=2, after_id=first.last_id or "")
    before = await client.beta.messages.batches.list(limit=1, before_id=created[0])

    assert (first.has_more, first.first_id, first.last_id) == (True, created[3], created[2])
    assert (second.has_more, [batch.id for batch in second.data]) == (False, [created[1], created[0]])
    assert (before.has_more, [batch.id for batch in before.data]) == (True, [created[1]])


async def test_an_empty_list_is_a_page(client: AsyncAnthropic) -> None:
    page = await client.beta.messages.batches.list()

    assert (page.data, page.has_more, page.last_id) == ([], False, None)


@pytest.mark.parametrize("limit", [0, 1001])
async def test_a_limit_out_of_range_is_refused(client: AsyncAnthropic, limit: int) -> None:
    with pytest.raises(BadRequestError, match="limit"):
        await client.beta.messages.batches.list(limit=limit)


async def test_a_cursor_that_is_not_in_the_list_is_refused(client: AsyncAnthropic) -> None:
    with pytest.raises(BadRequestError, match="msgbatch_nothing"):
        await client.beta.messages.batches.list(after_id="msgbatch_nothing")


async def test_cancel_keeps_what_is_finished(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await buy(client, *(ask(f"r{number}") for number in range(10)))
    simulator.clock.advance(30)

    canceling = await client.beta.messages.batches.cancel(batch.id)
    simulator.clock.advance(1)
    ended = await client.beta.messages.batches.retrieve(batch.id)

    assert canceling.processing_status == "canceling"
    assert canceling.request_counts.processing == 10
    assert canceling.cancel_initiated_at is not None
    assert ended.processing_status == "ended"
    assert (ended.request_counts.succeeded, ended.request_counts.canceled) == (5, 5)
    assert sorted(line.result.type for line in await read(client, batch)) == ["canceled"] * 5 + ["succeeded"] * 5


async def test_a_second_cancel_changes_nothing(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await buy(client, ask("a"))
    first = await client.beta.messages.batches.cancel(batch.id)
    simulator.clock.advance(0.5)

    second = await client.beta.messages.batches.cancel(batch.id)

    assert second.cancel_initiated_at == first.cancel_initiated_at


async def test_a_batch_that_has_ended_cannot_be_canceled(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await buy(client, ask("a"))
    simulator.clock.advance(60)

    with pytest.raises(BadRequestError, match="has ended"):
        await client.beta.messages.batches.cancel(batch.id)


async def test_a_batch_is_deleted_only_after_its_end_and_is_then_gone(
    simulator: Simulator, client: AsyncAnthropic
) -> None:
    batch = await buy(client, ask("a"))
    with pytest.raises(BadRequestError, match="before it has ended"):
        await client.beta.messages.batches.delete(batch.id)
    simulator.clock.advance(60)

    deleted = await client.beta.messages.batches.delete(batch.id)

    assert (deleted.id, deleted.type) == (batch.id, "message_batch_deleted")
    with pytest.raises(NotFoundError):
        await client.beta.messages.batches.retrieve(batch.id)
    assert (await client.beta.messages.batches.list()).data == []
    assert len(simulator.ledger.bought) == 1


async def test_what_is_not_processed_after_24_hours_expires() -> None:
    settings = SimulatorSettings(speed=0, processing_seconds=48 * 3600)
    async with serve(settings) as simulator, client_of(simulator) as client:
        batch = await buy(client, *(ask(f"r{number}") for number in range(4)))
        simulator.clock.advance(24 * 3600)

        ended = await client.beta.messages.batches.retrieve(batch.id)

        assert ended.processing_status == "ended"
        assert (ended.request_counts.succeeded, ended.request_counts.expired) == (2, 2)
        assert len(simulator.ledger.bought) == 2


async def test_results_are_gone_29_days_after_creation(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await buy(client, ask("a"))
    simulator.clock.advance(29 * 86400 - 1)
    assert len(await read(client, batch)) == 1
    simulator.clock.advance(1)

    archived = await client.beta.messages.batches.retrieve(batch.id)

    assert archived.results_url is None
    assert archived.archived_at == batch.created_at + timedelta(days=29)
    with pytest.raises(NotFoundError, match="archived"):
        await raw_results(client, batch)


async def test_a_batch_belongs_to_the_workspace_of_its_key() -> None:
    accounts = {"ours": Account(workspace_id="wrkspc_1"), "theirs": Account(workspace_id="wrkspc_2")}
    async with (
        serve(SimulatorSettings(speed=0, accounts=accounts)) as simulator,
        client_of(simulator, key="ours") as ours,
        client_of(simulator, key="theirs") as theirs,
    ):
        batch = await buy(ours, ask("a"))

        with pytest.raises(NotFoundError):
            await theirs.beta.messages.batches.retrieve(batch.id)

        assert (await theirs.beta.messages.batches.list()).data == []
        assert simulator.ledger.purchases[0].workspace_id == "wrkspc_1"


async def test_an_unknown_key_is_refused_where_keys_are_given() -> None:
    settings = SimulatorSettings(speed=0, accounts={"ours": Account()})
    async with serve(settings) as simulator, client_of(simulator, key="else") as client:
        with pytest.raises(APIStatusError) as caught:
            await client.beta.messages.batches.list()

        assert (caught.value.status_code, caught.value.type) == (401, "authentication_error")


async def test_another_workspace_than_the_keys_own_is_refused(client: AsyncAnthropic) -> None:
    with pytest.raises(APIStatusError) as caught:
        await client.beta.messages.batches.list(workspace_id="wrkspc_other")

    assert caught.value.type == "permission_error"


@pytest.mark.parametrize("headers", [{"x-api-key": "k"}, {"authorization": "Bearer k"}])
async def test_a_key_may_come_in_either_header(simulator: Simulator, headers: dict[str, str]) -> None:
    async with httpx2.AsyncClient(base_url=simulator.base_url) as http:
        response = await http.get("/v1/messages/batches", headers={**headers, "anthropic-version": "2023-06-01"})

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status", "error_type"),
    [
        ({"anthropic-version": "2023-06-01"}, 401, "authentication_error"),
        ({"anthropic-version": "2023-06-01", "authorization": "Basic k"}, 401, "authentication_error"),
        ({"x-api-key": "k"}, 400, "invalid_request_error"),
    ],
)
async def test_headers_that_are_missing_are_named(
    simulator: Simulator, headers: dict[str, str], status: int, error_type: str
) -> None:
    async with httpx2.AsyncClient(base_url=simulator.base_url) as http:
        response = await http.get("/v1/messages/batches", headers=headers)

    body = response.json()
    assert (response.status_code, body["type"], body["error"]["type"]) == (status, "error", error_type)
    assert body["request_id"] == response.headers["request-id"]


async def test_every_answer_names_the_request_and_the_account(client: AsyncAnthropic) -> None:
    response = await client.beta.messages.batches.with_raw_response.list()

    assert response.headers["request-id"].startswith("req_")
    assert response.headers["anthropic-organization-id"] == "org_simulated"
    assert response.headers["anthropic-workspace-id"] == "wrkspc_simulated"


async def test_a_path_that_the_api_does_not_have_is_an_api_error(client: AsyncAnthropic) -> None:
    with pytest.raises(NotFoundError) as caught:
        await client.get("/v1/nothing", cast_to=object)

    assert caught.value.type == "not_found_error"
    assert caught.value.request_id is not None


async def test_a_model_is_described_with_its_caps(client: AsyncAnthropic) -> None:
    model = await client.beta.models.retrieve("claude-opus-4-5")

    assert (model.id, model.max_tokens, model.max_input_tokens) == ("claude-opus-4-5", 64_000, 200_000)
    assert model.capabilities is not None
    assert model.capabilities.batch.supported
    assert model.lifecycle == "active"


async def test_an_unknown_model_is_not_found(client: AsyncAnthropic) -> None:
    with pytest.raises(NotFoundError, match="claude-nothing"):
        await client.models.retrieve("claude-nothing")


async def test_models_are_listed_in_pages(client: AsyncAnthropic) -> None:
    names = [model.id async for model in client.beta.models.list(limit=5)]

    assert len(names) == len(set(names)) > 10
    assert "claude-opus-5-5" in names
