"""The adapter to the SDK: what it puts on the wire, how often, and what it makes of every kind of answer.

Outcomes are tabled against a transport that never leaves the process; claims about the wire itself are made against a
raw server on loopback, which keeps what arrived.
"""

import asyncio
import contextlib
import gzip
import json
import logging
import os
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from batchbox.anthropic_api import open_api
from batchbox.api import (
    Accepted,
    ApiTrouble,
    BatchesApi,
    CreateOutcome,
    ModelInfo,
    Refused,
    SurelyNot,
    TroubleKind,
    Unknown,
)
from batchbox.environment import drop_environment
from batchbox.errors import ConfigurationError
from batchbox.model import OUTPUT_300K_BETA, ApiBatchId

KEY = "canary-key-7f3a"
BATCH_ID = ApiBatchId("msgbatch_013Zva2CMHLNnXjNJJKqJ2EF")
BETAS = [OUTPUT_300K_BETA, "another-2026-01-01"]
HTML = b"<html><body>Welcome to the hotel's network</body></html>"

Reply = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class PiecesBody:
    """A body of ready-made pieces that can be iterated any number of times."""

    def __init__(self, pieces: Sequence[bytes], *, request_count: int = 2) -> None:
        self.pieces = pieces
        self.size_bytes = sum(map(len, pieces))
        self.request_count = request_count

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


class BrokenBody:
    """A body whose source fails before its last piece."""

    size_bytes = 100
    request_count = 2

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x" * 99
        raise RuntimeError("the store is gone")


BODY = PiecesBody([b'{"requests":[', b"{},", b"{}", b"]}"])


