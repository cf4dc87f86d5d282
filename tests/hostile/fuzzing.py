"""Makes files that are almost right, parses them, and holds the parsers to what they promise.

A file is a valid one that was mutated: some of its values replaced by odd ones, or some of its bytes moved, doubled,
lost or changed. Whatever comes of it, `check` says what must be so.
"""

import json
import time
import tomllib
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from batchbox.errors import RejectedError
from batchbox.formats import Draft, FileKind, JsonLinesParser, Rules, breaks_off, kind_of, parse_file
from batchbox.naming import is_custom_id
from formats.bench import RULES, rules

CPU_SECONDS_MAX = 2.0
MEMORY_BYTES_MAX = 4_000_000
MEMORY_PER_BYTE_MAX = 200
"""A small document grows to a tree, a copy of it, and its requests."""

UNDERSTOOD = "understood"
IN_PIECES = "in pieces"

FILLED = {"model", "max_tokens", "temperature", "system", "thinking", "output_config"}
"""What a lane fills in where a file says nothing."""

UNDER = rules(
    model="claude-opus-5", effort="low", system="s", temperature=0.5, max_tokens=9, betas=("b",), max_tokens_limit=1000
)

Json = Any  # what JSON can hold, a recursive type


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """One file."""

    name: str
    data: bytes
    rules: Rules


MESSAGE = {"role": "user", "content": "a question"}
SEEDS: Mapping[str, Sequence[bytes]] = {
    "a.json": [
        json.dumps({"messages": [MESSAGE]}).encode(),
        json.dumps({"custom_id": "x", "params": {"messages": [MESSAGE], "max_tokens": 5}, "betas": ["b-1"]}).encode(),
        json.dumps({"requests": [{"messages": [MESSAGE]}, {"params": {"messages": [MESSAGE], "top_k": 1}}]}).encode(),
        json.dumps([{"messages": [{"role": "user", "content": "é\u2028\U0001f4a3"}], "stream": False}]).encode(),
        json.dumps({"messages": [MESSAGE], "model": "m", "max_tokens": 7}).encode("utf-16"),
    ],
    "a.jsonl": [
        b'{"messages": [1]}\n{"custom_id": "x", "params": {"messages": [2]}}\r\n\n{"messages": [3]}',
        "".join(json.dumps({"messages": [MESSAGE], "top_k": n}) + "\n" for n in range(5)).encode(),
        '{"messages": ["é"]}\n{"messages": [2]}\n'.encode("utf-16"),
    ],
    "a.md": [
        b"A question.\n",
        b'+++\nmodel = "claude-opus-5"\nmax_tokens = 5\nbetas = ["a", "b"]\n[metadata]\na = {b = 1}\n+++\nText\n',
        b"---\nmodel: claude-opus-5\nsystem: |\n  two\n  lines\nbetas: [a, 'b']\nmetadata: {a: {b: 1.5}}\n---\nText\n",
        b"\xef\xbb\xbf---\r\ncustom_id: x\r\neffort: high\r\n---\r\n\r\nText",
        "+++\ntemperature = 0.5\n+++\né".encode("utf-16"),
    ],
}
PIECES = [
    *(b"{", b"}", b"[", b"]", b'"', b"'", b":", b",", b"\\", b"\\u0000", b"\\ud800", b"\\u003a", b"\0", b"\n", b"\r"),
    *(b"+++\n", b"---\n", b"...\n", b"&a ", b"*a", b"!!x ", b"<<: ", b"? ", b"- ", b"|\n", b"#", b"%", b"\t", b"\xff"),
    *(b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xa8", b"NaN", b"Infinity", b"1e999", b"-0", b"null"),
    *(b"\\U0001f4a3", b"\\UFFFFFFFF", b"\\U00110000", b"\\ud83d\\ude00", b'\\"', b'\\"' * 2_000, b"\\" * 999, b'"a\\"'),
    *(b"1." + b"0" * 1_200 + b"e400", b"1e400,", b"0" * 5_000, b"%YAML 1.", b'system: "'),
    *(b"true", b"9" * 30, b"0x1", b"1:1", b'"messages"', b'"file_id":', b'"requests":', b'"params":', b'"stream":'),
    *(b'"""', b"'''", b"a.a.", b"[[a]]\n", b'{"messages":[1]}', b"model = 'x'\n", b"model: x\n", b"2026-01-01"),
]
ODD_VALUES: Sequence[Json] = [
    *(None, True, 0, -1, 2**63, 2**64, -(2**63) - 1, 1.5, 1e308, "", "a\0b", "x" * 65, "é", "\u2028", "../x", "CON"),
    *([], {}, [[]], [None], {"": ""}, {"file_id": "f"}, {"a": {"file_id": "f"}}, {"type": "tool_use", "input": {}}),
]
FIELDS = (
    *("messages", "params", "requests", "custom_id", "betas", "model", "max_tokens", "stream", "system", "container"),
    *("mcp_servers", "output_config", "input_schema", "metadata", "store", "thinking", "temperature", "a:b", ""),
)


@st.composite
def mutated_bytes(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a valid file in which some bytes are not what they were."""
    name = draw(st.sampled_from(sorted(SEEDS)))
    data = draw(st.sampled_from(SEEDS[name]))
    for _ in range(draw(st.integers(0, 4))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        other = draw(st.sampled_from([seed for seeds in SEEDS.values() for seed in seeds]))
        piece = draw(
            st.sampled_from([*PIECES, data[start:end], data[start:end] * 3, other, b""]) | st.binary(max_size=4)
        )
        at = draw(st.sampled_from([start, end]))
        data = data[:start] + piece + data[at:]
    return name, data


@st.composite
def mutated_values(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a document of JSON in which some values are not what they were."""
    value: Json = json.loads(draw(st.sampled_from([seed for seed in SEEDS["a.json"] if seed[:1] in b"[{"])))
    for _ in range(draw(st.integers(1, 4))):
        value = _with_odd_value(draw, value)
    spelled = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    return draw(st.sampled_from(["a.json", "a.jsonl"])), spelled.encode("utf-8", "surrogatepass")


def _with_odd_value(draw: st.DrawFn, value: Json) -> Json:
    """Replace something in the value, or add something to it."""
    if isinstance(value, dict) and draw(st.booleans()):
        key = draw(st.sampled_from([*value, *FIELDS]))
        return {**value, key: _with_odd_value(draw, value.get(key))}
    if isinstance(value, list) and value and draw(st.booleans()):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], _with_odd_value(draw, value[index]), *value[index + draw(st.integers(0, 1)) :]]
    return draw(st.sampled_from(ODD_VALUES))


