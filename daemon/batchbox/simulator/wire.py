"""What faults do to a connection and to an answer on its way out.

A connection is ended by its transport, which the server puts into each request's state; the empty response that is
returned then goes nowhere, because the server sends nothing to a client that has gone.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from batchbox.simulator.faults import Fault, FaultKind
from batchbox.simulator.refusals import error_body

STATE_PROTOCOL = "protocol"
"""Under this name a request's state holds the protocol of its connection."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_HTML = (
    b"<!DOCTYPE html>\n<html><head><title>Gateway</title></head><body><h1>Please try again later</h1></body></html>\n"
)


def json_response(value: object, *, status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


async def instead(fault: Fault, request: Request, request_id: str) -> Response | None:
    """Act for a fault that keeps the call from being done. Returns None for every other fault."""
    response: Response | None = None
    match fault.kind:
        case FaultKind.RESET_BEFORE:
            response = await _reset(request)
        case FaultKind.RESET_MID_BODY:
            await _read_some(request, fault.at_bytes)
            response = await _reset(request)
        case FaultKind.STATUS:
            response = _status(fault, request_id)
        case FaultKind.HTML:
            response = _html(fault)
        case FaultKind.NOT_FOUND:
            response = json_response(error_body("not_found_error", "Not found", request_id), status=404)
        case FaultKind.REDIRECT:
            response = Response(status_code=307, headers={"location": fault.location})
    return response


async def spoilt(fault: Fault, request: Request, response: Response, *, request_id: str) -> Response:
    """Return what the caller gets of the answer to a call that was done."""
    match fault.kind:
        case FaultKind.LOST_REPLY | FaultKind.SLOW_COMMIT:
            response = await _hang_up(request)
        case FaultKind.SLOW_REPLY:
            await _stay_connected(request, fault.seconds)
        case FaultKind.STATUS_AFTER:
            response = _of_same_account(_status(fault, request_id), response)
        case FaultKind.HTML_AFTER:
            response = _html(fault)
        case FaultKind.CUT_JSON:
            half = bytes(response.body)[: len(response.body) // 2]
            cut = Response(half, status_code=response.status_code, media_type="application/json")
            response = _of_same_account(cut, response)
        case FaultKind.WRONG_COUNT if response.status_code == 200:
            response = _of_same_account(_miscounted(response), response)
    return response


def stream(request: Request, pieces: Iterator[bytes], *, is_cut: bool) -> Response:
    """Return a response that streams the pieces; one that is cut ends with the connection, not by itself."""
    return StreamingResponse(_sent(request, pieces, is_cut=is_cut), media_type="application/x-jsonl")


async def _sent(request: Request, pieces: Iterator[bytes], *, is_cut: bool) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)  # whoever shares the loop with the simulator gets a turn between pieces
    if is_cut:
        _transport(request).close()  # what was written goes out; the end of the response, written next, does not


def _status(fault: Fault, request_id: str) -> Response:
    response = json_response(error_body(fault.error_type, fault.message, request_id), status=fault.status or 500)
    response.headers.update(fault.headers)
    return response


def _html(fault: Fault) -> Response:
    return Response(_HTML, status_code=fault.status or 200, media_type="text/html")


def _miscounted(response: Response) -> Response:
    batch = msgspec.json.decode(response.body)
    batch["request_counts"]["processing"] += 1
    return json_response(batch)


def _of_same_account(spoilt: Response, response: Response) -> Response:
    """Let the spoilt answer name the account as the true one does: it comes from the API, not from a gateway."""
    spoilt.headers.update({key: value for key, value in response.headers.items() if key.startswith("anthropic-")})
    return spoilt


async def _stay_connected(request: Request, seconds: float) -> None:
    """Return after the time, or as soon as the client has gone."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _disconnected(request)


async def _hang_up(request: Request) -> Response:
    """End the connection in order, without an answer."""
    _transport(request).abort()
    await _disconnected(request)
    return Response()


async def _reset(request: Request) -> Response:
    """End the connection with a TCP reset."""
    connection: socket.socket = _transport(request).get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return await _hang_up(request)


async def _read_some(request: Request, at_bytes: int) -> None:
    received = 0
    async for piece in request.stream():
        received += len(piece)
        if received >= at_bytes:
            return


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _transport(request: Request) -> asyncio.Transport:
    protocol: H11Protocol = request.scope["state"][STATE_PROTOCOL]
    return protocol.transport
