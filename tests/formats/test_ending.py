import codecs

import pytest

from batchbox.formats import FileKind, breaks_off, kind_of

UTF16 = codecs.BOM_UTF16_LE + '{"a": ["é"]}'.encode("utf-16-le")


@pytest.mark.parametrize(
    ("kind", "tail"),
    [
        (FileKind.TEXT, b"text"),
        (FileKind.TEXT, b"an open { and an open [ in a text"),
        (FileKind.TEXT, "UTF-16".encode("utf-16-le")),
        (FileKind.TEXT, "UTF-16".encode("utf-16-be")),
        (FileKind.TEXT, b"one NUL\0"),
        (FileKind.JSON, b'{"a": [1, "]"]}\n'),
        (FileKind.JSON, b"oops"),
        (FileKind.JSON, b"]]"),
        (FileKind.JSON, UTF16),
        (FileKind.JSON_LINES, b""),
        (FileKind.JSON_LINES, b'{"a": 1}'),
        (FileKind.JSON_LINES, b'{"a": \n'),
    ],
)
def test_a_file_that_looks_finished_is_taken(kind: FileKind, tail: bytes) -> None:
    assert breaks_off(kind, tail) is None


@pytest.mark.parametrize(
    ("kind", "tail", "named"),
    [
        (FileKind.TEXT, b"text\0\0", "NUL"),
        (FileKind.TEXT, b"\0" * 64, "NUL"),
        (FileKind.TEXT, "a".encode("utf-16-le") + b"b\0\0\0\0\0", "NUL"),
        (FileKind.JSON, b'{"a": [1, "', "byte 11, inside a string, with 2 brackets open"),
        (FileKind.JSON, b'{"a": [1, 2', "with 2 brackets open"),
        (FileKind.JSON, b'{"a": "\\"}', "inside a string"),
        (FileKind.JSON, b'{"a": "\xc3', "inside a string"),
        (FileKind.JSON, b'{"a": 1}\0\0', "NUL"),
        (FileKind.JSON, UTF16[:-2], "with 1 brackets open"),
        (FileKind.JSON, UTF16[:-1], "with 1 brackets open"),
        (FileKind.JSON_LINES, b'{"a": [1', "with 2 brackets open"),
    ],
)
def test_a_file_that_breaks_off_is_left_alone_and_where_is_said(kind: FileKind, tail: bytes, named: str) -> None:
    ending = breaks_off(kind, tail)

    assert ending is not None
    assert named in ending


@pytest.mark.parametrize("backslashes", [1, 2, 3, 262_143, 262_144, 262_145, 600_001])
def test_escapes_are_understood_across_the_windows_of_the_scan(backslashes: int) -> None:
    data = b'["' + b"x" * (262_144 - 4) + b"\\" * backslashes + b'"'

    ending = breaks_off(FileKind.JSON, data)

    assert ending is not None
    assert ("inside a string" in ending) == (backslashes % 2 == 1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.md", FileKind.TEXT),
        ("A.TXT", FileKind.TEXT),
        ("a.b.Json", FileKind.JSON),
        ("a.jsonl", FileKind.JSON_LINES),
        ("a.NDJSON", FileKind.JSON_LINES),
        ("a.pdf", None),
        ("md", None),
        (".md", None),
        ("a.md ", None),
    ],
)
def test_the_extension_tells_the_kind(name: str, kind: FileKind | None) -> None:
    assert kind_of(name) is kind
