"""What one line of results becomes: which event, which files, which charge. Computed, not done."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from batchbox.documents import Answer, Facts, Failure, error_json, result_json, with_request_id
from batchbox.lifecycle import RequestEvent
from batchbox.pricing import Catalogue, usage_from
from batchbox.results import ResultLine
from batchbox.store.columns import to_nanodollars
from batchbox.store.delivery import Charge, Ended, Undelivered
from batchbox.triage import Answered, Failed, Hold, Incomplete, Retry, judge_line, what_to_do

TOKENS_MAX = 10**12
COST_USD_MAX = 10**6
"""Beyond these a count is nonsense, and would not fit into a column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFile:
    """A file for the outbox: what comes after its stem, and its content."""

    suffix: str
    pieces: Sequence[bytes]
    is_marker: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """How a request fared, with the files that say so."""

    request: Undelivered
    ended: Ended
    files: Sequence[NamedFile]
    hold_reason: str | None = None
    """Why all sending must hold, if the line said so."""


def compose(request: Undelivered, line: ResultLine, catalogue: Catalogue) -> Composed:
    """Decide what a line of results means for its request."""
    facts = replace(line.facts, max_tokens=request.max_tokens)
    match judge_line(facts):
        case Answered():
            return _answer(request, line, catalogue, reason=None)
        case Incomplete(reason=reason):
            return _answer(request, line, catalogue, reason=reason)
        case Hold(text=text):
            ended = Ended(request_id=request.request_id, event=RequestEvent.REQUEUE, counts_as_attempt=False)
            return Composed(request=request, ended=ended, files=[], hold_reason=text)
        case Retry() if request.attempts + 1 < request.max_attempts:
            ended = Ended(request_id=request.request_id, event=RequestEvent.REQUEUE)
            return Composed(request=request, ended=ended, files=[])
        case Retry(error_type=error_type, text=text) | Failed(error_type=error_type, text=text):
            return _error(request, error_type, text, event=RequestEvent.FAIL, request_id=line.request_id)


def compose_failing(request: Undelivered) -> Composed:
    """Write down a request that ended without a line of results; its error was recorded when that was found out."""
    return _error(request, request.error_type or "", request.error_text or "", event=RequestEvent.PUBLISH)


def _answer(request: Undelivered, line: ResultLine, catalogue: Catalogue, *, reason: str | None) -> Composed:
    usage = usage_from(line.usage)
    model = line.model or request.model
    cost = catalogue.cost_usd(model, usage)
    charge = Charge(
        wire_id=line.wire_id,
        request_id=request.request_id,
        model=model,
        input_tokens=min(usage.prompt_tokens, TOKENS_MAX),
        output_tokens=min(usage.output_tokens, TOKENS_MAX),
        cost_nanousd=None if cost is None or cost > COST_USD_MAX else to_nanodollars(cost),
        sent_at=request.tries[-1].sent_at,
    )
    answer = Answer(
        reason=reason,
        stop_reason=line.facts.stop_reason,
        usage=line.usage,
        cost_usd=cost,
        message=line.message,
    )
    facts = _facts(request, ended_at=request.tries[-1].ended_at, model=model)
    files = [NamedFile(suffix=".result.json", pieces=result_json(facts, answer), is_marker=True)]
    if line.text:
        suffix = f".{request.extension}" if reason is None else f".incomplete.{request.extension}"
        files.insert(0, NamedFile(suffix=suffix, pieces=[line.text], is_marker=False))
    event = RequestEvent.ANSWER if reason is None else RequestEvent.CUT_SHORT
    return Composed(
        request=request, ended=Ended(request_id=request.request_id, event=event, charge=charge), files=files
    )


def _error(
    request: Undelivered, error_type: str, text: str, *, event: RequestEvent, request_id: str | None = None
) -> Composed:
    ended_at = request.ended_at or (request.tries[-1].ended_at if request.tries else None)
    facts = with_request_id(_facts(request, ended_at=ended_at, model=request.model), request_id)
    failure = Failure(type=error_type, text=text, what_to_do=what_to_do(error_type))
    return Composed(
        request=request,
        ended=Ended(request_id=request.request_id, event=event, error_type=error_type, error_text=text),
        files=[NamedFile(suffix=".error.json", pieces=error_json(facts, failure), is_marker=True)],
    )


def _facts(request: Undelivered, *, ended_at: datetime | None, model: str) -> Facts:
    return Facts(
        custom_id=request.custom_id,
        lane=request.lane,
        source=request.source,
        owner=request.owner,
        model=model,
        attempts=request.attempts + 1,
        batch_ids=[one.batch_id for one in request.tries],
        wire_ids=[one.wire_id for one in request.tries],
        request_ids=[one.api_request_id for one in request.tries if one.api_request_id is not None],
        dropped_at=request.dropped_at,
        sent_at=request.tries[-1].sent_at if request.tries else None,
        ended_at=ended_at,
    )
