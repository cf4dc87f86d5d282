"""What is made to be slow, or to grow, ends soon: the time is linear in the bytes, whatever stands in them."""

import contextlib
import importlib
import re
import time
from pathlib import Path
from typing import Any

import pytest

from batchbox import formats
from batchbox.errors import RejectedError
from batchbox.formats import json_lines, parse_file, slices, weight_of
from batchbox.formats.header import KEY_PARTS_MAX
from batchbox.formats.header_yaml import EVENTS_MAX
from batchbox.formats.json_requests import ADDED_BYTES_MAX, ITEMS_MAX
from batchbox.formats.weight import SLICE_ADDED_BYTES, SLICE_BYTES

from .bench import RULES, one, params_of, rejection, rules

CPU_SECONDS_MAX = 3.0
"""A hundred times what each takes, and a fraction of what each would take if its time grew with the square."""
HEADER = 60_000
MB = 1_000_000


def toml(header: str) -> bytes:
    return f"+++\n{header}\n+++\nText".encode()


def yaml(header: str) -> bytes:
    return f"---\n{header}\n---\nText".encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("a.md", toml("a" * HEADER + "!"), id="a key without an end"),
        pytest.param("a.md", toml("a-" * (HEADER // 2) + "!"), id="a key of dashes"),
        pytest.param("a.md", toml('"\\' * (HEADER // 2)), id="quotes that nothing closes"),
        pytest.param("a.md", toml("'a" * (HEADER // 2)), id="single quotes that nothing closes"),
        pytest.param("a.md", toml("a." * (HEADER // 2)), id="a key of many parts"),
        pytest.param("a.md", toml(" " * HEADER), id="spaces"),
        pytest.param("a.md", toml("\t" * HEADER + "model = 'x'"), id="tabs before a key"),
        pytest.param("a.md", yaml(f"betas: [{'a,' * (HEADER // 2)}]"), id="a YAML list"),
        pytest.param("a.md", yaml("model: [" + "a: b, " * (HEADER // 6) + "]"), id="YAML pairs"),
        pytest.param("a.md", yaml("betas:\n" + "- a\n" * (HEADER // 4)), id="YAML dashes"),
        pytest.param("a.md", b"+++" + b" " * 4 * MB, id="an opening fence of spaces"),
        pytest.param("a.md", b"---\n" * MB, id="fences"),
        pytest.param("a.json", b'["' + b'\\"' * 2 * MB, id="escaped quotes"),
        pytest.param("a.json", b'[1e400, "' + b'\\"' * 2 * MB, id="escaped quotes behind a number out of range"),
        pytest.param(
            "a.json", b"[1." + b"0" * 1200 + b"e400," + b'\\"' * 20_000 + b"]", id="open quotes behind a long number"
        ),
        pytest.param("a.json", b'["' + b"\\n" * 2 * MB + b'\\ud800"]', id="half a pair behind escapes"),
        pytest.param("a.json", b'{"a": 1, "a": "' + b'\\"' * 2 * MB + b'"}', id="escaped quotes behind a key twice"),
        pytest.param("a.json", b"[" * 4 * MB, id="brackets"),
        pytest.param("a.json", b"1" * 4 * MB, id="digits"),
        pytest.param("a.jsonl", b"\n" * 4 * MB, id="line ends"),
        pytest.param("a.jsonl", b" \r\n" * MB, id="blank lines"),
        pytest.param("a.jsonl", b" " * 4 * MB, id="spaces on one line"),
        pytest.param("a.jsonl", b"1\n" * MB, id="bad lines"),
    ],
)
def test_nothing_takes_long(name: str, data: bytes) -> None:
    started = time.process_time()

    with contextlib.suppress(RejectedError):
        parse_file(name, data, RULES)
    seconds = time.process_time() - started

    assert seconds < CPU_SECONDS_MAX


PATTERNS = sorted(
    {
        pattern
        for path in Path(formats.__path__[0]).glob("*.py")
        for value in vars(importlib.import_module(f"{formats.__name__}.{path.stem}")).values()
        for pattern in (value.values() if isinstance(value, dict) else [value])
        if isinstance(pattern, re.Pattern) and pattern is not json_lines._BLANK_LINES
    },
    key=str,
)
"""Of this package, but for the one that is tried at the beginning of each line alone."""


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: str(pattern.pattern)[:30])
def test_no_pattern_looks_at_anything_twice(pattern: re.Pattern[Any]) -> None:
    """Whatever it is that never comes to an end."""
    words = [
        "\\",
        '"',
        "'",
        " ",
        "\t",
        "-",
        "+",
        ".",
        "#",
        "1",
        "a",
        "[",
        '\\"',
        '"\\',
        "\\u",
        "\\ud8",
        "1e",
        "--- ",
        "\r",
        "\n\t",
    ]

    started = time.process_time()
    for word in words:
        text = word * (20_000 // len(word))
        for _ in pattern.finditer(text if isinstance(pattern.pattern, str) else text.encode()):
            pass
    seconds = time.process_time() - started

    assert seconds < 1.0


@pytest.mark.parametrize("part", ["a", '"a b"', "'a'", "a "])
def test_a_key_may_have_so_many_parts_and_no_more(part: str) -> None:
    longest = ".".join(["metadata", *[part] * (KEY_PARTS_MAX - 1)])

    assert "dotted" in rejection("a.md", toml(f"{longest}.{part} = 1")).detail
    assert "dotted" not in rejection("a.md", toml(f"{longest} = 1")).detail


@pytest.mark.parametrize("text", ["Two words. And more. " * 40, "'.' " * 40, "1.5, " * 40, "a.b c.d " * 40])
def test_dots_in_a_text_are_no_key(text: str) -> None:
    assert params_of(one("a.md", toml(f'system = """{text}"""')))["system"] == text


def test_a_yaml_header_may_have_so_many_values_and_no_more() -> None:
    """The document, its mapping, a key and the list itself count as well."""
    many = rejection("a.md", yaml(f"stop_sequences: [{'a, ' * EVENTS_MAX}]"))
    few = one("a.md", yaml(f"stop_sequences: [{'a, ' * (EVENTS_MAX - 10)}]"))

    assert f"more than {EVENTS_MAX:,} values, in line 2" in many.detail
    assert len(params_of(few)["stop_sequences"]) == EVENTS_MAX - 10


def test_a_document_may_have_so_many_requests_and_no_more() -> None:
    """And its sender is told which kind of file may have more."""
    item = b'{"messages": [1]},'
    drafts = parse_file("a.json", b"[" + item * (ITEMS_MAX - 1) + item[:-1] + b"]", RULES)
    refused = rejection("a.json", b"[" + item * ITEMS_MAX + item[:-1] + b"]")

    assert len(drafts) == ITEMS_MAX
    assert (refused.reason, ".jsonl" in refused.what_to_do) == ("too_large", True)


def test_a_document_may_grow_so_much_by_its_lane_and_no_more() -> None:
    """A lane's system prompt is in each request; lines are not all in memory at once."""
    lane = rules(system="s" * 20_000)
    few = ADDED_BYTES_MAX // 20_200
    item = b'{"messages":[1]},'

    drafts = parse_file("a.json", b"[" + item * (few - 1) + item[:-1] + b"]", lane)
    refused = rejection("a.json", b"[" + item * few * 2 + item[:-1] + b"]", lane)

    assert len(drafts) == few
    assert (refused.reason, ".jsonl" in refused.what_to_do) == ("too_large", True)
    assert "with what its lane adds" in refused.detail


@pytest.mark.parametrize("system", [None, "s" * 20_000, "s" * 2 * SLICE_ADDED_BYTES])
@pytest.mark.parametrize("line", [b"", b"x" * 300, b"x" * 2 * SLICE_BYTES])
def test_a_slice_has_so_many_bytes_and_lines_and_no_more(system: str | None, line: bytes) -> None:
    """Of a lane that adds much to each line it has few of them; one at least."""
    lane = rules(system=system)
    part = (line + b"\n") * max(2, 2 * SLICE_BYTES // (len(line) + 1)) + b"end"
    started = time.process_time()

    pieces = list(slices(part, lane))

    assert b"".join(pieces) == part
    assert all(0 < len(piece) <= SLICE_BYTES for piece in pieces)
    most = max(len([line for line in piece.split(b"\n") if line]) for piece in pieces)
    assert most == 1 or most * len(system or "") <= SLICE_ADDED_BYTES
    assert time.process_time() - started < CPU_SECONDS_MAX


@pytest.mark.parametrize(
    ("name", "data", "count"),
    [
        ("a.md", b"{{{\n\n", 1),
        ("a.json", b'[{"messages":[1]},{"messages":[2]}]', 2),
        ("a.json", b"{" * 2 * ITEMS_MAX, ITEMS_MAX),
        ("a.jsonl", b'{"messages":[1]}\n{"messages":[2]}', 2),
    ],
)
def test_what_a_lane_may_add_to_a_file_is_known_before(name: str, data: bytes, count: int) -> None:
    weight = weight_of(name, data, rules(system="s" * 10_000))

    assert count * 10_000 <= weight <= count * 10_100


def test_lines_are_counted_over_those_that_are_skipped() -> None:
    data = b"\n \n\r\n" + b'{"messages": [1]}\n' + b"\n" * 1000 + b'{"messages": [2]}\n\n  1'

    refused = rejection("a.jsonl", data)
    drafts = parse_file("a.jsonl", data.removesuffix(b"1"), RULES)

    assert refused.detail.startswith("line 1007: ")
    assert [draft.line for draft in drafts] == [4, 1005]
