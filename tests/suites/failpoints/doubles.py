"""What stands in for our modules' collaborators in one life: `os` in the folder modules, `aiosqlite`, the workspace.

Each passes everything on to the real thing, with a point around whatever changes something. Only module globals of
our own are replaced, and only in the process that the life is lived in.
"""

import contextlib
import errno
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import anyio.lowlevel
from aiosqlite.context import contextmanager

from batchbox.api import (
    ApiTrouble,
    BatchBody,
    BatchInfo,
    BatchPage,
    CreateOutcome,
    Refused,
    Trouble,
    TroubleKind,
    Unknown,
)
from batchbox.folders import outbox, root
from batchbox.model import ApiBatchId
from batchbox.store import database
from pipeline.bench import BenchApi
from pipeline.fake_api import Reply

from .points import CALLS, CHANGES, GROWS, HAS_CHANGED, HAS_HAPPENED, READS, Failpoints, Fault, Place

T = TypeVar("T")

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_ROOT_GROWS = {"write", "mkdir", "rename", "fsync"}
_ROOT_CHANGES = {"unlink", "utime", "chmod", "rmdir", "link"}
_ROOT_READS = {"read", "pread", "lstat", "stat", "fstat", "listdir", "scandir"}
_STATE_CHANGES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "BEGIN")
LIST_BEHIND = timedelta(seconds=40)
"""A batch is in the list so long after it was accepted, by the bench's clock: less than the grace."""
CUT_READING = 2
CUT_LINES_MIN = 3
NO_ANSWER = Trouble(kind=TroubleKind.NETWORK, text="connection reset")


def install(points: Failpoints) -> None:
    """Give our modules their doubles, for the rest of this process's life."""
    faulty = FaultyOs(points)
    for name, module in sorted(sys.modules.items()):
        if name.startswith("batchbox.folders.") and getattr(module, "os", None) is os:
            setattr(module, "os", faulty)  # noqa: B010 - mypy knows that a module's `os` is no variable
    setattr(database, "aiosqlite", FaultySqlite(points))  # noqa: B010 - the same
    setattr(outbox, "_find_syncfs", lambda: faulty.sync_file_system)  # noqa: B010 - the same
    setattr(root, "open_root", _noting_groups(points))  # noqa: B010 - the same


def _noting_groups(points: Failpoints) -> Callable[[Path], AbstractContextManager[int]]:
    @contextlib.contextmanager
    def open_root(path: Path) -> Iterator[int]:
        points.group_is_over.clear()
        try:
            with real(path) as descriptor:
                yield descriptor
        finally:
            points.group_is_over.set()

    real = root.open_root
    points.group_is_over.set()
    return open_root


class FaultyOs:
    """The `os` of the folder modules."""

    def __init__(self, points: Failpoints) -> None:
        self._points = points
        self._written: set[int] = set()  # descriptors that are open for writing

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - Any: whatever `os` has
        real = getattr(os, name)
        if name in _ROOT_READS:
            return self._around(name, real, READS, ())
        if name in _ROOT_GROWS:
            return self._around(name, real, GROWS, HAS_CHANGED)
        if name in _ROOT_CHANGES:
            return self._around(name, real, CHANGES, HAS_CHANGED)
        return real

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """Open a file, which may make it."""
        before = GROWS if flags & os.O_CREAT else CHANGES if flags & os.O_TRUNC else READS
        after = HAS_CHANGED if flags & (os.O_CREAT | os.O_TRUNC) else ()
        self._reach("before open", before)
        descriptor = os.open(path, flags, mode, dir_fd=dir_fd)
        if flags & _WRITING:
            self._written.add(descriptor)
        self._reach("after open", after)
        return descriptor

    def close(self, descriptor: int) -> None:
        """Close a file, which may tell that writing it has failed."""
        os.close(descriptor)
        if descriptor in self._written:
            self._written.discard(descriptor)
            self._reach("after close", HAS_CHANGED)

    def sync_file_system(self, descriptor: int) -> None:
        """Make everything durable; nothing to do where there is no disk."""
        del descriptor
        self._reach("before syncfs", GROWS)

    def _around(
        self, name: str, real: Callable[..., T], before: Sequence[Fault], after: Sequence[Fault]
    ) -> Callable[..., T]:
        def call(*arguments: object, **keywords: object) -> T:
            self._reach(f"before {name}", before)
            result = real(*arguments, **keywords)
            self._reach(f"after {name}", after)
            return result

        return call

    def _reach(self, label: str, faults: Sequence[Fault]) -> None:
        if faults and not self._points.group_is_over.is_set():
            self._points.reach(Place.ROOT, f"{label} {_caller()}", faults, error=_disk_error)


def _caller() -> str:
    frame = sys._getframe(2)
    while frame.f_back is not None and "/batchbox/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return f"in {os.path.basename(frame.f_code.co_filename)}, {frame.f_code.co_name}"


def _disk_error(fault: Fault) -> OSError:
    number = errno.ENOSPC if fault is Fault.FULL else errno.EIO
    return OSError(number, os.strerror(number))


