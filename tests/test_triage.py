"""What an answer of the API means, row by row."""

import pytest

from batchbox.api import Refused, SurelyNot, TroubleKind, Unknown
from batchbox.model import ApiBatchId, ErrorType, IncompleteReason
from batchbox.triage import (
    TEXT_CHARACTERS_MAX,
    Answered,
    Failed,
    Failure,
    Hold,
    Incomplete,
    LineFacts,
    Retry,
    blames_betas,
    create_outcome,
    is_about_own_header,
    is_known,
    judge_line,
    may_be_about_own_header,
    names_a_request,
    retry_after_seconds,
    trouble_from,
    what_to_do,
)

SPEND_LIMIT = "You have reached your specified API usage limits. You will regain access on 2026-09-01."
CREDIT = "Your credit balance is too low to access the API."


def shaped(status: int, error_type: str = "some_error", message: str = "the API's words") -> Failure:
    """Return a failure that the API itself has described."""
    return Failure(status=status, error_type=error_type, error_message=message, cause="not looked at")


def unshaped(status: int) -> Failure:
    """Return a failure whose body is not the API's."""
    return Failure(status=status, cause="a page of somebody's")


NO_ANSWER = Failure(status=None, cause="the call broke off (ReadError)")


def line(result_type: str = "succeeded", **changes: object) -> LineFacts:
    """Return an ordinary line of results with these changes."""
    facts: dict[str, object] = {
        "result_type": result_type,
        "stop_reason": "end_turn" if result_type == "succeeded" else None,
        "has_message": result_type == "succeeded",
        "has_text": result_type == "succeeded",
        "has_tool_use": False,
        "error_type": None,
        "error_message": None,
        "output_tokens": 100,
        "max_tokens": 1000,
    }
    return LineFacts(**{**facts, **changes})  # type: ignore[arg-type]  # a table's rows cannot be typed by field


def errored(error_type: str | None, message: str | None = "words") -> LineFacts:
    return line("errored", error_type=error_type, error_message=message)


# The outcome of the call that must not be repeated.


@pytest.mark.parametrize("failure", [shaped(413, "request_too_large"), unshaped(413)])
def test_413_is_too_large_in_any_shape(failure: Failure) -> None:
    outcome = create_outcome(failure, body_was_handed_out=True)

    assert isinstance(outcome, Refused)
    assert outcome.too_large


def test_a_400_of_the_apis_refuses_the_batch_in_the_apis_words() -> None:
    failure = shaped(400, "invalid_request_error", "requests.3.custom_id: too long")

    outcome = create_outcome(failure, body_was_handed_out=True)

    assert outcome == Refused(too_large=False, text="400 invalid_request_error: requests.3.custom_id: too long")


@pytest.mark.parametrize("message", [SPEND_LIMIT, CREDIT])
def test_a_400_about_money_is_the_accounts_and_not_the_batchs(message: str) -> None:
    outcome = create_outcome(shaped(400, "invalid_request_error", message), body_was_handed_out=True)

    assert isinstance(outcome, SurelyNot)
    assert outcome.trouble.kind is TroubleKind.BILLING


@pytest.mark.parametrize("message", [SPEND_LIMIT, CREDIT])
def test_what_is_about_money_is_recognised_at_the_beginning_only(message: str) -> None:
    """Further on the API may repeat what a request says, which must not hold everybody's."""
    failure = shaped(400, "invalid_request_error", f"requests.0: bad value {message!r}")

    outcome = create_outcome(failure, body_was_handed_out=True)

    assert isinstance(outcome, Refused)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, TroubleKind.KEY),
        (403, TroubleKind.KEY),
        (402, TroubleKind.BILLING),
        (404, TroubleKind.CLIENT),
        (405, TroubleKind.CLIENT),
        (422, TroubleKind.CLIENT),
        (429, TroubleKind.RATE_LIMIT),
        (529, TroubleKind.OVERLOADED),
    ],
)
def test_other_refusals_of_the_apis_surely_created_nothing(status: int, kind: TroubleKind) -> None:
    outcome = create_outcome(shaped(status), body_was_handed_out=True)

    assert isinstance(outcome, SurelyNot)
    assert outcome.trouble.kind is kind
    assert outcome.trouble.status == status