FILES = st.builds(
    lambda named, under: Dropped(name=named[0], data=named[1], rules=under),
    st.one_of(mutated_bytes(), mutated_values()),
    st.sampled_from([RULES, UNDER]),
)


def check(dropped: Dropped) -> str:
    """Parse the file: requests or one rejection, nothing else, soon, within bounds, and meaning what was meant.

    Returns what came of it in a word.
    """
    tracemalloc.start()
    started = time.process_time()
    try:
        outcome = _outcome(dropped)
        seconds = time.process_time() - started
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds < CPU_SECONDS_MAX
    assert peak_bytes < MEMORY_BYTES_MAX + MEMORY_PER_BYTE_MAX * len(dropped.data)
    kind = kind_of(dropped.name)
    assert kind is not None
    ending = breaks_off(kind, dropped.data)
    assert ending is None or ending.isprintable()
    if isinstance(outcome, RejectedError):
        assert outcome.detail.replace("\n", "").isprintable()
        assert outcome.what_to_do
        return outcome.reason.value
    for draft, meant in zip(outcome, _meant(dropped, kind), strict=True):
        _check_draft(draft, meant, dropped.rules)
    return UNDERSTOOD


def check_pieces(dropped: Dropped, cuts: Sequence[int]) -> None:
    """Feed a file piece by piece: wherever it is cut, the same comes of it."""
    parser = JsonLinesParser(dropped.name, dropped.rules)
    edges = sorted({0, len(dropped.data), *(cut % (len(dropped.data) + 1) for cut in cuts)})
    told = [draft for start, end in pairwise(edges) for draft in parser.feed(dropped.data[start:end])]
    whole = JsonLinesParser(dropped.name, dropped.rules)
    expected = _finished(whole, whole.feed(dropped.data))

    assert _finished(parser, told) == expected


