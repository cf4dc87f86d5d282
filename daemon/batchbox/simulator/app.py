"""The API's calls over HTTP: who calls, what they ask, and the answer in the API's shape."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from batchbox.model import OUTPUT_300K_BETA
from batchbox.simulator import wire
from batchbox.simulator.answers import Outcome
from batchbox.simulator.batches import Batch, Batches
from batchbox.simulator.catalog import MODELS, describe
from batchbox.simulator.clock import rfc3339
from batchbox.simulator.control import Control
from batchbox.simulator.envelope import read_body, read_entries
from batchbox.simulator.faults import Call, Fault, FaultKind, FaultMenu
from batchbox.simulator.ledger import Ledger
from batchbox.simulator.paging import Page, cut, read_window
from batchbox.simulator.refusals import Refusal, error_body
from batchbox.simulator.results import faulty, pieces
from batchbox.simulator.settings import Account, SimulatorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Visit:
    """One call, on its way in."""

    request: Request
    request_id: str
    call: Call
    fault: Fault | None

    @property
    def batch_id(self) -> str:
        return str(self.request.path_params["batch_id"])

    def meets(self, kind: FaultKind) -> Fault | None:
        return self.fault if self.fault is not None and self.fault.kind is kind else None


_Handler = Callable[[_Visit, Account], Awaitable[Response]]


def build_app(
    settings: SimulatorSettings, *, batches: Batches, ledger: Ledger, faults: FaultMenu, control: Control
) -> Starlette:
    """Return the application: the API under /v1, and the simulator's own calls under /simulator."""
    api = _Api(settings, batches=batches, ledger=ledger, faults=faults)
    return Starlette(
        routes=[*api.routes(), *control.routes()],
        exception_handlers={404: api.no_such_call, 405: api.no_such_call},
    )


