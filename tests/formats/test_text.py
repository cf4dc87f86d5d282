import codecs
import re
from pathlib import Path
from typing import Any

import pytest

from batchbox.model import OUTPUT_300K_BETA

from .bench import RULES, one, params_of, rejection, rules

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"

TOML = b"""+++
custom_id = "mine"
model = "claude-haiku-4-5"
max_tokens = 1000
system = "Be brief."
temperature = 0.5
effort = "low"
thinking = {type = "adaptive"}
stop_sequences = ["END"]
betas = ["some-beta-2026-01-01"]

[metadata]
user_id = "u1"
+++

What is it?
"""

YAML = b"""---
custom_id: mine
model: claude-haiku-4-5
max_tokens: 1000
system: Be brief.
temperature: 0.5
effort: low
thinking: {type: adaptive}
stop_sequences:
  - END
betas: [some-beta-2026-01-01]
metadata:
  user_id: u1
---

What is it?
"""


def test_a_text_is_the_user_message_as_it_stands() -> None:
    draft = one("Report 7.md", b"# Question\r\n\r\nWhat?\n")

    assert draft.custom_id == "Report-7"
    assert (draft.explicit, draft.line, draft.betas) == (False, None, (OUTPUT_300K_BETA,))
    assert (draft.model, draft.max_tokens) == ("claude-opus-5", 300_000)
    assert params_of(draft) == {
        "model": "claude-opus-5",
        "max_tokens": 300_000,
        "messages": [{"role": "user", "content": "# Question\r\n\r\nWhat?\n"}],
    }


@pytest.mark.parametrize("data", [TOML, YAML, TOML.replace(b"\n", b"\r\n"), YAML.replace(b"\n", b"\r\n")])
def test_a_header_says_everything_about_its_request(data: bytes) -> None:
    draft = one("a.md", data)

    params = params_of(draft)
    assert (draft.custom_id, draft.explicit) == ("mine", True)
    assert (draft.model, draft.max_tokens) == ("claude-haiku-4-5", 1000)
    assert draft.betas == (OUTPUT_300K_BETA, "some-beta-2026-01-01")
    assert params.pop("messages")[0]["content"].strip() == "What is it?"
    assert params == {
        "model": "claude-haiku-4-5",
        "max_tokens": 1000,
        "system": "Be brief.",
        "temperature": 0.5,
        "thinking": {"type": "adaptive"},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
        "output_config": {"effort": "low"},
    }


@pytest.mark.parametrize(
    "data",
    [
        "é".encode(),
        codecs.BOM_UTF8 + "é".encode(),
        codecs.BOM_UTF16_LE + "é".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "é".encode("utf-16-be"),
    ],
)
def test_every_encoding_that_is_allowed_reads_the_same(data: bytes) -> None:
    assert params_of(one("a.txt", data))["messages"][0]["content"] == "é"


@pytest.mark.parametrize(
    "text",
    [
        "---\nA rule above, and a rule below.\n---\nText\n",
        "---\nmodel: a line that begins with a key, but no second rule\n",
        "---\n\nThe model: not at the start of the line\n\n---\n",
        "+++ b/file.py\n+model = 1\n",
        "----\nmodel: x\n----\n",
        " +++\nmodel = 1\n+++\n",
        "\n+++\nmodel = 1\n+++\n",
    ],
)
def test_what_only_looks_like_a_header_is_text(text: str) -> None:
    assert params_of(one("a.md", text.encode()))["messages"][0]["content"] == text


def test_where_headers_are_off_everything_is_text() -> None:
    draft = one("a.md", TOML, rules(header="off"))

    assert params_of(draft)["messages"][0]["content"] == TOML.decode()


def test_the_lane_fills_what_the_header_leaves_open() -> None:
    lane = rules(
        max_tokens=500,
        temperature=0.1,
        effort="high",
        thinking={"type": "adaptive"},
        system="Lane.",
        betas=("lane-beta",),
    )

    params = params_of(one("a.md", b"+++\ntemperature = 1\n+++\nText", lane))

    assert params == {
        "model": "claude-opus-5",
        "max_tokens": 500,
        "temperature": 1,
        "system": "Lane.",
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "messages": [{"role": "user", "content": "Text"}],
    }


