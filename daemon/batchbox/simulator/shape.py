"""What is wrong with a JSON value's shape, said as the API says it: `requests.0.params: Field required`."""

import re

import msgspec

_PATH = re.compile(r" - at `\$(?:\.)?(.*)`\Z")
_MISSING = re.compile(r"Object missing required field `(.+?)`\Z")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+?)`\Z")


def complaint(error: msgspec.ValidationError) -> str:
    """Return the sentence: the path to the value, and what was found there."""
    text = str(error)
    path = ""
    if found := _PATH.search(text):
        path = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", found[1]).lstrip(".")
        text = text[: found.start()]
    if missing := _MISSING.match(text):
        return f"{_joined(path, missing[1])}: Field required"
    if unknown := _UNKNOWN.match(text):
        return f"{_joined(path, unknown[1])}: Extra inputs are not permitted"
    return f"{path}: {text}" if path else text


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
