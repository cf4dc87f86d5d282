"""Decides what an answer of the API means: for a create call, for a call that may be repeated, for a line of results.

Everything here is computed from facts that somebody else gathered. The rule behind all of it: a *no* is believed only
when it is certain that the API itself said it; what anybody between here and there may have said is a third answer.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from batchbox.api import Refused, SurelyNot, Trouble, TroubleKind, Unknown
from batchbox.logs import shown
from batchbox.model import ApiBatchId, ErrorType, IncompleteReason

TEXT_CHARACTERS_MAX = 2000
"""No message of the API's is longer; one that is, is cut before it is shown or kept."""

CLAMPED_SHARE = 0.9
"""Stopped at max_tokens below this share of what was asked for: the cap was lowered on the way."""

SPEND_LIMIT_START = "You have reached your specified API usage limits"
"""How the message of a 400 begins that is about a spend limit (the API's documentation)."""

_CREDIT = re.compile(r"(?:\w+ )?credit balance is too low", re.IGNORECASE)
"""How a message begins, but for a word, that is about the account's credit (the API's documentation).

Further on in a message these words may be a request's own, which the API repeats.
"""

BETA_HEADER = "anthropic-beta"

_BETAS_REFUSED = re.compile(r"400 \w+: Unexpected value\(s\) (?P<values>.{1,2000}?) for the `?anthropic-beta`? header")
"""How a refusal begins that is about the header, which is the same for all requests of a batch.

Only the beginning counts: further on the words may be a request's own.
"""

_REQUEST_NAMED = re.compile(r"\brequests?\W{0,3}[0-9]+|custom_id")

NOT_A_NO = frozenset({408, 409})
"""A request that timed out or ran into another one may have been carried out."""

TRANSIENT_ERRORS = frozenset({"overloaded_error", "api_error", "timeout_error", "rate_limit_error"})
"""What the API's documentation calls transient on a line of results."""

KNOWN_RESULT_TYPES = frozenset({"succeeded", "errored", "canceled", "expired"})

KNOWN_STOP_REASONS = frozenset(
    {
        *("end_turn", "stop_sequence", "tool_use", "max_tokens"),
        *("refusal", "pause_turn", "compaction", "model_context_window_exceeded"),
    }
)
"""Of the API's documentation; others are treated as what they most resemble, and reported."""

KEY_ERRORS = frozenset({"authentication_error", "permission_error"})
"""The key's errors. See `_judge_error` for why a line with one is tried again rather than held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What is known about a call that did not bring what it was made for."""

    status: int | None
    """None: no answer came."""
    error_type: str | None = None
    """Given together with the message, and only when the body had the shape of the API's errors."""
    error_message: str | None = None
    retry_after_seconds: float | None = None
    cause: str
    """What went wrong in our own words, for when the API has not said it."""

    @property
    def is_api_shaped(self) -> bool:
        """Whether the API itself has spoken, as against a gateway, a proxy or a page of somebody's."""
        return self.error_type is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFacts:
    """One line of results, as far as its meaning depends on it."""

    result_type: str
    """`succeeded`, `errored`, `canceled` or `expired`; other values may appear."""
    stop_reason: str | None
    has_message: bool
    has_text: bool
    has_tool_use: bool
    error_type: str | None
    error_message: str | None
    output_tokens: int
    max_tokens: int
    """What was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The answer is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incomplete:
    """There is an answer, paid for, and it is not whole."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Not bought, and worth another attempt; when the attempts are used up, this is the error."""

    error_type: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Another attempt would fare the same or is a person's to decide."""

    error_type: str
    text: str
    billed: bool | None = False
    """None: nobody can tell. Only what succeeded is billed (the API's documentation)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Not bought because of the account: all sending holds, and the request waits without losing an attempt."""

    error_type: str
    text: str


Verdict = Answered | Incomplete | Retry | Failed | Hold


def create_outcome(
    failure: Failure, *, body_was_handed_out: bool, candidate_id: ApiBatchId | None = None
) -> Refused | SurelyNot | Unknown:
    """Judge a create call that did not return the batch that was sent.

    Args:
        failure: What is known.
        body_was_handed_out: Whether the last piece of the body had been given to the connection. Until then the API
            cannot have had a whole request.
        candidate_id: An id that a 2xx answer named.
    """
    trouble = trouble_from(failure)
    if failure.status is None:
        return Unknown(trouble=trouble) if body_was_handed_out else SurelyNot(trouble=trouble)
    if failure.status == 413:
        return Refused(too_large=True, text=trouble.text)
    if failure.status == 529:
        return SurelyNot(trouble=trouble)
    if not _is_a_certain_no(failure):
        return Unknown(trouble=trouble, candidate_id=candidate_id)
    if failure.status == 400 and trouble.kind is not TroubleKind.BILLING:
        return Refused(too_large=False, text=trouble.text)
    if trouble.kind is TroubleKind.NOT_FOUND:  # no batch is missing here: there is no such call at this address
        trouble = replace(trouble, kind=TroubleKind.CLIENT)
    return SurelyNot(trouble=trouble)


