"""The program that parses one file, started by `parent`. It knows no settings, no folders and no secrets.

Nothing that it does wrong has to be handled here: it ends, and that is what its parent looks at.
"""

import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import BinaryIO, Protocol, TypeVar, get_type_hints

import msgspec

from batchbox.alone.messages import LENGTH, Order, Refusal, Told, name_heard
from batchbox.errors import RejectedError
from batchbox.formats import Draft, JsonLinesParser, Rules, parse_file

T = TypeVar("T")

MEMORY_BYTES_MAX = 768 * 1024 * 1024
"""Of address space. The largest file that may be read needs a third of it."""
CPU_SECONDS_MAX = 120
"""The largest file that is read in one piece needs a few; a long one has as much for every so many bytes."""
BYTES_PER_CPU_SECOND = 1024 * 1024


class Channel:
    """The pipes to the parent."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def receive(self) -> bytes:
        """Return the next frame. Raises EOFError if the parent has gone."""
        return self._read(LENGTH.unpack(self._read(LENGTH.size))[0])

    def tell(self, told: Told) -> None:
        """Send what there is to say."""
        data = msgspec.msgpack.encode(told)
        self._outgoing.write(LENGTH.pack(len(data)))
        self._outgoing.write(data)
        self._outgoing.flush()

    def cap(self, model: str) -> int | None:
        """Ask for the cap of a model."""
        self.tell(Told(asked_model=model))
        return msgspec.msgpack.decode(self.receive(), type=int | None)

    def _read(self, length: int) -> bytes:
        data = self._incoming.read(length)
        if len(data) < length:
            raise EOFError("the parent has gone")
        return data


class Parser(Protocol):
    """What takes a file piece by piece."""

    def feed(self, chunk: bytes) -> list[Draft]:
        """Take the next piece; return the requests that it completes."""

    def finish(self) -> list[Draft]:
        """Return what is left. Raises RejectedError."""


class WholeFile:
    """Takes the pieces of a file that is parsed when all of it is there."""

    def __init__(self, name: str, rules: Rules) -> None:
        self._name = name
        self._rules = rules
        self._pieces: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Draft]:
        """Keep the piece."""
        self._pieces.append(chunk)
        return []

    def finish(self) -> list[Draft]:
        """Parse the file. Raises RejectedError."""
        return parse_file(self._name, b"".join(self._pieces), self._rules)


def limit_memory() -> None:
    """Let this process take so much address space and no more, and leave no core behind."""
    _lower(resource.RLIMIT_AS, MEMORY_BYTES_MAX)
    _lower(resource.RLIMIT_CORE, 0)


def limit_time(size_bytes: int) -> None:
    """Let this process compute for as long as any sound file of this size needs, from its start on."""
    _lower(resource.RLIMIT_CPU, CPU_SECONDS_MAX + size_bytes // BYTES_PER_CPU_SECOND)


def _lower(what: int, limit: int) -> None:
    """Set the limit that the process feels; whoever started us may have set a lower one for good."""
    _, most = resource.getrlimit(what)
    with suppress(OSError, ValueError):  # a limit that the system does not offer is not the file's fault
        resource.setrlimit(what, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


def parse(channel: Channel) -> None:
    """Parse the file that comes through the channel, and say what is in it."""
    order = msgspec.msgpack.decode(channel.receive(), type=Order)
    parser = _parser(order, _rules(order.rules, channel.cap))
    channel.tell(Told())
    size_bytes = 0
    is_last = False
    while not is_last:
        piece = channel.receive()
        size_bytes += len(piece)
        limit_time(size_bytes)
        is_last = not piece
        try:
            told = Told(drafts=parser.finish() if is_last else parser.feed(piece))
        except RejectedError as error:
            refusal = Refusal(reason=error.reason, detail=error.detail, what_to_do=error.what_to_do)
            told = Told(refusal=refusal)
        channel.tell(told)


def _parser(order: Order, rules: Rules) -> Parser:
    name = name_heard(order.name)
    return JsonLinesParser(name, rules) if order.is_long else WholeFile(name, rules)


def _rules(told: dict[str, object], cap: Callable[[str], int | None]) -> Rules:
    types = get_type_hints(Rules)
    values = {name: msgspec.convert(value, types[name]) for name, value in told.items()}
    return Rules(**values, cap=lru_cache(maxsize=1024)(cap))


if __name__ == "__main__":
    limit_memory()
    limit_time(0)
    parse(Channel(sys.stdin.buffer, sys.stdout.buffer))
