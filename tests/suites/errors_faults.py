"""Faults that last: calls of the folder modules that fail with one error until they are cured, and a full database."""

import itertools
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace

from batchbox.folders import outbox
from batchbox.store.database import Database

CALLS: Mapping[str, Sequence[str]] = {
    "open": ("open",),
    "write": ("write",),
    "fsync": ("fsync",),
    "rename": ("rename",),
    "mkdir": ("mkdir",),
    "list": ("listdir", "scandir"),
    "look": ("lstat", "stat", "fstat"),
    "read": ("read",),
    "read a file": ("read",),
    "sample": ("pread",),
    "measure": ("statvfs",),
    "duplicate": ("dup",),
    "everything": (
        *("open", "write", "fsync", "rename", "unlink", "mkdir", "listdir", "scandir", "lstat", "stat", "fstat"),
        *("read", "pread", "statvfs", "dup", "utime"),
    ),
}
"""Kinds of calls, and the names that they have in `os`."""

ONLY_IN: Mapping[str, Sequence[str]] = {"read a file": ("reading", "comparing")}
"""Kinds that fail in some modules alone: without this no file is read, because the root is not known again before."""

LITTLE_ROOM = SimpleNamespace(f_bavail=10, f_frsize=4096, f_blocks=16_000, f_files=16_000, f_favail=15_000)


@dataclass(slots=True)
class Fault:
    """Which calls fail, and how. Switched on and off by the trial."""

    calls: Sequence[str]
    number: int
    """The errno; 0: the calls succeed, and `statvfs` tells of little room."""
    only_in: Sequence[str] = ()
    """The modules whose calls fail; empty: all of them."""
    is_on: bool = False
    hit_count: int = 0

    def meet(self) -> None:
        """Fail, while the fault is there."""
        if self.is_on:
            self.hit_count += 1
            raise OSError(self.number, os.strerror(self.number))


class FaultyOs:
    """The `os` of the folder modules: everything is passed on, and some of it fails."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        return self._failing(real) if name in self._fault.calls else real

    def _failing(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if self._fault.is_on and self._fault.number == 0:
                self._fault.hit_count += 1
                return LITTLE_ROOM
            self._fault.meet()
            return real(*arguments, **options)

        return call


@contextmanager
def installed(fault: Fault) -> Iterator[None]:
    """Give our folder modules this `os`, and the outbox no call that goes past it, while the block lasts."""
    faulty = FaultyOs(fault)
    package = "batchbox.folders."
    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith(package) and (not fault.only_in or name.removeprefix(package) in fault.only_in)
    ]
    given = [module for module in modules if getattr(module, "os", None) is os]
    find_syncfs = outbox._find_syncfs
    try:
        for module in given:
            setattr(module, "os", faulty)  # noqa: B010 - mypy knows that a module's `os` is no variable
        setattr(outbox, "_find_syncfs", lambda: None)  # noqa: B010 - the same
        yield
    finally:
        for module in given:
            setattr(module, "os", os)  # noqa: B010 - the same
        setattr(outbox, "_find_syncfs", find_syncfs)  # noqa: B010 - the same


async def fill(database: Database) -> None:
    """Let a database grow no further, and leave no page free in it."""
    await database._writer.execute("PRAGMA max_page_count = 1")  # as many as it has
    for size in (100_000, 10_000, 1_000, 100):
        with suppress(sqlite3.OperationalError):
            for number in itertools.count():
                await database._writer.execute(f"INSERT INTO meta VALUES ('{size} {number}', '{'x' * size}')")  # noqa: S608


async def empty(database: Database) -> None:
    """Let it grow as far as it likes."""
    await database._writer.execute(f"PRAGMA max_page_count = {1 << 30}")
