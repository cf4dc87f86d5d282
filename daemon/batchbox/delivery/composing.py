"""What one line of results becomes: which event, which files, which charge. Computed, not done."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from batchbox.documents import Answer, Facts, Failure, error_json, result_json, with_request_id
from batchbox.lifecycle import RequestEvent
from batchbox.model import ErrorType
from batchbox.pricing import Catalogue, usage_from
from batchbox.results import ResultLine
from batchbox.store.charges import Charge, charge_for
from batchbox.store.delivery import Ended, Undelivered
from batchbox.triage import Answered, Failed, Hold, Incomplete, Retry, Verdict, judge_line, what_to_do

NOBODY_KNOWS_WHETHER_BILLED = frozenset({ErrorType.RESULT_MISSING, ErrorType.RESULTS_GONE})
"""Without a line of results, nothing says whether the request was answered, and billed."""

NEVER_SENT = frozenset({ErrorType.CANCELED, ErrorType.WITHDRAWN})
"""Among the errors of requests without a line of results."""

_ANSWERED_ALL_THE_SAME = (
    "It was cancelled when it had been sent. The API answered it all the same and billed it: the answer is below."
)
_NOT_ANSWERED = "It was cancelled when it had been sent. The API did not answer it, and billed nothing."
_UNKNOWN = "It was cancelled when it had been sent. What the API says of it does not tell whether it was billed."


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
    verdict = judge_line(replace(line.facts, max_tokens=request.max_tokens))
    if request.is_canceled:
        return _canceled(request, line, verdict, catalogue)
    return _judged(request, line, verdict, catalogue)


def _judged(request: Undelivered, line: ResultLine, verdict: Verdict, catalogue: Catalogue) -> Composed:
    match verdict:
        case Answered():
            return _answer(request, line, catalogue, reason=None)
        case Incomplete(reason=reason):
            return _answer(request, line, catalogue, reason=reason)
        case Hold(text=text):
            return _held(request, line, text)
        case Retry() if request.attempts + 1 < request.max_attempts:
            ended = Ended(request_id=request.request_id, event=RequestEvent.REQUEUE)
            return Composed(request=request, ended=ended, files=[])
        case Retry(error_type=error_type, text=text):
            failure = _failure(error_type, text, billed=False)
            return _error(request, failure, event=RequestEvent.FAIL, request_id=line.request_id)
        case Failed(error_type=error_type, text=text, billed=billed):
            failure = _failure(error_type, text, billed=billed)
            return _error(request, failure, event=RequestEvent.FAIL, request_id=line.request_id)


def compose_failing(request: Undelivered) -> Composed:
    """Write down a request that ended without a line of results; its error was recorded when that was found out."""
    billed = None if request.error_type in NOBODY_KNOWS_WHETHER_BILLED else False
    failure = _failure(request.error_type or "", request.error_text or "", billed=billed)
    return _error(request, failure, event=RequestEvent.PUBLISH)


def _held(request: Undelivered, line: ResultLine, text: str) -> Composed:
    """Let the request wait for credit, unless it was recovered without its content and cannot be sent again."""
    if not request.max_tokens:
        failure = _failure("billing_error", text, billed=False)
        failed = _error(request, failure, event=RequestEvent.FAIL, request_id=line.request_id)
        return replace(failed, hold_reason=text)
    ended = Ended(request_id=request.request_id, event=RequestEvent.REQUEUE, counts_as_attempt=False)
    return Composed(request=request, ended=ended, files=[], hold_reason=text)


def _canceled(request: Undelivered, line: ResultLine, verdict: Verdict, catalogue: Catalogue) -> Composed:
    """Write down a request that was cancelled when it could not be taken back any more, with whatever came of it."""
    hold_reason = verdict.text if isinstance(verdict, Hold) else None
    billed = verdict.billed if isinstance(verdict, Failed) else False
    if not isinstance(verdict, (Answered, Incomplete)):
        failure = _failure(ErrorType.CANCELED, _NOT_ANSWERED if billed is False else _UNKNOWN, billed=billed)
        failed = _error(request, failure, event=RequestEvent.FAIL, request_id=line.request_id)
        return replace(failed, hold_reason=hold_reason)
    reason = verdict.reason if isinstance(verdict, Incomplete) else None
    answer, charge = _bought(request, line, catalogue, reason=reason)
    failure = _failure(ErrorType.CANCELED, _ANSWERED_ALL_THE_SAME, billed=True)
    facts = _facts(request, ended_at=request.tries[-1].ended_at, model=charge.model)
    ended = Ended(
        request_id=request.request_id,
        event=RequestEvent.FAIL,
        error_type=failure.type,
        error_text=failure.text,
        charge=charge,
    )
    pieces = error_json(facts, failure, unwanted=answer)
    return Composed(
        request=request, ended=ended, files=[NamedFile(suffix=".error.json", pieces=pieces, is_marker=True)]
    )


def _answer(request: Undelivered, line: ResultLine, catalogue: Catalogue, *, reason: str | None) -> Composed:
    answer, charge = _bought(request, line, catalogue, reason=reason)
    facts = _facts(request, ended_at=request.tries[-1].ended_at, model=charge.model)
    files = [NamedFile(suffix=".result.json", pieces=result_json(facts, answer), is_marker=True)]
    if line.text:
        suffix = f".{request.extension}" if reason is None else f".incomplete.{request.extension}"
        files.insert(0, NamedFile(suffix=suffix, pieces=[line.text], is_marker=False))
    event = RequestEvent.ANSWER if reason is None else RequestEvent.CUT_SHORT
    return Composed(
        request=request, ended=Ended(request_id=request.request_id, event=event, charge=charge), files=files
    )


def _bought(
    request: Undelivered, line: ResultLine, catalogue: Catalogue, *, reason: str | None
) -> tuple[Answer, Charge]:
    model = line.model or request.model
    charge = charge_for(
        line,
        request_id=request.request_id,
        model=model,
        sent_at=request.tries[-1].sent_at,
        catalogue=catalogue,
    )
    answer = Answer(
        reason=reason,
        stop_reason=line.facts.stop_reason,
        usage=line.usage,
        cost_usd=catalogue.cost_usd(model, usage_from(line.usage)),
        message=line.message,
    )
    return answer, charge


def _failure(error_type: str, text: str, *, billed: bool | None) -> Failure:
    return Failure(type=error_type, text=text, what_to_do=what_to_do(error_type), billed=billed)


def _error(request: Undelivered, failure: Failure, *, event: RequestEvent, request_id: str | None = None) -> Composed:
    ended_at = request.ended_at or (request.tries[-1].ended_at if request.tries else None)
    facts = with_request_id(_facts(request, ended_at=ended_at, model=request.model), request_id)
    if request.error_type in NEVER_SENT:
        facts = replace(facts, attempts=request.attempts)
    return Composed(
        request=request,
        ended=Ended(request_id=request.request_id, event=event, error_type=failure.type, error_text=failure.text),
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
        recovered=any(one.is_recovered for one in request.tries),
    )
