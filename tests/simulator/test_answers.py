"""What a request gets: validation when it is processed, the silent clamp, and what directives in a prompt ask for."""

import pytest
from anthropic import AsyncAnthropic

from batchbox.simulator import Simulator, SimulatorSettings, serve

from .bench import OUTPUT_300K, Asked, ask, buy, client_of, error_of, message_of, raw_results, read, result_of

USER = {"role": "user", "content": "Hello"}

WRONG_PARAMS: dict[str, tuple[Asked, str, str]] = {
    "no max_tokens": ({"model": "claude-haiku-4-5", "messages": [USER]}, "max_tokens: Field required", ""),
    "no model": ({"max_tokens": 1, "messages": [USER]}, "model: Field required", ""),
    "no messages": ({"model": "claude-haiku-4-5", "max_tokens": 1}, "messages: Field required", ""),
    "negative": (ask("a", max_tokens=-1)["params"], "max_tokens", ""),
    "over 300K": (ask("a", max_tokens=300_001)["params"], "300001 > 300000", ""),
    "a text as max_tokens": (ask("a", max_tokens="1")["params"], "max_tokens: Expected `int`", ""),
    "empty messages": (ask("a", messages=[])["params"], "at least one message", ""),
    "messages no list": (ask("a", messages="x")["params"], "messages: Expected `array`", ""),
    "an unknown role": (ask("a", messages=[{"role": "x", "content": "y"}])["params"], "messages.0.role", ""),
    "no content": (ask("a", messages=[{"role": "user"}])["params"], "messages.0.content: Field required", ""),
    "empty content": (ask("a", messages=[{"role": "user", "content": ""}])["params"], "non-empty content", ""),
    "an empty block": (
        ask("a", messages=[{"role": "user", "content": [{"type": "text", "text": ""}]}])["params"],
        "text content blocks must be non-empty",
        "",
    ),
    "assistant first": (
        ask("a", messages=[{"role": "assistant", "content": "x"}, USER])["params"],
        "first message",
        "",
    ),
    "prefill": (ask("a", messages=[USER, {"role": "assistant", "content": "x"}])["params"], "prefill", ""),
    "temperature": (ask("a", temperature=1.5)["params"], "temperature", ""),
    "a field nobody knows": (ask("a", nonsense=1)["params"], "nonsense: Extra inputs are not permitted", ""),
    "too long": (ask("a", "x" * 800_004)["params"], "prompt is too long: 200001 tokens", ""),
    "an unknown model": (ask("a", model="claude-nothing")["params"], "model: claude-nothing", "not_found_error"),
    "a mistyped directive": (ask("a", "[[simulate refusel]]")["params"], "refusel", ""),
    "a directive's number": (ask("a", "[[simulate tokens=many]]")["params"], "tokens=many", ""),
    "a directive's error": (ask("a", "[[simulate error=nothing]]")["params"], "error=nothing", ""),
}


@pytest.mark.parametrize("wrong", WRONG_PARAMS)
async def test_wrong_params_are_an_errored_line_and_cost_nothing(simulator: Simulator, wrong: str) -> None:
    """The batch is taken, and the request's line says at its end what was wrong."""
    params, reason, error_type = WRONG_PARAMS[wrong]

    error = await error_of(simulator, {"custom_id": "a", "params": params})

    assert error.type == (error_type or "invalid_request_error")
    assert reason in error.message
    assert simulator.ledger.bought == []


async def test_params_that_are_only_shaped_like_an_object_are_an_errored_line(simulator: Simulator) -> None:
    deep: Asked = "x"
    for _ in range(500):
        deep = [deep]

    error = await error_of(simulator, ask("a", messages=[{"role": "user", "content": deep}]))

    assert error.type == "invalid_request_error"


async def test_a_betas_key_inside_params_does_nothing(simulator: Simulator) -> None:
    request = ask("a", "[[simulate tokens=300000]]", model="claude-opus-5-5", max_tokens=300_000, betas=[OUTPUT_300K])

    message = await message_of(simulator, request)

    assert message.usage.output_tokens == 128_000


async def test_an_answer_names_the_heading_and_counts_the_words(simulator: Simulator) -> None:
    message = await message_of(simulator, ask("a", "Please read.\n\n## The Tides of 1911\n\nThey were high."))

    (block,) = message.content
    assert block.type == "text"
    assert "The Tides of 1911" in block.text
    assert "10 words" in block.text
    assert "simulator" in block.text
    assert message.stop_reason == "end_turn"
    assert message.usage.service_tier == "batch"
    assert message.usage.output_tokens >= len(block.text) / 4
    assert message.usage.input_tokens > 0


async def test_text_documents_are_read_and_media_are_counted(simulator: Simulator) -> None:
    content = [
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "# From a file\n\nx"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}},
        {"type": "text", "text": "Summarise."},
    ]

    message = await message_of(simulator, ask("a", messages=[{"role": "user", "content": content}]))

    assert message.content[0].type == "text"
    assert "From a file" in message.content[0].text
    assert message.usage.input_tokens > 1500