def test_the_header_s_effort_wins_over_the_lane_s() -> None:
    params = params_of(one("a.md", b"---\neffort: low\n---\nText", rules(effort="max")))

    assert params["output_config"] == {"effort": "low"}


def toml(line: str) -> bytes:
    return f"+++\n{line}\n+++\nText".encode()


def yaml(line: str) -> bytes:
    return f"---\nsystem: x\n{line}\n---\nText".encode()


@pytest.mark.parametrize(
    ("data", "reason", "named"),
    [
        pytest.param(b"", "empty", "white space", id="nothing"),
        pytest.param(b" \n\t\n", "empty", "white space", id="white space"),
        pytest.param(codecs.BOM_UTF8, "empty", "white space", id="a BOM alone"),
        pytest.param(b"+++\nmodel = 'x'\n+++\n\n", "empty", "behind the header", id="a header alone"),
        pytest.param(b"text\0\0", "incomplete", "from byte 4", id="two NULs at the end"),
        pytest.param(b"\0" * 4096, "incomplete", "from byte 0", id="NULs alone"),
        pytest.param(codecs.BOM_UTF16_LE + b"a\0\0\0\0\0", "incomplete", "NUL", id="four NULs in UTF-16"),
        pytest.param(b"text\0", "bad_encoding", "byte 4", id="one NUL"),
        pytest.param(b"te\0xt", "bad_encoding", "byte 2", id="NUL inside"),
        pytest.param(b"caf\xe9 au lait", "bad_encoding", "byte 3", id="Latin-1"),
        pytest.param(codecs.BOM_UTF8 + b"caf\xe9!", "bad_encoding", "byte 6", id="Latin-1 behind a BOM"),
        pytest.param(b"a\xed\xa0\x80", "bad_encoding", "byte 1", id="a surrogate in UTF-8"),
        pytest.param(codecs.BOM_UTF16_LE + b"a\0b", "bad_encoding", "byte 4", id="UTF-16 of odd length"),
        pytest.param(codecs.BOM_UTF16_LE + b"a\0\0\xd8b\0", "bad_encoding", "byte 4", id="half a pair in UTF-16"),
        pytest.param(codecs.BOM_UTF16_BE + b"\0a\0\0\0b", "bad_encoding", "byte 4", id="NUL in UTF-16"),
        pytest.param(codecs.BOM_UTF32_LE + "a".encode("utf-32-le"), "bad_encoding", "byte 2", id="UTF-32"),
        pytest.param(b"+++\nmodel = 'x'\nText", "bad_header", "not closed", id="+++ not closed"),
        pytest.param(b"+++", "bad_header", "not closed", id="+++ alone"),
        pytest.param(toml("model = "), "bad_header", "line 2", id="TOML syntax"),
        pytest.param(toml("model = 'a'\nmodel = 'b'"), "bad_header", "line 3", id="TOML key twice"),
        pytest.param(toml("x = " + "[" * 30_000), "bad_header", "too deep", id="TOML too deep"),
        pytest.param(toml("metadata." + "a." * 30_000 + "a = 1"), "bad_header", "dotted", id="TOML dotted for ever"),
        pytest.param(toml("max_tokens = " + "9" * 5000), "bad_header", "TOML", id="TOML number of 5000 digits"),
        pytest.param(toml("max_tokens = " + "9" * 30), "bad_header", "max_tokens", id="TOML number over 64 bit"),
        pytest.param(toml("metadata.at = 2026-01-01"), "bad_header", "metadata", id="TOML date"),
        pytest.param(toml("temperature = nan"), "bad_header", "temperature", id="TOML nan"),
        pytest.param(toml("thinking.x = inf"), "bad_header", "thinking", id="TOML inf inside"),
        pytest.param(toml("#" * 70_000), "bad_header", "65,536", id="a header too long"),
        pytest.param(yaml("model: [x"), "bad_header", "line 4", id="YAML syntax"),
        pytest.param(yaml("model: a\nmodel: b"), "bad_header", '"model" stands twice, in line 4', id="YAML key twice"),
        pytest.param(yaml("metadata: {a: 1, a: 2}"), "bad_header", '"a" stands twice', id="YAML inner key twice"),
        pytest.param(yaml("metadata: &a {b: 1}"), "bad_header", "anchor", id="YAML anchor"),
        pytest.param(yaml("metadata: {b: &c 1}"), "bad_header", "anchor", id="YAML inner anchor"),
        pytest.param(yaml("metadata: *a"), "bad_header", "alias", id="YAML alias"),
        pytest.param(yaml("metadata: {<<: {a: 1}}"), "bad_header", "special", id="YAML merge"),
        pytest.param(yaml("model: !!python/name:os.system x"), "bad_header", "tag", id="YAML Python tag"),
        pytest.param(yaml("model: !!str 5"), "bad_header", "tag", id="YAML harmless tag"),
        pytest.param(yaml("metadata: {at: 2026-01-01}"), "bad_header", "date", id="YAML date"),
        pytest.param(yaml("temperature: .nan"), "bad_header", "temperature", id="YAML nan"),
        pytest.param(yaml("max_tokens: " + "1:" * 30_000 + "1"), "bad_header", "too long", id="YAML base 60"),
        pytest.param(yaml("max_tokens: 0x_"), "bad_header", "cannot be read", id="YAML number that is none"),
        pytest.param(yaml("metadata: " + "[" * 30_000), "bad_header", "too deep", id="YAML too deep"),
        pytest.param(yaml("metadata: {? [a] : b}"), "bad_header", "not text", id="YAML list as key"),
        pytest.param(yaml("5: x"), "bad_header", "not text", id="YAML number as key"),
        pytest.param(yaml("...\nmodel: x"), "bad_header", "line", id="YAML second document"),
        pytest.param(yaml('metadata: {a: "\\ud800"}'), "bad_header", "half of a character", id="YAML half a pair"),
        pytest.param(
            yaml('model: "\\UFFFFFFFF"'), "bad_header", "beyond all that there are, in line 3", id="YAML escape"
        ),
        pytest.param(
            yaml('model:\n  "\\U00110000"'), "bad_header", "all that there are, in line 4", id="YAML, one over"
        ),
        pytest.param(b"---\n%YAML 1." + b"9" * 5000 + b"\nmodel: x\n---\nText", "bad_header", "line 2", id="YAML 1.99"),
        pytest.param(yaml("metadata: {a: \x07}"), "bad_header", "control character", id="YAML control character"),
        pytest.param(b"---\n- a\nmodel: x\n---\nText", "bad_header", "line", id="YAML list"),
        pytest.param(toml("modle = 'x'"), "bad_header", '"modle" in line 2', id="unknown key"),
        pytest.param(yaml("modle: x"), "bad_header", '"modle" in line 3', id="unknown YAML key"),
        pytest.param(toml("custom_id = 7"), "bad_header", "custom_id", id="id that is a number"),
        pytest.param(yaml("custom_id: no"), "bad_header", "custom_id", id="id that YAML takes for false"),
        pytest.param(toml("model = ['x']"), "bad_header", "model", id="list as model"),
        pytest.param(toml("max_tokens = '100'"), "bad_header", "max_tokens", id="text as number"),
        pytest.param(toml("max_tokens = true"), "bad_header", "max_tokens", id="truth as number"),
        pytest.param(toml("max_tokens = -1"), "bad_header", "max_tokens", id="negative number"),
        pytest.param(toml("system = 1"), "bad_header", "system", id="number as system"),
        pytest.param(toml("thinking = 'on'"), "bad_header", "thinking", id="text as table"),
        pytest.param(toml("stop_sequences = 'END'"), "bad_header", "stop_sequences", id="text as list"),
        pytest.param(toml("betas = [1]"), "bad_header", "betas", id="number as beta"),
        pytest.param(toml("betas = ['A B']"), "bad_header", "betas", id="beta with a space"),
        pytest.param(toml("model = ''"), "bad_header", "model", id="empty model"),
        pytest.param(toml("custom_id = 'a b'"), "bad_id", '"a b"', id="id with a space"),
        pytest.param(toml("max_tokens = 0"), "not_allowed", "max_tokens", id="max_tokens 0"),
        pytest.param(toml("max_tokens = 300001"), "over_limit", "300000", id="over the cap"),
        pytest.param(toml("model = 'unheard-of'"), "not_allowed", '"unheard-of"', id="unknown cap"),
    ],
)
def test_each_flaw_of_a_text_has_its_reason(data: bytes, reason: str, named: str) -> None:
    error = rejection("a.md", data)

    assert error.reason == reason
    assert named in error.detail
    assert error.what_to_do