def batch_json(*, processing: int = 2, **changes: object) -> dict[str, object]:
    """Return a batch as the API's documentation shows it, with these changes."""
    counts = {"processing": processing, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    return {
        "id": BATCH_ID,
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": counts,
        "ended_at": None,
        "created_at": "2026-08-20T18:37:24.100435Z",
        "expires_at": "2026-08-21T20:37:24.100435+02:00",
        "results_url": "https://elsewhere.invalid/results",
        **changes,
    }


def error_json(error_type: str, message: str = "the API's words") -> bytes:
    error = {"type": "error", "error": {"type": error_type, "message": message}, "request_id": "req_1"}
    return json.dumps(error).encode()


@dataclass
class Arrival:
    """One request as the raw server read it."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class RawServer:
    """A server on loopback that keeps what arrives and answers as it is told."""

    base_url: str
    arrivals: list[Arrival] = field(default_factory=list)
    connection_count: int = 0


@asynccontextmanager
async def raw_server(reply: Reply, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connection_count += 1
        try:
            server.arrivals.append(await read_request(reader))
            await reply(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone: that is what some tests are about
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    server = RawServer(f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    async with listener:
        yield server


async def read_request(reader: asyncio.StreamReader) -> Arrival:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *rest = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (header.split(": ", 1) for header in rest)}
    return Arrival(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


def answering(status: int, body: bytes, *headers: str, missing: int = 0) -> Reply:
    """Answer with this; `missing` bytes are announced and never sent."""

    async def reply(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body) + missing}", "connection: close", *headers]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    return reply


def answering_json(answer: object, *headers: str, missing: int = 0) -> Reply:
    return answering(200, json.dumps(answer).encode(), "content-type: application/json", *headers, missing=missing)


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Close without an answer."""


async def fall_silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the client gives up


async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a byte at a time, never silent and never done."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


def api_at(
    base_url: str, *, create_timeout_seconds: float = 20, ca_file: Path | None = None
) -> AbstractAsyncContextManager[BatchesApi]:
    return open_api(
        base_url=base_url,
        api_key=KEY,
        timeout_seconds=10,
        create_timeout_seconds=create_timeout_seconds,
        ca_file=ca_file,
    )


def api_over(handler: Callable[[httpx2.Request], httpx2.Response]) -> AbstractAsyncContextManager[BatchesApi]:
    """Open the API over a transport that reads the whole body and then asks the handler."""

    async def handle(request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        return handler(request)

    return open_api(
        base_url="https://api.invalid/gateway",
        api_key=KEY,
        timeout_seconds=10,
        create_timeout_seconds=10,
        workspace_id="wrkspc_1",
        transport=httpx2.MockTransport(handle),
    )


async def create_over(response: httpx2.Response) -> CreateOutcome:
    async with api_over(lambda _request: response) as api:
        return await api.create(BODY, betas=BETAS)


# What a create call makes of every kind of answer.


async def test_a_create_that_succeeds_returns_the_batch_as_the_api_describes_it() -> None:
    response = httpx2.Response(200, json=batch_json(), headers={"request-id": "req_9"})

    outcome = await create_over(response)

    assert isinstance(outcome, Accepted)
    assert outcome.request_id == "req_9"
    assert outcome.batch.id == BATCH_ID
    assert outcome.batch.counts.total == 2
    assert outcome.batch.created_at == datetime(2026, 8, 20, 18, 37, 24, 100435, UTC)
    assert outcome.batch.expires_at == datetime(2026, 8, 21, 18, 37, 24, 100435, UTC)
    assert outcome.batch.expires_at.tzinfo is UTC
    assert outcome.batch.ended_at is None
    assert not outcome.batch.has_ended


@pytest.mark.parametrize(
    ("status", "content", "expected", "kind"),
    [
        (400, error_json("invalid_request_error"), Refused, None),
        (413, error_json("request_too_large"), Refused, None),
        (413, HTML, Refused, None),
        (413, b"", Refused, None),
        (400, error_json("invalid_request_error", "Your credit balance is too low"), SurelyNot, TroubleKind.BILLING),
        (401, error_json("authentication_error"), SurelyNot, TroubleKind.KEY),
        (402, error_json("billing_error"), SurelyNot, TroubleKind.BILLING),
        (403, error_json("permission_error"), SurelyNot, TroubleKind.KEY),
        (404, error_json("not_found_error"), SurelyNot, TroubleKind.CLIENT),
        (429, error_json("rate_limit_error"), SurelyNot, TroubleKind.RATE_LIMIT),
        (529, error_json("overloaded_error"), SurelyNot, TroubleKind.OVERLOADED),
        (400, HTML, Unknown, TroubleKind.SERVER),
        (400, b'{"error":"bad request"}', Unknown, TroubleKind.SERVER),
        (400, b'{"type":"error","error":{"type":7,"message":"x"}}', Unknown, TroubleKind.SERVER),
        (400, b'{"type":"error","error":{"type":"\xff","message":"x"}}', Unknown, TroubleKind.SERVER),
        (400, b"[" * 200_000, Unknown, TroubleKind.SERVER),
        (403, HTML, Unknown, TroubleKind.SERVER),
        (404, b"", Unknown, TroubleKind.SERVER),
        (408, error_json("timeout_error"), Unknown, TroubleKind.SERVER),
        (409, error_json("conflict_error"), Unknown, TroubleKind.SERVER),
        (429, HTML, Unknown, TroubleKind.RATE_LIMIT),
        (307, b"", Unknown, TroubleKind.SERVER),
        (500, error_json("api_error"), Unknown, TroubleKind.SERVER),
        (502, HTML, Unknown, TroubleKind.SERVER),
        (504, error_json("timeout_error"), Unknown, TroubleKind.SERVER),
        (200, HTML, Unknown, TroubleKind.SERVER),
        (200, b"", Unknown, TroubleKind.SERVER),
        (204, b"", Unknown, TroubleKind.SERVER),
        (200, b'"msgbatch_1"', Unknown, TroubleKind.SERVER),
        (200, b"[" * 200_000, Unknown, TroubleKind.SERVER),
        (200, b'{"id":"\xff"}', Unknown, TroubleKind.SERVER),
    ],
)
async def test_every_answer_to_a_create_has_its_outcome(
    status: int, content: bytes, expected: type[CreateOutcome], kind: TroubleKind | None
) -> None:
    outcome = await create_over(httpx2.Response(status, content=content))

    assert type(outcome) is expected
    if isinstance(outcome, SurelyNot | Unknown):
        assert outcome.trouble.kind is kind
        assert outcome.trouble.status == status
    if isinstance(outcome, Refused):
        assert outcome.too_large == (status == 413)


@pytest.mark.parametrize(
    "changes",
    [
        {"processing": 3},
        {"type": "message"},
        {"request_counts": {"processing": 2}},
        {"created_at": "2026-08-20T18:37:24"},
        {"expires_at": None},
    ],
)
async def test_an_id_in_a_2xx_that_does_not_fit_is_a_candidate(changes: dict[str, object]) -> None:
    outcome = await create_over(httpx2.Response(200, json=batch_json(**changes)))  # type: ignore[arg-type]  # one of them is an int

    assert isinstance(outcome, Unknown)
    assert outcome.candidate_id == BATCH_ID


@pytest.mark.parametrize("odd_id", ["../../v1/files", "msgbatch_1\n", "", 7, None])
async def test_an_id_that_no_path_should_hold_is_neither_accepted_nor_a_candidate(odd_id: object) -> None:
    outcome = await create_over(httpx2.Response(200, json=batch_json(id=odd_id)))

    assert isinstance(outcome, Unknown)
    assert outcome.candidate_id is None


async def test_what_the_server_asks_to_wait_is_passed_on() -> None:
    response = httpx2.Response(429, content=error_json("rate_limit_error"), headers={"retry-after": "17"})

    outcome = await create_over(response)

    assert isinstance(outcome, SurelyNot)
    assert outcome.trouble.retry_after_seconds == 17


async def test_a_key_that_the_server_echoes_is_shown_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="batchbox")
    response = httpx2.Response(401, content=error_json("authentication_error", f"bad key {KEY}!"))

    outcome = await create_over(response)

    assert isinstance(outcome, SurelyNot)
    assert outcome.trouble.text == "401 authentication_error: bad key [the API key]!"
    assert not [record for record in caplog.records if KEY in str(record.__dict__)]


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ConnectError("refused"),
        httpx2.ConnectTimeout("slow"),
        httpx2.PoolTimeout("busy"),
        httpx2.ProxyError("407"),
        httpx2.LocalProtocolError(f"Illegal header value {KEY}"),
    ],
)
async def test_an_error_before_the_body_is_taken_surely_created_nothing(error: Exception) -> None:
    class BrokenTransport(httpx2.AsyncBaseTransport):  # MockTransport would read the body first
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:  # noqa: ARG002 - theirs
            raise error

    async with open_api(
        base_url="https://api.invalid",
        api_key=KEY,
        timeout_seconds=10,
        create_timeout_seconds=10,
        transport=BrokenTransport(),
    ) as api:
        outcome = await api.create(BODY, betas=BETAS)

    assert isinstance(outcome, SurelyNot)
    assert outcome.trouble.kind is TroubleKind.NETWORK
    assert type(error).__name__ in outcome.trouble.text
    assert KEY not in outcome.trouble.text


