"""The Message Batches API over the SDK: the only module that knows `anthropic` and the HTTP client below it.

It promises that every call is on the wire at most once, that it goes to `base_url` and nowhere else whatever the
server or the environment says, and that everything that can go wrong with a call comes back as `api` describes it.
What a failure means is decided in `triage`; when to call again is for others. Call `environment.drop_environment`
before this module is imported: importing it imports the SDK, which reads variables.

Facts about the SDK (its source, 2.12, and that of httpx2, 2.16) are named where the code relies on them.
"""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import anthropic
import httpx2
import msgspec

from batchbox.api import (
    Accepted,
    ApiTrouble,
    BatchBody,
    BatchInfo,
    BatchPage,
    CreateOutcome,
    ModelInfo,
    RequestCounts,
    Trouble,
    TroubleKind,
)
from batchbox.errors import ConfigurationError
from batchbox.model import ApiBatchId
from batchbox.triage import Failure, create_outcome, retry_after_seconds, trouble_from

BATCHES_PATH = "/v1/messages/batches"
CONNECTIONS_MAX = 8
"""One create, one stream of results, polls and looks; more would only hurry into the rate limit."""

BATCH_ID_PATTERN = r"\A[A-Za-z0-9_-]{1,256}\Z"
MODEL_ID_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9._:@-]{0,255}\Z"

log = logging.getLogger(__name__)

T = TypeVar("T")
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
IdText = Annotated[str, msgspec.Meta(pattern=BATCH_ID_PATTERN)]


@asynccontextmanager
async def open_api(
    *,
    base_url: str,
    api_key: str,
    timeout_seconds: float,
    create_timeout_seconds: float,
    workspace_id: str | None = None,
    proxy: str | None = None,
    ca_file: Path | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> AsyncIterator["AnthropicApi"]:
    """Open the API for as long as the block lasts. Raises ConfigurationError for a key or a file that cannot be used.

    Args:
        base_url: The only place that requests go to.
        api_key: The only credential; profiles and the environment are not consulted.
        timeout_seconds: How long a whole call may take; of a stream of results, each wait for the next piece.
        create_timeout_seconds: How long a whole create call may take, its upload included.
        workspace_id: Named in every request, where a key has several.
        proxy: The URL of the proxy that all requests take.
        ca_file: The certificates to trust, in place of the system's.
        transport: Stands in for the network, in tests.
    """
    headers = {} if workspace_id is None else {"anthropic-workspace-id": workspace_id}
    _check_sendable({"the API key": api_key, **headers})
    account = _Account()
    http_client = httpx2.AsyncClient(
        follow_redirects=False,  # a 307 would carry prompts and key to another origin
        trust_env=False,
        verify=True if ca_file is None else _trusting(ca_file),
        proxy=proxy,
        transport=transport,
        timeout=timeout_seconds,
        event_hooks={"response": [account.note]},
        limits=httpx2.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=2),
    )
    async with anthropic.AsyncAnthropic(
        api_key=api_key,
        base_url=base_url,
        timeout=timeout_seconds,
        max_retries=0,
        open_telemetry=False,
        default_headers=headers,
        http_client=http_client,
    ) as client:
        yield AnthropicApi(
            client, account, timeout_seconds=timeout_seconds, create_timeout_seconds=create_timeout_seconds
        )