def test_a_character_that_yaml_escapes_in_halves_is_whole() -> None:
    """As `json.dumps` writes it, and a text in JSON is one in YAML, too."""
    draft = one("a.md", b'---\nsystem: "\\ud83d\\ude00 \xc3\xa9"\n---\nText')

    assert params_of(draft)["system"] == "\U0001f600 é"


def test_a_header_s_problems_are_told_all_at_once() -> None:
    error = rejection("a.md", b"+++\nmodle = 'x'\nmax_tokens = 'many'\nsystem = 5\n+++\nText")

    assert error.reason == "bad_header"
    assert all(f"in line {line}" in error.detail for line in (2, 3, 4))


def test_without_any_model_the_sender_is_told_where_to_name_one() -> None:
    error = rejection("a.md", b"Text", rules(model=None))

    assert error.reason == "bad_header"
    assert "[lanes.<name>] or [defaults]" in error.what_to_do


@pytest.mark.parametrize(
    ("name", "data", "key"),
    [
        ("a.md", toml("#" * 70_000), "system"),
        ("a.md", b"Text", "model"),
        ("a.json", b'{"requests": [{"messages": [1]}], "model": "x"}', "model"),
    ],
)
def test_what_an_advice_names_is_there(name: str, data: bytes, key: str) -> None:
    """No file that nobody reads: a key of a section that the example of the configuration shows."""
    sections = EXAMPLE.read_text().partition("# [lanes.reports]")[2].partition("\n\n")[0]

    advice = rejection(name, data, rules(model=None)).what_to_do

    assert "[lanes.<name>]" in advice
    assert re.search(r"_\w+\.(md|toml)", advice) is None
    assert f"# {key} = " in sections


