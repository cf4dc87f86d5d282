"""The header that a text may begin with: TOML between `+++` lines, or YAML between `---` lines.

`+++` is a header and nothing else. Lines of `---` are common in Markdown, so what stands between two of them is a
header only if a line in it begins with one of our keys; then it is read as strictly as the other. Every problem is
reported at once, with its line, and values are never quoted: a system prompt is nobody else's business.
"""

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batchbox.errors import RejectedError
from batchbox.formats.header_yaml import read_yaml
from batchbox.formats.json_syntax import INTEGER_MAX, INTEGER_MIN
from batchbox.formats.problems import quoted, together
from batchbox.logs import shown
from batchbox.model import RejectReason

HEADER_CHARACTERS_MAX = 65_536
NESTING_MAX = 16

KEYS = (
    "custom_id",
    "model",
    "max_tokens",
    "system",
    "temperature",
    "effort",
    "thinking",
    "stop_sequences",
    "betas",
    "metadata",
)

_OPENING = re.compile(r"(\+\+\+|---)[ \t]*(?:\r?\n|\Z)")
_CLOSING = {
    "+++": re.compile(r"^\+\+\+[ \t]*\r?$", re.MULTILINE),
    "---": re.compile(r"^---[ \t]*\r?$", re.MULTILINE),
}
_OUR_YAML_KEY = re.compile(rf"^(?:{'|'.join(KEYS)})[ \t]*:", re.MULTILINE)
_TOML_KEY = re.compile(r"""^[ \t]*+\[{0,2}+[ \t]*+["']?+([A-Za-z0-9_-]++)["']?+[ \t]*+[].=]""", re.MULTILINE)

KEY_PARTS_MAX = 32
"""The time that tomllib takes for a dotted key grows with the square of its parts."""

_KEY_PART_OR_MARK = re.compile(r"""("(?:[^"\\\n]|\\.)*+"?+|'[^'\n]*+'?+|[\w-]++)|[ \t]++|.""", re.DOTALL)
"""Something matches everywhere, so that no character is looked at twice: a quote that nothing closes, too."""

