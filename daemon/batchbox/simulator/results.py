"""The stream of results: lines gathered into pieces that do not end where lines end, and what faults do to them."""

from collections.abc import Iterator
from itertools import chain, islice

from batchbox.simulator.answers import EXPIRED, line
from batchbox.simulator.faults import Fault, FaultKind

PIECE_BYTES = 64 * 1024

FOREIGN_CUSTOM_ID = "nobody-asked-for-this"


def faulty(lines: Iterator[bytes], fault: Fault | None) -> Iterator[bytes]:
    """Return the lines as the fault leaves them; a cut at a number of bytes is left to `pieces`."""
    if fault is None:
        return lines
    number = fault.line or 0
    match fault.kind:
        case FaultKind.CUT_RESULTS if fault.line is not None:
            lines = islice(lines, number)
        case FaultKind.MISSING_LINE:
            lines = chain(islice(lines, number), islice(lines, 1, None))
        case FaultKind.DUPLICATE_LINE:
            lines = (text for at, once in enumerate(lines) for text in [once] * (2 if at == number else 1))
        case FaultKind.FOREIGN_LINE:
            lines = chain(islice(lines, number), [line(EXPIRED, FOREIGN_CUSTOM_ID, batch_id="")], lines)
        case FaultKind.OVERLONG_LINE:
            lines = (_drawn_out(text, fault.at_bytes) if at == number else text for at, text in enumerate(lines))
    return lines


def pieces(lines: Iterator[bytes], fault: Fault | None) -> Iterator[bytes]:
    """Yield the lines as a stream of bytes, up to where a fault cuts it."""
    stream = _regrouped(lines)
    if fault is None or fault.kind is not FaultKind.CUT_RESULTS or fault.line is not None:
        return stream
    return _first_bytes(stream, fault.at_bytes)


def _drawn_out(text: bytes, by_bytes: int) -> bytes:
    return text.removesuffix(b"}\n") + b" " * by_bytes + b"}\n"


def _regrouped(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Gather short lines and divide long ones, in time linear in the bytes."""
    parts: list[bytes] = []
    gathered = 0
    for text in lines:
        view = memoryview(text)
        while gathered + len(view) >= PIECE_BYTES:
            take = PIECE_BYTES - gathered
            yield b"".join([*parts, view[:take]])
            view, parts, gathered = view[take:], [], 0
        if view:
            parts.append(bytes(view))
            gathered += len(view)
    if parts:
        yield b"".join(parts)


def _first_bytes(stream: Iterator[bytes], limit: int) -> Iterator[bytes]:
    for piece in stream:
        yield piece[:limit]
        limit -= len(piece)
        if limit <= 0:
            return
