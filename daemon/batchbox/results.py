"""Results as they come from the API: pieces of JSON Lines in, lines with what matters of them out.

Cutting is linear in the bytes, whatever the lines' length: pieces are kept in a list and joined once per line. A line
is decoded with only the fields that are needed; the message stays the bytes that it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from batchbox.model import Nonce, WireId
from batchbox.naming import parse_wire_id
from batchbox.triage import LineFacts

LINE_BYTES_MAX = 64 * 1024 * 1024
"""Longer than any line can be: an answer of 300,000 tokens is about 1.2 MB."""


class _Block(msgspec.Struct):
    type: str
    text: str = ""


class _Message(msgspec.Struct):
    content: list[_Block]
    model: str = ""
    stop_reason: str | None = None
    usage: dict[str, Any] = {}  # Any: passed on as it is, and read by `pricing`, which checks


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _ErrorEnvelope(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)
    request_id: str | None = None


class _Result(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw()
    error: _ErrorEnvelope | None = None


class _Line(msgspec.Struct):
    custom_id: str
    result: _Result


class _IdOnly(msgspec.Struct):
    custom_id: str


_LINES = msgspec.json.Decoder(_Line)
_IDS = msgspec.json.Decoder(_IdOnly)
_MESSAGES = msgspec.json.Decoder(_Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLine:
    """One line of results."""

    wire_id: WireId
    nonce: Nonce
    number: int
    """Which member of the batch it is about."""
    facts: LineFacts
    """`max_tokens` is 0 here: it is not in the line."""
    text: bytes
    """The text blocks, joined."""
    message: bytes
    """The message as the API wrote it, or empty."""
    usage: Mapping[str, object]
    model: str
    request_id: str | None
    """The API's name for an errored request, for its support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What some lines held."""

    lines: Sequence[ResultLine]
    foreign_count: int
    """Lines that are not about a request of ours, or that cannot be understood."""


class LineSplitter:
    """Cuts pieces of bytes into lines."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self.overlong_count = 0
        """How many lines were longer than LINE_BYTES_MAX, and dropped."""

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the lines that the piece completes, without their ends."""
        first, *rest = piece.split(b"\n")
        if not rest:
            self._keep(first)
            return []
        lines = [self._complete(first), *rest[:-1]]
        self._keep(rest[-1])
        return [line for line in lines if line]

    def finish(self) -> list[bytes]:
        """Return what came after the last line end: a line if the stream was whole."""
        rest = self._complete(b"")
        return [rest] if rest else []

    def _keep(self, piece: bytes) -> None:
        self._size_bytes += len(piece)
        if self._size_bytes > LINE_BYTES_MAX:
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def _complete(self, last: bytes) -> bytes:
        self._keep(last)
        line = b"".join(self._pieces)
        if self._size_bytes > LINE_BYTES_MAX:
            self.overlong_count += 1
            line = b""
        self._pieces = []
        self._size_bytes = 0
        return line


def decode(lines: Sequence[bytes]) -> Decoded:
    """Understand the lines; those that are not ours are counted."""
    decoded = [result for line in lines if (result := _decode_line(line)) is not None]
    return Decoded(lines=decoded, foreign_count=len(lines) - len(decoded))


def nonce_of(line: bytes) -> Nonce | None:
    """Return the nonce in a line's custom_id, or None if it has none: then the batch is not ours."""
    try:
        custom_id = _IDS.decode(line).custom_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    parsed = parse_wire_id(custom_id)
    return None if parsed is None else parsed[0]


def _decode_line(line: bytes) -> ResultLine | None:
    try:
        outer = _LINES.decode(line)
        raw = bytes(outer.result.message)
        if not raw.isascii():
            raw.decode()  # msgspec does not look inside what it passes on raw
        message = _MESSAGES.decode(raw) if raw and outer.result.type == "succeeded" else _Message(content=[])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    parsed = parse_wire_id(outer.custom_id)
    if parsed is None:
        return None
    return _as_result(outer, message, raw, nonce=parsed[0], number=parsed[1])


def _as_result(outer: _Line, message: _Message, raw: bytes, *, nonce: Nonce, number: int) -> ResultLine:
    text = "".join(block.text for block in message.content if block.type == "text").encode()
    envelope = outer.result.error
    output_tokens = message.usage.get("output_tokens")
    return ResultLine(
        wire_id=WireId(outer.custom_id),
        nonce=nonce,
        number=number,
        facts=LineFacts(
            result_type=outer.result.type,
            stop_reason=message.stop_reason,
            has_text=bool(text),
            has_tool_use=any(block.type == "tool_use" for block in message.content),
            error_type=envelope.error.type if envelope else None,
            error_message=envelope.error.message if envelope else None,
            output_tokens=output_tokens if isinstance(output_tokens, int) else 0,
            max_tokens=0,
        ),
        text=text,
        message=raw,
        usage=message.usage,
        model=message.model,
        request_id=envelope.request_id if envelope else None,
    )