_BEGIN_WITH_EMPTY_LINE = "if this is text and not a header, begin the file with an empty line."


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a header says: values of the right types, by key."""

    values: Mapping[str, object]
    body: str
    """The text behind it."""


def split_header(text: str) -> Header:
    """Take the header, where there is one, off the text. Raises RejectedError, `bad_header`, naming every problem."""
    opening = _OPENING.match(text)
    if opening is None:
        return Header(values={}, body=text)
    fence = opening[1]
    closing = _CLOSING[fence].search(text, opening.end())
    if closing is None and fence == "+++":
        todo = f"Close the header with a second line +++; {_BEGIN_WITH_EMPTY_LINE}"
        raise _bad("the header that begins with +++ in line 1 is not closed", todo)
    if closing is None or (fence == "---" and not _OUR_YAML_KEY.search(text, opening.end(), closing.start())):
        return Header(values={}, body=text)
    block = text[opening.end() : closing.start()]
    if len(block) > HEADER_CHARACTERS_MAX:
        lane = 'The administrator can give the lane a long system prompt, as "system" in [lanes.<name>]'
        todo = f"{lane} of the configuration; {_BEGIN_WITH_EMPTY_LINE}"
        raise _bad(f"the header has more than {HEADER_CHARACTERS_MAX:,} characters", todo)
    values, lines = _read_toml(block) if fence == "+++" else _read_yaml(block)
    if problems := _problems(values, lines):
        raise together(problems)
    return Header(values=values, body=text[closing.end() :].lstrip("\r\n"))


def _read_toml(block: str) -> tuple[dict[str, object], dict[str, int]]:
    """Return the values and, where they are plain to see, the lines of their keys."""
    todo = f"Correct the TOML between the +++ lines; {_BEGIN_WITH_EMPTY_LINE}"
    if _has_long_key(block):
        raise _bad(f"a dotted key in the header has more than {KEY_PARTS_MAX} parts", todo)
    numbered = "\n" + block  # the block begins in line 2 of the file
    try:
        values = tomllib.loads(numbered)
    except RecursionError:
        raise _bad("values in the header are nested too deep", todo) from None
    except ValueError as error:  # of which TOMLDecodeError is one; a number of thousands of digits is a plain one
        raise _bad(f"the header is not valid TOML: {shown(str(error))}", todo) from None
    return values, _lines_of_keys(numbered)


def _lines_of_keys(numbered: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    line, counted_to = 1, 0
    for match in _TOML_KEY.finditer(numbered):
        line += numbered.count("\n", counted_to, match.start(1))
        counted_to = match.start(1)
        lines.setdefault(match[1], line)
    return lines


def _has_long_key(block: str) -> bool:
    """Look for more parts of a key in a row, with a dot behind each, than a key may have."""
    dot_count = 0
    is_behind_part = False
    for match in _KEY_PART_OR_MARK.finditer(block):
        if match[0] == "." and is_behind_part:
            dot_count += 1
            is_behind_part = False
            if dot_count >= KEY_PARTS_MAX:
                return True
        elif match[0][0] not in " \t":
            dot_count = 0 if is_behind_part or not match[1] else dot_count
            is_behind_part = bool(match[1])
    return False


def _read_yaml(block: str) -> tuple[dict[str, object], dict[str, int]]:
    try:
        return read_yaml(block, first_line=2)
    except ValueError as error:
        todo = f"Correct the YAML between the --- lines; {_BEGIN_WITH_EMPTY_LINE}"
        raise _bad(f"the header is not valid: {error}", todo) from None


def _problems(values: Mapping[str, object], lines: Mapping[str, int]) -> list[RejectedError]:
    problems = []
    for key, value in values.items():
        where = f" in line {lines[key]}" if key in lines else ""
        if key not in _TYPES:
            problems.append(_bad(f"key {quoted(key)}{where} is unknown", f"The keys are {', '.join(KEYS)}."))
        elif not _TYPES[key].fits(value):
            todo = f'Write "{key}" as {_TYPES[key].description}.'
            problems.append(_bad(f'key "{key}"{where} is not {_TYPES[key].description}', todo))
    return problems


def _bad(fact: str, what_to_do: str) -> RejectedError:
    return RejectedError(RejectReason.BAD_HEADER, fact, what_to_do)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and _is_plain(value, 0)


def _is_integer(value: object) -> bool:
    return type(value) is int and _is_plain(value, 0)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and _is_plain(value, 0)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(_is_text(item) for item in value)


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and _is_plain(value, 0)


def _is_plain(value: object, depth: int) -> bool:
    """Tell whether JSON can say it: no dates, no infinity, not too deep."""
    if isinstance(value, dict):
        return depth < NESTING_MAX and all(_is_plain(part, depth + 1) for part in (*value, *value.values()))
    if isinstance(value, list):
        return depth < NESTING_MAX and all(_is_plain(item, depth + 1) for item in value)
    return _is_plain_scalar(value)


def _is_plain_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return INTEGER_MIN <= value <= INTEGER_MAX
    return value is None or isinstance(value, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Type:
    fits: Callable[[object], bool]
    description: str


_TEXT = _Type(fits=_is_text, description='text, in quotes: "..."')
_TEXTS = _Type(fits=_is_list_of_texts, description='a list of texts: ["...", "..."]')
_TABLE = _Type(fits=_is_table, description="a table of plain values")

_TYPES: Mapping[str, _Type] = {
    "custom_id": _TEXT,
    "model": _TEXT,
    "max_tokens": _Type(fits=_is_integer, description="a whole number"),
    "system": _TEXT,
    "temperature": _Type(fits=_is_number, description="a number"),
    "effort": _TEXT,
    "thinking": _TABLE,
    "stop_sequences": _TEXTS,
    "betas": _TEXTS,
    "metadata": _TABLE,
}
