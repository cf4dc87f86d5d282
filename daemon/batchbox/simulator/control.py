"""The simulator's own calls, for tests in another process: faults, clock, ledger, batches of other programs."""

import dataclasses
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from batchbox.simulator.clock import Clock, rfc3339
from batchbox.simulator.faults import Fault, FaultMenu
from batchbox.simulator.ledger import CreateAttempt, Ledger, Purchase
from batchbox.simulator.settings import Account
from batchbox.simulator.wire import json_response


class _Advance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    advance_seconds: float


class _ForeignBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    request_count: int
    workspace_id: str = Account().workspace_id


class Control:
    """What a test in the same process does by calling, one in another process does over HTTP."""

    def __init__(self, *, clock: Clock, ledger: Ledger, faults: FaultMenu) -> None:
        self._clock = clock
        self._ledger = ledger
        self._faults = faults

    def routes(self) -> Sequence[Route]:
        """Return every route under /simulator. None of them asks for a key."""
        return [
            Route("/simulator/faults", self._pending_faults, methods=["GET"]),
            Route("/simulator/faults", self._add_fault, methods=["POST"]),
            Route("/simulator/faults", self._clear_faults, methods=["DELETE"]),
            Route("/simulator/clock", self._read_clock, methods=["GET"]),
            Route("/simulator/clock", self._advance_clock, methods=["POST"]),
            Route("/simulator/ledger", self._read_ledger, methods=["GET"]),
            Route("/simulator/batches", self._create_foreign_batch, methods=["POST"]),
        ]

    async def _pending_faults(self, _request: Request) -> Response:
        return json_response([_plain(fault) for fault in self._faults.pending])

    async def _add_fault(self, request: Request) -> Response:
        try:
            self._faults.add(_read_fault(await request.body()))
        except (msgspec.MsgspecError, ValueError) as error:
            return _bad(error)
        return await self._pending_faults(request)

    async def _clear_faults(self, request: Request) -> Response:
        self._faults.clear()
        return await self._pending_faults(request)

    async def _read_clock(self, _request: Request) -> Response:
        return json_response({"now": rfc3339(self._clock.now())})

    async def _advance_clock(self, request: Request) -> Response:
        try:
            self._clock.advance(msgspec.json.decode(await request.body(), type=_Advance).advance_seconds)
        except (msgspec.MsgspecError, ValueError) as error:
            return _bad(error)
        return await self._read_clock(request)

    async def _read_ledger(self, _request: Request) -> Response:
        purchases = [_plain(purchase) | {"is_billed": purchase.is_billed} for purchase in self._ledger.purchases]
        attempts = [_plain(attempt) for attempt in self._ledger.attempts]
        return json_response({"attempts": attempts, "purchases": purchases})

    async def _create_foreign_batch(self, request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await request.body(), type=_ForeignBatch)
        except msgspec.MsgspecError as error:
            return _bad(error)
        account = Account(workspace_id=asked.workspace_id)
        return json_response({"id": self._ledger.create_foreign_batch(asked.request_count, account=account)})


def _read_fault(body: bytes) -> Fault:
    values = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    unknown = values.keys() - {entry.name for entry in dataclasses.fields(Fault)}
    if unknown:
        raise ValueError(f"a fault has no field {min(unknown)}")
    return msgspec.json.decode(body, type=Fault)


def _plain(record: Fault | Purchase | CreateAttempt) -> dict[str, object]:
    return {entry.name: getattr(record, entry.name) for entry in dataclasses.fields(record)}


def _bad(error: Exception) -> Response:
    return json_response({"error": str(error)}, status=400)
