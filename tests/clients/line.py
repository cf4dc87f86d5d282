"""The line between a client and a server: it can be slow, stand still, and be cut off."""

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from .servers import LOOPBACK

PIECE_BYTES = 16 * 1024


class Line:
    """Passes on whatever comes, both ways, through a port of its own."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self._server_port = server_port
        self._bytes_per_second: int | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._calls: set[asyncio.Task[None]] = set()

    @contextmanager
    def slowed(self, *, bytes_per_second: int) -> Iterator[None]:
        """Let the server receive only so much while the block lasts."""
        self._bytes_per_second = bytes_per_second
        try:
            yield
        finally:
            self._bytes_per_second = None

    def stall(self) -> None:
        """Keep back what the server is to receive."""
        self._flows.clear()

    def go_on(self) -> None:
        """Pass on what was kept back, and everything after it."""
        self._flows.set()

    async def cut(self) -> None:
        """End every connection, without a word to either side."""
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        self.go_on()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Take calls while the block lasts."""
        server = await asyncio.start_server(self._take_call, LOOPBACK, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await self.cut()

    async def _take_call(self, from_client: StreamReader, to_client: StreamWriter) -> None:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        with contextlib.suppress(OSError, asyncio.CancelledError):  # whoever ends it, it has ended
            await self._connect(from_client, to_client)
        self._calls.discard(call)

    async def _connect(self, from_client: StreamReader, to_client: StreamWriter) -> None:
        to_server = None
        try:
            from_server, to_server = await asyncio.open_connection(LOOPBACK, self._server_port)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._send(from_client, to_server))
                ways.create_task(_bring(from_server, to_client))
        except* OSError:
            pass
        finally:
            to_client.transport.abort()
            if to_server is not None:
                to_server.transport.abort()

    async def _send(self, reader: StreamReader, writer: StreamWriter) -> None:
        while data := await reader.read(PIECE_BYTES):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
            if self._bytes_per_second is not None:
                await asyncio.sleep(len(data) / self._bytes_per_second)
        writer.write_eof()


async def _bring(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(PIECE_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


@asynccontextmanager
async def line_to(server_port: int) -> AsyncIterator[Line]:
    """Lay a line to the port, for as long as the block lasts."""
    line = Line(server_port)
    async with line.opened():
        yield line