def test_529_surely_created_nothing_even_without_the_apis_words() -> None:
    outcome = create_outcome(unshaped(529), body_was_handed_out=True)

    assert isinstance(outcome, SurelyNot)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 408, 409, 500, 502, 503, 504, 520, 599])
@pytest.mark.parametrize("body_was_handed_out", [True, False])
def test_these_stay_unknown_even_in_the_apis_shape(status: int, body_was_handed_out: bool) -> None:
    outcome = create_outcome(shaped(status), body_was_handed_out=body_was_handed_out)

    assert isinstance(outcome, Unknown)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 422, 429, 499, 500, 503, 200])
def test_what_the_api_has_not_said_itself_stays_unknown(status: int) -> None:
    outcome = create_outcome(unshaped(status), body_was_handed_out=True)

    assert isinstance(outcome, Unknown)


def test_no_answer_is_unknown_once_the_whole_body_was_handed_out() -> None:
    outcome = create_outcome(NO_ANSWER, body_was_handed_out=True)

    assert isinstance(outcome, Unknown)
    assert outcome.trouble.kind is TroubleKind.NETWORK


def test_no_answer_before_the_last_piece_surely_created_nothing() -> None:
    outcome = create_outcome(NO_ANSWER, body_was_handed_out=False)

    assert isinstance(outcome, SurelyNot)
    assert outcome.trouble.kind is TroubleKind.NETWORK
    assert outcome.trouble.text == NO_ANSWER.cause


def test_an_id_in_an_odd_2xx_is_kept_as_a_candidate() -> None:
    candidate_id = ApiBatchId("msgbatch_1")

    outcome = create_outcome(unshaped(200), body_was_handed_out=True, candidate_id=candidate_id)

    assert isinstance(outcome, Unknown)
    assert outcome.candidate_id == candidate_id


def test_what_the_server_asked_for_is_passed_on() -> None:
    failure = Failure(status=429, error_type="rate_limit_error", error_message="slow", retry_after_seconds=17, cause="")

    outcome = create_outcome(failure, body_was_handed_out=True)

    assert isinstance(outcome, SurelyNot)
    assert outcome.trouble.retry_after_seconds == 17


# What stands in the way of a call that may be repeated.


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (NO_ANSWER, TroubleKind.NETWORK),
        (shaped(400), TroubleKind.CLIENT),
        (shaped(400, "invalid_request_error", CREDIT), TroubleKind.BILLING),
        (shaped(400, "invalid_request_error", SPEND_LIMIT), TroubleKind.BILLING),
        (shaped(401), TroubleKind.KEY),
        (shaped(402), TroubleKind.BILLING),
        (shaped(403), TroubleKind.KEY),
        (shaped(404), TroubleKind.NOT_FOUND),
        (shaped(408), TroubleKind.SERVER),
        (shaped(409), TroubleKind.SERVER),
        (shaped(413), TroubleKind.CLIENT),
        (shaped(429), TroubleKind.RATE_LIMIT),
        (unshaped(429), TroubleKind.RATE_LIMIT),
        (shaped(500), TroubleKind.SERVER),
        (shaped(529), TroubleKind.OVERLOADED),
        (unshaped(200), TroubleKind.SERVER),
        (unshaped(307), TroubleKind.SERVER),
        (unshaped(403), TroubleKind.SERVER),
    ],
)
def test_the_kind_of_trouble(failure: Failure, kind: TroubleKind) -> None:
    trouble = trouble_from(failure)

    assert trouble.kind is kind


def test_a_404_that_is_not_the_apis_does_not_say_that_a_batch_is_lost() -> None:
    trouble = trouble_from(unshaped(404))

    assert trouble.kind is TroubleKind.SERVER


def test_a_redirect_names_the_next_step() -> None:
    trouble = trouble_from(unshaped(307))

    assert trouble.text == "307: a redirect, and redirects are not followed; check base_url."


def test_an_endless_message_is_cut() -> None:
    trouble = trouble_from(shaped(500, message="x" * 10_000))

    assert len(trouble.text) == TEXT_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17),
        ("0.5", 0.5),
        ("0", 0),
        (None, None),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after_counts_seconds_or_is_none(header: str | None, seconds: float | None) -> None:
    read = retry_after_seconds(header)

    assert read == seconds


# What one line of results means for its request.


