"""A process that has the daemon imported, and forks a life of it whenever it is told to.

`python -m suites.blackbox_victim` reads one order per line from its standard input and answers each with one line.
It is a process of its own so that a planted mistake is what it imports. A life is `batchbox run --drain`, from the
command line's own entry on; only what is imported already is spared it.
"""

import gc
import importlib
import json
import os
import re
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import batchbox
import batchbox.cli

from .tracing import Point, trace

LIFE_SECONDS_MAX = 60
"""A life that takes longer is ended: it hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Before which change a life is killed."""

    number: int
    """From 1."""
    where: str = ""
    """Only changes whose description has this pattern are counted."""
    plus: int = 0
    """So many changes of any kind after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One life to live."""

    config_file: str
    log_file: str
    aim: Aim | None
    """None: it lives to its end."""
    is_listed: bool = False
    """Whether every change is described."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What became of it."""

    source: str
    """Where batchbox was imported from."""
    code: int
    """The exit code; -9 if it was killed, -14 if it went on for too long."""
    last: str
    """The change before which it was killed."""
    points: list[str]


class Watcher:
    """Sees every change of one life, and says when it dies."""

    def __init__(self, aim: Aim | None, *, is_listed: bool) -> None:
        self._aim = aim
        self._is_listed = is_listed
        self._matches = 0
        self._dies_at: int | None = None
        self.points: list[str] = []
        self.last = ""

    def see(self, point: Point) -> bool:
        """Take note of a change; return whether the life ends before it."""
        if self._is_listed:
            self.points.append(point.describe())
        if self._aim is None:
            return False
        if self._dies_at is None and (not self._aim.where or re.search(self._aim.where, point.describe())):
            self._matches += 1
            if self._matches == self._aim.number:
                self._dies_at = point.number + self._aim.plus
        if point.number != self._dies_at:
            return False
        self.last = point.describe()
        return True


def live(order: Order) -> Life:
    """Live one life."""
    watcher = Watcher(order.aim, is_listed=order.is_listed)
    code = trace(lambda: _run(order), watcher.see)
    return Life(source=batchbox.__file__, code=code, last=watcher.last, points=watcher.points)


def _run(order: Order) -> int:
    """Be the daemon."""
    signal.alarm(LIFE_SECONDS_MAX)
    log = os.open(order.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    modules = Path(f"{order.log_file}.modules")
    sys.argv = ["batchbox", "run", "--config", order.config_file, "--drain"]
    try:
        batchbox.cli.main()
    except SystemExit as end:
        if order.is_listed:
            modules.write_text("\n".join(sys.modules))
        return end.code if isinstance(end.code, int) else 1
    return 0


def _import_what_it_imported(order: Order) -> None:
    """Import what a life has imported on its way, so that the next ones need not."""
    for name in Path(f"{order.log_file}.modules").read_text().splitlines():
        if name != "__main__":
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def main() -> None:
    """Obey until nobody orders any more."""
    for line in sys.stdin:
        order = _order(json.loads(line))
        life = live(order)
        if order.is_listed:
            _import_what_it_imported(order)
        sys.stdout.write(json.dumps(asdict(life)) + "\n")
        sys.stdout.flush()


def _order(told: dict[str, Any]) -> Order:  # Any: what JSON can hold
    return Order(**{**told, "aim": told["aim"] and Aim(**told["aim"])})


if __name__ == "__main__":
    main()
