"""Results as they come from the API: pieces of JSON Lines in, lines with what matters of them out.

Cutting is linear in the bytes, whatever the lines' length: pieces are kept in a list and joined once per line. A line
is decoded with only the fields that are needed; the message stays the bytes that it was.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from batchbox.model import Nonce, WireId
from batchbox.naming import parse_wire_id
from batchbox.triage import LineFacts

LINE_BYTES_MAX = 64 * 1024 * 1024
"""Longer than any line can be: an answer of 300,000 tokens is about 1.2 MB."""


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

UNREADABLE = "unreadable"
"""The stop reason or kind of a result that is ours and that cannot be understood: it is delivered as it came."""


class _Block(msgspec.Struct):
    type: str
    text: str = ""


class _Message(msgspec.Struct):
    content: list[_Block]
    model: str = ""
    stop_reason: str | None = None
    usage: dict[str, Any] = msgspec.field(default_factory=dict)  # Any: passed on as it is; `pricing` checks it


class _Result(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw(b"{}")


class _Line(msgspec.Struct):
    custom_id: str
    result: _Result


_CANNOT_READ = (ValueError, RecursionError)
"""What decoders raise for bytes that are not JSON, not of the shape, not UTF-8, or nested too deep for them."""

_LINES = msgspec.json.Decoder(_Line)
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
class Signature:
    """What a line's custom_id says about whose batch it is in."""

    nonce: Nonce | None
    """None: the id is not of our form, so the batch is another program's."""


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


def signature_of(line: bytes) -> Signature | None:
    """Return whose batch a line is in, or None if the line cannot be read, which proves nothing."""
    outer = _line_in(line)
    if outer is None:
        return None
    parsed = parse_wire_id(outer.custom_id)
    return Signature(nonce=None if parsed is None else parsed[0])


def _decode_line(line: bytes) -> ResultLine | None:
    """Understand a line as far as it can be. Once its id is of our form it is never dropped: it may be paid for."""
    outer = _line_in(line)
    parsed = None if outer is None else parse_wire_id(outer.custom_id)
    if outer is None or parsed is None:
        return None
    nonce, number = parsed
    raw = _as_utf8(bytes(outer.result.message))
    has_message = raw not in (b"", b"null") or outer.result.type == "succeeded"
    message = _message_in(raw) if has_message else _Message(content=[])
    error = _mapping_in(outer.result.error)
    details = error.get("error")
    return ResultLine(
        wire_id=WireId(outer.custom_id),
        nonce=nonce,
        number=number,
        facts=_facts(outer.result.type, message, details if isinstance(details, dict) else {}, has_message=has_message),
        text=_text_of(message),
        message=raw,
        usage=message.usage,
        model=message.model,
        request_id=_text_or_none(error.get("request_id")),
    )


def _line_in(line: bytes) -> _Line | None:
    line = line.removeprefix(_BYTE_ORDER_MARK)
    try:
        return _LINES.decode(line)
    except _CANNOT_READ:
        return _odd_line(line)


def _odd_line(line: bytes) -> _Line | None:
    """Take what can be understood from a line that is not as it should be; a torn one is never JSON."""
    outer = _mapping_in(line)
    custom_id, result = _text_or_none(outer.get("custom_id")), outer.get("result")
    if custom_id is None:
        return None
    if not isinstance(result, dict):
        return _Line(custom_id=custom_id, result=_Result(type=UNREADABLE))
    return _Line(
        custom_id=custom_id,
        result=_Result(
            type=_text_or_none(result.get("type")) or UNREADABLE,
            message=msgspec.Raw(json.dumps(result.get("message")).encode()),
            error=msgspec.Raw(json.dumps(result.get("error")).encode()),
        ),
    )


def _as_utf8(raw: bytes) -> bytes:
    """Return the bytes, mended where they are not UTF-8: msgspec does not look inside what it passes on raw."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace").encode()
    return raw


def _message_in(raw: bytes) -> _Message:
    try:
        return _MESSAGES.decode(raw)
    except _CANNOT_READ:
        return _odd_message(raw)


def _odd_message(raw: bytes) -> _Message:
    """Take what can be understood from a message that is not as it should be."""
    message = _mapping_in(raw)
    blocks = message.get("content")
    usage = message.get("usage")
    return _Message(
        content=[
            _odd_block(block) for block in (blocks if isinstance(blocks, list) else []) if isinstance(block, dict)
        ],
        model=_text_or_none(message.get("model")) or "",
        stop_reason=_text_or_none(message.get("stop_reason")) or UNREADABLE,
        usage=usage if isinstance(usage, dict) else {},
    )


def _odd_block(block: Mapping[str, object]) -> _Block:
    return _Block(type=_text_or_none(block.get("type")) or "", text=_text_or_none(block.get("text")) or "")


def _mapping_in(raw: bytes | msgspec.Raw) -> Mapping[str, object]:
    try:
        value = json.loads(bytes(raw).decode("utf-8", "replace"), parse_constant=lambda _: None)
    except _CANNOT_READ:
        return {}
    return value if isinstance(value, dict) else {}


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _text_of(message: _Message) -> bytes:
    text = "".join(block.text for block in message.content if block.type == "text")
    return text.encode("utf-8", "replace")  # half a surrogate pair has no place in a file


def _facts(result_type: str, message: _Message, error: Mapping[str, object], *, has_message: bool) -> LineFacts:
    output_tokens = message.usage.get("output_tokens")
    return LineFacts(
        result_type=result_type,
        stop_reason=message.stop_reason,
        has_message=has_message,
        has_text=any(block.text for block in message.content if block.type == "text"),
        has_tool_use=any(block.type == "tool_use" for block in message.content),
        error_type=_text_or_none(error.get("type")),
        error_message=_text_or_none(error.get("message")),
        output_tokens=output_tokens if isinstance(output_tokens, int) else 0,
        max_tokens=0,
    )