@pytest.mark.parametrize(
    ("model", "betas", "tokens"),
    [
        ("claude-opus-5-5", (OUTPUT_300K,), 300_000),
        ("claude-opus-5-5", (), 128_000),
        ("claude-opus-5-5", ("other-2026-01-01",), 128_000),
        ("claude-fable-5", (OUTPUT_300K,), 128_000),
        ("claude-haiku-4-5", (OUTPUT_300K,), 64_000),
    ],
)
async def test_max_tokens_is_silently_clamped_without_the_header_or_the_models_support(
    simulator: Simulator, model: str, betas: tuple[str, ...], tokens: int
) -> None:
    request = ask("a", "[[simulate tokens=300000]]", model=model, max_tokens=300_000)

    message = await message_of(simulator, request, betas=betas)

    assert message.content[0].type == "text"
    assert message.usage.output_tokens == tokens
    assert len(message.content[0].text) == tokens * 4
    assert message.stop_reason == ("end_turn" if tokens == 300_000 else "max_tokens")


async def test_a_short_answer_too_ends_at_max_tokens(simulator: Simulator) -> None:
    message = await message_of(simulator, ask("a", max_tokens=5))

    assert message.content[0].type == "text"
    assert len(message.content[0].text) == 20
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)


async def test_answers_have_the_length_of_the_settings_unless_the_prompt_says_otherwise() -> None:
    settings = SimulatorSettings(speed=0, answer_tokens=1000, processing_seconds=60)
    async with serve(settings) as simulator:
        ordinary = await message_of(simulator, ask("a"))
        told = await message_of(simulator, ask("a", "[[simulate tokens=7]]"))

    assert (ordinary.usage.output_tokens, told.usage.output_tokens) == (1000, 7)


async def test_a_stop_reason_may_be_asked_for(simulator: Simulator) -> None:
    message = await message_of(simulator, ask("a", "[[simulate stop_reason=refusal]]"))

    assert message.stop_reason == "refusal"


async def test_an_empty_answer_has_no_content_and_is_billed(simulator: Simulator) -> None:
    message = await message_of(simulator, ask("a", "[[simulate empty]]"))

    assert message.content == []
    assert message.usage.output_tokens > 0
    assert len(simulator.ledger.bought) == 1


async def test_thinking_comes_before_the_text(simulator: Simulator) -> None:
    message = await message_of(simulator, ask("a", "[[simulate thinking]]"))

    assert [block.type for block in message.content] == ["thinking", "text"]


async def test_directives_add_up_and_are_not_part_of_the_text(simulator: Simulator) -> None:
    prompt = "[[simulate thinking stop_reason=pause_turn]]\nOn bees [[simulate tokens=50]]"

    message = await message_of(simulator, ask("a", prompt))

    assert [block.type for block in message.content] == ["thinking", "text"]
    assert (message.stop_reason, message.usage.output_tokens) == ("pause_turn", 50)
    assert message.content[1].type == "text"
    assert message.content[1].text.startswith("# Simulated answer: On bees\n")


@pytest.mark.parametrize("error_type", ["overloaded_error", "api_error", "rate_limit_error", "timeout_error"])
async def test_an_error_may_be_asked_for(simulator: Simulator, error_type: str) -> None:
    error = await error_of(simulator, ask("a", f"[[simulate error={error_type}]]"))

    assert error.type == error_type


async def test_a_credit_error_has_the_words_of_the_api(simulator: Simulator) -> None:
    error = await error_of(simulator, ask("a", "[[simulate credit]]"))

    assert error.type == "invalid_request_error"
    assert "credit balance is too low" in error.message


async def test_a_single_request_may_expire(simulator: Simulator) -> None:
    result = await result_of(simulator, ask("a", "[[simulate expired]]"))

    assert result.type == "expired"
    assert simulator.ledger.bought == []


async def test_a_transient_error_goes_away_after_its_attempts(simulator: Simulator) -> None:
    """The same params fail twice and succeed then; other params count for themselves."""
    failing = ask("a", "[[simulate error=overloaded_error first_attempts=2]]")
    other = ask("a", "[[simulate error=overloaded_error first_attempts=2]] else")

    types = [(await result_of(simulator, request)).type for request in (failing, failing, other, failing)]

    assert types == ["errored", "errored", "errored", "succeeded"]


async def test_messages_and_errors_have_ids_of_their_own(simulator: Simulator, client: AsyncAnthropic) -> None:
    batch = await buy(client, ask("a"), ask("b"))
    simulator.clock.advance(60)

    results = [line.result for line in await read(client, batch)]

    assert len({result.message.id for result in results if result.type == "succeeded"}) == 2


async def test_the_same_seed_gives_the_same_results() -> None:
    async def bytes_of_one_run() -> bytes:
        async with (
            serve(SimulatorSettings(speed=0, processing_seconds=60, seed=7)) as simulator,
            client_of(simulator) as client,
        ):
            batch = await buy(client, *(ask(f"r{number}") for number in range(9)))
            simulator.clock.advance(60)
            return await raw_results(client, batch)

    first, second = await bytes_of_one_run(), await bytes_of_one_run()

    assert first == second
