import itertools
import json
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchbox.model import Nonce
from batchbox.results import LINE_BYTES_MAX, UNREADABLE, LineSplitter, ResultLine, Signature, decode, signature_of

WIRE_ID = "report__abcdefgh-17"
MEBIBYTE = bytes(1024 * 1024)

BYTES = st.binary(max_size=400).map(lambda data: data.replace(b"\x01", b"\n").replace(b"\x02", b"\n"))
LINES = st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=30).map(b"\n".join)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut the data at these places, as far as it has them."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def split(pieces: Sequence[bytes]) -> list[bytes]:
    """Return the lines that the pieces make."""
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return lines + splitter.finish()


def succeeded(message: object, *, custom_id: str = WIRE_ID) -> bytes:
    """Return a line about a request that succeeded."""
    return json.dumps({"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}).encode()


def message_of(*blocks: object, **fields: object) -> dict[str, object]:
    """Return a message of the API's with these blocks."""
    usage = {"input_tokens": 11, "output_tokens": 7}
    return {"model": "m-1", "stop_reason": "end_turn", "usage": usage, "content": list(blocks), **fields}


def only(line: bytes) -> ResultLine:
    """Decode a line that must be understood."""
    decoded = decode([line])
    assert decoded.foreign_count == 0
    return decoded.lines[0]


@given(data=BYTES | LINES, places=st.lists(st.integers(min_value=0), max_size=50))
def test_lines_are_the_same_however_the_stream_is_cut(data: bytes, places: list[int]) -> None:
    lines = split(cut(data, places))

    assert lines == [line for line in data.split(b"\n") if line]


@given(data=LINES)
def test_lines_are_the_same_when_they_come_byte_by_byte(data: bytes) -> None:
    assert split([data[at : at + 1] for at in range(len(data))]) == [line for line in data.split(b"\n") if line]


def test_a_line_is_given_out_as_soon_as_it_is_complete() -> None:
    splitter = LineSplitter()

    assert splitter.feed(b"a") == []
    assert splitter.feed(b"b\nc") == [b"ab"]
    assert splitter.feed(b"\n") == [b"c"]
    assert splitter.finish() == []


def test_a_line_that_is_too_long_is_dropped_and_counted_and_the_others_stay() -> None:
    splitter = LineSplitter()
    pieces = [b"before\n", *[MEBIBYTE] * 65, b"\nafter\n", *[MEBIBYTE] * 65]

    lines = [line for piece in pieces for line in splitter.feed(piece)]
    lines += splitter.finish()

    assert lines == [b"before", b"after"]
    assert splitter.overlong_count == 2


def test_a_line_of_exactly_the_most_bytes_is_taken_and_of_one_more_dropped() -> None:
    most = [MEBIBYTE] * (LINE_BYTES_MAX // len(MEBIBYTE))
    splitter = LineSplitter()

    lines = [line for piece in [*most, b"\n", *most, b"x\n"] for line in splitter.feed(piece)]

    assert [len(line) for line in lines] == [LINE_BYTES_MAX]
    assert splitter.overlong_count == 1


def test_a_line_that_never_ends_takes_no_more_memory_than_the_longest() -> None:
    splitter = LineSplitter()
    piece_bytes = 1024 * 1024
    tracemalloc.start()

    for _ in range(3 * LINE_BYTES_MAX // piece_bytes):
        splitter.feed(bytes(piece_bytes))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < LINE_BYTES_MAX + 4 * piece_bytes


def test_a_line_in_many_small_pieces_is_put_together_once() -> None:
    """Adding each piece to the line so far would copy 4 GB here and be seen in the peak of memory as twice the line."""
    splitter = LineSplitter()
    for _ in range(4096):
        splitter.feed(bytes(512))
    tracemalloc.start()

    (line,) = splitter.feed(b"\n")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(line) == 4096 * 512
    assert peak_bytes < 1.5 * len(line)


def test_an_answer_is_its_text_blocks_in_order() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "text", "text": "Grüße, "},
        {"type": "something_new", "payload": {"text": "no"}, "text": "not this either"},
        {"type": "text", "text": "world", "citations": None},
    ]

    line = only(succeeded(message_of(*blocks)))

    assert line.text.decode() == "Grüße, world"
    assert (line.nonce, line.number, line.wire_id) == ("abcdefgh", 17, WIRE_ID)
    assert (line.facts.has_text, line.facts.has_tool_use) == (True, False)
    assert (line.facts.stop_reason, line.facts.output_tokens, line.model) == ("end_turn", 7, "m-1")


def test_the_message_is_passed_on_byte_by_byte() -> None:
    raw = b'{ "content" : [ {"type":"text","text":"\\u00e9"} ],  "new": 1e2, "usage": {"output_tokens":1}}'

    line = only(b'{"custom_id":"%s","result":{"type":"succeeded","message":%s}}' % (WIRE_ID.encode(), raw))

    assert line.message == raw
    assert line.text.decode() == "é"


def test_a_call_of_a_tool_is_seen() -> None:
    line = only(succeeded(message_of({"type": "tool_use", "id": "t", "name": "n", "input": {"text": 1}})))

    assert (line.facts.has_text, line.facts.has_tool_use, line.text) == (False, True, b"")


def test_a_message_without_blocks_has_no_text() -> None:
    line = only(succeeded(message_of()))

    assert (line.facts.has_text, line.text) == (False, b"")


@pytest.mark.parametrize("kind", ["canceled", "expired", "something_new"])
def test_a_result_without_a_message_is_understood(kind: str) -> None:
    line = only(json.dumps({"custom_id": WIRE_ID, "result": {"type": kind}}).encode())

    assert (line.facts.result_type, line.message, line.text, line.usage) == (kind, b"", b"", {})


def test_a_result_of_a_kind_that_is_new_is_read_like_an_answer_if_there_is_one() -> None:
    """It may be paid for."""
    message = message_of({"type": "text", "text": "x"})

    line = only(json.dumps({"custom_id": WIRE_ID, "result": {"type": "something_new", "message": message}}).encode())

    assert (line.facts.result_type, line.facts.has_message, line.text) == ("something_new", True, b"x")
    assert line.usage == {"input_tokens": 11, "output_tokens": 7}


@pytest.mark.parametrize("result", [{"type": "expired"}, {"type": "something_new", "message": None}, None])
def test_a_result_without_an_answer_has_no_message(result: object) -> None:
    line = only(json.dumps({"custom_id": WIRE_ID, "result": result}).encode())

    assert not line.facts.has_message


@pytest.mark.parametrize("ours", [succeeded(message_of({"type": "text", "text": "x"})), succeeded(message_of("odd"))])
def test_a_mark_of_the_byte_order_hides_nothing(ours: bytes) -> None:
    """Some gateway may put one before the first line."""
    assert only(b"\xef\xbb\xbf" + ours) == only(ours)
    assert signature_of(b"\xef\xbb\xbf" + ours) == Signature(nonce=Nonce("abcdefgh"))


def test_an_error_comes_with_its_type_its_message_and_the_apis_name_for_it() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "later"}, "request_id": "req_1"}

    line = only(json.dumps({"custom_id": WIRE_ID, "result": {"type": "errored", "error": error}}).encode())

    assert (line.facts.error_type, line.facts.error_message) == ("overloaded_error", "later")
    assert line.request_id == "req_1"