def is_about_own_header(refusal: str, *, betas: Collection[str], own_betas: Collection[str]) -> bool:
    """Say whether a refusal is about the header, and about a beta that every batch asks for.

    Then none of the requests is to blame.
    """
    header = _BETAS_REFUSED.match(refusal)
    if header is None or blames_betas(refusal, betas=betas, own_betas=own_betas):
        return False
    return not names_a_request(refusal[header.end() :]) and any(_names(header["values"], beta) for beta in own_betas)


def blames_betas(refusal: str, *, betas: Collection[str], own_betas: Collection[str]) -> bool:
    """Say whether a refusal names a beta that files asked for: every request of the batch did.

    One that points at a request does not: it may repeat what that request says.
    """
    header = _BETAS_REFUSED.match(refusal)
    if header is None and names_a_request(refusal):
        return False
    named = refusal if header is None else header["values"]
    return any(_names(named, beta) for beta in betas if beta not in own_betas)


def may_be_about_own_header(refusal: str, *, betas: Collection[str], own_betas: Collection[str]) -> bool:
    """Say whether a refusal of a batch that asks for what every batch does names the header or a beta in it.

    It may be about them, or repeat what a request says.
    """
    if names_a_request(refusal) or not set(betas) <= set(own_betas):
        return False
    return any(_names(refusal, name) for name in (BETA_HEADER, *own_betas))


def names_a_request(refusal: str) -> bool:
    """Say whether a refusal points at one request of the batch, as `requests.3.custom_id: …` does."""
    return _REQUEST_NAMED.search(refusal) is not None


def trouble_from(failure: Failure) -> Trouble:
    """Say what stands in the way of a call. A 404 that is not the API's own says nothing about a batch."""
    return Trouble(
        kind=_kind(failure),
        text=_text(failure),
        status=failure.status,
        retry_after_seconds=failure.retry_after_seconds,
    )


def retry_after_seconds(header: str | None) -> float | None:
    """Read a `retry-after` header that counts seconds; anything else is as good as none."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def judge_line(facts: LineFacts) -> Verdict:
    """Decide what one line of results means for its request."""
    match facts.result_type:
        case "succeeded":
            return _judge_answer(facts)
        case "errored":
            return _judge_error(facts.error_type or "unknown_error", facts.error_message or "")
        case "expired":
            return Retry(error_type=ErrorType.EXPIRED, text="The batch ended after 24 hours without an answer to it.")
        case "canceled":
            text = "The batch was cancelled by another program or in the Console before this request was answered."
            return Failed(error_type=ErrorType.CANCELED_ELSEWHERE, text=text)
        case unknown if facts.has_message:  # like an answer; whether it is whole, nobody can say
            return Incomplete(reason=_shown(unknown))
        case unknown:
            told = f" It says: {facts.error_message}" if facts.error_message else ""
            text = f"The API gave a kind of result that this version of batchbox does not know.{told}"
            return Failed(error_type=_shown(unknown), text=_shown(text), billed=None)


def is_known(facts: LineFacts) -> bool:
    """Say whether this version of batchbox knows the kind of result, and why the answer stopped."""
    if facts.result_type == "succeeded":
        return facts.stop_reason in KNOWN_STOP_REASONS
    return facts.result_type in KNOWN_RESULT_TYPES


def what_to_do(error_type: str) -> str:
    """Return one sentence for the person who finds an error of this type beside the request."""
    return _WHAT_TO_DO.get(error_type, "Read the message, correct what it names, and drop the file again.")


def _names(text: str, beta: str) -> bool:
    """Say whether the text holds the beta's name, and not merely one that contains it."""
    return re.search(rf"(?<![\w.-]){re.escape(beta)}(?![\w-]|\.\w)", text) is not None


def _is_a_certain_no(failure: Failure) -> bool:
    return (
        failure.is_api_shaped
        and failure.status is not None
        and 400 <= failure.status < 500
        and failure.status not in NOT_A_NO
    )