async def test_an_error_while_the_last_piece_is_written_leaves_it_unknown() -> None:
    """The piece may have arrived although writing it is said to have failed."""

    class FailingOnTheLastPiece(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            assert isinstance(request.stream, httpx2.AsyncByteStream)
            taken_bytes = 0
            async for piece in request.stream:
                taken_bytes += len(piece)
                if taken_bytes == BODY.size_bytes:
                    raise httpx2.WriteTimeout("slow")
            raise AssertionError("the body is shorter than it says")

    async with open_api(
        base_url="https://api.invalid",
        api_key=KEY,
        timeout_seconds=10,
        create_timeout_seconds=10,
        transport=FailingOnTheLastPiece(),
    ) as api:
        outcome = await api.create(BODY, betas=BETAS)

    assert isinstance(outcome, Unknown)
    assert outcome.trouble.kind is TroubleKind.NETWORK


@pytest.mark.parametrize(
    "error", [httpx2.ReadTimeout("slow"), httpx2.ReadError("reset"), httpx2.RemoteProtocolError("cut"), OSError("odd")]
)
async def test_an_error_after_the_body_is_taken_leaves_it_unknown(error: Exception) -> None:
    def handle(_request: httpx2.Request) -> httpx2.Response:
        raise error

    async with api_over(handle) as api:
        outcome = await api.create(BODY, betas=BETAS)

    assert isinstance(outcome, Unknown)
    assert outcome.trouble.kind is TroubleKind.NETWORK


# What a create call puts on the wire, and how often.


async def test_a_create_arrives_whole_with_its_length_its_betas_and_its_key() -> None:
    body = PiecesBody([b"%07d" % number + b"x" * 65_529 for number in range(64)])
    async with raw_server(answering_json(batch_json())) as server, api_at(server.base_url) as api:
        outcome = await api.create(body, betas=BETAS)

    [arrival] = server.arrivals
    assert isinstance(outcome, Accepted)
    assert arrival.line == "POST /v1/messages/batches?beta=true HTTP/1.1"
    assert arrival.body == b"".join(body.pieces)
    assert arrival.headers["content-length"] == str(body.size_bytes)
    assert "transfer-encoding" not in arrival.headers
    assert arrival.headers["content-type"] == "application/json"
    assert arrival.headers["anthropic-beta"] == ",".join(BETAS)
    assert arrival.headers["authorization"] == f"Bearer {KEY}"
    assert "anthropic-workspace-id" not in arrival.headers


async def test_a_body_that_is_sent_again_starts_from_its_first_byte() -> None:
    async with raw_server(answering_json(batch_json())) as server, api_at(server.base_url) as api:
        await api.create(BODY, betas=BETAS)
        await api.create(BODY, betas=BETAS)

    assert [arrival.body for arrival in server.arrivals] == [b'{"requests":[{},{}]}'] * 2


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (reset, Unknown),
        (hang_up, Unknown),
        (fall_silent, Unknown),
        (drip, Unknown),
        (answering_json(batch_json(), missing=10), Unknown),
        (answering(500, error_json("api_error"), "x-should-retry: true"), Unknown),
        (answering(503, HTML, "retry-after: 0"), Unknown),
        (answering(408, error_json("timeout_error")), Unknown),
        (answering(409, error_json("conflict_error")), Unknown),
        (answering(401, error_json("authentication_error")), SurelyNot),
        (answering(429, error_json("rate_limit_error"), "retry-after: 0", "x-should-retry: true"), SurelyNot),
        (answering(529, error_json("overloaded_error")), SurelyNot),
    ],
)
async def test_a_create_is_sent_exactly_once(reply: Reply, expected: type[CreateOutcome]) -> None:
    """Whatever the server does, and even when it asks for a second try, one call is one request on the wire."""
    async with raw_server(reply) as server, api_at(server.base_url, create_timeout_seconds=0.5) as api:
        outcome = await api.create(BODY, betas=BETAS)

    assert type(outcome) is expected
    assert server.connection_count == 1
    assert len(server.arrivals) == 1


