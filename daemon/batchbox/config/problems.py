"""One problem in a configuration, as a place and a sentence, and pydantic's findings turned into such.

A sentence never repeats a value except a short word out of a closed set: values may be passwords or prompts.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from batchbox.config.settings import Settings

KeyPath = tuple[str | int, ...]
"""The keys that lead to a value, from the top of the file: ("window", "max_wait")."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NAMED_TABLES = ("lanes", "models")
_SHOWN_VALUE = re.compile(r"[A-Za-z0-9_.+-]{1,20}")

_SENTENCES: Mapping[str, str] = {
    "missing": "is missing; add it",
    "value_error": "{error}",
    "literal_error": "must be {expected}{it_is}",
    "greater_than_equal": "must be at least {ge}{it_is}",
    "less_than_equal": "must be at most {le}{it_is}",
    "int_type": "must be a whole number, written without quotes",
    "float_type": "must be a number, written without quotes",
    "string_type": "must be a text in quotes",
    "tuple_type": 'must be a list, like ["one", "two"]',
    "dict_type": "must be a table of keys and values",
    "mapping_type": "must be a table of keys and values",
    "model_type": "must be a table of keys and values",
}
"""By pydantic's name of what it found; for any other its own words do, which hold no value either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with the value at `path`, and what to do."""

    path: KeyPath
    sentence: str
    depends_on: Sequence[KeyPath] = ()
    """Other values that it was judged by; if one of them is wrong itself, nothing can be said yet."""

    def __str__(self) -> str:
        """Return the problem as a person reads it, without the name of the file."""
        return f"{_place(self.path)}: {self.sentence}"


def problems_in(error: ValidationError) -> list[Problem]:
    """Return what pydantic found, in our words."""
    return [Problem(path=details["loc"], sentence=_sentence(details)) for details in error.errors(include_url=False)]


def _place(path: KeyPath) -> str:
    keys = tuple(key for key in path if isinstance(key, str))
    if len(keys) == 1 or (len(keys) == 2 and keys[0] in _NAMED_TABLES):
        return _table_name(keys)
    entry = "".join(f", entry {index + 1}" for index in path if isinstance(index, int))
    return f"{_table_name(keys[:-1])} {_quoted(keys[-1])}{entry}"


def _table_name(path: KeyPath) -> str:
    return f"[{'.'.join(_quoted(str(key)) for key in path)}]"


def _quoted(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key)


def _sentence(details: ErrorDetails) -> str:
    if details["type"] == "extra_forbidden":
        return _unknown_key(details["loc"])
    template = _SENTENCES.get(details["type"])
    if template is None:
        return details["msg"]
    return template.format(it_is=_it_is(details["input"]), **details.get("ctx", {}))


def _it_is(value: object) -> str:
    text = str(value)
    return f"; it is {text}" if _SHOWN_VALUE.fullmatch(text) else ""


def _unknown_key(path: KeyPath) -> str:
    key, kind = str(path[-1]), "section" if len(path) == 1 else "key"
    known = list(_model_at(path[:-1]).model_fields)
    if typed_wrong := get_close_matches(key, known, n=1, cutoff=0.8):
        return f"is not a known {kind}; did you mean {typed_wrong[0]}?"
    if homes := _homes_of(key, path[:-1]):
        return f"is not a known {kind} here; it belongs in {' or '.join(homes)}"
    if similar := get_close_matches(key, known, n=1):
        return f"is not a known {kind}; did you mean {similar[0]}?"
    return f"is not a known {kind}; known here: {', '.join(known)}"


def _homes_of(key: str, table: KeyPath) -> list[str]:
    """Return the tables that the key belongs in: below this one, else at the top of the file."""
    if key in Settings.model_fields:
        return [f"[{key}]"]
    for above in (table, ()):
        below = [(*above, name) for name, field in _model_at(above).model_fields.items() if _model_in(field.annotation)]
        if homes := [_table_name(path) for path in below if key in _model_at(path).model_fields]:
            return homes
    return []


def _model_at(path: KeyPath) -> type[BaseModel]:
    """Return the model of the table; for [lanes] and [models] that of one entry, whichever it is."""
    model: type[BaseModel] = Settings
    keys = list(reversed(path))
    while keys:
        annotation = model.model_fields[str(keys.pop())].annotation
        if get_origin(annotation) is Mapping and keys:
            keys.pop()  # the entry's own name
        model = _model_in(annotation) or model
    return model


def _model_in(annotation: object) -> type[BaseModel] | None:
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
