import codecs
import json
import math
from typing import Any

import pytest

from batchbox.formats import REQUEST_BYTES_MAX, parse_file
from batchbox.formats.json_syntax import VALUES_MAX
from batchbox.model import OUTPUT_300K_BETA

from .bench import MESSAGES, encoded, one, params_of, rejection, rules

FILLED = {"messages": MESSAGES, "model": "claude-opus-5", "max_tokens": 300_000}


@pytest.mark.parametrize(
    ("value", "custom_id", "explicit"),
    [
        ({"messages": MESSAGES}, "a-b", False),
        ({"params": {"messages": MESSAGES}}, "a-b", False),
        ({"custom_id": "mine", "params": {"messages": MESSAGES}, "betas": []}, "mine", True),
        ({"custom_id": None, "params": {"messages": MESSAGES}, "betas": None}, "a-b", False),
    ],
)
def test_a_single_request_may_have_an_envelope(value: object, custom_id: str, explicit: bool) -> None:
    draft = one("a b.json", encoded(value))

    assert (draft.custom_id, draft.explicit, draft.line) == (custom_id, explicit, None)
    assert params_of(draft) == FILLED


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: {"requests": items}])
def test_several_requests_are_counted_from_one(wrap: Any) -> None:  # noqa: ANN401 - a form
    items = [{"messages": MESSAGES}, {"custom_id": "mine", "params": {"messages": MESSAGES}}]

    drafts = parse_file("a.json", encoded(wrap(items)), rules())

    assert [(draft.custom_id, draft.explicit, draft.line) for draft in drafts] == [("a-1", False, 1), ("mine", True, 2)]


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + encoded({"messages": MESSAGES}),
        codecs.BOM_UTF16_LE + encoded({"messages": MESSAGES}).decode().encode("utf-16-le"),
        b" \r\n" + encoded({"messages": MESSAGES}) + b"\r\n\r\n",
        json.dumps({"messages": MESSAGES}, indent=4).encode(),
    ],
)
def test_bom_utf16_and_white_space_change_nothing(data: bytes) -> None:
    assert params_of(one("a.json", data)) == FILLED


def test_what_is_sent_is_our_own_serialisation_in_the_order_of_the_file() -> None:
    draft = one(
        "a.json", b'{ "messages": [{"role":"user","content":"\\u00e9\\/"}], "x": 1.50, "model": "claude-opus-5" }'
    )

    assert draft.params == (
        '{"messages":[{"role":"user","content":"é/"}],"x":1.5,"model":"claude-opus-5","max_tokens":300000}'.encode()
    )


def test_the_lane_fills_only_what_is_absent_or_null() -> None:
    lane = rules(
        max_tokens=500,
        temperature=0.1,
        effort="high",
        thinking={"type": "adaptive"},
        system="Lane.",
        betas=("lane-beta",),
    )
    own: dict[str, object] = {
        "messages": MESSAGES,
        "max_tokens": None,
        "temperature": 1,
        "system": [],
        "output_config": {"format": {}},
    }

    draft = one("a.json", encoded({"params": own, "betas": ["own-beta", "own-beta"]}), lane)

    assert draft.betas == ("lane-beta", OUTPUT_300K_BETA, "own-beta")
    assert params_of(draft) == {
        "messages": MESSAGES,
        "max_tokens": 500,
        "temperature": 1,
        "system": [],
        "output_config": {"format": {}, "effort": "high"},
        "model": "claude-opus-5",
        "thinking": {"type": "adaptive"},
    }


@pytest.mark.parametrize("output_config", [None, {}, {"effort": None}])
def test_an_effort_that_is_null_is_none(output_config: object) -> None:
    """As every other parameter that is null where the lane has a value."""
    data = encoded({"messages": MESSAGES, "output_config": output_config})

    assert params_of(one("a.json", data, rules(effort="max")))["output_config"] == {"effort": "max"}
    assert params_of(one("a.json", data))["output_config"] == output_config


@pytest.mark.parametrize("output_config", [{"effort": "low"}, "none of ours"])
def test_a_file_s_own_effort_stays(output_config: object) -> None:
    data = encoded({"messages": MESSAGES, "output_config": output_config})

    assert params_of(one("a.json", data, rules(effort="max")))["output_config"] == output_config