class AnthropicApi:
    """`api.BatchesApi` over one client of the SDK. Made by `open_api`, which sees to the client's settings."""

    def __init__(
        self,
        client: anthropic.AsyncAnthropic,
        account: "_Account",
        *,
        timeout_seconds: float,
        create_timeout_seconds: float,
    ) -> None:
        self._client = client
        self._account = account
        self._timeout_seconds = timeout_seconds
        self._create_timeout_seconds = create_timeout_seconds

    @property
    def organization_id(self) -> str | None:
        """Whose account gave the latest answer, as far as an answer has said so."""
        return self._account.organization_id

    async def create(self, body: BatchBody, *, betas: Sequence[str]) -> CreateOutcome:
        """Send one batch, once. Raises nothing for what the network or the server did; cancellation goes through."""
        watched = _WatchedBody(body)
        try:
            async with asyncio.timeout(self._create_timeout_seconds):
                response = await self._post(watched, betas=betas)
        except (anthropic.APIError, TimeoutError) as error:
            failure = self._failure(error)
            log.info("create call failed", extra={"status": failure.status, "request_id": _request_id(error)})
            return create_outcome(failure, body_was_handed_out=watched.is_handed_out)
        log.info("create call answered", extra={"status": response.status_code, "request_id": _id_of(response)})
        return _created(response, request_count=body.request_count)

    async def list_batches(self, *, limit: int, after_id: ApiBatchId | None = None) -> BatchPage:
        """List the workspace's batches, newest first. Raises ApiTrouble."""
        params: dict[str, object] = {"limit": limit}
        if after_id is not None:
            params["after_id"] = after_id
        page = await self._get(BATCHES_PATH, _PageAnswer, params=params)
        last_id = None if page.last_id is None else ApiBatchId(page.last_id)
        return BatchPage(batches=[_batch_info(batch) for batch in page.data], has_more=page.has_more, last_id=last_id)

    async def retrieve(self, batch_id: ApiBatchId) -> BatchInfo:
        """Look at one batch. Raises ApiTrouble, NOT_FOUND among others."""
        return _batch_info(await self._get(_batch_path(batch_id), _BatchAnswer))

    async def cancel(self, batch_id: ApiBatchId) -> BatchInfo:
        """Ask for a batch to end early; what is finished keeps its results. Raises ApiTrouble: CLIENT if it ended."""
        return _batch_info(await self._call("POST", f"{_batch_path(batch_id)}/cancel", _BatchAnswer))

    @asynccontextmanager
    async def results(self, batch_id: ApiBatchId) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream the results of an ended batch as raw pieces of JSON Lines.

        The address is made of `base_url` and the id; the one that the API offers is not followed. Both entering and
        iterating raise ApiTrouble; a stream that is cut cleanly at a line's end looks complete.
        """
        response = await self._open_results(batch_id)
        try:
            async with aclosing(self._pieces(response)) as pieces:
                yield pieces
        finally:
            await response.aclose()

    async def model(self, model_id: str) -> ModelInfo:
        """Look a model up. Raises ApiTrouble, NOT_FOUND among others."""
        path = _path("/v1/models", model_id, pattern=MODEL_ID_PATTERN)
        answer = await self._get(path, _ModelAnswer)
        return ModelInfo(id=answer.id, output_tokens_max=answer.max_tokens)

    async def _post(self, body: "_WatchedBody", *, betas: Sequence[str]) -> httpx2.Response:
        """Stream the body out.

        The length is given by hand, because without it httpx2 sends an iterable in chunks of unknown total. The SDK's
        own method for beta batches sends the header alone (2.12); older ones sent the parameter too, and a gateway may
        go by it. The answer is read to its end in here, so that every failure on the way is one of the SDK's errors.
        """
        waits = httpx2.Timeout(self._create_timeout_seconds, connect=self._timeout_seconds, pool=self._timeout_seconds)
        return await self._client.post(
            BATCHES_PATH,
            content=body,
            cast_to=httpx2.Response,
            options={
                "headers": {
                    "content-length": str(body.size_bytes),
                    "content-type": "application/json",
                    "anthropic-beta": ",".join(betas),
                },
                "params": {"beta": "true"},
                "timeout": waits,
                "max_retries": 0,
            },
        )

    async def _get(self, path: str, answer_type: type[T], *, params: Mapping[str, object] | None = None) -> T:
        return await self._call("GET", path, answer_type, params=params)

    async def _call(
        self, method: str, path: str, answer_type: type[T], *, params: Mapping[str, object] | None = None
    ) -> T:
        call = self._client.get if method == "GET" else self._client.post
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await call(path, cast_to=httpx2.Response, options={"params": params or {}, "max_retries": 0})
        except (anthropic.APIError, TimeoutError) as error:
            raise self._trouble(error, path=path) from error
        log.debug("call answered", extra={"path": path, "request_id": _id_of(response)})
        answer = _decoded(answer_type, response.content)
        if answer is None:
            raise ApiTrouble(trouble_from(_odd(response)))
        return answer

    async def _open_results(self, batch_id: ApiBatchId) -> httpx2.Response:
        path = f"{_batch_path(batch_id)}/results"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._client.get(
                    path,
                    cast_to=httpx2.Response,
                    options={"headers": {"accept": "application/binary"}, "max_retries": 0},
                    stream=True,
                )
        except (anthropic.APIError, httpx2.RequestError, TimeoutError) as error:
            # With stream=True the SDK reads an error's body outside of its own net, so that httpx2's errors escape.
            raise self._trouble(error, path=path) from error
        log.debug("results opened", extra={"path": path, "request_id": _id_of(response)})
        if response.headers.get("content-type", "").startswith("text/html"):
            await response.aclose()
            raise ApiTrouble(trouble_from(_odd(response)))
        return response

    async def _pieces(self, response: httpx2.Response) -> AsyncGenerator[bytes]:
        try:
            # Without a size, because a size makes httpx2 cut and copy what it has.
            async with aclosing(response.aiter_bytes()) as pieces:
                async for piece in pieces:
                    yield piece
        except httpx2.RequestError as error:
            raise self._trouble(error, path=response.url.path) from error

    def _trouble(self, error: Exception, *, path: str) -> ApiTrouble:
        log.debug("call failed", extra={"path": path, "request_id": _request_id(error)})
        return ApiTrouble(trouble_from(self._failure(error)))

    def _failure(self, error: Exception) -> Failure:
        if not isinstance(error, anthropic.APIStatusError):
            return Failure(status=None, cause=_cause(error))
        response = error.response
        failure = replace(_odd(response), retry_after_seconds=retry_after_seconds(response.headers.get("retry-after")))
        answer = _decoded(_ErrorAnswer, response.content)
        if answer is None:
            return failure
        message = self._without_key(answer.error.message)
        return replace(failure, error_type=self._without_key(answer.error.type), error_message=message)

    def _without_key(self, text: str) -> str:
        return text.replace(self._client.api_key or "\0", "[the API key]")


class _Account:
    """Remembers whose account answered last. Written by the HTTP client's hook alone."""

    def __init__(self) -> None:
        self.organization_id: str | None = None

    async def note(self, response: httpx2.Response) -> None:
        """Read the header that every answer of the API's carries; what others answer has none."""
        self.organization_id = response.headers.get("anthropic-organization-id", self.organization_id)


