"""Refusals: the poison is found and its neighbours go through, and what is nobody's fault becomes nobody's error."""

import json

import pytest

from batchbox.model import OUTPUT_300K_BETA

from .bench import Bench
from .fake_api import Reply
from .taking import batch_states, dispatch_for, drop_requests, holds, marks, request, take_in

ACCOUNT_REFUSAL = "400 invalid_request_error: this organization may not use batches"
HEADER_REFUSED = "Unexpected value(s) `{}` for the `anthropic-beta` header."
OWN_HEADER = HEADER_REFUSED.format(OUTPUT_300K_BETA)
OWN_HEADER_REFUSAL = f"400 invalid_request_error: {OWN_HEADER}"


def drop_asking_for(bench: Bench, beta: str) -> None:
    """Drop a file whose one request asks for a beta."""
    bench.drop("cursed.json", json.dumps({"params": request("cursed"), "betas": [beta]}))


async def test_a_refusal_is_halved_until_the_poison_stands_alone(bench: Bench) -> None:
    """Its neighbours go through; it becomes an error that says what the API said."""
    drop_requests(bench, "q0", "poison", "q2", "q3")
    await take_in(bench)
    bench.api.refuses = lambda body: b"poison" in body

    await bench.settle()

    assert marks(bench) == {"many-1.result.json", "many-2.error.json", "many-3.result.json", "many-4.result.json"}
    document = bench.document("many-2.error.json")
    assert (document["status"], document["billed"]) == ("error", False)
    assert document["error"] == {"type": "refused", "text": "400 invalid_request_error: poison"}


async def test_two_poisons_are_found_when_the_api_names_them(bench: Bench) -> None:
    """One in each half: the words are the same, and they point at a request."""
    drop_requests(bench, "q0", "poison", "poison too", "q3")
    await take_in(bench)
    bench.api.refusal = "400 invalid_request_error: requests.1.custom_id: not a good one"
    bench.api.refuses = lambda body: b"poison" in body

    await bench.settle()

    assert marks(bench) == {"many-1.result.json", "many-2.error.json", "many-3.error.json", "many-4.result.json"}


async def test_a_refusal_that_every_half_meets_makes_no_error(bench: Bench) -> None:
    """Nobody's request is to blame: they wait together, are tried now and then, and go through once it is cured."""
    drop_requests(bench, *(f"q{number}" for number in range(40)))
    await take_in(bench)
    bench.api.refusal = ACCOUNT_REFUSAL
    bench.api.refuses = lambda _: True

    await dispatch_for(bench, 60)
    calls_in_vain = bench.api.create_count
    waiting = bench.rows("SELECT request_count, held_reason FROM batches WHERE state = 'sealed'")
    bench.api.refuses = lambda _: False
    await bench.settle()

    assert waiting == [(40, f"refused whatever is in it: {ACCOUNT_REFUSAL}")]
    assert calls_in_vain < 20, "a back-off lies between the tries"
    assert len(marks(bench)) == 40
    assert bench.rows("SELECT count(*) FROM requests WHERE state <> 'answered'") == [(0,)]


async def test_what_arrives_while_such_a_refusal_lasts_makes_no_error_either(bench: Bench) -> None:
    """A request that is alone in its batch is not an error for words that others are held for."""
    drop_requests(bench, "q0", "q1")
    await take_in(bench)
    bench.api.refusal = ACCOUNT_REFUSAL
    bench.api.refuses = lambda _: True
    await dispatch_for(bench, 10)
    bench.drop("late.md", "alone")
    await take_in(bench)

    await dispatch_for(bench, 10)
    bench.api.refuses = lambda _: False
    await bench.settle()

    assert marks(bench) == {"late.result.json", "many-1.result.json", "many-2.result.json"}


async def test_others_go_on_while_some_are_held(bench: Bench) -> None:
    """A refusal that nobody understands must not stop those that it does not concern."""
    drop_requests(bench, "cursed 1", "cursed 2")
    await take_in(bench)
    bench.api.refusal = ACCOUNT_REFUSAL
    bench.api.refuses = lambda body: b"cursed" in body
    await dispatch_for(bench, 10)
    bench.drop("fine.md", "fine")
    await take_in(bench)

    await dispatch_for(bench, 5)

    assert [len(batch.requests) for batch in bench.api.batches] == [1]
    assert holds(bench) == {}


