"""What may go wrong between the daemon and the API: whatever it is, each request is bought once and answered once."""

import json
from dataclasses import replace

import pytest

from batchbox.simulator import Call, Fault, FaultKind

from .site import Site, prompt, request, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _lines(count: int, word: str) -> str:
    return "".join(json.dumps(request(f"{word} {number}")) + "\n" for number in range(1, count + 1))


async def _check_bought_once(site: Site, name: str, fault: Fault, *, count: int = 3) -> None:
    """Drop one file with several requests, let the fault meet its call, and see each answered and bought once."""
    ledger = site.simulator.ledger
    before = len(ledger.purchases)
    site.simulator.faults.add(fault)

    site.drop(f"{name}.jsonl", _lines(count, name))
    await site.answers(*(f"{name}-{number}" for number in range(1, count + 1)))
    await site.settles()

    assert site.simulator.faults.pending == [], "the fault has met its call"
    assert len(ledger.purchases) == before + count
    assert f"{name}-1__2.result.json" not in site.visible("outbox")
    for number in range(1, count + 1):
        assert site.document(f"{name}-{number}.result.json")["attempts"] == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.LOST_REPLY, call=Call.CREATE),
        Fault(kind=FaultKind.STATUS_AFTER, call=Call.CREATE, status=500),
        Fault(kind=FaultKind.STATUS_AFTER, call=Call.CREATE, status=504, error_type="timeout_error"),
        Fault(kind=FaultKind.HTML_AFTER, call=Call.CREATE),
        Fault(kind=FaultKind.CUT_JSON, call=Call.CREATE),
        Fault(kind=FaultKind.WRONG_COUNT, call=Call.CREATE),
        Fault(kind=FaultKind.SLOW_COMMIT, call=Call.CREATE, seconds=0.3),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status or ''}",
)
async def test_a_batch_whose_reply_is_lost_is_found_again(quiet_site: Site, fault: Fault) -> None:
    """When the API has the batch and the daemon is not told so, it is found in the list and never bought again."""
    await _check_bought_once(quiet_site, f"found-{fault.kind}-{fault.status or 0}", fault)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.RESET_BEFORE, call=Call.CREATE),
        Fault(kind=FaultKind.RESET_MID_BODY, call=Call.CREATE, at_bytes=100),
        Fault(kind=FaultKind.STATUS, call=Call.CREATE, status=500),
        Fault(kind=FaultKind.HTML, call=Call.CREATE),
        Fault(kind=FaultKind.STATUS, call=Call.CREATE, status=529, error_type="overloaded_error", times=2),
        Fault(kind=FaultKind.STATUS, call=Call.CREATE, status=429, error_type="rate_limit_error"),
        Fault(
            kind=FaultKind.STATUS, call=Call.CREATE, status=429, error_type="rate_limit_error",
            headers={"retry-after": "1"},
        ),
        Fault(kind=FaultKind.STATUS, call=Call.CREATE, status=401, error_type="authentication_error", times=2),
        Fault(kind=FaultKind.STATUS, call=Call.CREATE, status=402, error_type="billing_error"),
        Fault(
            kind=FaultKind.STATUS, call=Call.CREATE, status=400, error_type="invalid_request_error",
            message="You have reached your specified API usage limits. You will regain access on 2099-01-01.",
        ),
        Fault(kind=FaultKind.REDIRECT, call=Call.CREATE, location="http://127.0.0.1:9/elsewhere"),
        Fault(kind=FaultKind.STATUS, call=Call.LIST, status=500, times=2),
    ],
    ids=lambda fault: f"{fault.call}-{fault.kind}-{fault.status or ''}{'-wait' if fault.headers else ''}",
)  # fmt: skip
async def test_a_batch_that_was_not_taken_is_sent_again(quiet_site: Site, fault: Fault) -> None:
    """What the network, the key, the account or the API does wrong is waited out, and costs no request an attempt."""
    wait = "w" if fault.headers else ""
    await _check_bought_once(quiet_site, f"again-{fault.call}-{fault.kind}-{fault.status or 0}{wait}", fault)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.STATUS, call=Call.RETRIEVE, status=500, times=2),
        Fault(kind=FaultKind.NOT_FOUND, call=Call.RETRIEVE),
        Fault(kind=FaultKind.HTML, call=Call.RETRIEVE),
        Fault(kind=FaultKind.CUT_JSON, call=Call.RETRIEVE),
        Fault(kind=FaultKind.STATUS, call=Call.RESULTS, status=500, times=2),
        Fault(kind=FaultKind.NOT_FOUND, call=Call.RESULTS),
        Fault(kind=FaultKind.HTML, call=Call.RESULTS),
        Fault(kind=FaultKind.RESET_BEFORE, call=Call.RESULTS),
        Fault(kind=FaultKind.CUT_RESULTS, call=Call.RESULTS, at_bytes=700),
        Fault(kind=FaultKind.CUT_RESULTS, call=Call.RESULTS, at_bytes=700, clean=True),
        Fault(kind=FaultKind.CUT_RESULTS, call=Call.RESULTS, line=1, clean=True, times=2),
        Fault(kind=FaultKind.MISSING_LINE, call=Call.RESULTS, line=1),
        Fault(kind=FaultKind.DUPLICATE_LINE, call=Call.RESULTS, line=0),
        Fault(kind=FaultKind.FOREIGN_LINE, call=Call.RESULTS, line=1),
    ],
    ids=lambda fault: f"{fault.call}-{fault.kind}-{fault.at_bytes or fault.line or fault.status or ''}-{fault.clean}",
)
async def test_answers_come_whole_after_all(quiet_site: Site, fault: Fault) -> None:
    """A poll that fails and results that are cut, short, doubled or strange cost nothing but time."""
    name = f"whole-{fault.call}-{fault.kind}-{fault.at_bytes or fault.line or fault.status or 0}-{int(fault.clean)}"
    await _check_bought_once(quiet_site, name, fault)