def _kind(failure: Failure) -> TroubleKind:
    match failure.status:
        case None:
            return TroubleKind.NETWORK
        case 429:  # from whomever: the cure is to wait
            return TroubleKind.RATE_LIMIT
        case 529:
            return TroubleKind.OVERLOADED
    return _kind_of_no(failure) if _is_a_certain_no(failure) else TroubleKind.SERVER


def _kind_of_no(failure: Failure) -> TroubleKind:
    match failure.status:
        case 401 | 403:
            return TroubleKind.KEY
        case 402:
            return TroubleKind.BILLING
        case 400 if _is_about_money(failure.error_message or ""):
            return TroubleKind.BILLING
        case 404:
            return TroubleKind.NOT_FOUND
        case _:
            return TroubleKind.CLIENT


def _text(failure: Failure) -> str:
    if failure.status is None:
        return _shown(failure.cause)
    if failure.is_api_shaped:
        return _shown(f"{failure.status} {failure.error_type}: {failure.error_message}")
    if 300 <= failure.status < 400:
        return f"{failure.status}: a redirect, and redirects are not followed; check base_url."
    return _shown(f"{failure.status}: {failure.cause}")


def _shown(text: str) -> str:
    """Return somebody else's words so that they may be shown and kept: on one line, and not for ever."""
    text = shown(text)
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[: TEXT_CHARACTERS_MAX - 1]}…"


def _is_about_money(message: str) -> bool:
    return message.startswith(SPEND_LIMIT_START) or _CREDIT.match(message) is not None


def _judge_answer(facts: LineFacts) -> Answered | Incomplete:
    match facts.stop_reason:
        case "end_turn" | "stop_sequence" | "tool_use":
            is_empty = not (facts.has_text or facts.has_tool_use)
            return Incomplete(reason=IncompleteReason.EMPTY) if is_empty else Answered()
        case "max_tokens":
            is_clamped = facts.output_tokens < CLAMPED_SHARE * facts.max_tokens
            return Incomplete(reason=IncompleteReason.CLAMPED if is_clamped else "max_tokens")
        case None:
            return Incomplete(reason="no_stop_reason")
        case reason:  # pause_turn, compaction, refusal, model_context_window_exceeded, and what is new
            return Incomplete(reason=_shown(reason))


def _judge_error(error_type: str, message: str) -> Retry | Failed | Hold:
    """Judge an `errored` line.

    The key's errors are tried again, up to the attempts allowed. The key was good when the batch was created; if it is
    bad now, the next create call is told so and holds all sending by itself, at no attempt's cost. If it is good and
    merely may not do what this one request wants, a hold would let that request stop everybody else's for ever.
    """
    error_type, text = _shown(error_type), _shown(message)
    if error_type == "billing_error" or _is_about_money(message):
        return Hold(error_type=error_type, text=text)
    if error_type in TRANSIENT_ERRORS | KEY_ERRORS:
        return Retry(error_type=error_type, text=text)
    return Failed(error_type=error_type, text=text)


_DROP_AGAIN = "Nothing is wrong with the file: drop it again."
_DROP_AGAIN_LATER = "The API could not answer in several attempts: drop the file again later."
_ASK_ABOUT_KEY = "Ask whoever runs batchbox whether the API key may do what this request asks for."
_ASK_ABOUT_MONEY = "Ask whoever runs batchbox to look at the account's credit and limits, then drop the file again."

_WHAT_TO_DO: Mapping[str, str] = {
    "invalid_request_error": "Correct what the message names, and drop the file again.",
    "not_found_error": "Check the name of the model and whatever else the message names, and drop the file again.",
    "request_too_large": "Split the request into smaller ones, and drop them.",
    "authentication_error": _ASK_ABOUT_KEY,
    "permission_error": _ASK_ABOUT_KEY,
    "billing_error": _ASK_ABOUT_MONEY,
    **dict.fromkeys(sorted(TRANSIENT_ERRORS), _DROP_AGAIN_LATER),
    ErrorType.EXPIRED: "The API had no time for it in several attempts: drop the file again later.",
    ErrorType.RESULT_MISSING: "The API left it out of its results, and may have billed it; to buy it anew, drop it.",
    ErrorType.RESULTS_GONE: "The API keeps results for 29 days only; to buy the answer anew, drop the file again.",
    ErrorType.CANCELED: "Nothing is left to do; to have it answered after all, drop the file again.",
    ErrorType.CANCELED_ELSEWHERE: "It was not billed. " + _DROP_AGAIN,
    ErrorType.REFUSED: "Correct what the message names, and drop the file again.",
    ErrorType.WITHDRAWN: "It was not billed; to have the answer all the same, drop the file again.",
}
