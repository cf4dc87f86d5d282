"""From waiting requests to a batch: windows, the four outcomes, holds, and the sendings that they leave."""

import json
from collections import deque

import pytest

from batchbox.api import Trouble, TroubleKind
from batchbox.errors import RetiredError
from batchbox.model import OUTPUT_300K_BETA

from .bench import Bench
from .fake_api import Reply, errored


def request(text: str, **params: object) -> dict[str, object]:
    """Return bare params."""
    return {"messages": [{"role": "user", "content": text}], **params}


async def take_in(bench: Bench) -> None:
    """Let intake take what lies in the inbox."""
    while bench.inbox_names():
        await bench.step("intake")
        bench.advance(0.5)


async def send(bench: Bench) -> None:
    """Let the window's time pass, and dispatch do what is due."""
    bench.advance(1.1)
    await bench.step("dispatch")


def holds(bench: Bench) -> dict[str, str]:
    """Return what is held, and why."""
    return {str(name): str(reason) for name, reason in bench.rows("SELECT name, reason FROM holds")}


def batch_states(bench: Bench) -> list[str]:
    """Return the states of all batches, oldest first."""
    return [str(state) for (state,) in bench.rows("SELECT state FROM batches ORDER BY id")]


async def test_a_window_waits_for_more_and_is_sent_when_its_oldest_request_has_waited_long_enough(bench: Bench) -> None:
    """max_wait counts from the first request."""
    bench.drop("a.md", "one")
    await take_in(bench)

    await bench.step("dispatch")
    sent_at_once = bench.api.create_count
    await send(bench)

    assert (sent_at_once, bench.api.create_count) == (0, 1)