async def test_a_body_whose_source_fails_surely_created_nothing() -> None:
    async with raw_server(answering_json(batch_json())) as server, api_at(server.base_url) as api:
        outcome = await api.create(BrokenBody(), betas=BETAS)

    assert isinstance(outcome, SurelyNot)
    assert "RuntimeError" in outcome.trouble.text
    assert server.arrivals == []


async def test_a_connection_that_is_reset_under_the_upload_surely_created_nothing() -> None:
    taken = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reset(reader, writer)
        taken.set()

    class WaitingBody:
        """All but its first byte waits until the connection is gone, and is more than any buffer holds."""

        size_bytes = 20_000_001
        request_count = 2

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x"
            await taken.wait()
            for _ in range(20):
                yield b"y" * 1_000_000

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener, api_at(base_url) as api:
        outcome = await api.create(WaitingBody(), betas=BETAS)

    assert isinstance(outcome, SurelyNot)
    assert outcome.trouble.kind is TroubleKind.NETWORK


async def test_a_refused_connection_surely_created_nothing_and_is_named() -> None:
    async with raw_server(hang_up) as server:
        pass
    async with api_at(server.base_url) as api:
        outcome = await api.create(BODY, betas=BETAS)

    assert isinstance(outcome, SurelyNot)
    assert "ConnectError" in outcome.trouble.text