def test_without_max_tokens_the_smaller_of_cap_and_limit_is_asked_for() -> None:
    data = encoded({"messages": MESSAGES})

    assert one("a.json", data, rules(max_tokens_limit=1000)).max_tokens == 1000
    assert one("a.json", data, rules(max_tokens_limit=10**6)).max_tokens == 300_000
    assert one("a.json", data, rules(model="unheard-of", max_tokens_limit=1000)).max_tokens == 1000


def test_an_unknown_model_passes_with_max_tokens_of_its_own() -> None:
    draft = one("a.json", encoded({"messages": MESSAGES, "model": "unheard-of", "max_tokens": 10**6}))

    assert (draft.model, draft.max_tokens) == ("unheard-of", 10**6)


def test_stream_false_asks_for_nothing_and_goes() -> None:
    assert params_of(one("a.json", encoded({"messages": MESSAGES, "stream": False}))) == FILLED


def with_field(field: str, value: object) -> bytes:
    return encoded({"messages": MESSAGES, field: value})


def with_block(block: object) -> bytes:
    return encoded({"messages": [{"role": "user", "content": [block]}]})


FILE_SOURCE = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}


@pytest.mark.parametrize(
    ("data", "reason", "named"),
    [
        pytest.param(with_field("stream", True), "not_allowed", "stream", id="stream"),
        pytest.param(with_field("stream", 0), "not_allowed", "stream", id="stream 0"),
        pytest.param(with_field("speed", "fast"), "not_allowed", "speed", id="speed"),
        pytest.param(with_field("store", False), "not_allowed", "store", id="store"),
        pytest.param(
            with_field("previous_thread_event_id", "x"), "not_allowed", "previous_thread_event_id", id="previous event"
        ),
        pytest.param(with_field("cache_hint", {}), "not_allowed", "cache_hint", id="cache_hint"),
        pytest.param(with_field("context_hint", {}), "not_allowed", "context_hint", id="context_hint"),
        pytest.param(with_field("container", "c"), "not_allowed", "container", id="container"),
        pytest.param(with_field("mcp_servers", []), "not_allowed", "mcp_servers", id="mcp_servers"),
        pytest.param(with_field("betas", []), "not_allowed", "betas", id="betas among the parameters"),
        pytest.param(with_field("custom_id", "x"), "not_allowed", "custom_id", id="custom_id among the parameters"),
        pytest.param(with_block(FILE_SOURCE), "not_allowed", 'content"[0]."source".file_id', id="file source"),
        pytest.param(
            with_block({"type": "tool_result", "content": [FILE_SOURCE]}), "not_allowed", "file_id", id="inner file"
        ),
        pytest.param(
            with_block({"type": "container_upload", "file_id": "f"}), "not_allowed", "file_id", id="container upload"
        ),
        pytest.param(with_field("system", [FILE_SOURCE]), "not_allowed", "file_id", id="file in the system prompt"),
        pytest.param(with_field("tools", [{"file_id": "f"}]), "not_allowed", "file_id", id="file in a tool"),
        pytest.param(
            b'{"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file\\u005fid":"f"}}]}]}',
            "not_allowed",
            "file_id",
            id="file source in disguise",
        ),
        pytest.param(with_field("max_tokens", 0), "not_allowed", "max_tokens", id="max_tokens 0"),
        pytest.param(with_field("max_tokens", -5), "bad_json", "max_tokens", id="max_tokens negative"),
        pytest.param(with_field("max_tokens", True), "bad_json", "max_tokens", id="max_tokens true"),
        pytest.param(with_field("max_tokens", "many"), "bad_json", "max_tokens", id="max_tokens text"),
        pytest.param(with_field("max_tokens", 5.0), "bad_json", "max_tokens", id="max_tokens float"),
        pytest.param(with_field("max_tokens", 300_001), "over_limit", "300001", id="over the cap"),
        pytest.param(with_field("max_tokens", 2**63), "over_limit", "300000", id="far over the cap"),
        pytest.param(with_field("model", "unheard-of"), "not_allowed", "unheard-of", id="cap unknown"),
        pytest.param(with_field("model", ""), "bad_json", "model", id="model empty"),
        pytest.param(with_field("model", 5), "bad_json", "model", id="model a number"),
        pytest.param(b"{}", "no_messages", "missing", id="no messages"),
        pytest.param(b'{"messages": []}', "no_messages", "messages", id="messages empty"),
        pytest.param(b'{"messages": "hi"}', "no_messages", "messages", id="messages a text"),
        pytest.param(b'{"messages": null}', "no_messages", "messages", id="messages null"),
        pytest.param(b'{"params": {}}', "no_messages", "missing", id="no messages in params"),
        pytest.param(b'{"method": "POST", "body": {}}', "no_messages", "messages", id="somebody else's form"),
        pytest.param(b'{"params": []}', "bad_json", "params", id="params a list"),
        pytest.param(encoded({"params": {"messages": MESSAGES}, "url": 1}), "bad_json", '"url"', id="beside params"),
        pytest.param(b'{"requests": [], "model": "x"}', "bad_json", '"model"', id="beside requests"),
        pytest.param(b'{"requests": {}}', "bad_json", "requests", id="requests no list"),
        pytest.param(b'{"requests": [{"requests": []}]}', "bad_json", "item 1", id="requests in requests"),
        pytest.param(b'[[{"messages": []}]]', "bad_json", "item 1", id="list in a list"),
        pytest.param(b"[]", "empty", "empty", id="empty list"),
        pytest.param(b'{"requests": []}', "empty", "empty", id="empty requests"),
        pytest.param(b"", "empty", "white space", id="nothing"),
        pytest.param(b" \r\n\t", "empty", "white space", id="white space"),
        pytest.param(b'"text"', "bad_json", "object", id="a text"),
        pytest.param(b"12", "bad_json", "object", id="a number"),
        pytest.param(b"null", "bad_json", "object", id="null"),
    ],
)
def test_each_flaw_of_a_request_has_its_reason(data: bytes, reason: str, named: str) -> None:
    error = rejection("a.json", data)

    assert error.reason == reason
    assert named in error.detail
    assert error.what_to_do