@pytest.mark.parametrize("name", ["a.pdf", "a", ".md", "a.md.bak", "a.jsonx"])
def test_an_unknown_type_is_answered_with_the_known_ones(name: str) -> None:
    error = rejection(name, b"Text")

    assert error.reason == "unknown_type"
    assert ".md, .txt, .json, .jsonl, .ndjson" in error.what_to_do


@pytest.mark.parametrize(
    "changes",
    [{"model": "claude-haiku-4-5", "max_tokens": 64_001}, {"max_tokens": 200, "max_tokens_limit": 100}],
)
def test_a_lane_s_own_max_tokens_is_not_clamped_either(changes: dict[str, Any]) -> None:
    assert rejection("a.md", b"Text", rules(**changes)).reason == "over_limit"


def test_a_prompt_is_never_quoted() -> None:
    canary = "canary-5d1f"
    files = [
        f'+++\nsystem = "{canary}" {canary}\n+++\n{canary}',
        f"---\nsystem: [{canary}\nmodel: {canary}: {canary}\n---\n{canary}",
        f'+++\nmax_tokens = "{canary}"\n+++\n{canary}',
        f"---\nmetadata: *{'a'}\nsystem: {canary}\n---\n{canary}",
    ]

    told = [rejection("a.md", file.encode(), RULES) for file in files]

    assert not any(canary in error.detail + error.what_to_do for error in told)