async def test_cancelling_a_create_goes_through() -> None:
    arrived = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()

    async with raw_server(hold) as server, api_at(server.base_url) as api:
        call = asyncio.ensure_future(api.create(BODY, betas=BETAS))
        await arrived.wait()
        call.cancel()

        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_redirect_is_not_followed_and_the_other_origin_hears_nothing() -> None:
    async with raw_server(answering_json(batch_json())) as other:
        moved = answering(307, b"", f"location: {other.base_url}/v1/messages/batches")
        async with raw_server(moved) as server, api_at(server.base_url) as api:
            outcome = await api.create(BODY, betas=BETAS)
            with pytest.raises(ApiTrouble) as looked:
                await api.retrieve(BATCH_ID)
            with pytest.raises(ApiTrouble) as opened:
                async with api.results(BATCH_ID):
                    pass

    assert isinstance(outcome, Unknown)
    assert "redirect" in outcome.trouble.text
    assert looked.value.trouble.kind is TroubleKind.SERVER
    assert opened.value.trouble.kind is TroubleKind.SERVER
    assert other.connection_count == 0


# The environment and the settings decide nothing that they should not.


async def test_no_variable_changes_where_requests_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies, other addresses and other credentials in the environment are not even looked at."""
    async with (
        raw_server(answering_json(batch_json())) as decoy,
        raw_server(answering_json(batch_json())) as server,
    ):
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "ANTHROPIC_BASE_URL"):
            monkeypatch.setenv(name, decoy.base_url)
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "other-token")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "other-key")
        monkeypatch.setenv("ANTHROPIC_PROFILE", "other-profile")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)

        async with api_at(server.base_url) as api:
            outcome = await api.create(BODY, betas=BETAS)

    assert isinstance(outcome, Accepted)
    assert decoy.connection_count == 0
    assert server.arrivals[0].headers["authorization"] == f"Bearer {KEY}"


async def test_dropped_variables_leave_no_trace_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "anthropic-beta: other\nAuthorization: Bearer other\nx-canary: 1")
    drop_environment()

    async with raw_server(answering_json(batch_json())) as server, api_at(server.base_url) as api:
        await api.retrieve(BATCH_ID)

    [arrival] = server.arrivals
    assert arrival.headers["authorization"] == f"Bearer {KEY}"
    assert "x-canary" not in arrival.headers
    assert "anthropic-beta" not in arrival.headers


def test_dropping_names_what_was_there_in_any_case_and_keeps_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    drop_environment()
    for name in ("ANTHROPIC_LOG", "https_proxy", "Http_Proxy", "SSLKEYLOGFILE", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "value")

    names = drop_environment()

    assert names == ["ANTHROPIC_LOG", "Http_Proxy", "SSLKEYLOGFILE", "https_proxy"]
    assert not set(names) & set(os.environ)
    assert os.environ["ANTHROPIC_API_KEY"] == "value"


async def test_a_workspace_and_a_path_in_base_url_are_in_every_request() -> None:
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=batch_json())

    async with api_over(handle) as api:
        await api.create(BODY, betas=BETAS)
        await api.retrieve(BATCH_ID)
        async with api.results(BATCH_ID):
            pass

    assert {request.headers["anthropic-workspace-id"] for request in seen} == {"wrkspc_1"}
    assert [request.url.path for request in seen] == [
        "/gateway/v1/messages/batches",
        f"/gateway/v1/messages/batches/{BATCH_ID}",
        f"/gateway/v1/messages/batches/{BATCH_ID}/results",
    ]


@pytest.mark.parametrize("key", ["", "key\n", "a key", "schlüssel"])
async def test_a_key_that_no_header_can_carry_is_a_configuration_error(key: str) -> None:
    with pytest.raises(ConfigurationError, match="the API key"):
        async with open_api(base_url="https://api.invalid", api_key=key, timeout_seconds=1, create_timeout_seconds=1):
            pass


@pytest.mark.parametrize("content", [None, b"no certificate"])
async def test_a_ca_file_without_certificates_is_a_configuration_error(tmp_path: Path, content: bytes | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        async with api_at("https://api.invalid", ca_file=ca_file):
            pass


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with a key and a certificate for 127.0.0.1 that nobody has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("NOT CHECKED: TLS with a ca_file, because there is no openssl command to make a certificate with")
    path = tmp_path / "server.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    made = subprocess.run(
        [*command.split(), "-keyout", str(tmp_path / "key.pem")], check=True, capture_output=True, timeout=30
    )
    path.write_bytes((tmp_path / "key.pem").read_bytes() + made.stdout)
    return path


async def test_tls_trusts_the_ca_file_and_writes_its_secrets_nowhere(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)

    async with (
        raw_server(answering_json(batch_json()), tls=tls) as server,
        api_at(server.base_url, ca_file=certificate) as api,
    ):
        outcome = await api.create(BODY, betas=BETAS)

    assert isinstance(outcome, Accepted)
    assert not (tmp_path / "keys.log").exists()


async def test_tls_trusts_no_stranger_whatever_the_environment_says(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)

    async with raw_server(answering_json(batch_json()), tls=tls) as server, api_at(server.base_url) as api:
        outcome = await api.create(BODY, betas=BETAS)

    assert isinstance(outcome, SurelyNot)
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.trouble.text
    assert server.arrivals == []


# The calls that may be repeated.


async def test_a_page_of_the_list_is_read_and_the_next_one_asked_for() -> None:
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        ended = batch_json(processing_status="ended", ended_at="2026-08-20T19:00:00Z")
        return httpx2.Response(200, json={"data": [batch_json(), ended], "has_more": True, "last_id": BATCH_ID})

    async with api_over(handle) as api:
        page = await api.list_batches(limit=2)
        await api.list_batches(limit=2, after_id=page.last_id)

    assert [batch.has_ended for batch in page.batches] == [False, True]
    assert page.batches[1].ended_at == datetime(2026, 8, 20, 19, tzinfo=UTC)
    assert page.has_more
    assert [dict(request.url.params) for request in seen] == [{"limit": "2"}, {"limit": "2", "after_id": BATCH_ID}]


async def test_an_empty_list_is_a_list() -> None:
    empty = {"data": [], "has_more": False, "first_id": None, "last_id": None}

    async with api_over(lambda _request: httpx2.Response(200, json=empty)) as api:
        page = await api.list_batches(limit=1)

    assert list(page.batches) == []
    assert page.last_id is None


async def test_a_batch_is_cancelled_with_one_post() -> None:
    """And the batch comes back as it is then."""
    asked: list[tuple[str, str]] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append((request.method, request.url.path))
        return httpx2.Response(200, json=batch_json(processing_status="canceling"))

    async with api_over(handler) as api:
        batch = await api.cancel(BATCH_ID)

    assert asked == [("POST", f"/gateway/v1/messages/batches/{BATCH_ID}/cancel")]
    assert (batch.status, batch.archived_at) == ("canceling", None)


async def test_cancelling_a_batch_that_has_ended_is_trouble_with_this_call() -> None:
    """The API's documentation says 400."""
    async with api_over(lambda _: httpx2.Response(400, content=error_json("invalid_request_error"))) as api:
        with pytest.raises(ApiTrouble) as caught:
            await api.cancel(BATCH_ID)

    assert caught.value.trouble.kind is TroubleKind.CLIENT


