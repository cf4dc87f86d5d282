"""Every way in which a create call can fare, alone or beside others, whenever the process ends: over real HTTP."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from batchbox.simulator import Call, Fault, FaultKind

from .api_verdict import Verdict
from .api_wire import TIMEOUT_SECONDS, Company, Death, open_wire

ELSEWHERE = "/v1/messages/batches?beta=true&followed=yes"

CERTAIN: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
"""A no of the API's own. It is believed, so it comes only where it is true: before acceptance."""
UNCERTAIN: Mapping[int, str] = {
    408: "timeout_error",
    409: "conflict_error",
    500: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
}
SLOW = "slow-reply"
IMPATIENT_SECONDS = 0.5
"""Real ones: a reply that is slower than this is not waited for."""
GATEWAYS = (200, 202, 400, 403, 404, 429, 502)
"""With a page of somebody else's."""


def _on_create(kind: FaultKind, *, times: int = 1, seconds: float = 0.0, at_bytes: int = 0) -> Fault:
    return Fault(kind=kind, call=Call.CREATE, times=times, seconds=seconds, at_bytes=at_bytes)


def _answered(kind: FaultKind, statuses: Mapping[int, str]) -> dict[str, Sequence[Fault]]:
    return {
        f"{kind}-{status}": (Fault(kind=kind, call=Call.CREATE, status=status, error_type=said),)
        for status, said in statuses.items()
    }


def _paged(kind: FaultKind, statuses: Sequence[int]) -> dict[str, Sequence[Fault]]:
    return {f"{kind}-{status}": (Fault(kind=kind, call=Call.CREATE, status=status),) for status in statuses}


_LOST = _on_create(FaultKind.LOST_REPLY)

FAULTS: Mapping[str, Sequence[Fault]] = {
    "none": (),
    "reset": (_on_create(FaultKind.RESET_BEFORE),),
    "reset-early": (_on_create(FaultKind.RESET_MID_BODY, at_bytes=1),),
    "reset-late": (_on_create(FaultKind.RESET_MID_BODY, at_bytes=400),),
    "lost": (_LOST,),
    "lost-twice": (_on_create(FaultKind.LOST_REPLY, times=2),),
    "lost-list-lags": (_LOST, Fault(kind=FaultKind.LIST_LAG, call=Call.LIST, seconds=50, times=2, skip=1)),
    "lost-list-broken": (_LOST, Fault(kind=FaultKind.STATUS, call=Call.LIST, status=502, times=9, skip=1)),
    "lost-list-paged": (_LOST, Fault(kind=FaultKind.HTML, call=Call.LIST, times=9, skip=1)),
    "lost-list-cut": (_LOST, Fault(kind=FaultKind.CUT_JSON, call=Call.LIST, times=9, skip=1)),
    "lost-line-cut": (_LOST, Fault(kind=FaultKind.CUT_RESULTS, call=Call.RESULTS, at_bytes=30, times=3)),
    "lost-line-torn": (_LOST, Fault(kind=FaultKind.CUT_RESULTS, call=Call.RESULTS, at_bytes=30, clean=True, times=2)),
    "lost-line-paged": (_LOST, Fault(kind=FaultKind.HTML, call=Call.RESULTS, times=3)),
    SLOW: (_on_create(FaultKind.SLOW_REPLY, seconds=30),),
    "slow-commit": (_on_create(FaultKind.SLOW_COMMIT, seconds=40),),
    "cut-json": (_on_create(FaultKind.CUT_JSON),),
    "wrong-count": (_on_create(FaultKind.WRONG_COUNT),),
    "redirect": (Fault(kind=FaultKind.REDIRECT, call=Call.CREATE, location=ELSEWHERE),),
    **_answered(FaultKind.STATUS, {**CERTAIN, **UNCERTAIN}),
    **_answered(FaultKind.STATUS_AFTER, UNCERTAIN),
    **_paged(FaultKind.HTML, (*GATEWAYS, 413, 529)),
    **_paged(FaultKind.HTML_AFTER, GATEWAYS),
}
"""What a create call meets, and what those calls meet that follow it up."""


def every_create() -> list[str]:
    """Return the names of all trials."""
    return [f"create:{fault}:{company}:{death}" for fault in FAULTS for company in Company for death in Death]


async def try_create(name: str, folder: Path) -> Verdict:
    """Make one trial."""
    _, fault, company, death = name.split(":")
    violations: list[str] = []
    create_timeout = IMPATIENT_SECONDS if fault == SLOW else TIMEOUT_SECONDS
    place = open_wire(folder, company=Company(company), death=Death(death), create_timeout=create_timeout)
    async with place as (bench, simulator):
        for one in FAULTS[fault]:
            simulator.faults.add(one)
        try:
            await bench.live()
        except AssertionError as error:
            violations.append(str(error))
        violations += bench.judge()
        met = [one.kind for one in simulator.faults.pending if one.call is Call.CREATE]
        violations += [f"the fault {kind} met no call" for kind in met]
        tried = {"creates": bench.api.create_count, "kills": int(Death(death) is not Death.NEVER)}
    return Verdict(tried=tried, violations=violations)
