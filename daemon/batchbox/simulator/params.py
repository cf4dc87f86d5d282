"""One request's params, validated as the API validates them: not at create, but when the batch is processed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from batchbox.simulator.catalog import EXTENDED_OUTPUT_TOKENS_MAX, MODELS, SimulatedModel
from batchbox.simulator.refusals import Refusal
from batchbox.simulator.shape import complaint

CHARACTERS_PER_TOKEN = 4
MEDIA_TOKENS = 1500
"""What an image or a document that is not text counts for; the simulator does not look into it."""


class _Source(msgspec.Struct, frozen=True):
    type: str = ""
    data: str = ""


class _Block(msgspec.Struct, frozen=True):
    type: str
    text: str = ""
    source: _Source = _Source()


class _Message(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of a message, from the SDK's source, 2.12; `betas` is passed over, as the API does."""

    model: str
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    messages: list[_Message]
    system: str | list[_Block] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    thinking: dict[str, msgspec.Raw] | None = None
    output_config: dict[str, msgspec.Raw] | None = None
    metadata: dict[str, msgspec.Raw] | None = None
    stream: bool | None = None
    betas: msgspec.Raw = msgspec.Raw()
    billing_policy: msgspec.Raw = msgspec.Raw()
    cache_control: msgspec.Raw = msgspec.Raw()
    compaction: msgspec.Raw = msgspec.Raw()
    container: msgspec.Raw = msgspec.Raw()
    context_management: msgspec.Raw = msgspec.Raw()
    diagnostics: msgspec.Raw = msgspec.Raw()
    fallback_credit_token: msgspec.Raw = msgspec.Raw()
    fallbacks: msgspec.Raw = msgspec.Raw()
    inference_geo: msgspec.Raw = msgspec.Raw()
    mcp_servers: msgspec.Raw = msgspec.Raw()
    service_tier: msgspec.Raw = msgspec.Raw()
    speed: msgspec.Raw = msgspec.Raw()
    thread: msgspec.Raw = msgspec.Raw()
    tool_choice: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    user_profile_id: msgspec.Raw = msgspec.Raw()


_params = msgspec.json.Decoder(_Params)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the simulator takes from valid params."""

    model: SimulatedModel
    output_tokens_max: int
    """The request's max_tokens, silently clamped to what the model and the batch's header allow."""
    input_tokens: int
    text: str
    """All text of the last turn, the user's."""


def read_prompt(params: msgspec.Raw, *, extended: bool) -> Prompt:
    """Validate one request's params. Raises Refusal with what the request's errored line will say.

    Args:
        params: The JSON that was sent.
        extended: Whether the batch carries the output-300k header.
    """
    try:
        fields = _params.decode(params)
    except msgspec.ValidationError as error:
        raise Refusal("invalid_request_error", complaint(error)) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal("invalid_request_error", f"params is not valid JSON: {error}") from error
    model = MODELS.get(fields.model)
    if model is None:
        raise Refusal("not_found_error", f"model: {fields.model}")
    _check_max_tokens(fields.max_tokens)
    _check_turns(fields.messages)
    tokens = _input_tokens(fields)
    if tokens > model.input_tokens_max:
        raise Refusal(
            "invalid_request_error", f"prompt is too long: {tokens} tokens > {model.input_tokens_max} maximum"
        )
    return Prompt(
        model=model,
        output_tokens_max=min(fields.max_tokens, model.output_limit(extended=extended)),
        input_tokens=tokens,
        text="\n\n".join(_texts(fields.messages[-1].content)),
    )


def _check_max_tokens(value: int) -> None:
    if value > EXTENDED_OUTPUT_TOKENS_MAX:
        raise Refusal(
            "invalid_request_error",
            f"max_tokens: {value} > {EXTENDED_OUTPUT_TOKENS_MAX}, which is the maximum allowed number of output tokens",
        )


def _check_turns(messages: list[_Message]) -> None:
    if not messages:
        raise Refusal("invalid_request_error", "messages: at least one message is required")
    if messages[0].role != "user":
        raise Refusal("invalid_request_error", 'messages: first message must use the "user" role')
    if messages[-1].role == "assistant":
        raise Refusal(
            "invalid_request_error",
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        )
    for number, message in enumerate(messages):
        if not message.content:
            raise Refusal("invalid_request_error", f"messages.{number}: messages must have non-empty content")
        if not isinstance(message.content, str) and any(b.type == "text" and not b.text for b in message.content):
            raise Refusal("invalid_request_error", "messages: text content blocks must be non-empty")


def _texts(content: str | list[_Block] | None) -> Iterator[str]:
    if content is None:
        return
    if isinstance(content, str):
        yield content
        return
    for block in content:
        if block.type == "text":
            yield block.text
        elif block.source.type == "text":
            yield block.source.data


def _input_tokens(fields: _Params) -> int:
    contents: list[str | list[_Block] | None] = [fields.system, *(message.content for message in fields.messages)]
    characters = media_count = 0
    for content in contents:
        characters += sum(map(len, _texts(content)))
        if isinstance(content, list):
            media_count += sum(block.source.type not in ("", "text") for block in content)
    return max(1, characters // CHARACTERS_PER_TOKEN) + media_count * MEDIA_TOKENS