async def test_a_beta_that_files_asked_for_refuses_those_files_at_once(bench: Bench) -> None:
    """All requests of the batch asked for it: halving would find nothing but all of them, one by one."""
    asked = [json.dumps({"params": request(f"q{number}"), "betas": ["no-such-beta"]}) for number in range(20)]
    bench.drop("beta.jsonl", "\n".join(asked))
    bench.drop("plain.md", "plain")
    await take_in(bench)
    bench.api.refusal = "400 invalid_request_error: Unexpected value(s) `no-such-beta` for the `anthropic-beta` header."
    bench.api.refuses = lambda body: b"beta-1" in body

    await bench.settle()

    assert bench.api.create_count == 2
    assert len([name for name in marks(bench) if name.endswith(".error.json")]) == 20
    assert "plain.result.json" in marks(bench)


@pytest.mark.parametrize("beta", ["other-beta", f"{OUTPUT_300K_BETA}x", "invalid"])
async def test_a_beta_of_one_file_stops_no_other_file(bench: Bench, beta: str) -> None:
    """However like ours it is, or like the words of every refusal."""
    drop_asking_for(bench, beta)
    await take_in(bench)
    bench.api.refusal = f"400 invalid_request_error: {HEADER_REFUSED.format(beta)}"
    bench.api.refuses = lambda body: b"cursed" in body
    await dispatch_for(bench, 5)
    bench.drop("fine.md", "fine")
    await take_in(bench)

    await bench.settle()

    assert marks(bench) == {"cursed.error.json", "fine.result.json"}
    assert bench.api.create_count == 2


async def test_when_a_batch_asks_for_more_than_others_our_own_header_holds_it_alone(bench: Bench) -> None:
    """Perhaps it is what the file asked for that does not go with ours."""
    drop_asking_for(bench, "other-beta")
    await take_in(bench)
    bench.api.refusal = OWN_HEADER_REFUSAL
    bench.api.refuses = lambda body: b"cursed" in body
    await dispatch_for(bench, 5)
    bench.drop("fine.md", "fine")
    await take_in(bench)

    await dispatch_for(bench, 30)
    in_vain = (bench.api.create_count, holds(bench), batch_states(bench))
    bench.api.refuses = lambda _: False
    await bench.settle()

    assert in_vain[0] < 12, "a back-off lies between the tries"
    assert in_vain[1:] == ({}, ["sealed", "in_progress"])
    assert marks(bench) == {"cursed.result.json", "fine.result.json"}


@pytest.mark.parametrize(
    "refusal",
    [
        "requests.0.params.anthropic-beta: Extra inputs are not permitted",
        f"model: {OWN_HEADER}",
        f"model: {OUTPUT_300K_BETA} is not one",
        "model: Your credit balance is too low is not one",
    ],
)
async def test_a_refusal_that_repeats_what_a_request_says_stops_no_other_request(bench: Bench, refusal: str) -> None:
    """Whatever it says."""
    drop_requests(bench, "q0", "cursed", "q2")
    await take_in(bench)
    bench.api.refusal = f"400 invalid_request_error: {refusal}"
    bench.api.refuses = lambda body: b"cursed" in body

    await bench.settle()

    assert marks(bench) == {"many-1.result.json", "many-2.error.json", "many-3.result.json"}
    assert holds(bench) == {}


async def test_one_that_is_held_does_not_hold_the_neighbours_of_another_one_like_it(bench: Bench) -> None:
    """They share its words, and not what the words are about."""
    bench.api.refusal = f"400 invalid_request_error: model: {OUTPUT_300K_BETA} is not one"
    bench.api.refuses = lambda body: b"cursed" in body
    bench.drop("first.md", "cursed")
    await take_in(bench)
    await dispatch_for(bench, 5)
    drop_requests(bench, "q0", "cursed too", "q2")
    await take_in(bench)

    await dispatch_for(bench, 20)
    held = bench.rows("SELECT request_count FROM batches WHERE state = 'sealed'")
    bench.api.refuses = lambda _: False
    await bench.settle()

    assert held == [(1,), (1,)]


async def test_a_header_that_is_refused_in_other_words_fails_nobody(bench: Bench) -> None:
    """One request alone proves nothing about itself."""
    bench.drop("alone.md", "alone")
    await take_in(bench)
    bench.api.refusal = f"400 invalid_request_error: {OUTPUT_300K_BETA} has been withdrawn"
    bench.api.refuses = lambda _: True

    await dispatch_for(bench, 20)
    bench.api.refuses = lambda _: False
    await bench.settle()

    assert marks(bench) == {"alone.result.json"}


