"""Tells what happens, line by line: the service's own log, in words for somebody who sees it for the first time.

A line that cannot be printed, because the reader has left, must not raise inside the service, which would take it for
trouble with its folders: it is kept, and the service is asked to stop.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from batchbox.logs import TextFormatter, shown
from batchbox.model import INBOX_LANE

Facts = Mapping[str, Any]  # Any: what was given to the log as `extra`, which logging does not type

BOLD_EVENTS = {"answer", "rejected"}
COLOURS = {
    "dropped": "cyan",
    "taken": "cyan",
    "rejected": "yellow",
    "sent": "blue",
    "accepted": "blue",
    "ended": "blue",
    "answer": "green",
}


class Story(logging.Handler):
    """Prints a line for each step that a file, a batch or an answer takes.

    Args:
        outbox: Where new answers are looked for whenever the service says that it has delivered some.
        stop: Called when a line cannot be printed.
    """

    def __init__(self, outbox: Path, stop: Callable[[], None]) -> None:
        super().__init__()
        self._outbox = outbox
        self._stop = stop
        self._began_at = time.monotonic()
        self._batches: dict[str, str] = {}  # their names here, by nonce and, once it is known, by the API's id
        self._answers: set[Path] = set()
        self._other = TextFormatter()
        self.first_answer_seconds: float | None = None
        self.failure: OSError | None = None
        """Why a line could not be printed."""

    def say(self, event: str, what: str, about: str = "") -> None:
        """Print one line: the time since the beginning, what happened, to what, and a remark."""
        label = click.style(f"{event:<8}", fg=COLOURS.get(event), bold=event in BOLD_EVENTS)
        line = f"{self._seconds():5.1f} s  {label}  {shown(what):<32}  {about}"
        self._print(line.rstrip())

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one line of the service's log. What is no part of the story is told only if it is a warning."""
        facts: Facts = record.__dict__
        match record.getMessage():
            case "file taken":
                self.say("taken", _path("inbox", facts))
            case "file rejected":
                self.say("rejected", _path("inbox", facts), f"{facts['reason']}; see below")
            case "batch goes out":
                self._say_sent(facts)
            case "batch accepted":
                name = self._batches[facts["batch"]] = self._batches[facts["nonce"]]
                self.say("accepted", f"{name} is {facts['batch']}")
            case "batch ended":
                self.say("ended", f"{self._batches.get(facts['batch'], 'a batch')}: {facts['succeeded']} succeeded")
            case "answers delivered":
                self._say_answers()
            case _ if record.levelno >= logging.WARNING:
                self._print(self._other.format(record))

    def _print(self, line: str) -> None:
        if self.failure is not None:
            return
        try:
            click.echo(line)
        except OSError as error:
            self.failure = error
            self._stop()

    def _seconds(self) -> float:
        return time.monotonic() - self._began_at

    def _say_sent(self, facts: Facts) -> None:
        name = self._batches[facts["nonce"]] = f"batch {len(set(self._batches.values())) + 1}"
        count = facts["request_count"]
        origin = "inbox/" if facts["lane"] == INBOX_LANE else f"inbox/{facts['lane']}/"
        self.say("sent", f"{name}: {count} request{'' if count == 1 else 's'} from {origin}")

    def _say_answers(self) -> None:
        if self.first_answer_seconds is None:
            self.first_answer_seconds = self._seconds()
        for path in sorted({*self._outbox.rglob("*.md")} - self._answers):
            self._answers.add(path)
            self.say("answer", str(path.relative_to(self._outbox.parent)), size_in_words(path.stat().st_size))


def size_in_words(size_bytes: int) -> str:
    """Return a size as people read it."""
    for unit, factor in (("MB", 1_000_000), ("KB", 1_000)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def _path(top: str, facts: Facts) -> str:
    return f"{top}/{facts['file']}" if facts["lane"] == INBOX_LANE else f"{top}/{facts['lane']}/{facts['file']}"
