"""Starts the child, tells it a file, and hears what is in it.

The child gets the file and its lane's rules through a pipe, and no variable of our environment: there is a key in it.
What kills it, or keeps it busy for too long, ends in a DeathError and touches nobody else.
"""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

import batchbox
from batchbox.alone.messages import FRAME_BYTES_MAX, LENGTH, Order, Told, name_told, rules_told
from batchbox.errors import RejectedError
from batchbox.formats import Draft, Rules

PROGRAM = (sys.executable, "-P", "-m", "batchbox.alone.child")
ENVIRONMENT = {"PYTHONPATH": str(Path(batchbox.__file__).parents[1])}
"""All that the child has: where this very package is."""

START_SECONDS_MAX = 120.0
ANSWER_SECONDS_MAX = 600.0
"""What the child may take for a piece, on a machine that has other things to do. Its computing is bounded lower."""

_SENT_BY_OTHERS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}


class DeathError(Exception):
    """The child ended, or had to be ended, before it had said what is in the file."""

    def __init__(self, how: str, *, may_be_from_outside: bool) -> None:
        super().__init__(how)
        self.may_be_from_outside = may_be_from_outside
        """Whether somebody may have killed it for reasons of their own: the kernel for want of memory, a person."""


class LonelyParser:
    """A parser in another process, fed like one in this."""

    def __init__(self, process: anyio.abc.Process, rules: Rules) -> None:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("it was started with pipes")
        self._process = process
        self._rules = rules
        self._to_child = process.stdin
        self._from_child = BufferedByteReceiveStream(process.stdout)

    async def begin(self, order: Order) -> None:
        """Say which file is to be parsed, and how; wait until the child is ready for it.

        Raises ChildProcessError if it does not come to that: nothing of the file was told, and nothing is its fault.
        """
        try:
            with anyio.fail_after(START_SECONDS_MAX):
                await self._send_or_bury(msgspec.msgpack.encode(order))
                await self._hear_or_bury()
        except (DeathError, TimeoutError) as error:
            raise ChildProcessError(f"the parser did not start: {error}") from error

    async def feed(self, piece: bytes) -> Sequence[Draft]:
        """Tell the next piece, which is not empty; return the requests that it completes.

        Raises DeathError, and RejectedError as the parser does.
        """
        return await self._ask(piece)

    async def finish(self) -> Sequence[Draft]:
        """Tell the end of the file; return what is left. Raises DeathError, and RejectedError as the parser does."""
        return await self._ask(b"")

    async def _ask(self, piece: bytes) -> Sequence[Draft]:
        try:
            with anyio.fail_after(ANSWER_SECONDS_MAX):
                await self._send_or_bury(piece)
                told = await self._hear_or_bury()
                while told.asked_model is not None:
                    await self._send_or_bury(msgspec.msgpack.encode(self._rules.cap(told.asked_model)))
                    told = await self._hear_or_bury()
        except TimeoutError:
            how = f"the parser had no result after {ANSWER_SECONDS_MAX:.0f} s"
            raise DeathError(how, may_be_from_outside=False) from None
        if told.refusal is not None:
            raise RejectedError(told.refusal.reason, told.refusal.detail, told.refusal.what_to_do)
        return told.drafts

    async def _send_or_bury(self, data: bytes) -> None:
        try:
            await self._to_child.send(LENGTH.pack(len(data)))
            if data:
                await self._to_child.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise await self._death() from None

    async def _hear_or_bury(self) -> Told:
        try:
            (length,) = LENGTH.unpack(await self._from_child.receive_exactly(LENGTH.size))
            if length > FRAME_BYTES_MAX:
                raise DeathError("the parser's result had no end", may_be_from_outside=False)
            return msgspec.msgpack.decode(await self._from_child.receive_exactly(length), type=Told)
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
            raise await self._death() from None
        except msgspec.MsgspecError:
            raise DeathError("the parser's result cannot be understood", may_be_from_outside=False) from None

    async def _death(self) -> DeathError:
        code = await self._process.wait()
        if code >= 0:
            return DeathError(f"the parser ended with exit code {code}", may_be_from_outside=False)
        number = signal.Signals(-code)
        return DeathError(f"the parser was ended by {number.name}", may_be_from_outside=number in _SENT_BY_OTHERS)


@asynccontextmanager
async def lonely_parser(name: str, rules: Rules, *, is_long: bool) -> AsyncIterator[LonelyParser]:
    """Parse one file in a process that lives as long as the block. Raises DeathError and OSError."""
    process = await anyio.open_process(
        PROGRAM,
        stderr=subprocess.DEVNULL,  # a traceback may quote what it was about
        env=ENVIRONMENT,
        cwd="/",
        start_new_session=True,  # Ctrl-C in our terminal is not meant for it
    )
    try:
        parser = LonelyParser(process, rules)
        await parser.begin(Order(name=name_told(name), rules=rules_told(rules), is_long=is_long))
        yield parser
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


async def parse_alone(name: str, data: bytes, rules: Rules) -> Sequence[Draft]:
    """Parse a whole file in a process of its own. Raises RejectedError, DeathError and OSError."""
    async with lonely_parser(name, rules, is_long=False) as parser:
        if data:
            await parser.feed(data)
        return await parser.finish()