@pytest.mark.parametrize(
    "error", [{}, {"error": {}}, {"error": {"type": "x", "message": "y"}, "request_id": None}, {"surprise": [1, 2]}]
)
def test_an_error_with_fields_missing_is_an_error_all_the_same(error: object) -> None:
    line = only(json.dumps({"custom_id": WIRE_ID, "result": {"type": "errored", "error": error}}).encode())

    assert line.facts.result_type == "errored"
    assert line.request_id is None


@pytest.mark.parametrize("usage", [{}, {"output_tokens": None}, {"output_tokens": "7"}, {"output_tokens": [7]}])
def test_a_usage_that_is_not_understood_counts_no_tokens(usage: object) -> None:
    line = only(succeeded(message_of({"type": "text", "text": "x"}, usage=usage)))

    assert line.facts.output_tokens == 0
    assert line.text == b"x"


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"{}",
        b"[]",
        b"null",
        b'{"custom_id": 5, "result": {"type": "expired"}}',
        b'{"custom_id": "report__abcdefgh-17", "result": {"type": "succeeded", "message": {"content": [',
        b"\xff\xfe",
        succeeded(message_of(), custom_id="another programs"),
        succeeded(message_of(), custom_id="report__ABCDEFGH-17"),
        succeeded(message_of(), custom_id="report__abcdefgh-017"),
    ],
)
def test_a_line_that_is_not_ours_is_counted_and_the_others_are_read(line: bytes) -> None:
    ours = succeeded(message_of({"type": "text", "text": "x"}))

    decoded = decode([ours, line, ours])

    assert [one.text for one in decoded.lines] == [b"x", b"x"]
    assert decoded.foreign_count == 1


