"""Those who drop files. Each writes on in its own way, whatever happens to the daemons and to their view of the share.

They work through descriptors that they opened before anything happened, as a file server does. Where a pause decides
what the daemon may rightly conclude, it is measured: a machine that is busy makes pauses longer than they were meant.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from .drops import Book, Drop, Fate, Kind

QUIET_SECONDS = 0.4
WINDOW_SECONDS = 1.0
"""A file that a window was opened for is looked at once more when that is over: pauses up to then are noticed."""
LONG_AGO = 1_000_000_000
TAKEN_SECONDS_MAX = 120.0
"""How long a writer waits for its file to be taken before it goes on all the same."""
_LOOK_SECONDS = 0.05
_FILLER = "and so it goes on, word by word, "


class Writer:
    """One writer with its own lane or none, its own chance, and one file at a time."""

    def __init__(self, number: int, kind: Kind, root: Path, book: Book, *, seed: int) -> None:
        self.kind = kind
        self._book = book
        self._number = number
        self._count = 0
        self._random = random.Random(f"{seed}/{kind}/{number}")  # noqa: S311 - to be repeatable, not to be secret
        self._lane = f"{kind}-{number}" if kind in _ALONE else ""
        inbox = root / "inbox" / self._lane
        inbox.mkdir(exist_ok=True)
        self._inbox = os.open(inbox, os.O_RDONLY | os.O_DIRECTORY)
        self._done = os.open(root / "done", os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._inbox)
        os.close(self._done)

    async def drop(self) -> None:
        """Drop one file, and write down how that went."""
        self._count += 1
        drop = self._next()
        await _WAYS[self.kind](self, drop)
        self._book.drops.append(drop)
        if self.kind in _ALONE:
            await self._until(lambda: self._is_done(drop.name))
        await asyncio.sleep(self._random.uniform(0, 0.1))

    def _next(self) -> Drop:
        id_ = f"{self.kind}-{self._number}-{self._count}"
        if self.kind is Kind.APPENDING:
            texts = [self._text(f"{id_}-{line}") for line in range(1, 4)]
            content = "".join(json.dumps({"messages": [{"role": "user", "content": text}]}) + "\n" for text in texts)
            return self._drop(id_, f"{id_}.jsonl", texts, content)
        text = self._text(id_)
        name = f"again-{self._number % 3}.md" if self.kind is Kind.AGAIN else f"{id_}.md"
        return self._drop(id_, name, [text], text)

    def _text(self, id_: str) -> str:
        return f"{id_}: {_FILLER * self._random.randint(3, 60)}and this is the end of {id_}."

    def _drop(self, id_: str, name: str, texts: list[str], content: str) -> Drop:
        return Drop(id=id_, kind=self.kind, name=name, lane=self._lane, texts=texts, content=content.encode())

    async def at_once(self, drop: Drop) -> None:
        """Write it hidden, then rename it."""
        hidden = f".{drop.id}"
        self._append(hidden, drop.content, os.O_CREAT | os.O_EXCL)
        os.rename(hidden, drop.name, src_dir_fd=self._inbox, dst_dir_fd=self._inbox)

    async def slowly(self, drop: Drop) -> None:
        """Write it in pieces, without ever being quiet."""
        await self._in_pieces(drop, pause=lambda: QUIET_SECONDS * self._random.uniform(0.1, 0.4), longest=QUIET_SECONDS)

    async def stalling(self, drop: Drop) -> None:
        """Write it in two pieces, and be quiet between them."""
        await self._in_pieces(
            drop,
            count=2,
            pause=lambda: QUIET_SECONDS * self._random.uniform(1.2, 2.5),
            longest=QUIET_SECONDS + WINDOW_SECONDS,
        )

    async def preallocating(self, drop: Drop) -> None:
        """Give it its length first, and fill it; the time of its last change is as old as before, all the while."""
        descriptor = self._open(drop.name, os.O_CREAT | os.O_EXCL)
        try:
            os.ftruncate(descriptor, len(drop.content))
            os.utime(descriptor, (LONG_AGO, LONG_AGO))
            for start, piece in _pieces(drop.content, 3):
                await asyncio.sleep(QUIET_SECONDS * self._random.uniform(0.5, 3))
                os.pwrite(descriptor, piece, start)
                os.utime(descriptor, (LONG_AGO, LONG_AGO))
        finally:
            os.close(descriptor)

    async def appending(self, drop: Drop) -> None:
        """Append it in pieces that end in the middle of a line."""
        rest = b""
        for line in drop.content.splitlines(keepends=True):
            self._append(drop.name, rest + line[:20], os.O_CREAT | os.O_APPEND)
            rest = line[20:]
            await asyncio.sleep(QUIET_SECONDS * self._random.uniform(0.5, 3))
        self._append(drop.name, rest, os.O_CREAT | os.O_APPEND)

    async def again(self, drop: Drop) -> None:
        """Drop it under its name as soon as that is free."""
        await self._until(lambda: not self._is_there(drop.name))
        await self.at_once(drop)

    async def canceled(self, drop: Drop) -> None:
        """Drop it, think better of it, and delete it if it is still there."""
        await self.at_once(drop)
        await asyncio.sleep(QUIET_SECONDS * self._random.uniform(0, 3))
        try:
            os.unlink(drop.name, dir_fd=self._inbox)
        except FileNotFoundError:
            return
        drop.fate = Fate.DELETED

    async def _in_pieces(self, drop: Drop, *, pause: Callable[[], float], longest: float, count: int = 4) -> None:
        """Write it in pieces; it is excused if a pause was longer than can be noticed, or nearly so."""
        descriptor = self._open(drop.name, os.O_CREAT | os.O_EXCL)
        try:
            written_at = time.monotonic()
            for start, piece in _pieces(drop.content, count):
                if start:
                    await asyncio.sleep(pause())
                if time.monotonic() - written_at > 0.8 * longest:
                    drop.fate = Fate.EXCUSED
                os.write(descriptor, piece)
                written_at = time.monotonic()
        finally:
            os.close(descriptor)

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, os.O_WRONLY | os.O_CLOEXEC | flags, 0o664, dir_fd=self._inbox)

    def _append(self, name: str, data: bytes, flags: int) -> None:
        descriptor = self._open(name, flags)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TAKEN_SECONDS_MAX
        while not is_so() and time.monotonic() < deadline:  # noqa: ASYNC110 - a folder rings no bell
            await asyncio.sleep(_LOOK_SECONDS)

    def _is_there(self, name: str) -> bool:
        try:
            os.lstat(name, dir_fd=self._inbox)
        except FileNotFoundError:
            return False
        return True

    def _is_done(self, name: str) -> bool:
        try:
            os.lstat(f"{self._lane}/{name}", dir_fd=self._done)
        except FileNotFoundError:
            return False
        return True


_ALONE = {Kind.STALLING}
"""Kinds that have a lane for each writer, with one file at a time: so the window is opened for that file."""

_WAYS: Mapping[Kind, Callable[[Writer, Drop], Awaitable[None]]] = {
    Kind.ATOMIC: Writer.at_once,
    Kind.SLOW: Writer.slowly,
    Kind.STALLING: Writer.stalling,
    Kind.PREALLOCATING: Writer.preallocating,
    Kind.APPENDING: Writer.appending,
    Kind.AGAIN: Writer.again,
    Kind.CANCELED: Writer.canceled,
}


def _pieces(content: bytes, count: int) -> list[tuple[int, bytes]]:
    size = -(-len(content) // count)
    return [(start, content[start : start + size]) for start in range(0, len(content), size)]
