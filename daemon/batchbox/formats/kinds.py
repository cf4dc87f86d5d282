"""Which kind of content a file's extension promises."""

from collections.abc import Mapping
from enum import StrEnum


class FileKind(StrEnum):
    """How a file is read."""

    TEXT = "text"
    """The text is the user message; it may begin with a header."""
    JSON = "json"
    """One document: a request, or several."""
    JSON_LINES = "json_lines"
    """A request on each line."""


_KIND_OF_EXTENSION: Mapping[str, FileKind] = {
    "md": FileKind.TEXT,
    "txt": FileKind.TEXT,
    "json": FileKind.JSON,
    "jsonl": FileKind.JSON_LINES,
    "ndjson": FileKind.JSON_LINES,
}

KNOWN_EXTENSIONS: tuple[str, ...] = tuple(f".{extension}" for extension in _KIND_OF_EXTENSION)
"""In the order in which they are listed to people."""


def kind_of(name: str) -> FileKind | None:
    """Return the kind of a file by its extension, in any case; None for a type that is not known."""
    stem, _, extension = name.rpartition(".")
    return _KIND_OF_EXTENSION.get(extension.lower()) if stem.strip(".") else None
