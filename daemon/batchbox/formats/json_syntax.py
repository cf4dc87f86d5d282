"""Reads JSON as strictly as somebody else's money demands: what is ambiguous or made to hurt is rejected.

Theory of operation. msgspec parses, and refuses by itself NaN, lone surrogates and numbers out of a float's range. It
knows no bound on the number of values, and of a key that stands twice it silently keeps the last. Both are found by
counting. Before: the commas and opening brackets outside of strings, which splitting at the quotes gives at the speed
of a memory scan, bound the number of values. After: each key has one colon, and each colon in a string is still there;
the document has more of them than the tree only if something was dropped. Where exactly something is wrong is looked
for once we know that it is.
"""

import math
import re
from collections.abc import Iterable, Iterator

import msgspec

from batchbox.errors import RejectedError
from batchbox.formats.problems import quoted
from batchbox.model import RejectReason

VALUES_MAX = 300_000
"""In one document. So many grow to 35 MB at most; 20 MB of empty lists would grow to 525 MB."""

DEPTH_MAX = 64
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1

_WINDOW_BYTES = 256 * 1024
_DIGITS_MAX = 20  # of an integer of 64 bits
_ESCAPED_COLON = b"\\u003"  # or another character near it
_NOT_A_BACKSLASH = re.compile(rb"[^\\]")
_STRING = rb'"(?:[^"\\]++|\\.)*+"?+'
"""A quote that nothing closes takes all that follows: no byte is looked at twice, in what nobody has parsed, too."""

_STRING_OR_MARK = re.compile(rb"%b|[{}\[\]:]" % _STRING, re.DOTALL)
_STRING_OR_NUMBER = re.compile(rb"%b|(-?+[0-9][0-9.eE+-]*+)" % _STRING, re.DOTALL)
_ESCAPES = re.compile(rb"(?:\\[^u][^\\]*+)++|\\u(?:[dD][89abAB]..\\u[dD][c-fC-F]|([dD][89a-fA-F]))?+", re.DOTALL)
"""Some, or one, or a pair that stands for one character; the group: half of a pair."""

_BYTE_IN_MESSAGE = re.compile(r" \(byte ([0-9]+)\)$")