@pytest.mark.parametrize(
    "rest", ["", ', "result": null', ', "result": "expired"', ', "result": []', ', "result": {"type": 5}']
)
def test_a_line_of_ours_that_makes_no_sense_is_delivered_as_unreadable(rest: str) -> None:
    """It may be paid for, so it is not dropped in silence."""
    line = only(f'{{"custom_id": "{WIRE_ID}"{rest}}}'.encode())

    assert (line.wire_id, line.facts.result_type) == (WIRE_ID, UNREADABLE)


@pytest.mark.parametrize(
    "message",
    [
        message_of({"type": "text", "text": "x"}, usage=None),
        message_of({"type": "text", "text": "x"}, model=None),
        message_of({"type": "text", "text": "x"}, {"type": "something_new", "text": None}),
        message_of({"type": "text", "text": "x"}, {"type": "something_new", "text": ["y"]}),
        message_of({"type": "text", "text": "x"}, {"no": "type"}, "no block"),
    ],
    ids=["usage null", "model null", "text null", "text list", "no type"],
)
def test_an_answer_that_was_paid_for_is_taken_when_a_field_beside_its_text_is_strange(message: object) -> None:
    line = only(succeeded(message))

    assert line.text == b"x"
    assert line.facts.stop_reason == "end_turn"


@pytest.mark.parametrize("message", [None, [], {}, {"content": None}, {"content": "text"}, "text"])
def test_a_message_that_makes_no_sense_is_delivered_as_it_came(message: object) -> None:
    line = only(succeeded(message))

    assert (line.facts.stop_reason, line.text) == (UNREADABLE, b"")
    assert json.loads(line.message) == message


@pytest.mark.parametrize("error", [None, "later", [], {"error": None}, {"error": {"type": None, "message": 5}}])
def test_an_error_that_makes_no_sense_is_an_error_all_the_same(error: object) -> None:
    line = only(json.dumps({"custom_id": WIRE_ID, "result": {"type": "errored", "error": error}}).encode())

    assert (line.facts.result_type, line.facts.error_type) == ("errored", None)


@pytest.mark.parametrize("broken", [b"\\ud800", b"\xff"])
def test_an_answer_with_a_broken_character_is_taken_and_mended(broken: bytes) -> None:
    line = only(succeeded(message_of({"type": "text", "text": "xHEREy"})).replace(b"HERE", broken))

    text = line.text.decode()
    assert (text[0], text[-1]) == ("x", "y")
    assert json.loads(line.message.decode())["stop_reason"] == "end_turn"


@given(data=st.binary(max_size=200) | st.text().map(lambda text: succeeded(message_of({"type": "text", "text": text}))))
def test_whatever_a_line_holds_it_is_a_result_or_counted(data: bytes) -> None:
    decoded = decode([data])

    assert len(decoded.lines) + decoded.foreign_count == 1
    for line in decoded.lines:
        json.loads(line.message.decode())


@pytest.mark.parametrize(
    ("line", "signature"),
    [
        (succeeded(message_of()), Signature(nonce=Nonce("abcdefgh"))),
        (b'{"custom_id": "x__abcdefgh-1", "result": {"type": "never heard of"}}', Signature(nonce=Nonce("abcdefgh"))),
        (b'{"custom_id": "x__abcdefgh-1"}', Signature(nonce=Nonce("abcdefgh"))),
        (b'{"custom_id": "my-own-name", "result": {}}', Signature(nonce=None)),
        (b'{"custom_id": null}', None),
        (b'{"custom_id": "x__abcdefgh-1"', None),
        (b"<html>", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_the_first_line_of_results_says_whose_they_are_unless_it_cannot_be_read(
    line: bytes, signature: Signature | None
) -> None:
    """What cannot be read proves nothing, and must not be taken for a stranger's."""
    assert signature_of(line) == signature


NESTED = "[" * 5000 + "]" * 5000


def test_an_answer_that_is_nested_too_deeply_does_no_harm_to_the_others() -> None:
    """A model may be talked into calling a tool with anything."""
    ours = succeeded(message_of({"type": "text", "text": "x"}))
    deep = succeeded(message_of({"type": "tool_use", "input": "HERE"})).replace(b'"HERE"', NESTED.encode())

    decoded = decode([ours, deep, ours])

    assert [line.text for line in decoded.lines if line.text] == [b"x", b"x"]


def test_a_strangers_first_line_that_is_nested_too_deeply_proves_nothing() -> None:
    assert signature_of(f'{{"x": {NESTED}, "custom_id": "own", "result": {{"type": "x"}}}}'.encode()) is None
