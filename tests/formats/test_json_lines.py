import codecs
import tracemalloc

import pytest

from batchbox.errors import RejectedError
from batchbox.formats import Draft, JsonLinesParser, parse_file
from batchbox.formats.json_lines import LINE_BYTES_MAX

from .bench import MESSAGES, RULES, encoded, params_of, rejection

GOOD = encoded({"messages": MESSAGES})
NAMED = encoded({"custom_id": "mine", "params": {"messages": MESSAGES}})


def read_in_pieces(data: bytes, size: int) -> list[Draft]:
    parser = JsonLinesParser("a.jsonl", RULES)
    drafts = [draft for start in range(0, len(data), size) for draft in parser.feed(data[start : start + size])]
    return [*drafts, *parser.finish()]


def rejected_in_pieces(data: bytes, size: int) -> RejectedError:
    with pytest.raises(RejectedError) as caught:
        read_in_pieces(data, size)
    return caught.value


def test_each_line_is_a_request_of_its_physical_number() -> None:
    drafts = parse_file("a b.jsonl", GOOD + b"\r\n\n  \n" + NAMED + b"\n" + GOOD, RULES)

    assert [(draft.custom_id, draft.explicit, draft.line) for draft in drafts] == [
        ("a-b-1", False, 1),
        ("mine", True, 4),
        ("a-b-5", False, 5),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
@pytest.mark.parametrize(
    "data",
    [
        GOOD + b"\n" + NAMED + b"\n",
        codecs.BOM_UTF8 + GOOD + b"\n" + NAMED,
        codecs.BOM_UTF16_LE + (GOOD + b"\n" + NAMED).decode().encode("utf-16-le"),
        codecs.BOM_UTF16_BE + (GOOD + b"\r\n" + NAMED + b"\n").decode().encode("utf-16-be"),
    ],
)
def test_the_size_of_the_pieces_makes_no_difference(data: bytes, size: int) -> None:
    drafts = read_in_pieces(data, size)

    assert [draft.custom_id for draft in drafts] == ["a-1", "mine"]
    assert [params_of(draft)["messages"] for draft in drafts] == [MESSAGES, MESSAGES]


def test_requests_come_out_as_soon_as_their_lines_end() -> None:
    parser = JsonLinesParser("a.jsonl", RULES)

    assert [draft.line for draft in parser.feed(GOOD + b"\n" + GOOD)] == [1]
    assert [draft.line for draft in parser.feed(b"\n")] == [2]
    assert parser.finish() == []


def test_after_a_bad_line_nothing_more_is_returned_but_every_bad_line_is_named() -> None:
    parser = JsonLinesParser("a.jsonl", RULES)

    assert parser.feed(GOOD + b"\n{}\n" + GOOD + b"\n") == []
    assert parser.feed(GOOD + b"\n{oops}\n") == []
    with pytest.raises(RejectedError) as caught:
        parser.finish()

    assert caught.value.reason == "no_messages"
    assert caught.value.detail.split("\n")[0].startswith("line 2: ")
    assert caught.value.detail.split("\n")[1].startswith("line 5: column 2: ")


def test_the_first_50_bad_lines_are_told_in_words() -> None:
    error = rejected_in_pieces(b"{}\n" * 60, 1000)

    assert len(error.detail.split("\n")) == 51
    assert error.detail.endswith("and 10 more")


def test_after_a_thousand_bad_lines_nobody_reads_on() -> None:
    error = rejection("a.jsonl", b"{}\n" * 1_000_000)

    assert error.detail.endswith("and 950 more, where reading stopped")


@pytest.mark.parametrize(
    ("data", "reason", "named"),
    [
        pytest.param(b"", "empty", "no request", id="nothing"),
        pytest.param(b"\n \r\n\n", "empty", "no request", id="blank lines"),
        pytest.param(codecs.BOM_UTF8, "empty", "no request", id="a BOM alone"),
        pytest.param(GOOD + b"\n" + GOOD[:-3], "incomplete", "line 2: it ends early", id="last line cut"),
        pytest.param(GOOD + b"\n\0\0\0", "incomplete", "line 2", id="NULs behind the last line"),
        pytest.param(b"\0" * 1000, "incomplete", "NUL", id="NULs alone"),
        pytest.param(GOOD[:-3] + b"\n" + GOOD, "bad_json", "line 1: column", id="an inner line cut"),
        pytest.param(GOOD[:-3] + b"\n", "bad_json", "line 1: column", id="a last line cut with a line end"),
        pytest.param(GOOD + b"\n\xff\n", "bad_encoding", "line 2: byte 0", id="not UTF-8"),
        pytest.param(GOOD + b'\n"a\0"\n', "bad_encoding", "line 2: byte 2", id="NUL inside"),
        pytest.param(codecs.BOM_UTF16_LE + b"{\0\0\xd8a\0", "bad_encoding", "byte 4", id="half a pair in UTF-16"),
        pytest.param(codecs.BOM_UTF16_LE + b"{\0}", "bad_encoding", "byte 4", id="UTF-16 of odd length"),
        pytest.param(b"[" + GOOD + b"]\n", "bad_json", "line 1", id="a list"),
        pytest.param(b'{"requests":[]}\n', "bad_json", "requests", id="requests"),
        pytest.param(b"5\n", "bad_json", "object", id="a number"),
        pytest.param(NAMED + b"\n\n" + NAMED, "duplicate_id", "line 3: custom_id", id="an id twice"),
    ],
)
def test_each_flaw_of_json_lines_has_its_reason(data: bytes, reason: str, named: str) -> None:
    error = rejection("a.jsonl", data)

    assert error.reason == reason
    assert named in error.detail
    assert error.what_to_do


def test_a_document_over_several_lines_is_told_to_stand_on_one() -> None:
    error = rejection("a.jsonl", b'{\n"messages": [1]\n}\n')

    assert error.reason == "bad_json"
    assert "single line" in error.what_to_do


@pytest.mark.parametrize("size", [3, 5, 1000])
def test_bad_utf16_is_found_at_the_same_byte_whatever_the_pieces(size: int) -> None:
    data = codecs.BOM_UTF16_LE + GOOD.decode().encode("utf-16-le") + b"\n\0a\0\0\xd8b\0" + b"c\0" * 50

    error = rejected_in_pieces(data, size)

    assert error.reason == "bad_encoding"
    assert f"line 2: byte {2 * len(GOOD) + 6} " in error.detail


def test_a_line_without_end_costs_no_more_memory_than_the_longest_that_is_allowed() -> None:
    parser = JsonLinesParser("a.jsonl", RULES)
    tracemalloc.start()
    try:
        for number in range(100):
            parser.feed(bytes([65 + number % 26]) * 1_000_000)
        with pytest.raises(RejectedError) as caught:
            parser.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert caught.value.reason == "too_large"
    assert peak < 2.5 * LINE_BYTES_MAX


def test_a_last_line_that_is_too_long_is_not_called_incomplete() -> None:
    assert rejection("a.jsonl", b"x" * LINE_BYTES_MAX + b"[[").reason == "too_large"


def test_behind_a_line_that_is_too_long_the_next_one_is_read() -> None:
    data = b"x" * (LINE_BYTES_MAX + 1) + b"\n" + GOOD + b"\n{}\n"

    error = rejection("a.jsonl", data)

    assert error.reason == "too_large"
    assert "line 2:" not in error.detail
    assert "line 3:" in error.detail


def test_a_preallocated_file_of_any_length_is_incomplete() -> None:
    assert rejection("a.jsonl", GOOD + b"\n" + b"\0" * (LINE_BYTES_MAX + 1)).reason == "incomplete"