class _FaultError(Exception):
    """What is wrong with the document, and at which byte, where that is known."""

    def __init__(self, reason: RejectReason, text: str, position: int | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.position = position


class _TooDeepError(Exception):
    """The tree is deeper than DEPTH_MAX."""


class _IntegerError(Exception):
    """An integer needs more than 64 bits."""


def parse(data: bytes, *, is_line: bool = False) -> object:
    """Return the value of the document, which is UTF-8 without BOM.

    Raises RejectedError: `incomplete` where it ends early, `too_deep`, `too_large` for its number of values, else
    `bad_json` with line and column; of a line of JSON Lines, whose number the caller knows, the column alone.
    """
    try:
        return _parse(data)
    except _FaultError as fault:
        where = "" if fault.position is None else _place(data, fault.position, is_line=is_line)
        todo = "Drop it again when it is complete." if fault.reason is RejectReason.INCOMPLETE else "Correct the JSON."
        raise RejectedError(fault.reason, f"{where}{fault.text}", todo) from None


def open_ending(data: bytes) -> str | None:
    """Say how the document ends early: inside a string, or with brackets open. None if it looks finished."""
    open_count = 0
    is_in_string = False
    for outside in _outside_strings(data):
        open_count += outside.count(b"[") + outside.count(b"{") - outside.count(b"]") - outside.count(b"}")
        is_in_string = outside == b'"'
    if open_count <= 0 and not is_in_string:
        return None
    inside = "inside a string, " if is_in_string else ""
    return f"it ends early after byte {len(data)}, {inside}with {max(open_count, 0)} brackets open"


def _parse(data: bytes) -> object:
    _check_value_count(data)
    try:
        value = msgspec.json.decode(data)
        colon_count = _colon_count(value, 1)
    except (RecursionError, _TooDeepError):
        text = f"brackets are nested more than {DEPTH_MAX} deep"
        raise _FaultError(RejectReason.TOO_DEEP, text, _too_deep_position(data)) from None
    except _IntegerError:
        raise _out_of_range(data) from None
    except msgspec.MsgspecError as error:
        raise _malformed(data, str(error)) from None
    if data.count(b":") != colon_count or _ESCAPED_COLON in data:
        _check_keys(data)
    return value


def _check_value_count(data: bytes) -> None:
    """Every value but the first follows a comma or an opening bracket, so their number is a bound."""
    if len(data) <= VALUES_MAX:
        return
    count = 0
    for outside in _outside_strings(data):
        count += outside.count(b",") + outside.count(b"[") + outside.count(b"{")
        if count > VALUES_MAX:
            raise _FaultError(RejectReason.TOO_LARGE, f"there are more than {VALUES_MAX:,} values in one document")


def _outside_strings(data: bytes) -> Iterator[bytes]:
    """Yield what stands outside of strings, a window at a time; at the end a quote if the data end inside a string.

    Escaped quotes are taken out of the way first. A window never ends between a backslash and what it escapes.
    """
    is_inside = False
    start = 0
    while start < len(data):
        end = _window_end(data, start + _WINDOW_BYTES)
        window = data[start:end]
        if b"\\" in window:
            window = window.replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = window.split(b'"')
        yield b"".join(pieces[is_inside::2])
        is_inside ^= len(pieces) % 2 == 0
        start = end
    if is_inside:
        yield b'"'


def _window_end(data: bytes, end: int) -> int:
    if data[end - 1 : end] != b"\\":
        return min(end, len(data))
    after_run = _NOT_A_BACKSLASH.search(data, end)
    return after_run.end() if after_run else len(data)


def _colon_count(value: object, depth: int) -> int:
    """Count the colons that the tree stands for, and look at every number and every level on the way."""
    if depth > DEPTH_MAX:
        raise _TooDeepError
    children: Iterable[object] = (value,)
    count = 0
    if type(value) is dict:
        children = value.values()
        count = len(value) + "".join(value).count(":")
    elif type(value) is list:
        children = value
    for child in children:
        if type(child) is str:
            count += child.count(":")
        elif type(child) is dict or type(child) is list:
            count += _colon_count(child, depth + 1)
        elif type(child) is int and not INTEGER_MIN <= child <= INTEGER_MAX:
            raise _IntegerError
    return count


def _malformed(data: bytes, message: str) -> _FaultError:
    match = _BYTE_IN_MESSAGE.search(message)
    position = int(match[1]) if match else None
    if position is not None and "trailing characters" in message:
        position -= 1  # msgspec has taken the first of them already
    if (position is None or position >= len(data)) and (ending := open_ending(data)):
        return _FaultError(RejectReason.INCOMPLETE, ending, len(data))
    if "out of range" in message:
        return _out_of_range(data)
    if "surrogate" in message or match is None:
        half = next((escape.start() for escape in _ESCAPES.finditer(data) if escape[1]), None)
        if half is not None:
            text = "an escape stands for half of a character (a surrogate), and the other half is missing"
            return _FaultError(RejectReason.BAD_JSON, text, half)
    text = message[: match.start()] if match else "the last string, word or number is not valid"
    return _FaultError(RejectReason.BAD_JSON, text.removeprefix("JSON is malformed: "), position)


def _out_of_range(data: bytes) -> _FaultError:
    position = next((match.start() for match in _STRING_OR_NUMBER.finditer(data) if _is_out_of_range(match[1])), None)
    return _FaultError(RejectReason.BAD_JSON, "a number is out of range", position)


def _is_out_of_range(token: bytes | None) -> bool:
    if token is None:
        return False
    digits = token.removeprefix(b"-")
    if digits.isdigit():
        return len(digits) > _DIGITS_MAX or not INTEGER_MIN <= int(token) <= INTEGER_MAX
    try:
        return math.isinf(float(token))
    except ValueError:
        return False


def _too_deep_position(data: bytes) -> int | None:
    depth = 0
    for match in _STRING_OR_MARK.finditer(data):
        depth += (match[0] in b"[{") - (match[0] in b"]}")
        if depth > DEPTH_MAX:
            return match.start()
    return None


def _check_keys(data: bytes) -> None:
    """Make sure that no key stands twice in one object. The document has been parsed."""
    seen: list[set[str]] = []
    string = None
    for match in _STRING_OR_MARK.finditer(data):
        mark = match[0]
        if mark in (b"{", b"["):
            seen.append(set())
        elif mark in (b"}", b"]"):
            seen.pop()
        elif mark != b":":
            string = match
        elif string is not None:
            key = msgspec.json.decode(string[0], type=str)
            if key in seen[-1]:
                raise _FaultError(RejectReason.BAD_JSON, f"the key {quoted(key)} stands twice", string.start())
            seen[-1].add(key)


def _place(data: bytes, position: int, *, is_line: bool) -> str:
    start = data.rfind(b"\n", 0, position) + 1
    column = len(data[start:position].decode("utf-8", "replace")) + 1
    line = data.count(b"\n", 0, position) + 1
    return f"column {column}: " if is_line else f"line {line}, column {column}: "