async def test_the_organization_is_the_one_that_answered_last() -> None:
    """An answer that does not say it, a gateway's perhaps, changes nothing."""
    names: list[str | None] = ["org_1", None, "org_2"]

    def handler(_: httpx2.Request) -> httpx2.Response:
        name = names.pop(0)
        headers = {} if name is None else {"anthropic-organization-id": name}
        return httpx2.Response(404 if name == "org_2" else 200, json=batch_json(), headers=headers)

    async with api_over(handler) as api:
        before = api.organization_id
        seen = []
        for _ in range(3):
            with contextlib.suppress(ApiTrouble):
                await api.retrieve(BATCH_ID)
            seen.append(api.organization_id)

    assert (before, seen) == (None, ["org_1", "org_1", "org_2"])


async def test_a_batch_whose_results_are_archived_says_since_when() -> None:
    """Then they can no longer be read."""
    moment = "2026-09-01T00:00:00+00:00"
    async with api_over(lambda _: httpx2.Response(200, json=batch_json(archived_at=moment))) as api:
        batch = await api.retrieve(BATCH_ID)

    assert batch.archived_at == datetime.fromisoformat(moment)


async def test_a_model_is_looked_up() -> None:
    answer = {"type": "model", "id": "claude-opus-5-5", "max_tokens": 128_000, "display_name": "x"}

    async with api_over(lambda _request: httpx2.Response(200, json=answer)) as api:
        model = await api.model("claude-opus-5-5")

    assert model == ModelInfo(id="claude-opus-5-5", output_tokens_max=128_000)


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (200, HTML, TroubleKind.SERVER),
        (200, b"{}", TroubleKind.SERVER),
        (200, b"", TroubleKind.SERVER),
        (404, error_json("not_found_error"), TroubleKind.NOT_FOUND),
        (404, HTML, TroubleKind.SERVER),
        (401, error_json("authentication_error"), TroubleKind.KEY),
        (429, error_json("rate_limit_error"), TroubleKind.RATE_LIMIT),
        (500, error_json("api_error"), TroubleKind.SERVER),
        (529, error_json("overloaded_error"), TroubleKind.OVERLOADED),
    ],
)
async def test_trouble_with_a_call_that_may_be_repeated(status: int, content: bytes, kind: TroubleKind) -> None:
    response = {"status_code": status, "content": content, "headers": {"content-type": "text/html"}}
    troubles = []

    async with api_over(lambda _request: httpx2.Response(**response)) as api:  # type: ignore[arg-type]  # a new one per call
        for call in (api.list_batches(limit=1), api.retrieve(BATCH_ID), api.model("m"), read_all(api)):
            with pytest.raises(ApiTrouble) as raised:
                await call
            troubles.append(raised.value.trouble)

    assert [trouble.kind for trouble in troubles] == [kind] * 4


