"""The models that the simulator knows, and how they are described under /v1/models."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

EXTENDED_OUTPUT_TOKENS_MAX = 300_000
"""What `max_tokens` may be in a batch that carries the output-300k header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedModel:
    """One model's limits."""

    name: str
    output_tokens_max: int
    """The standard cap."""
    extended: bool
    """Whether the output-300k header raises the cap."""
    input_tokens_max: int = 1_000_000

    def output_limit(self, *, extended: bool) -> int:
        """Return the cap of a request in a batch that has the output-300k header, or has it not."""
        return EXTENDED_OUTPUT_TOKENS_MAX if extended and self.extended else self.output_tokens_max


def _table(*models: SimulatedModel) -> Mapping[str, SimulatedModel]:
    return MappingProxyType({model.name: model for model in models})


def _long(name: str) -> SimulatedModel:
    return SimulatedModel(name=name, output_tokens_max=128_000, extended=True)


def _standard(name: str) -> SimulatedModel:
    return SimulatedModel(name=name, output_tokens_max=128_000, extended=False)


def _older(name: str) -> SimulatedModel:
    return SimulatedModel(name=name, output_tokens_max=64_000, extended=False, input_tokens_max=200_000)


# Caps from the API's documentation, August 2026.
MODELS: Mapping[str, SimulatedModel] = _table(
    _long("claude-opus-5-5"),
    _long("claude-sonnet-5-5"),
    _long("claude-haiku-5-5"),
    _long("claude-opus-5"),
    _long("claude-opus-4-8"),
    _long("claude-opus-4-7"),
    _long("claude-opus-4-6"),
    _long("claude-sonnet-5"),
    _long("claude-sonnet-4-6"),
    _standard("claude-fable-5"),
    _standard("claude-fable-5-1"),
    _standard("claude-fable-5-2"),
    _standard("claude-mythos-5"),
    _older("claude-opus-4-5"),
    _older("claude-sonnet-4-5"),
    _older("claude-haiku-4-5"),
)


def describe(model: SimulatedModel) -> dict[str, object]:
    """Return the model as the API's `ModelInfo`, the shape of the SDK's source, 2.12."""
    return {
        "type": "model",
        "id": model.name,
        "display_name": f"{model.name.replace('-', ' ').title()} (simulated)",
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
        "line": model.name.split("-")[1],
        "deprecated_at": None,
        "retires_at": None,
        "max_tokens": model.output_tokens_max,
        "max_input_tokens": model.input_tokens_max,
        "allowed_fallback_models": [],
        "capabilities": _capabilities(),
    }


def _capabilities() -> dict[str, object]:
    yes, no = {"supported": True}, {"supported": False}
    return {
        "batch": yes,
        "citations": no,
        "code_execution": no,
        "compaction": {"supported": False, "summarize": no},
        "context_management": {"supported": False},
        "effort": {"supported": True, "low": yes, "medium": yes, "high": yes, "xhigh": yes, "max": yes},
        "image_input": yes,
        "pdf_input": yes,
        "server_tools": {"supported": False, "code_execution": no, "web_search": no},
        "structured_outputs": no,
        "thinking": {
            "supported": True,
            "types": {"adaptive": yes, "between_tools": no, "disabled": yes, "enabled": no},
        },
    }