def _outcome(dropped: Dropped) -> list[Draft] | RejectedError:
    try:
        return parse_file(dropped.name, dropped.data, dropped.rules)
    except RejectedError as error:
        return error


def _finished(parser: JsonLinesParser, drafts: Sequence[Draft]) -> object:
    try:
        return [*drafts, *parser.finish()]
    except RejectedError as error:
        return error.reason, error.detail, error.what_to_do


def _check_draft(draft: Draft, meant: Mapping[str, Json] | None, under: Rules) -> None:
    """Compare what is sent with what somebody else's parser reads in the file."""
    sent = json.loads(draft.params)
    assert is_custom_id(draft.custom_id)
    assert sent["messages"]
    assert (sent["model"], sent["max_tokens"]) == (draft.model, draft.max_tokens)
    assert draft.model != "claude-opus-5" or draft.max_tokens <= (under.max_tokens_limit or 300_000)
    assert not sent.keys() & {"stream", "store", "container", "mcp_servers", "betas", "custom_id"}
    if meant is not None:
        _compare(sent, meant, under)


def _compare(sent: Mapping[str, Json], meant: Mapping[str, Json], under: Rules) -> None:
    """Hold every field to what the file says; what it leaves open is the lane's to fill."""
    for field, value in meant.items():
        if field == "output_config" and isinstance(value, dict) and under.effort:
            own = {key: part for key, part in value.items() if key != "effort" or part is not None}
            assert sent[field] == {"effort": under.effort, **own}
        elif not (value is None and field in FILLED) and not (field == "stream" and value is False):
            assert sent[field] == value, field
    assert sent.keys() - meant.keys() <= FILLED


def _meant(dropped: Dropped, kind: FileKind) -> Sequence[Mapping[str, Json] | None]:
    """Read an accepted file in the plainest way there is; return the params of its requests."""
    codec = "utf-16" if dropped.data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = dropped.data.decode(codec)
    if kind is FileKind.TEXT:
        return [_meant_by_text(text)]
    if kind is FileKind.JSON_LINES:
        return [_params(json.loads(line)) for line in text.split("\n") if line.strip(" \t\r\v\f")]
    value = json.loads(text)
    if isinstance(value, dict) and "requests" in value and not value.keys() & {"params", "messages"}:
        value = value["requests"]
    return [_params(item) for item in (value if isinstance(value, list) else [value])]


def _params(request: Mapping[str, Json]) -> Mapping[str, Json]:
    params: Mapping[str, Json] = request.get("params", request)
    return params


def _meant_by_text(text: str) -> Mapping[str, Json] | None:
    """Return what a text asks for; None for a header in YAML, which nobody reads as strictly as we do."""
    lines = text.split("\n")
    bare = [line.removesuffix("\r").rstrip(" \t") for line in lines]
    if bare[0] == "---":
        return None
    if bare[0] != "+++":
        return {"messages": [{"role": "user", "content": text}]}
    end = bare.index("+++", 1)
    values = tomllib.loads("\n".join(lines[1:end]) + "\n")
    kept = {key: value for key, value in values.items() if key not in {"custom_id", "betas", "effort"}}
    content = "\n".join(lines[end + 1 :]).lstrip("\r\n")
    return {**kept, "messages": [{"role": "user", "content": content}]}


def fuzz(example_count: int) -> Counter[str]:
    """Try so many files, and as many ways to cut files of lines; return how often what came of it.

    Raises what `check` does for the smallest file that breaks a promise, and prints that file.
    """
    found: Counter[str] = Counter()

    def look(dropped: Dropped) -> None:
        found[check(dropped)] += 1

    def look_at_pieces(dropped: Dropped, cuts: Sequence[int]) -> None:
        check_pieces(dropped, cuts)
        found[IN_PIECES] += 1

    bounds: Callable[..., Any] = settings(max_examples=example_count, deadline=None, database=None)
    bounds(given(FILES)(look))()
    lines = FILES.map(lambda dropped: Dropped(name="a.jsonl", data=dropped.data, rules=dropped.rules))
    bounds(given(lines, st.lists(st.integers(0, 1000), max_size=5))(look_at_pieces))()
    return found
