"""Rules to parse under, and short ways to parse and to read what came of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from batchbox.errors import RejectedError
from batchbox.formats import Draft, Rules, parse_file

CAPS: Mapping[str, int] = {"claude-opus-5": 300_000, "claude-haiku-4-5": 64_000}

RULES = Rules(
    model="claude-opus-5",
    max_tokens=None,
    temperature=None,
    effort=None,
    thinking=None,
    system=None,
    betas=(),
    header="auto",
    allow=frozenset(),
    models=None,
    max_tokens_limit=None,
    cap=CAPS.get,
)

MESSAGES = [{"role": "user", "content": "hello"}]


def rules(**changes: Any) -> Rules:  # noqa: ANN401 - whatever the fields of Rules are
    return replace(RULES, **changes)


def encoded(value: object) -> bytes:
    return msgspec.json.encode(value)


def one(name: str, data: bytes, under: Rules = RULES) -> Draft:
    (draft,) = parse_file(name, data, under)
    return draft


def params_of(draft: Draft) -> dict[str, Any]:  # Any: parameters are JSON
    return msgspec.json.decode(draft.params, type=dict[str, Any])


def outcome(name: str, data: bytes, under: Rules) -> list[Draft] | RejectedError:
    try:
        return parse_file(name, data, under)
    except RejectedError as error:
        return error


def rejection(name: str, data: bytes, under: Rules = RULES) -> RejectedError:
    with pytest.raises(RejectedError) as caught:
        parse_file(name, data, under)
    return caught.value