async def test_a_line_that_never_comes_is_an_error_after_three_reads(quiet_site: Site) -> None:
    """A request that three complete reads do not mention ends as `result_missing`; it is not bought again."""
    site = quiet_site
    before = len(site.simulator.ledger.purchases)
    site.simulator.faults.add(Fault(kind=FaultKind.MISSING_LINE, call=Call.RESULTS, line=0, times=3))

    site.drop("missing.jsonl", _lines(3, "missing"))
    await until(
        lambda: len([n for n in site.visible("outbox") if n.startswith("missing-") and n.endswith(".json")]) == 3,
        "every request has ended",
    )
    await site.settles()

    (error,) = [name for name in site.visible("outbox") if name.startswith("missing") and name.endswith("error.json")]
    assert site.document(error)["error"]["type"] == "result_missing"
    assert site.document(error)["status"] == "error"
    assert len(site.simulator.ledger.purchases) == before + 3
    assert site.simulator.faults.pending == []


async def test_a_batch_that_is_too_large_is_halved(quiet_site: Site) -> None:
    """A 413 splits the batch in two, and the halves are sent."""
    site = quiet_site
    before = site.batch_sizes()
    site.simulator.faults.add(
        Fault(kind=FaultKind.STATUS, call=Call.CREATE, status=413, error_type="request_too_large")
    )

    site.drop("halved.jsonl", _lines(5, "halved"))
    await site.answers(*(f"halved-{number}" for number in range(1, 6)))

    assert sorted(site.batch_sizes()[len(before) :]) == [2, 3]


async def test_one_bad_request_does_not_keep_its_neighbours_back(quiet_site: Site) -> None:
    """A batch that the API refuses is split until the request that it refuses stands alone: that one is an error."""
    site = quiet_site
    refusal = Fault(
        kind=FaultKind.STATUS, call=Call.CREATE, status=400, error_type="invalid_request_error", message="poison"
    )
    site.simulator.faults.add(replace(refusal, times=2))  # all four; 1 and 2
    site.simulator.faults.add(replace(refusal, skip=3))  # 1 alone, after 3+4

    site.drop("poison.jsonl", _lines(4, "poison"))
    await site.answers("poison-2", "poison-3", "poison-4")
    await site.ends("poison-1.error.json")
    await site.settles()

    error = site.document("poison-1.error.json")
    assert error["error"]["type"] == "refused"
    assert "poison" in error["error"]["text"]
    assert error["billed"] is False
    assert "poison.jsonl" in site.visible("done")