@pytest.mark.parametrize("stop_reason", ["end_turn", "stop_sequence", "tool_use"])
@pytest.mark.parametrize(("has_text", "has_tool_use"), [(True, False), (False, True), (True, True)])
def test_a_finished_answer_with_content(stop_reason: str, has_text: bool, has_tool_use: bool) -> None:
    facts = line(stop_reason=stop_reason, has_text=has_text, has_tool_use=has_tool_use)

    assert judge_line(facts) == Answered()


@pytest.mark.parametrize("stop_reason", ["end_turn", "stop_sequence", "tool_use"])
def test_a_finished_answer_without_content_is_incomplete(stop_reason: str) -> None:
    facts = line(stop_reason=stop_reason, has_text=False)

    assert judge_line(facts) == Incomplete(reason=IncompleteReason.EMPTY)


@pytest.mark.parametrize(
    ("output_tokens", "reason"),
    [(1000, "max_tokens"), (900, "max_tokens"), (899, IncompleteReason.CLAMPED), (1, IncompleteReason.CLAMPED)],
)
def test_an_answer_that_stops_well_under_its_max_tokens_was_clamped(output_tokens: int, reason: str) -> None:
    facts = line(stop_reason="max_tokens", output_tokens=output_tokens)

    assert judge_line(facts) == Incomplete(reason=reason)


@pytest.mark.parametrize(
    "stop_reason", ["pause_turn", "compaction", "refusal", "model_context_window_exceeded", "invented_tomorrow"]
)
def test_every_other_stop_reason_is_incomplete_and_named(stop_reason: str) -> None:
    assert judge_line(line(stop_reason=stop_reason)) == Incomplete(reason=stop_reason)


def test_an_answer_without_a_stop_reason_is_incomplete() -> None:
    assert judge_line(line(stop_reason=None)) == Incomplete(reason="no_stop_reason")


@pytest.mark.parametrize("error_type", ["overloaded_error", "api_error", "timeout_error", "rate_limit_error"])
def test_a_transient_error_is_tried_again(error_type: str) -> None:
    assert judge_line(errored(error_type)) == Retry(error_type=error_type, text="words")


@pytest.mark.parametrize("error_type", ["authentication_error", "permission_error"])
def test_a_keys_error_is_tried_again_so_that_one_request_cannot_hold_all(error_type: str) -> None:
    assert judge_line(errored(error_type)) == Retry(error_type=error_type, text="words")


@pytest.mark.parametrize(
    "error_type", ["invalid_request_error", "not_found_error", "request_too_large", "invented_tomorrow"]
)
def test_a_requests_own_error_is_final(error_type: str) -> None:
    assert judge_line(errored(error_type)) == Failed(error_type=error_type, text="words")


@pytest.mark.parametrize("message", [CREDIT, SPEND_LIMIT])
@pytest.mark.parametrize("error_type", ["invalid_request_error", "rate_limit_error"])
def test_an_error_about_money_holds_all_sending(error_type: str, message: str) -> None:
    assert judge_line(errored(error_type, message)) == Hold(error_type=error_type, text=message)


def test_a_billing_error_holds_all_sending() -> None:
    assert judge_line(errored("billing_error")) == Hold(error_type="billing_error", text="words")


def test_an_error_without_a_type_is_left_to_a_person() -> None:
    assert judge_line(errored(None, None)) == Failed(error_type="unknown_error", text="")


def test_an_expired_request_is_tried_again() -> None:
    verdict = judge_line(line("expired"))

    assert isinstance(verdict, Retry)
    assert verdict.error_type == ErrorType.EXPIRED


def test_a_request_cancelled_elsewhere_is_never_silently_bought_again() -> None:
    verdict = judge_line(line("canceled"))

    assert isinstance(verdict, Failed)
    assert verdict.error_type == ErrorType.CANCELED_ELSEWHERE


def test_an_unknown_kind_of_result_is_an_error_that_names_it() -> None:
    verdict = judge_line(line("invented_tomorrow", error_message="too warm"))

    assert isinstance(verdict, Failed)
    assert (verdict.error_type, verdict.billed) == ("invented_tomorrow", None)
    assert "too warm" in verdict.text


def test_an_unknown_kind_of_result_with_a_message_is_an_answer_of_which_nobody_can_say_whether_it_is_whole() -> None:
    assert judge_line(line("invented_tomorrow", has_message=True)) == Incomplete(reason="invented_tomorrow")


