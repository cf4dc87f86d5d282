import io
import json
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchbox.logs import JsonFormatter, TextFormatter, set_up, shown


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root, ours = logging.getLogger(), logging.getLogger("batchbox")
    before = (root.handlers[:], root.level, ours.level)
    yield
    root.handlers[:], root.level, ours.level = before


def record(**extra: object) -> logging.LogRecord:
    """Return what a logger makes of an event."""
    made = logging.getLogger("batchbox.x").makeRecord(
        "batchbox.x", logging.INFO, "file.py", 1, "file taken", (), None, extra=extra
    )
    made.created = 1_785_000_000.5
    return made


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("plain-name_1.md", "plain-name_1.md"),
        ("größe 文書.md", "größe 文書.md"),
        ("a\nb", "a\\nb"),
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("\u200fx\u2066y", "\\u200fx\\u2066y"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("a\u00a0b\ufeffc\u200bd", "a\\xa0b\\ufeffc\\u200bd"),
        ("\x00\x7f", "\\x00\\x7f"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        (b"caf\xe9\n", "caf\\xe9\\n"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("", ""),
    ],
)
def test_a_name_is_shown_without_what_could_steer_a_terminal(name: str | bytes, seen: str) -> None:
    assert shown(name) == seen


@given(name=st.text() | st.binary())
def test_whatever_a_name_holds_it_is_printable_and_can_be_written_as_utf8(name: str | bytes) -> None:
    text = shown(name)

    assert text.isprintable()
    assert text.encode("utf-8").decode("utf-8") == text


def test_an_event_is_a_line_for_people() -> None:
    line = TextFormatter().format(record(file="a b.md", count=3))

    assert line == 'info file taken file="a b.md" count=3'


@given(name=st.text())
def test_whatever_a_value_holds_an_event_is_one_line(name: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record(file=name))

        assert line.isprintable()
        assert len(line.splitlines()) == 1


@given(name=st.text())
def test_an_event_is_a_json_object_for_machines(name: str) -> None:
    entry = json.loads(JsonFormatter().format(record(file=name, size=5)))

    assert entry == {
        "at": "2026-07-25T17:20:00.500000+00:00",
        "level": "info",
        "logger": "batchbox.x",
        "event": "file taken",
        "file": name,
        "size": 5,
    }


def test_a_traceback_is_inside_the_json_object_and_below_the_line_for_people() -> None:
    made = record()
    error = ValueError("what\nhappened")
    made.exc_info = (ValueError, error, None)

    as_json, as_text = JsonFormatter().format(made), TextFormatter().format(made)

    assert "ValueError" in json.loads(as_json)["traceback"]
    assert len(as_json.splitlines()) == 1
    assert as_text.splitlines()[0] == "info file taken"
    assert "ValueError" in as_text


def test_a_value_cannot_end_its_own_quotes_and_go_on_as_another_key() -> None:
    line = TextFormatter().format(record(file='x" owner="root', owner="mallory"))

    assert line.count('owner="root') == 0


@pytest.mark.usefixtures("_logging_as_before")
@pytest.mark.parametrize("json_lines", [False, True])
def test_the_log_is_set_up_once_however_often_it_is_asked_for(json_lines: bool) -> None:
    stream = io.StringIO()
    set_up(level="info", json_lines=json_lines, stream=stream)

    set_up(level="info", json_lines=json_lines, stream=stream)
    logging.getLogger("batchbox.x").info("said")

    assert stream.getvalue().count("said") == 1


@pytest.mark.usefixtures("_logging_as_before")
def test_libraries_are_heard_from_warnings_on_whatever_our_own_level_is() -> None:
    """At lower levels some of them print addresses, and prompts."""
    stream = io.StringIO()
    set_up(level="debug", json_lines=False, stream=stream)

    logging.getLogger("some.library").info("a prompt")
    logging.getLogger("some.library").warning("a warning")
    logging.getLogger("batchbox.x").debug("our own")

    assert stream.getvalue() == "warning a warning\ndebug our own\n"