async def test_the_log_does_not_repeat_a_refusal(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It may quote what was asked; the status shows it."""
    bench.drop("plain.md", "plain")
    await take_in(bench)
    bench.api.refusal = f"{OWN_HEADER_REFUSAL} You asked: plain"
    bench.api.refuses = lambda _: True

    await dispatch_for(bench, 5)

    (record,) = [record for record in caplog.records if record.message == "sending holds"]
    assert record.__dict__["why"] == "the API refuses a beta that every batch asks for"
    assert holds(bench) == {"sending": bench.api.refusal}


async def test_a_refusal_of_our_own_header_holds_all_sending_and_fails_nobody(bench: Bench) -> None:
    """Every batch asks for it."""
    drop_requests(bench, "q0", "q1")
    await take_in(bench)
    bench.api.refusal = OWN_HEADER_REFUSAL
    bench.api.refuses = lambda _: True

    await dispatch_for(bench, 20)
    held = (holds(bench), batch_states(bench))
    bench.api.refuses = lambda _: False
    await bench.settle()

    assert held == ({"sending": bench.api.refusal}, ["sealed"])
    assert marks(bench) == {"many-1.result.json", "many-2.result.json"}


async def test_a_body_that_is_too_large_is_halved_however_often(bench: Bench) -> None:
    """A 413 is about the size: the same words for both halves do not make it the account's."""
    drop_requests(bench, "q0", "q1", "q2", "q3")
    await take_in(bench)
    bench.api.replies.extend([Reply.TOO_LARGE] * 3)

    await bench.settle()

    assert len(marks(bench)) == 4
    assert [len(batch.requests) for batch in bench.api.batches] == [1, 1, 1, 1]


async def test_one_request_that_is_too_large_becomes_an_error(bench: Bench) -> None:
    """There is nothing left to halve."""
    bench.drop("big.md", "big")
    await take_in(bench)
    bench.api.replies.append(Reply.TOO_LARGE)

    await bench.settle()

    assert marks(bench) == {"big.error.json"}
    assert bench.document("big.error.json")["error"] == {"type": "refused", "text": "413 request_too_large"}


async def test_a_refusal_decides_nothing_before_the_other_half_is_known(bench: Bench) -> None:
    """While that is in doubt, the refused half waits; a process that dies meanwhile changes nothing."""
    drop_requests(bench, "q0", "poison", "q2", "q3")
    await take_in(bench)
    bench.api.refuses = lambda body: b"poison" in body
    while bench.api.create_count < 2:
        await bench.step("dispatch")
        bench.advance(1.0)
    bench.api.replies.append(Reply.NEVER_ARRIVED)

    await dispatch_for(bench, 10)
    undecided = bench.rows("SELECT count(*) FROM batches WHERE is_undecided = 1")
    await bench.restart()
    await bench.settle()

    assert undecided == [(1,)]
    assert marks(bench) == {"many-1.result.json", "many-2.error.json", "many-3.result.json", "many-4.result.json"}


@pytest.mark.parametrize("reply", [Reply.SURELY_NOT, Reply.NEVER_ARRIVED])
async def test_a_body_that_never_gets_through_is_halved_after_three_tries(bench: Bench, reply: Reply) -> None:
    """Other calls work, so it may be the size that a proxy or a line does not bear."""
    drop_requests(bench, "q0", "q1", "q2", "q3")
    await take_in(bench)
    bench.api.replies.extend([reply] * 3)

    await bench.settle()

    assert sorted(len(batch.requests) for batch in bench.api.batches) == [2, 2]
    assert len(marks(bench)) == 4


async def test_a_single_request_that_never_gets_through_waits_visibly_and_others_go_on(bench: Bench) -> None:
    """It is tried on and on, ever more slowly, and never becomes an error for what the line does."""
    bench.drop("heavy.md", "heavy")
    await take_in(bench)
    bench.api.replies.extend([Reply.SURELY_NOT] * 4)
    while bench.api.create_count < 4:
        await bench.step("dispatch")
        bench.advance(0.5)
    held = bench.rows("SELECT held_reason FROM batches")
    bench.drop("light.md", "light")
    await take_in(bench)

    await bench.settle()

    assert held == [("its upload was ended 3 times; others go on",)]
    assert marks(bench) == {"heavy.result.json", "light.result.json"}