class _WatchedBody:
    """A body that knows whether its last piece was ever handed out. Every iteration starts from the first byte."""

    def __init__(self, body: BatchBody) -> None:
        self._body = body
        self.size_bytes = body.size_bytes
        self.is_handed_out = False

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        sent_bytes = 0
        pieces = aiter(self._body)
        try:
            async for piece in pieces:
                sent_bytes += len(piece)
                # Noted before the piece is given away: once it is, it may arrive, whatever the connection says later.
                if sent_bytes >= self.size_bytes:
                    self.is_handed_out = True
                yield piece
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class _BatchAnswer:
    type: Literal["message_batch"]
    id: IdText
    processing_status: str
    request_counts: RequestCounts
    created_at: Moment
    expires_at: Moment
    ended_at: Moment | None = None
    archived_at: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _PageAnswer:
    data: list[_BatchAnswer]
    has_more: bool
    last_id: IdText | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelAnswer:
    type: Literal["model"]
    id: str
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _NamedAnswer:
    id: IdText


@dataclass(frozen=True, slots=True, kw_only=True)
class _Error:
    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _ErrorAnswer:
    type: Literal["error"]
    error: _Error


def _created(response: httpx2.Response, *, request_count: int) -> CreateOutcome:
    batch = _decoded(_BatchAnswer, response.content)
    if batch is not None and batch.request_counts.total == request_count:
        return Accepted(batch=_batch_info(batch), request_id=_id_of(response))
    named = _decoded(_NamedAnswer, response.content)
    candidate_id = None if named is None else ApiBatchId(named.id)
    return create_outcome(_odd(response), body_was_handed_out=True, candidate_id=candidate_id)


def _batch_info(answer: _BatchAnswer) -> BatchInfo:
    return BatchInfo(
        id=ApiBatchId(answer.id),
        status=answer.processing_status,
        counts=answer.request_counts,
        created_at=answer.created_at.astimezone(UTC),
        expires_at=answer.expires_at.astimezone(UTC),
        ended_at=_optional(answer.ended_at),
        archived_at=_optional(answer.archived_at),
    )


def _optional(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def _decoded(answer_type: type[T], content: bytes) -> T | None:
    """Return the answer, or None when it has another shape; fields that are not asked for are ignored."""
    try:
        return msgspec.json.decode(content, type=answer_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _odd(response: httpx2.Response) -> Failure:
    content_type = response.headers.get("content-type", "no content type")
    return Failure(status=response.status_code, cause=f"not an answer of the API's ({content_type}); check base_url.")


def _cause(error: Exception) -> str:
    """Name what broke, quoting only errors whose words cannot be those of a header, a prompt or an answer.

    The SDK wraps whatever its HTTP client raises, the body's own exceptions included, and keeps it as the cause.
    """
    if isinstance(error, TimeoutError):
        return "no whole answer came in time; check the network, or raise the time-out in the settings."
    cause = error.__cause__ or error if isinstance(error, anthropic.APIConnectionError) else error
    name = type(cause).__name__
    is_quotable = isinstance(cause, httpx2.NetworkError | httpx2.ProxyError) and str(cause) != ""
    return f"the call broke off ({name}: {cause})" if is_quotable else f"the call broke off ({name})"


def _request_id(error: Exception) -> str | None:
    return error.request_id if isinstance(error, anthropic.APIStatusError) else None


def _id_of(response: httpx2.Response) -> str | None:
    return response.headers.get("request-id")


def _batch_path(batch_id: ApiBatchId) -> str:
    return _path(BATCHES_PATH, batch_id, pattern=BATCH_ID_PATTERN)


def _path(parent: str, name: str, *, pattern: str) -> str:
    if re.match(pattern, name) is None:
        text = f"{name[:80]!r} cannot be an id of the API's, so nothing was asked."
        raise ApiTrouble(Trouble(kind=TroubleKind.CLIENT, text=text))
    return f"{parent}/{name}"


def _check_sendable(values: Mapping[str, str]) -> None:
    """Refuse what no header can carry: it would break off every call, with an error that names no cause."""
    problems = [
        f"{name} holds a space, a line end or a character that no header can carry, or is empty: copy it again."
        for name, value in values.items()
        if re.fullmatch(r"[!-~]+", value) is None
    ]
    if problems:
        raise ConfigurationError(*problems)


def _trusting(ca_file: Path) -> ssl.SSLContext:
    # Not create_default_context, which obeys SSLKEYLOGFILE. This class's own defaults check names and certificates.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"api.ca_file {ca_file}: no certificates can be read from it ({error}).") from error
    return context
