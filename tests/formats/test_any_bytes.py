"""Whatever the bytes are, a file becomes complete requests or one rejection; and equal spellings mean the same."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchbox.errors import RejectedError
from batchbox.formats import Draft, FileKind, Rules, breaks_off
from batchbox.formats.json_syntax import parse
from batchbox.model import OUTPUT_300K_BETA
from batchbox.naming import is_custom_id

from .bench import MESSAGES, RULES, outcome, params_of, rules

NAMES = st.sampled_from(["a.md", "b.txt", "c.json", "d.jsonl", "e.ndjson", "ü ß.md", "f.pdf"])

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from(
    [
        *("messages", "params", "requests", "custom_id", "betas", "model", "max_tokens", "stream", "system", "content"),
        *("output_config", "file_id", "type", "source", "container", "store", "a:b"),
    ]
)
VALUES = st.recursive(
    SCALARS | st.just(MESSAGES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
DOCUMENTS = VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))

PIECES = st.sampled_from(
    [
        *("+++\n", "---\n", "model: x\n", 'model = "x"\n', "max_tokens", " = 5\n", ": 5\n", "system: |\n  a\n"),
        *(
            "- ",
            "&a ",
            "*a",
            "!!str ",
            "{",
            "}",
            "[",
            "]",
            '"',
            "'",
            ",",
            ":",
            "\\",
            "\\u003a",
            "\\ud800",
            "\n",
            "\r\n",
        ),
        *("\t", "a", "é", "0", "1e999", "-", "null", '{"messages":[1]}', '"a":1', "\ufeff", "\0", "\x07", "#", "%"),
        *("? ", "<<: ", "...\n"),
    ]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join)
CODECS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
BYTES = st.one_of(
    st.binary(max_size=200),
    DOCUMENTS,
    st.lists(DOCUMENTS, max_size=4).map(b"\n".join),
    st.builds(lambda text, codec: text.encode(codec, "replace"), TEXTS, CODECS),
)
RULES_TRIED = st.sampled_from(
    [
        RULES,
        rules(model=None),
        rules(effort="low", system="s", betas=("b",), temperature=1.0, thinking={"type": "adaptive"}, max_tokens=9),
        rules(models=("claude-opus-5",), max_tokens_limit=10, header="off", allow=frozenset({"file_id"})),
    ]
)


def check(draft: Draft) -> None:
    params = params_of(draft)
    assert is_custom_id(draft.custom_id)
    assert draft.betas == tuple(sorted({*draft.betas, OUTPUT_300K_BETA}))
    assert (params["model"], params["max_tokens"]) == (draft.model, draft.max_tokens)
    assert params["messages"]
    assert not params.keys() & {"stream", "store", "container", "mcp_servers", "betas", "custom_id"}
    json.loads(draft.params, parse_constant=pytest.fail)


@settings(max_examples=150, deadline=None)
@given(NAMES, BYTES, RULES_TRIED)
def test_a_file_becomes_requests_or_one_explained_rejection(name: str, data: bytes, under: Rules) -> None:
    result = outcome(name, data, under)

    if isinstance(result, RejectedError):
        assert result.detail.replace("\n", "").isprintable()
        assert result.what_to_do
    else:
        assert result
        for draft in result:
            check(draft)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FileKind), BYTES)
def test_any_tail_can_be_looked_at(kind: FileKind, tail: bytes) -> None:
    ending = breaks_off(kind, tail)

    assert ending is None or ending.isprintable()


WORDS = st.text(st.characters(exclude_categories=["Cs"]))

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON_VALUES, st.booleans(), st.sampled_from([None, 1]), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_strict_reading_agrees_with_the_standard_library(
    value: Any,  # noqa: ANN401 - any JSON
    ascii_only: bool,
    indent: int | None,
    separators: tuple[str, str],
) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent, separators=separators).encode()

    assert parse(data) == value


@settings(deadline=None)
@given(st.dictionaries(WORDS, JSON_VALUES, min_size=1, max_size=5), st.data())
def test_a_key_that_stands_twice_is_always_found(members: dict[str, Any], data: st.DataObject) -> None:
    """However its second spelling is escaped, and whatever colons stand in strings around it."""
    key = data.draw(st.sampled_from(sorted(members)))
    spelled = data.draw(
        st.sampled_from([json.dumps(key), '"' + "".join(f"\\u{unit:04x}" for unit in utf16_units(key)) + '"'])
    )
    again = f"{json.dumps(members)[:-1]}, {spelled} : null}}"
    document = data.draw(st.sampled_from([again, f"[{again}]", f'{{"x:": {again}}}']))

    with pytest.raises(RejectedError) as caught:
        parse(document.encode())

    assert caught.value.reason == "bad_json"
    assert "stands twice" in caught.value.detail


def utf16_units(text: str) -> list[int]:
    data = text.encode("utf-16-be")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