@pytest.mark.parametrize("custom_id", ["", "../x", "a b", "x" * 65, "ä", "A\u0430", "a\n", 5, [], True])
def test_an_explicit_id_must_fit_the_pattern(custom_id: object) -> None:
    error = rejection("a.json", encoded({"custom_id": custom_id, "params": {"messages": MESSAGES}}))

    assert error.reason == "bad_id"
    assert error.detail.isprintable()


@pytest.mark.parametrize(
    "betas", ["a-beta", ["A"], ["a b"], ["a,b"], ["a\nb"], [""], [5], {}, ["x" * 101], [f"b{n}" for n in range(33)]]
)
def test_betas_must_be_a_short_list_of_names(betas: object) -> None:
    error = rejection("a.json", encoded({"params": {"messages": MESSAGES}, "betas": betas}))

    assert error.reason == "bad_json"
    assert "betas" in error.detail


def test_only_the_models_that_are_allowed_may_be_asked_for() -> None:
    lane = rules(models=("claude-opus-5",))

    error = rejection("a.json", with_field("model", "claude-haiku-4-5"), lane)

    assert error.reason == "not_allowed"
    assert "claude-opus-5" in error.what_to_do
    assert one("a.json", with_field("model", "claude-opus-5"), lane).model == "claude-opus-5"


@pytest.mark.parametrize(
    ("field", "data"),
    [
        ("container", with_field("container", "c")),
        ("mcp_servers", with_field("mcp_servers", [{"url": "https://example.org"}])),
        ("file_id", with_block(FILE_SOURCE)),
    ],
)
def test_what_the_administrator_allows_passes(field: str, data: bytes) -> None:
    draft = one("a.json", data, rules(allow=frozenset({field})))

    assert params_of(draft) == {**json.loads(data), "model": "claude-opus-5", "max_tokens": 300_000}


