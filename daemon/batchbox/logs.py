"""Logging for people and for machines: one line an event, ids as keys, never what a request or an answer contains.

Names of files come from strangers: `shown` makes any of them safe to print on a terminal, in a log or in a table.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

_RESERVED = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def shown(name: str | bytes) -> str:
    r"""Return the name with everything that could steer a terminal or hide its order spelled out as an escape.

    Control and format characters, line ends, right-to-left marks and bytes that are not UTF-8 become `\x…` or `\u…`.
    """
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as the interpreter keeps it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


class TextFormatter(logging.Formatter):
    """`level message key=value …`, for a terminal and for the journal, which adds the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; a traceback, which only a crash brings, follows on its own."""
        line = " ".join([record.levelname.lower(), record.getMessage(), *_pairs(record)])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with `at`, `level`, `logger`, `event` and the keys of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def set_up(*, level: str, json_lines: bool, stream: TextIO = sys.stderr) -> None:
    """Send this process's log to the stream, replacing what was set up before.

    Libraries below us are heard from WARNING on: at INFO and DEBUG some print addresses, and the SDK prints prompts.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if json_lines else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("batchbox").setLevel(level.upper())


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _RESERVED}


def _pairs(record: logging.LogRecord) -> list[str]:
    return [f"{key}={_value(value)}" for key, value in _extras(record).items()]


def _value(value: object) -> str:
    text = shown(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text else text