async def test_a_full_window_is_sent_at_once_and_the_rest_goes_into_the_next_batch(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """max_requests seals."""
    bench = Bench(tmp_path_factory.mktemp("full"), max_requests=2)
    bench.drop("many.jsonl", "\n".join(json.dumps(request(f"q{number}")) for number in range(5)))
    await take_in(bench)

    await bench.step("dispatch")
    await bench.step("dispatch")
    full = [len(batch.requests) for batch in bench.api.batches]
    await send(bench)

    assert full == [2, 2]
    assert [len(batch.requests) for batch in bench.api.batches] == [2, 2, 1]
    await bench.stop()


async def test_every_create_call_carries_the_300k_header_and_beta_sets_do_not_mix(bench: Bench) -> None:
    """Betas belong to a batch, so requests with other betas go into another one."""
    bench.drop("plain.json", json.dumps(request("one")))
    bench.drop("beta.json", json.dumps({"params": request("two"), "betas": ["context-1m-2025-08-07"]}))
    await take_in(bench)

    await send(bench)
    await bench.step("dispatch")

    assert sorted(tuple(betas) for betas in bench.api.betas_seen) == [
        ("context-1m-2025-08-07", OUTPUT_300K_BETA),
        (OUTPUT_300K_BETA,),
    ]


async def test_without_max_tokens_the_models_full_cap_is_asked_for(bench: Bench) -> None:
    """300,000 for a model that has it."""
    bench.drop("a.md", "one")
    await take_in(bench)

    await send(bench)

    (params,) = bench.api.batches[0].requests.values()
    assert json.loads(params)["max_tokens"] == 300_000


async def test_a_lost_reply_is_found_again_by_its_nonce_and_bought_once(bench: Bench) -> None:
    """Beside a batch of another program's of the same size, which is neither adopted nor waited for."""
    bench.drop("a.md", "one")
    bench.api.replies.append(Reply.LOSE)
    await take_in(bench)
    await send(bench)
    bench.api.add_foreign(1, has_ended=True)

    await bench.settle()

    assert bench.api.create_count == 1
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_a_call_that_never_arrived_is_sent_again_only_after_grace_under_a_new_nonce(bench: Bench) -> None:
    """Nothing is resent on a guess; the new manifest names the sending that it replaces."""
    bench.drop("a.md", "one")
    bench.api.replies.append(Reply.NEVER_ARRIVED)
    await take_in(bench)
    await send(bench)

    for _ in range(50):
        await bench.step("dispatch")
        bench.advance(1.0)
    within_grace = bench.api.create_count
    await bench.settle()

    assert (within_grace, bench.api.create_count) == (1, 2)
    (first, outcome, replaced), (second, _, replaces) = bench.rows(
        "SELECT nonce, outcome, replaces FROM sendings ORDER BY intended_at"
    )
    assert (outcome, replaced, replaces) == ("withdrawn", None, first)
    assert first != second
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_a_root_that_is_away_for_a_moment_holds_a_doubt_up_for_a_moment(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """What was found out is written to the root as well, and that is tried again soon."""
    bench.drop("a.md", "question")
    await take_in(bench)
    bench.api.replies.append(Reply.NEVER_ARRIVED)
    await send(bench)
    bench.root.rename(bench.root.with_name("away"))
    stages = bench.stages
    assert stages is not None

    due = 0.0
    while "manifest cannot be closed" not in caplog.messages:
        bench.advance(10)
        due = await stages.dispatch.step(bench.now)

    assert due - bench.now.monotonic < 3
    bench.root.with_name("away").rename(bench.root)
    await bench.settle()
    assert len(bench.api.bought) == 1


async def test_a_candidate_that_runs_keeps_the_batch_in_doubt_beyond_grace(bench: Bench) -> None:
    """Only its first line of results can tell whose it is."""
    bench.drop("a.md", "one")
    bench.api.replies.append(Reply.NEVER_ARRIVED)
    await take_in(bench)
    await send(bench)
    theirs = bench.api.add_foreign(1, has_ended=False)

    for _ in range(100):
        await bench.step("dispatch")
        bench.advance(2.0)
    while_it_runs = (bench.api.create_count, batch_states(bench))
    bench.api.end(theirs)
    await bench.settle()

    assert while_it_runs == (1, ["submitting"])
    assert bench.api.create_count == 2
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_a_look_with_a_failed_page_decides_nothing(bench: Bench) -> None:
    """An empty answer from an API that does not answer is not a no."""
    bench.drop("a.md", "one")
    bench.api.replies.append(Reply.LOSE)
    await take_in(bench)
    await send(bench)
    bench.api.troubles.extend([Trouble(kind=TroubleKind.SERVER, text="502")] * 30)

    while bench.api.troubles:
        await bench.step("dispatch")
        bench.advance(10.0)
    states = batch_states(bench)
    await bench.settle()

    assert states == ["submitting"]
    assert bench.api.create_count == 1


@pytest.mark.parametrize(
    "raw",
    [
        b'{"custom_id": "a__abcdefgh-1", "resu',
        b'{"type": "error", "error": {"type": "api_error", "message": "later"}}\n',
        b"<html>please log in</html>\n",
        b"",
    ],
    ids=["torn", "an error as a page", "a proxy's page", "nothing"],
)
async def test_a_first_line_that_cannot_be_read_proves_nothing(bench: Bench, raw: bytes) -> None:
    """The candidate is neither adopted nor ruled out, but asked again: it is the one that we bought."""
    bench.drop("a.md", "one")
    bench.api.replies.append(Reply.LOSE)
    await take_in(bench)
    await send(bench)
    ours = bench.api.batches[0]
    bench.api.end(ours)
    bench.api.raw_results[ours.id] = deque([raw] * 8)

    while bench.api.raw_results[ours.id]:
        await bench.step("dispatch")
        bench.advance(20.0)
    states = batch_states(bench)
    await bench.settle()

    assert states == ["submitting"]
    assert bench.api.create_count == 1
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_a_list_without_an_end_decides_nothing(bench: Bench) -> None:
    """A page that says that there is more, and not where, leaves a hole in the list."""
    bench.drop("a.md", "one")
    bench.api.replies.append(Reply.LOSE)
    await take_in(bench)
    await send(bench)
    bench.api.list_without_end = True
    bench.api.batches[0].is_deleted = True

    for _ in range(30):
        await bench.step("dispatch")
        bench.advance(10.0)
    states = batch_states(bench)
    bench.api.list_without_end = False
    bench.api.batches[0].is_deleted = False
    await bench.settle()

    assert states == ["submitting"]
    assert bench.api.create_count == 1


async def test_two_batches_in_doubt_each_find_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of the same size: one was accepted and the other never arrived; each is a candidate of both."""
    bench = Bench(tmp_path_factory.mktemp("two"), max_requests=1)
    bench.drop("a.md", "one")
    bench.drop("b.md", "two")
    bench.api.replies.extend([Reply.LOSE, Reply.NEVER_ARRIVED])
    await take_in(bench)
    while bench.api.create_count < 2:
        await bench.step("dispatch")
        bench.advance(1.0)

    await bench.settle()

    assert bench.api.create_count == 3
    assert len(bench.api.bought) == len(set(bench.api.bought)) == 2
    assert set(bench.outbox()) == {"a.md", "a.result.json", "b.md", "b.result.json"}
    await bench.stop()


async def test_one_candidate_that_cannot_be_read_does_not_stop_the_others(bench: Bench) -> None:
    """Another program's batch whose results have gone keeps only what might be it in doubt."""
    bench.drop("a.md", "one")
    bench.api.replies.append(Reply.LOSE)
    await take_in(bench)
    await send(bench)
    theirs = bench.api.add_foreign(1, has_ended=True)
    bench.api.gone.add(theirs.id)

    await bench.settle()

    assert bench.api.create_count == 1
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_what_surely_was_not_sent_goes_back_and_sending_holds_with_a_reason(bench: Bench) -> None:
    """The batch is SEALED at once, and goes out when the back-off is over."""
    bench.drop("a.md", "one")
    bench.api.replies.append(Reply.SURELY_NOT)
    await take_in(bench)
    await send(bench)

    await bench.step("dispatch")
    held = (batch_states(bench), holds(bench), bench.api.create_count)
    await bench.settle()

    assert held == (["sealed"], {"sending": "connection reset"}, 1)
    assert bench.api.create_count == 2
    assert holds(bench) == {}


@pytest.mark.parametrize(
    ("retry_after", "waits"), [(3.0, 3.0), (None, 5.0)], ids=["what the server asked for", "retry.max without a time"]
)
async def test_a_rate_limit_is_waited_out(bench: Bench, retry_after: float | None, waits: float) -> None:
    """A 429 without retry-after may be a monthly cap: it waits the longest there is at once."""
    bench.drop("a.md", "one")
    await take_in(bench)
    bench.api.troubles.append(
        Trouble(kind=TroubleKind.RATE_LIMIT, text="429", status=429, retry_after_seconds=retry_after)
    )
    await send(bench)
    await bench.step("dispatch")

    bench.advance(waits - 0.1)
    await bench.step("dispatch")
    too_early = bench.api.create_count
    bench.advance(0.2)
    await bench.step("dispatch")

    assert (too_early, bench.api.create_count) == (0, 1)


async def test_a_credit_message_on_a_line_holds_sending_and_costs_no_attempt(bench: Bench) -> None:
    """It is the account's trouble; the request goes again when the hold is over."""
    bench.drop("a.md", "one")
    credit = errored("invalid_request_error", "Your credit balance is too low to access the API")
    real = bench.api.answerer
    bench.api.answerer = lambda id_, params, times: credit if times == 1 else real(id_, params, times)

    await bench.settle()

    assert bench.api.create_count == 2
    assert bench.document("a.result.json")["attempts"] == 1
    assert bench.rows("SELECT attempts FROM requests") == [(0,)]


async def test_lanes_take_turns(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A lane with much to do does not keep another from its batch."""
    bench = Bench(tmp_path_factory.mktemp("turns"), max_requests=1)
    bench.drop("busy.jsonl", "\n".join(json.dumps(request(f"q{number}")) for number in range(3)), lane="busy")
    bench.drop("a.md", "other", lane="calm")
    await take_in(bench)
    bench.advance(2.0)

    for _ in range(3):
        await bench.step("dispatch")

    assert [lane for (lane,) in bench.rows("SELECT lane FROM batches ORDER BY id")][:3] == ["busy", "calm", "busy"]
    await bench.stop()


async def test_nothing_is_posted_by_a_daemon_that_was_retired(bench: Bench) -> None:
    """Its folder in processing/ has gone: somebody recovered it."""
    bench.drop("a.md", "one")
    await take_in(bench)
    (bench.root / "processing" / "bench-00000001").rename(bench.root / "processing" / "taken-over")

    bench.advance(1.1)
    with pytest.raises(RetiredError):
        await bench.step("dispatch")

    assert bench.api.create_count == 0
    assert batch_states(bench) == ["sealed"]
