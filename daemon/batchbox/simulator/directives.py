"""Directives in a prompt that tell the simulator what to answer: `[[simulate tokens=300000 thinking]]`.

Several words in one directive and several directives in one prompt add up. A word that is not known is an error of
that request, so that a mistyped directive cannot pass for an ordinary prompt.
"""

import re
from dataclasses import dataclass

from batchbox.simulator.catalog import EXTENDED_OUTPUT_TOKENS_MAX
from batchbox.simulator.refusals import STATUS_OF_TYPE, Refusal

_DIRECTIVE = re.compile(r"\[\[simulate ([^\[\]\n]*)\]\]")
_FLAGS = ("expired", "empty", "thinking", "credit")
_COUNTS = ("tokens", "first_attempts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """What a prompt asks of the simulator."""

    tokens: int | None = None
    """How long the answer would be, were it not for max_tokens."""
    stop_reason: str | None = None
    error: str | None = None
    """An error type of the API's: the line is errored."""
    credit: bool = False
    """The line is errored because the account's credit is used up."""
    expired: bool = False
    empty: bool = False
    """The answer has no content at all."""
    thinking: bool = False
    """A thinking block comes first."""
    first_attempts: int | None = None
    """error, credit and expired happen only the first so many times that the same params are processed."""

    @property
    def fails(self) -> bool:
        """Whether the line is to be anything but succeeded."""
        return self.expired or self.credit or self.error is not None


def read_directives(text: str) -> Directives:
    """Find what the prompt asks of the simulator. Raises Refusal for a word that is not known."""
    if "[[simulate " not in text:  # most prompts, and some are long
        return Directives()
    words = " ".join(_DIRECTIVE.findall(text)).split()
    flags = {word for word in words if "=" not in word}
    values = dict(word.split("=", 1) for word in words if "=" in word)
    for word in (flags - set(_FLAGS)) | (set(values) - {*_COUNTS, "stop_reason", "error"}):
        raise Refusal("invalid_request_error", f"[[simulate {word}]]: not a directive of the simulator")
    error = values.get("error")
    if error is not None and error not in STATUS_OF_TYPE:
        raise Refusal("invalid_request_error", f"[[simulate error={error}]]: not an error type of the API")
    return Directives(
        tokens=_count(values, "tokens"),
        first_attempts=_count(values, "first_attempts"),
        stop_reason=values.get("stop_reason"),
        error=error,
        credit="credit" in flags,
        expired="expired" in flags,
        empty="empty" in flags,
        thinking="thinking" in flags,
    )


def without_directives(text: str) -> str:
    """Return the prompt as it would be read by a model."""
    return _DIRECTIVE.sub("", text) if "[[simulate " in text else text


def _count(values: dict[str, str], key: str) -> int | None:
    text = values.get(key)
    if text is None:
        return None
    if not text.isdecimal() or int(text) > EXTENDED_OUTPUT_TOKENS_MAX:
        raise Refusal(
            "invalid_request_error",
            f"[[simulate {key}={text}]]: a whole number up to {EXTENDED_OUTPUT_TOKENS_MAX} is needed",
        )
    return int(text)