@pytest.mark.parametrize("reply", [reset, hang_up, answering_json(batch_json(), missing=1), answering(500, HTML)])
async def test_a_call_that_may_be_repeated_is_repeated_by_nobody_below_the_caller(reply: Reply) -> None:
    async with raw_server(reply) as server, api_at(server.base_url) as api:
        with pytest.raises(ApiTrouble):
            await api.retrieve(BATCH_ID)

    assert len(server.arrivals) == 1


@pytest.mark.parametrize("odd_id", ["../../v1/files", "a/b", "", "a\n", "a?b", "%2e%2e", "x" * 300])
async def test_an_odd_id_never_becomes_a_path(odd_id: str) -> None:
    async with raw_server(answering_json(batch_json())) as server, api_at(server.base_url) as api:
        with pytest.raises(ApiTrouble) as looked:
            await api.retrieve(ApiBatchId(odd_id))
        with pytest.raises(ApiTrouble):
            await read_all(api, batch_id=ApiBatchId(odd_id))
        with pytest.raises(ApiTrouble):
            await api.model(odd_id)

    assert looked.value.trouble.kind is TroubleKind.CLIENT
    assert server.connection_count == 0


async def test_request_ids_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="batchbox")
    headers = {"request-id": "req_9"}

    async with api_over(lambda _request: httpx2.Response(200, json=batch_json(), headers=headers)) as api:
        await api.create(BODY, betas=BETAS)
        await api.retrieve(BATCH_ID)
    async with api_over(lambda _request: httpx2.Response(404, content=HTML, headers=headers)) as api:
        with pytest.raises(ApiTrouble):
            await api.retrieve(BATCH_ID)

    ours = [record for record in caplog.records if record.name.startswith("batchbox")]
    assert [vars(record).get("request_id") for record in ours] == ["req_9"] * 3