@pytest.mark.parametrize(
    "data",
    [
        with_field("tools", [{"name": "get", "input_schema": {"properties": {"file_id": {"type": "string"}}}}]),
        with_block({"type": "tool_use", "name": "get", "input": {"file_id": "local-5"}}),
        with_block({"type": "text", "text": 'Write "file_id": 5'}),
    ],
)
def test_a_tool_s_own_argument_may_be_called_file_id(data: bytes) -> None:
    assert params_of(one("a.json", data))["max_tokens"] == 300_000


def test_every_problem_of_a_request_is_told_at_once() -> None:
    value = {"stream": True, "store": 1, "max_tokens": "x", "messages": []}

    error = rejection("a.json", encoded({"custom_id": "a b", "params": value}))

    assert all(named in error.detail for named in ("stream", "store", "max_tokens", "messages", "custom_id"))


def test_every_bad_item_is_named_and_the_list_is_bounded() -> None:
    error = rejection("a.json", encoded([{"messages": MESSAGES}] + [{"messages": []}] * 60))

    assert error.reason == "no_messages"
    assert "item 2:" in error.detail
    assert "item 51:" in error.detail
    assert "item 52:" not in error.detail
    assert error.detail.endswith("and 10 more")


def test_an_id_that_was_given_twice_is_named_with_both_places() -> None:
    item = {"custom_id": "same", "params": {"messages": MESSAGES}}
    other = {"custom_id": "SAME", "params": {"messages": MESSAGES}}

    error = rejection("a.json", encoded([item, other, item]))

    assert error.reason == "duplicate_id"
    assert error.detail == 'item 3: custom_id "same" is that of item 1, too'


def test_a_request_over_32_mb_is_too_large_whatever_its_spelling() -> None:
    escaped = b'{"messages":[{"role":"user","content":"' + b"\\u00e9" * 6_000_000 + b'"}]}'
    large = with_field("x", "y" * REQUEST_BYTES_MAX)

    assert len(one("a.json", escaped).params) < 13_000_000
    assert rejection("a.json", large).reason == "too_large"


def nested(depth: int) -> bytes:
    """Return a request with so many levels of brackets, its own included."""
    return b'{"messages":[1],"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_64_levels_are_not_too_deep_and_65_are() -> None:
    assert one("a.json", nested(64)).custom_id == "a"
    assert rejection("a.json", nested(65)).reason == "too_deep"