class _Api:
    """The calls of the Message Batches and the Models API."""

    def __init__(self, settings: SimulatorSettings, *, batches: Batches, ledger: Ledger, faults: FaultMenu) -> None:
        self._settings = settings
        self._batches = batches
        self._ledger = ledger
        self._faults = faults
        self._request_numbers = count(1)

    def routes(self) -> Sequence[Route]:
        """Return every route under /v1."""
        batches, batch = "/v1/messages/batches", "/v1/messages/batches/{batch_id}"
        return [
            Route(batches, self._endpoint(Call.CREATE, self._create), methods=["POST"]),
            Route(batches, self._endpoint(Call.LIST, self._list), methods=["GET"]),
            Route(batch, self._endpoint(Call.RETRIEVE, self._retrieve), methods=["GET"]),
            Route(batch, self._endpoint(Call.DELETE, self._delete), methods=["DELETE"]),
            Route(f"{batch}/results", self._endpoint(Call.RESULTS, self._results), methods=["GET"]),
            Route(f"{batch}/cancel", self._endpoint(Call.CANCEL, self._cancel), methods=["POST"]),
            Route("/v1/models", self._endpoint(Call.MODELS, self._models), methods=["GET"]),
            Route("/v1/models/{model_id}", self._endpoint(Call.MODELS, self._model), methods=["GET"]),
        ]

    async def no_such_call(self, _request: Request, _error: Exception) -> Response:
        """Answer a path or a method that the API does not have."""
        request_id = self._next_request_id()
        response = wire.json_response(error_body("not_found_error", "Not found", request_id), status=404)
        response.headers["request-id"] = request_id
        return response

    def _endpoint(self, call: Call, handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
        return partial(self._answer, call, handler)

    async def _answer(self, call: Call, handler: _Handler, request: Request) -> Response:
        fault = self._faults.take(call)
        visit = _Visit(request=request, request_id=self._next_request_id(), call=call, fault=fault)
        if call is Call.CREATE:
            self._ledger.arrive(visit.request_id, fault=fault.kind if fault else None)
        try:
            response = await self._met(handler, visit)
        except ClientDisconnect:
            return Response()  # which goes nowhere
        response.headers["request-id"] = visit.request_id
        return response

    async def _met(self, handler: _Handler, visit: _Visit) -> Response:
        """Let the call meet its fault, if there is one, before or after it is done."""
        if visit.fault is None:
            return await self._done(handler, visit)
        early = await wire.instead(visit.fault, visit.request, visit.request_id)
        if early is not None:
            return early
        response = await self._done(handler, visit)
        return await wire.spoilt(visit.fault, visit.request, response, request_id=visit.request_id)

    async def _done(self, handler: _Handler, visit: _Visit) -> Response:
        headers = {}
        try:
            account = self._account(visit.request)
            headers["anthropic-organization-id"] = account.organization_id
            headers["anthropic-workspace-id"] = account.workspace_id
            _check_headers(visit.request, account)
            response = await handler(visit, account)
        except Refusal as refusal:
            if visit.call is Call.CREATE:
                self._ledger.conclude(visit.request_id, refused=refusal.error_type)
            body = error_body(refusal.error_type, refusal.message, visit.request_id)
            response = wire.json_response(body, status=refusal.status)
        response.headers.update(headers)
        return response

    def _next_request_id(self) -> str:
        return f"req_01{next(self._request_numbers):022}"

    def _account(self, request: Request) -> Account:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = request.headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
        if not key:
            raise Refusal("authentication_error", "x-api-key header is required")
        if not self._settings.accounts:
            return Account()
        if key not in self._settings.accounts:
            raise Refusal("authentication_error", "invalid x-api-key")
        return self._settings.accounts[key]

    async def _create(self, visit: _Visit, account: Account) -> Response:
        length = visit.request.headers.get("content-length")
        body = await read_body(visit.request.stream(), announced_bytes=int(length) if length else None)
        entries = read_entries(body)
        slow = visit.meets(FaultKind.SLOW_COMMIT)
        batch = self._batches.create(
            entries,
            workspace_id=account.workspace_id,
            extended=OUTPUT_300K_BETA in _betas(visit.request),
            hidden_seconds=slow.seconds if slow else 0.0,
        )
        self._ledger.conclude(visit.request_id, batch_id=batch.id)
        return self._batch_response(visit, batch)

    async def _list(self, visit: _Visit, account: Account) -> Response:
        lag = visit.meets(FaultKind.LIST_LAG)
        page = self._batches.page(
            read_window(visit.request.query_params),
            workspace_id=account.workspace_id,
            lag_seconds=lag.seconds if lag else 0.0,
        )
        described = [self._describe(visit.request, batch) for batch in page.items]
        return _page_response(Page(items=described, has_more=page.has_more))

    async def _retrieve(self, visit: _Visit, account: Account) -> Response:
        return self._batch_response(visit, self._find(visit, account))

    async def _cancel(self, visit: _Visit, account: Account) -> Response:
        batch = self._batches.cancel(visit.batch_id, workspace_id=account.workspace_id)
        return self._batch_response(visit, batch)

    async def _delete(self, visit: _Visit, account: Account) -> Response:
        self._batches.delete(visit.batch_id, workspace_id=account.workspace_id)
        return wire.json_response({"id": visit.batch_id, "type": "message_batch_deleted"})

    async def _results(self, visit: _Visit, account: Account) -> Response:
        lines = faulty(self._batches.lines(self._find(visit, account)), visit.fault)
        cut_off = visit.meets(FaultKind.CUT_RESULTS)
        is_cut = cut_off is not None and not cut_off.clean
        return wire.stream(visit.request, pieces(lines, visit.fault), is_cut=is_cut)

    async def _models(self, visit: _Visit, _account: Account) -> Response:
        page = cut([*MODELS.values()], read_window(visit.request.query_params), name=lambda model: model.name)
        return _page_response(Page(items=[describe(model) for model in page.items], has_more=page.has_more))

    async def _model(self, visit: _Visit, _account: Account) -> Response:
        name = visit.request.path_params["model_id"]
        if name not in MODELS:
            raise Refusal("not_found_error", f"model: {name}")
        return wire.json_response(describe(MODELS[name]))

    def _find(self, visit: _Visit, account: Account) -> Batch:
        return self._batches.find(visit.batch_id, workspace_id=account.workspace_id)

    def _batch_response(self, visit: _Visit, batch: Batch) -> Response:
        return wire.json_response(self._describe(visit.request, batch))

    def _describe(self, request: Request, batch: Batch) -> dict[str, object]:
        is_archived = self._batches.is_archived(batch)
        has_results = batch.ended_at is not None and not is_archived
        host, port = request.scope["server"]
        origin = self._settings.results_origin or f"http://{host}:{port}"
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": _status(batch),
            "request_counts": {outcome: batch.counts.get(outcome, 0) for outcome in Outcome},
            "created_at": rfc3339(batch.created_at),
            "expires_at": rfc3339(batch.expires_at),
            "ended_at": rfc3339(batch.ended_at) if batch.ended_at else None,
            "cancel_initiated_at": rfc3339(batch.cancel_initiated_at) if batch.cancel_initiated_at else None,
            "archived_at": rfc3339(batch.archived_at) if is_archived else None,
            "results_url": f"{origin}/v1/messages/batches/{batch.id}/results" if has_results else None,
        }


def _check_headers(request: Request, account: Account) -> None:
    if not request.headers.get("anthropic-version"):
        raise Refusal("invalid_request_error", "anthropic-version: header is required")
    if request.headers.get("anthropic-workspace-id", account.workspace_id) != account.workspace_id:
        raise Refusal("permission_error", "anthropic-workspace-id: the key belongs to another workspace")


def _betas(request: Request) -> set[str]:
    return {name.strip() for value in request.headers.getlist("anthropic-beta") for name in value.split(",")}


def _status(batch: Batch) -> str:
    if batch.ended_at is not None:
        return "ended"
    return "in_progress" if batch.cancel_initiated_at is None else "canceling"


def _page_response(page: Page[dict[str, object]]) -> Response:
    return wire.json_response(
        {
            "data": page.items,
            "has_more": page.has_more,
            "first_id": page.items[0]["id"] if page.items else None,
            "last_id": page.items[-1]["id"] if page.items else None,
        }
    )
