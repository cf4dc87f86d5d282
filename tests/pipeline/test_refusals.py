"""Refusals: the poison is found and its neighbours go through, and what is nobody's fault becomes nobody's error."""

import json

import pytest

from batchbox.model import OUTPUT_300K_BETA

from .bench import Bench
from .fake_api import Reply
from .taking import batch_states, dispatch_for, drop_requests, holds, marks, request, take_in

ACCOUNT_REFUSAL = "400 invalid_request_error: this organization may not use batches"


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


async def test_a_refusal_of_our_own_header_holds_all_sending_and_fails_nobody(bench: Bench) -> None:
    """Every batch asks for it."""
    drop_requests(bench, "q0", "q1")
    await take_in(bench)
    bench.api.refusal = (
        f"400 invalid_request_error: Unexpected value(s) `{OUTPUT_300K_BETA}` for the `anthropic-beta` header."
    )
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