@pytest.mark.parametrize(
    ("data", "reason", "named"),
    [
        pytest.param(b'{"messages":[1],}', "bad_json", "line 1, column 17", id="trailing comma"),
        pytest.param(b'{"messages":[1]} x', "bad_json", "line 1, column 18", id="trailing garbage"),
        pytest.param(b'{"messages":[1]}{"messages":[1]}', "bad_json", "line 1, column 17", id="two documents"),
        pytest.param('{\n  "é": oops}'.encode(), "bad_json", "line 2, column 8", id="no value"),
        pytest.param(b"{'messages':[1]}", "bad_json", "column 2", id="single quotes"),
        pytest.param(b'{"messages":[NaN]}', "bad_json", "column 14", id="NaN"),
        pytest.param(b'{"messages":[Infinity]}', "bad_json", "column 14", id="Infinity"),
        pytest.param(b'{"messages":[-Infinity]}', "bad_json", "column", id="-Infinity"),
        pytest.param(b'{"messages":["1e999",1e999]}', "bad_json", "column 22: a number is out", id="a number over all"),
        pytest.param(b'{"messages":[-1e999]}', "bad_json", "out of range", id="a number under all"),
        pytest.param(b'{"messages":[18446744073709551616]}', "bad_json", "column 14", id="over 64 bit"),
        pytest.param(b'{"messages":[-9223372036854775809]}', "bad_json", "column 14", id="under 64 bit"),
        pytest.param(b'{"messages":[' + b"9" * 10_000_000 + b"]}", "bad_json", "column 14", id="10 million digits"),
        pytest.param(b'{"messages":[' + b"1" * 400 + b".5]}", "bad_json", "column 14", id="400 digits and a half"),
        pytest.param(
            b'{"messages":[1.' + b"0" * 2_000 + b"e400]}", "bad_json", "column 14: a number is out", id="long"
        ),
        pytest.param(b'{"messages":[01]}', "bad_json", "column", id="leading zero"),
        pytest.param(b'{"messages":["\\ud800"]}', "bad_json", "column 15: an escape stands for half", id="half a pair"),
        pytest.param(
            b'{"messages":["\\\\ud800 \\ud83d\\ude00 \\ud83d"]}',
            "bad_json",
            "column 36: an escape",
            id="half behind pairs",
        ),
        pytest.param(b'{"messages":["\\udc00\\ud800"]}', "bad_json", "surrogate", id="a pair the wrong way round"),
        pytest.param(b'"\\ud800"', "bad_json", "column 2: an escape stands for half", id="half a pair at the end"),
        pytest.param(b'{"messages":["\\x"]}', "bad_json", "escape", id="an unknown escape"),
        pytest.param(b'{"messages":["\n"]}', "bad_json", "column 15", id="a line end in a string"),
        pytest.param(b'{"messages":[1],"messages":[2]}', "bad_json", 'column 17: the key "messages"', id="key twice"),
        pytest.param(
            b'{"messages":[1],"messag\\u0065s":[2]}', "bad_json", 'column 17: the key "messages"', id="key in disguise"
        ),
        pytest.param(b'{"messages":[{"a" :1,"b":{"a":1},"a" :2}]}', "bad_json", '"a" stands twice', id="inner key"),
        pytest.param(
            b'{"messages":["\\u003a"],"a":1,"a":2}',
            "bad_json",
            '"a" stands twice',
            id="key twice behind a hidden colon",
        ),
        pytest.param(b'{"messages":["a:b:c"],"a:b":1,"a:b":2}', "bad_json", '"a:b"', id="key with a colon twice"),
        pytest.param(b"[" * 100_000, "too_deep", "column 65", id="open brackets"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, "too_deep", "column 65", id="100,000 levels"),
        pytest.param(b'{"a":' * 500 + b"1" + b"}" * 500, "too_deep", "64", id="500 levels"),
        pytest.param(b'"' + b"[" * 100 + b'"' + b"[" * 70 + b"]" * 70, "bad_json", "", id="brackets in a string"),
        pytest.param(b"[" + b"[]," * VALUES_MAX + b"[]]", "too_large", "300,000", id="too many lists"),
        pytest.param(b'["\\\\",' * 2 + b"0," * VALUES_MAX + b"0]]", "too_large", "300,000", id="too many numbers"),
        pytest.param(b'{"messages":[1]}\0\0', "incomplete", "NUL", id="NULs behind"),
        pytest.param(b'{"messages":["a\0b"]}', "bad_encoding", "byte 15", id="NUL inside"),
        pytest.param(b'{"messages":["\xff"]}', "bad_encoding", "byte 14", id="not UTF-8"),
        pytest.param(b'{"messages":[1], "x": "a', "incomplete", "byte 24, inside a string, with 1", id="in a string"),
        pytest.param(b'{\n"messages":[1,', "incomplete", "line 2, column 15", id="in a list"),
    ],
)
def test_each_flaw_of_the_json_has_its_reason(data: bytes, reason: str, named: str) -> None:
    error = rejection("a.json", data)

    assert error.reason == reason
    assert named in error.detail
    assert error.what_to_do


def test_commas_and_brackets_in_strings_are_no_values() -> None:
    text = '[{,"\\' * 300_000

    draft = one("a.json", encoded({"messages": [{"role": "user", "content": text}]}))

    assert params_of(draft)["messages"][0]["content"] == text


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 0.1, 1e308, 5e-324, -0.0])
def test_numbers_that_fit_stay_what_they_are(value: float) -> None:
    sent = params_of(one("a.json", with_field("x", value)))["x"]

    assert sent == value
    assert math.copysign(1, sent) == math.copysign(1, value)


DOCUMENT = (
    '{"custom_id": "a", "params": {"messages": [{"role": "user", "content": "é \\" \\\\ \\u00e9 {["}], "x": [-1.5e3]}}'
)


def test_a_document_that_is_cut_anywhere_is_incomplete() -> None:
    data = DOCUMENT.encode()

    reasons = {rejection("a.json", data[:end]).reason for end in range(1, len(data))}

    assert reasons == {"incomplete"}
    assert one("a.json", data).custom_id == "a"