class FaultySqlite:
    """The `aiosqlite` of the store."""

    def __init__(self, points: Failpoints) -> None:
        self._points = points

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - Any: whatever `aiosqlite` has
        return getattr(aiosqlite, name)

    @asynccontextmanager
    async def connect(self, path: Path, **keywords: Any) -> AsyncIterator["FaultyConnection"]:  # noqa: ANN401 - as theirs
        """Open a database."""
        async with aiosqlite.connect(path, **keywords) as connection:
            yield FaultyConnection(connection, self._points)


class FaultyConnection:
    """A connection of the store's."""

    def __init__(self, real: aiosqlite.Connection, points: Failpoints) -> None:
        self._real = real
        self._points = points

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - Any: whatever a connection has
        return getattr(self._real, name)

    @contextmanager
    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> aiosqlite.Cursor:
        """Run a statement."""
        self._before(sql)
        return await self._real.execute(sql, parameters)

    @contextmanager
    async def executemany(self, sql: str, parameters: Iterable[Sequence[object]]) -> aiosqlite.Cursor:
        """Run a statement for every row."""
        self._before(sql)
        return await self._real.executemany(sql, parameters)

    @contextmanager
    async def execute_fetchall(self, sql: str, parameters: Sequence[object] = ()) -> Iterable[sqlite3.Row]:
        """Run a statement and return its rows."""
        self._before(sql)
        return await self._real.execute_fetchall(sql, parameters)

    async def commit(self) -> None:
        """Commit."""
        self._reach("before commit", GROWS)
        await self._real.commit()
        self._reach("after commit", HAS_HAPPENED)

    def _before(self, sql: str) -> None:
        self._reach(f"before {sql[:60]!r}", GROWS if sql.startswith(_STATE_CHANGES) else READS)

    def _reach(self, label: str, faults: Sequence[Fault]) -> None:
        self._points.reach(Place.STATE, label, faults, error=_database_error)


def _database_error(fault: Fault) -> sqlite3.OperationalError:
    is_full = fault is Fault.FULL
    error = sqlite3.OperationalError("database or disk is full" if is_full else "disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL if is_full else sqlite3.SQLITE_IOERR
    error.sqlite_errorname = "SQLITE_FULL" if is_full else "SQLITE_IOERR"
    return error


class Workspace(BenchApi):
    """The workspace, with a point around each call and between the pieces of what is sent and read."""

    def __init__(self, wall: Callable[[], datetime], keep: Callable[[], None]) -> None:
        super().__init__(wall)
        self._keep = keep  # writes down what happened here, before anybody is told of it
        self.failpoints: Failpoints | None = None
        self.readings: Counter[ApiBatchId] = Counter()

    async def create(self, body: BatchBody, *, betas: object) -> CreateOutcome:
        """Take a batch, and another program's of the same size when nobody will hear of ours."""
        try:
            self._reach("before create")
            is_lost = bool(self.replies) and self.replies[0] is Reply.LOSE
            outcome = await super().create(_Watched(body, self._reach), betas=betas)
            if is_lost and not isinstance(outcome, Refused):
                self.add_foreign(body.request_count, has_ended=False)
            self._keep()
            self._reach("after create")
            await anyio.lowlevel.checkpoint()  # a stop may come before the answer does
        except ApiTrouble as error:
            return Unknown(trouble=error.trouble)
        return outcome

    async def list_batches(self, *, limit: int, after_id: ApiBatchId | None = None) -> BatchPage:
        """Return a page, newest first; the list is behind what has happened."""
        self._reach("before list")
        known_since = self._wall() - LIST_BEHIND
        hidden = [batch for batch in self.batches if batch.created_at > known_since and not batch.is_deleted]
        for batch in hidden:
            batch.is_deleted = True
        page = await super().list_batches(limit=limit, after_id=after_id)
        for batch in hidden:
            batch.is_deleted = False
        return page

    async def retrieve(self, batch_id: ApiBatchId) -> BatchInfo:
        """Return one batch."""
        self._reach("before retrieve")
        return await super().retrieve(batch_id)

    @asynccontextmanager
    async def results(self, batch_id: ApiBatchId) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream a batch's lines; the second stream of a batch of several is cut after its first line."""
        self._reach("before results")
        self.readings[batch_id] += 1
        self.cut_results_after.clear()
        if self.readings[batch_id] == CUT_READING and len(self._find(batch_id).lines) >= CUT_LINES_MIN:
            self.cut_results_after.append(1)
        self._keep()
        async with super().results(batch_id) as pieces:
            yield self._watched(pieces)

    async def _watched(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece
            self._reach("between pieces of results")

    def _reach(self, label: str) -> None:
        assert self.failpoints is not None, "nobody calls before the life has begun"
        self.failpoints.reach(Place.API, label, CALLS, error=lambda _: ApiTrouble(NO_ANSWER))


class _Watched:
    """A body, with a point after each piece."""

    def __init__(self, body: BatchBody, reach: Callable[[str], None]) -> None:
        self._body = body
        self._reach = reach
        self.size_bytes = body.size_bytes
        self.request_count = body.request_count

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            self._reach("between pieces of a create's body")
            yield piece
