"""What becomes of a request, line by line of the table: how it ends, what is said of its bill, how often it is sent."""

import logging
from collections.abc import Mapping

import pytest

from .bench import Bench
from .fake_api import answer, errored
from .lines import always, send, succeeded

CALL_OF_A_TOOL = {"type": "tool_use", "id": "t", "name": "n", "input": {}}
NEW = succeeded("end_turn") | {"type": "something_new"}
NEW_ERROR = errored("overloaded_error", "busy") | {"type": "something_new"}

ANSWERS: Mapping[str, tuple[dict[str, object], str]] = {
    # the line                                what it becomes
    "end_turn": (succeeded("end_turn"), "answered"),
    "stop_sequence": (succeeded("stop_sequence"), "answered"),
    "tool_use": (succeeded("tool_use", text="", blocks=[CALL_OF_A_TOOL]), "answered"),
    "end_turn without text": (succeeded("end_turn", text=""), "empty"),
    "max_tokens": (succeeded("max_tokens"), "max_tokens"),
    "max_tokens long before": (succeeded("max_tokens", output_tokens=128_000), "clamped"),
    "pause_turn": (succeeded("pause_turn"), "pause_turn"),
    "compaction": (succeeded("compaction"), "compaction"),
    "refusal": (succeeded("refusal"), "refusal"),
    "context window": (succeeded("model_context_window_exceeded"), "model_context_window_exceeded"),
    "new stop reason": (succeeded("something_new"), "something_new"),
    "no stop reason": (succeeded(None), "no_stop_reason"),
    "new kind with a message": (NEW, "something_new"),
}

ERRORS: Mapping[str, tuple[dict[str, object], str, bool | None, int]] = {
    # the line, again and again               the error that it becomes, whether it was billed, after how many sendings
    "invalid_request_error": (errored("invalid_request_error", "bad"), "invalid_request_error", False, 1),
    "not_found_error": (errored("not_found_error", "no such model"), "not_found_error", False, 1),
    "request_too_large": (errored("request_too_large", "big"), "request_too_large", False, 1),
    "new error": (errored("something_new", "?"), "something_new", False, 1),
    "error without a type": ({"type": "errored", "error": {}}, "unknown_error", False, 1),
    "overloaded_error": (errored("overloaded_error", "busy"), "overloaded_error", False, 3),
    "api_error": (errored("api_error", "oops"), "api_error", False, 3),
    "timeout_error": (errored("timeout_error", "slow"), "timeout_error", False, 3),
    "rate_limit_error": (errored("rate_limit_error", "much"), "rate_limit_error", False, 3),
    "authentication_error": (errored("authentication_error", "key"), "authentication_error", False, 3),
    "permission_error": (errored("permission_error", "key"), "permission_error", False, 3),
    "expired": ({"type": "expired"}, "expired", False, 3),
    "canceled in the Console": ({"type": "canceled"}, "canceled_elsewhere", False, 1),
    "new kind with an error": (NEW_ERROR, "something_new", None, 1),
    "new kind without anything": ({"type": "something_new"}, "something_new", None, 1),
    "no result at all": ({}, "unreadable", None, 1),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_line_with_an_answer_is_delivered_and_charged_once(bench: Bench, name: str) -> None:
    """Whatever it was paid for is there; if it is not whole, its name and its document say so, and why."""
    result, becomes = ANSWERS[name]
    bench.drop("a.md", "one")
    bench.api.answerer = always(result)

    await bench.settle()

    is_whole = becomes == "answered"
    document = bench.document("a.result.json")
    assert (document["complete"], document["reason"]) == (is_whole, None if is_whole else becomes)
    texts = set(bench.outbox()) - {"a.result.json"}
    assert texts <= {"a.md"} if is_whole else texts <= {"a.incomplete.md"}
    assert (b"so far" in bench.outbox().values()) is ("without text" not in name and name != "tool_use")
    assert bench.rows("SELECT count(*) FROM charges") == [(1,)]
    assert bench.api.create_count == 1


@pytest.mark.parametrize("name", ERRORS)
async def test_a_line_without_an_answer_is_an_error_or_sent_again_so_often(bench: Bench, name: str) -> None:
    """Nothing is bought again but what was surely not bought, and every error names the next step."""
    result, error_type, billed, sendings = ERRORS[name]
    bench.drop("a.md", "one")
    bench.api.answerer = always(result)

    await bench.settle()

    document = bench.document("a.error.json")
    assert document["error"]["type"] == error_type  # type: ignore[index] # a JSON object
    assert (document["billed"], document["cost_usd"]) == (billed, 0 if billed is False else None)
    assert document["what_to_do"]
    assert document["attempts"] == bench.api.create_count == sendings
    assert set(bench.outbox()) == {"a.error.json"}


@pytest.mark.parametrize("result", [succeeded("something_new"), NEW, NEW_ERROR], ids=["stop reason", "kind", "error"])
async def test_what_this_version_does_not_know_is_reported(
    bench: Bench, result: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """An API that has learned something new must not go unnoticed."""
    bench.drop("a.md", "one")
    bench.api.answerer = always(result)

    await bench.settle()

    (warning,) = [one for one in caplog.records if one.message == "results have lines that are not expected"]
    assert warning.__dict__["unknown_count"] == 1


async def test_what_the_api_counted_otherwise_is_reported(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The fake workspace counts everything as succeeded."""
    bench.drop("a.md", "one")
    bench.api.answerer = always({"type": "canceled"})

    await bench.settle()

    (warning,) = [one for one in caplog.records if one.message == "results are not what the API counted"]
    assert (warning.levelno, warning.__dict__["read"]) == (logging.WARNING, {"canceled": 1})


async def test_of_a_batch_that_is_cancelled_in_the_console_what_was_finished_is_delivered(bench: Bench) -> None:
    """The others are errors that say so, and are not bought again."""
    for name in ("a.md", "b.md", "c.md"):
        bench.drop(name, name)
    bench.api.answerer = lambda id_, params, times: (
        answer(id_, params, times) if id_.startswith("b__") else {"type": "canceled"}
    )
    await send(bench)

    await bench.settle()

    assert set(bench.outbox()) == {"a.error.json", "b.md", "b.result.json", "c.error.json"}
    assert bench.api.create_count == 1
