"""What the simulator answers: decided once per request, written out each time the results are read.

`decide` turns params into an Answer, a few dozen bytes; `line` turns that into a line of results. Both are functions
of their arguments alone, so reading results twice gives the same bytes, however long the text is.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from batchbox.simulator.catalog import EXTENDED_OUTPUT_TOKENS_MAX
from batchbox.simulator.directives import Directives, read_directives, without_directives
from batchbox.simulator.params import CHARACTERS_PER_TOKEN, Prompt, read_prompt
from batchbox.simulator.refusals import Refusal, error_body

CREDIT_MESSAGE = (
    "Your credit balance is too low to access the Anthropic API. "
    "Please go to Plans & Billing to upgrade or purchase credits."
)
TITLE_CHARACTERS_MAX = 60

_HEADING = re.compile(r"^#{1,6}[ \t]+(\S.*)$", re.MULTILINE)
_PARAGRAPH = (
    "This paragraph is filler. It stands where a long answer would stand, so that the way of an answer from the API "
    "into a folder can be watched at its full length; it says nothing about the text that was sent.\n\n"
)
_FILLER = _PARAGRAPH * (EXTENDED_OUTPUT_TOKENS_MAX * CHARACTERS_PER_TOKEN // len(_PARAGRAPH) + 1)
"""Long enough for any answer, made once: an answer is a slice of it."""

_encode = msgspec.json.Encoder().encode


class Outcome(StrEnum):
    """Where a request is, in the words of `request_counts`."""

    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    ERRORED = "errored"
    CANCELED = "canceled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one request ended, and all that is needed to write its line."""

    outcome: Outcome
    error_type: str = ""
    error_message: str = ""
    model: str = ""
    title: str = ""
    word_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    is_filled: bool = False
    """Whether the text is drawn out to output_tokens."""
    is_empty: bool = False
    is_thinking: bool = False
    stop_reason: str = ""


CANCELED = Answer(outcome=Outcome.CANCELED)
EXPIRED = Answer(outcome=Outcome.EXPIRED)


def decide(
    params: msgspec.Raw, *, extended: bool, answer_tokens: int | None, times_processed: Callable[[], int]
) -> Answer:
    """Decide how a request ends.

    Args:
        params: The JSON that was sent.
        extended: Whether the batch carries the output-300k header.
        answer_tokens: How long the answer is if the prompt does not say; None is a short text.
        times_processed: Counts this processing of these params and returns the count; called only if it matters.
    """
    try:
        prompt = read_prompt(params, extended=extended)
        asked = read_directives(prompt.text)
    except Refusal as refusal:
        return _errored(refusal.error_type, refusal.message)
    if asked.fails and (asked.first_attempts is None or times_processed() <= asked.first_attempts):
        return _failure(asked)
    return _success(prompt, asked, answer_tokens=answer_tokens)


def line(answer: Answer, custom_id: str, *, batch_id: str) -> bytes:
    """Write one line of results, line end included."""
    return _encode({"custom_id": custom_id, "result": _result(answer, custom_id, batch_id=batch_id)}) + b"\n"


def text_of(answer: Answer) -> str:
    """Return the text that a succeeded answer holds, cut where its tokens end."""
    length = answer.output_tokens * CHARACTERS_PER_TOKEN
    if answer.is_filled:
        return (_heading(answer.title) + _FILLER[:length])[:length]
    return _short_text(answer.title, answer.model, word_count=answer.word_count)[:length]


def _heading(title: str) -> str:
    return f"# Simulated answer: {title}\n\n"


def _short_text(title: str, model: str, *, word_count: int) -> str:
    return (
        f"{_heading(title)}This answer was made by a simulator: no model has read the text, and nothing was paid.\n\n"
        f"- The text is about: {title}\n"
        f"- It has {word_count:,} words.\n"
        f"- It was meant for: {model}\n"
    )


def _errored(error_type: str, message: str) -> Answer:
    return Answer(outcome=Outcome.ERRORED, error_type=error_type, error_message=message)


def _failure(asked: Directives) -> Answer:
    if asked.error is not None:
        return _errored(asked.error, f"Simulated {asked.error}")
    return _errored("invalid_request_error", CREDIT_MESSAGE) if asked.credit else EXPIRED


def _success(prompt: Prompt, asked: Directives, *, answer_tokens: int | None) -> Answer:
    text = without_directives(prompt.text)
    title, model, word_count = _title(text), prompt.model.name, 0
    wanted = asked.tokens if asked.tokens is not None else answer_tokens
    is_filled = wanted is not None
    if wanted is None:
        word_count = len(text.split())
        wanted = -(-len(_short_text(title, model, word_count=word_count)) // CHARACTERS_PER_TOKEN)
    if asked.empty:
        wanted = 1  # an answer is never of 0 tokens, by the SDK's source
    return Answer(
        outcome=Outcome.SUCCEEDED,
        model=model,
        title=title,
        word_count=word_count,
        input_tokens=prompt.input_tokens,
        output_tokens=max(1, min(wanted, prompt.output_tokens_max)),
        is_filled=is_filled,
        is_empty=asked.empty,
        is_thinking=asked.thinking,
        stop_reason=asked.stop_reason or ("max_tokens" if wanted > prompt.output_tokens_max else "end_turn"),
    )


def _title(text: str) -> str:
    """Return the first heading, else the first line that holds anything."""
    heading = _HEADING.search(text) if "#" in text else None  # the search is slow, and some texts are long
    first = heading[1] if heading else text.lstrip().partition("\n")[0]
    return " ".join(first.split())[:TITLE_CHARACTERS_MAX] or "a text without words"


def _result(answer: Answer, custom_id: str, *, batch_id: str) -> dict[str, object]:
    if answer.outcome is Outcome.SUCCEEDED:
        return {"type": "succeeded", "message": _message(answer, custom_id, batch_id=batch_id)}
    if answer.outcome is Outcome.ERRORED:
        request_id = f"req_{_mark(custom_id, batch_id)}"
        return {"type": "errored", "error": error_body(answer.error_type, answer.error_message, request_id)}
    return {"type": answer.outcome}


def _message(answer: Answer, custom_id: str, *, batch_id: str) -> dict[str, object]:
    return {
        "id": f"msg_{_mark(custom_id, batch_id)}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": list(_blocks(answer)),
        "stop_reason": answer.stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": answer.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": answer.output_tokens,
            "service_tier": "batch",
        },
    }


def _blocks(answer: Answer) -> Iterator[dict[str, str]]:
    if answer.is_thinking:
        yield {"type": "thinking", "thinking": "Simulated thinking.", "signature": "c2ltdWxhdGVk"}
    if not answer.is_empty:
        yield {"type": "text", "text": text_of(answer)}


def _mark(custom_id: str, batch_id: str) -> str:
    """Return what makes the ids of one request's message and error its own."""
    return "01" + hashlib.blake2b(f"{batch_id}/{custom_id}".encode(), digest_size=11).hexdigest()