@pytest.mark.parametrize(
    ("facts", "known"),
    [
        (line(), True),
        (line(stop_reason="compaction"), True),
        (line(stop_reason="invented_tomorrow"), False),
        (line(stop_reason=None), False),
        (line("errored"), True),
        (line("canceled"), True),
        (line("expired"), True),
        (line("invented_tomorrow"), False),
    ],
)
def test_what_the_documentation_does_not_name_is_not_known(facts: LineFacts, known: bool) -> None:
    assert is_known(facts) is known


@pytest.mark.parametrize("error_type", [*ErrorType, "invalid_request_error", "overloaded_error", "invented_tomorrow"])
def test_every_error_comes_with_a_next_step(error_type: str) -> None:
    sentence = what_to_do(error_type)

    assert "drop" in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize("error_type", ["authentication_error", "permission_error", "billing_error"])
def test_what_the_dropper_cannot_cure_names_who_can(error_type: str) -> None:
    assert "whoever runs batchbox" in what_to_do(error_type)


# What a refusal is about.

OWN = ["output-300k-2026-03-24", "configured-beta"]
BETAS = [*OWN, "asked-for-beta"]


@pytest.mark.parametrize(
    ("message", "own", "files"),
    [
        ("Unexpected value(s) `output-300k-2026-03-24` for the `anthropic-beta` header.", True, False),
        ("Unexpected value(s) `configured-beta` for the `anthropic-beta` header.", True, False),
        ("Unexpected value(s) `asked-for-beta` for the `anthropic-beta` header.", False, True),
        ("Unexpected value(s) `configured-beta`, `asked-for-beta` for the `anthropic-beta` header.", False, True),
        ("Unexpected value(s) `configured-beta-2` for the `anthropic-beta` header.", False, False),
        ("Unexpected value(s) `configured-beta` for the `anthropic-beta` header of requests.3", False, False),
        ("There is no beta asked-for-beta.", False, True),
        ("There is no beta asked-for-beta-2, only-asked-for-beta and asked-for-beta.2", False, False),
        ("requests.0.params.model: asked-for-beta", False, False),
        ("requests.0.params.anthropic-beta: Extra inputs are not permitted", False, False),
        ("model: Unexpected value(s) `configured-beta` for the `anthropic-beta` header.", False, False),
        ("anthropic-beta: too long", False, False),
        ("requests.0.custom_id: String should match pattern", False, False),
        ("the organization may not do this", False, False),
    ],
)
def test_a_refusal_blames_our_own_header_the_files_betas_or_neither(message: str, own: bool, files: bool) -> None:
    """Ours is in every batch, so it holds all sending; theirs is the files' fault. Requests may repeat either."""
    refusal = f"400 invalid_request_error: {message}"

    assert is_about_own_header(refusal, betas=BETAS, own_betas=OWN) is own
    assert blames_betas(refusal, betas=BETAS, own_betas=OWN) is files


@pytest.mark.parametrize(
    ("message", "betas", "may"),
    [
        ("configured-beta has been withdrawn", OWN, True),
        ("anthropic-beta: too long", OWN, True),
        ("anthropic-beta: too long", BETAS, False),
        ("model: configured-beta-2", OWN, False),
        ("requests.0.params.anthropic-beta: Extra inputs are not permitted", OWN, False),
    ],
)
def test_words_about_what_every_batch_asks_for_may_be_about_the_header(
    message: str, betas: list[str], may: bool
) -> None:
    """Unless they point at a request, or the batch asked for more."""
    refusal = f"400 invalid_request_error: {message}"

    assert may_be_about_own_header(refusal, betas=betas, own_betas=OWN) is may


@pytest.mark.parametrize(
    ("refusal", "names"),
    [
        ("400 invalid_request_error: requests.12.params: Field required", True),
        ("400 invalid_request_error: request 3 is not valid", True),
        ("400 invalid_request_error: requests[0]: too long", True),
        ("400 invalid_request_error: custom_id must be unique", True),
        ("400 invalid_request_error: your organization may not use batches", False),
        ("400 invalid_request_error: too many requests are waiting", False),
    ],
)
def test_a_refusal_names_a_request_or_none(refusal: str, names: bool) -> None:
    """One that every half meets, and that names none, is nobody's fault."""
    assert names_a_request(refusal) is names
