"""What is made to be slow, or to grow, ends soon: the time is linear in the bytes, whatever stands in them."""

import contextlib
import time

import pytest

from batchbox.errors import RejectedError
from batchbox.formats import parse_file
from batchbox.formats.header import KEY_PARTS_MAX
from batchbox.formats.header_yaml import EVENTS_MAX
from batchbox.formats.json_requests import ITEMS_MAX

from .bench import RULES, one, params_of, rejection

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


def test_lines_are_counted_over_those_that_are_skipped() -> None:
    data = b"\n \n\r\n" + b'{"messages": [1]}\n' + b"\n" * 1000 + b'{"messages": [2]}\n\n  1'

    refused = rejection("a.jsonl", data)
    drafts = parse_file("a.jsonl", data.removesuffix(b"1"), RULES)

    assert refused.detail.startswith("line 1007: ")
    assert [draft.line for draft in drafts] == [4, 1005]