async def test_a_line_that_may_pass_is_tried_again(quiet_site: Site) -> None:
    """Overload, server errors and expiry on a line are tried again, and the answer says how often it took."""
    site = quiet_site
    texts = {
        "overloaded": "[[simulate error=overloaded_error first_attempts=2]]",
        "server": "[[simulate error=api_error first_attempts=1]]",
        "expiry": "[[simulate expired first_attempts=1]]",
    }

    for name, text in texts.items():
        site.drop(f"{name}.md", prompt(text))
    await site.answers(*texts)

    attempts = {name: site.document(f"{name}.result.json")["attempts"] for name in texts}
    assert attempts == {"overloaded": 3, "server": 2, "expiry": 2}
    assert len(site.document("overloaded.result.json")["batch_ids"]) == 3
    assert all(f"{name}.error.json" not in site.visible("outbox") for name in texts)


async def test_a_line_that_does_not_pass_becomes_an_error(quiet_site: Site) -> None:
    """What fails three times, and what is the request's own fault at once, ends as an error that costs nothing."""
    site = quiet_site
    texts = {
        "overloaded-always": "[[simulate error=overloaded_error]]",
        "expired-always": "[[simulate expired]]",
        "own-fault": "[[simulate error=invalid_request_error]]",
    }

    for name, text in texts.items():
        site.drop(f"{name}.md", prompt(text))
    await site.ends(*(f"{name}.error.json" for name in texts))
    await site.settles()

    errors = {name: site.document(f"{name}.error.json") for name in texts}
    assert {name: (error["error"]["type"], error["attempts"]) for name, error in errors.items()} == {
        "overloaded-always": ("overloaded_error", 3),
        "expired-always": ("expired", 3),
        "own-fault": ("invalid_request_error", 1),
    }
    assert all(error["billed"] is False and error["what_to_do"] for error in errors.values())
    assert {f"{name}.md" for name in texts} <= site.visible("done")


async def test_an_empty_account_holds_everything_and_costs_no_attempt(quiet_site: Site) -> None:
    """A credit error on a line is the account's: the request waits, goes out again, and keeps its attempts."""
    site = quiet_site

    site.drop("credit.md", prompt("[[simulate credit first_attempts=2]]"))
    await site.answers("credit")

    assert site.document("credit.result.json")["attempts"] == 1
    assert len(site.document("credit.result.json")["batch_ids"]) == 3


async def test_two_batches_in_doubt_are_told_apart(quiet_site: Site) -> None:
    """Two batches of one size whose replies are both lost are each found by the nonce in their results."""
    site = quiet_site
    for lane in ("one", "two"):
        (site.root / "inbox" / lane).mkdir()
    before = len(site.simulator.ledger.purchases)
    site.simulator.faults.add(Fault(kind=FaultKind.LOST_REPLY, call=Call.CREATE, times=2))

    site.drop("doubt.jsonl", _lines(2, "one"), lane="one")
    site.drop("doubt.jsonl", _lines(2, "two"), lane="two")
    await site.answers("doubt-1", "doubt-2", lane="one")
    await site.answers("doubt-1", "doubt-2", lane="two")

    assert "one 1" in site.text("doubt-1.md", "one")
    assert "two 1" in site.text("doubt-1.md", "two")
    assert len(site.simulator.ledger.purchases) == before + 4


@pytest.mark.parametrize("kind", [FaultKind.LOST_REPLY, FaultKind.STATUS])
async def test_another_programs_batch_is_never_taken_for_ours(quiet_site: Site, kind: FaultKind) -> None:
    """While a batch of ours is in doubt, others' batches of the same size and time are looked at, and left alone."""
    site = quiet_site
    name = f"foreign-{kind}"
    before = len(site.simulator.ledger.purchases)
    attempts = len(site.simulator.ledger.attempts)
    site.simulator.faults.add(Fault(kind=kind, call=Call.CREATE))

    site.drop(f"{name}.jsonl", _lines(2, name))
    await until(lambda: len(site.simulator.ledger.attempts) > attempts, "the create call is made")
    for _ in range(3):
        site.simulator.create_foreign_batch(2)
    await site.answers(f"{name}-1", f"{name}-2")

    assert len(site.simulator.ledger.purchases) == before + 2
    assert f"{name} 1" in site.text(f"{name}-1.md")