# Results.


async def read_all(api: BatchesApi, *, batch_id: ApiBatchId = BATCH_ID) -> bytes:
    async with api.results(batch_id) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_results_come_piece_by_piece_from_base_url() -> None:
    content = b'{"custom_id":"a"}\n' * 100_000
    async with (
        raw_server(answering(200, content)) as server,
        api_at(server.base_url) as api,
        api.results(BATCH_ID) as pieces,
    ):
        sizes = [len(piece) async for piece in pieces]

    assert sum(sizes) == len(content)
    assert max(sizes) <= 65_536
    assert server.arrivals[0].line == f"GET /v1/messages/batches/{BATCH_ID}/results HTTP/1.1"
    assert server.arrivals[0].headers["accept"] == "application/binary"


async def test_compressed_results_arrive_unpacked() -> None:
    content = b'{"custom_id":"a"}\n' * 1000
    packed = answering(200, gzip.compress(content), "content-encoding: gzip")
    async with raw_server(packed) as server, api_at(server.base_url) as api:
        read = await read_all(api)

    assert read == content


async def test_results_that_are_cut_give_what_came_and_then_trouble() -> None:
    content = b'{"custom_id":"a"}\n{"cus'
    async with (
        raw_server(answering(200, content, missing=1000)) as server,
        api_at(server.base_url) as api,
        api.results(BATCH_ID) as pieces,
    ):
        first = await anext(pieces)
        with pytest.raises(ApiTrouble) as raised:
            await anext(pieces)

    assert first == content
    assert raised.value.trouble.kind is TroubleKind.NETWORK
    assert "custom_id" not in raised.value.trouble.text


@pytest.mark.parametrize(
    "reply",
    [
        reset,
        hang_up,
        answering(500, error_json("api_error"), missing=10),
        answering(200, b"not gzip at all", "content-encoding: gzip"),
    ],
)
async def test_results_that_break_off_anywhere_are_trouble(reply: Reply) -> None:
    async with raw_server(reply) as server, api_at(server.base_url) as api:
        with pytest.raises(ApiTrouble):
            await read_all(api)

    assert len(server.arrivals) == 1


@pytest.mark.parametrize("is_read", [True, False])
async def test_results_may_be_left_early_and_the_connection_is_closed(is_read: bool) -> None:
    gone = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 100)
        await writer.drain()
        await reader.read()
        gone.set()

    async with raw_server(endless) as server, api_at(server.base_url) as api:
        async with api.results(BATCH_ID) as pieces:
            first = await anext(pieces) if is_read else None
        await asyncio.wait_for(gone.wait(), timeout=10)

    assert first == (b"x" * 100 if is_read else None)
