"""`<name>.cancel` takes back what was dropped, wherever it is by then."""

import json
import os
import sqlite3
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import anyio
import pytest

from batchbox.api import ApiTrouble, BatchInfo, CreateOutcome, Trouble, TroubleKind
from batchbox.folders.inbox import ClaimOutcome, Wanted
from batchbox.folders.listing import Listing
from batchbox.model import ApiBatchId, Lane

from .bench import Bench, Crash, Points
from .fake_api import Reply, answer, errored
from .lines import always, succeeded
from .taking import dispatch_for, drop_requests, holds, marks, request, send, take_in

TROUBLE = Trouble(kind=TroubleKind.SERVER, text="500 api_error", status=500)


class Hooked(Points):
    """Points at one of which something else happens in the world."""

    def __init__(self, label: str, act: Callable[[], object]) -> None:
        super().__init__()
        self._label = label
        self._act: Callable[[], object] | None = act

    def pass_by(self, label: str) -> None:
        """Act once, at the first point of that label."""
        if self._act is not None and self._label in label:
            act, self._act = self._act, None
            act()
        super().pass_by(label)


class Restless(Points):
    """Points at which somebody writes into a file, if it is there, whenever it is about to be claimed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.is_writing = True

    def pass_by(self, label: str) -> None:
        """Write."""
        if "before Inbox.claim." in label and self.is_writing and self._path.exists():
            self._path.write_text(self._path.read_text() + "x")
        super().pass_by(label)


def die() -> None:
    """Let the process end here."""
    raise Crash


async def cancel(bench: Bench, name: str, *, lane: str | None = None) -> None:
    """Drop a `.cancel` file, and let intake obey it."""
    sign = bench.drop_sign(f"{name}.cancel", lane=lane)
    await bench.step("intake")
    assert not sign.exists()


async def send_two(bench: Bench, *replies: Reply) -> None:
    """Send a batch of two requests, a and b."""
    bench.drop("a.md", "first")
    bench.drop("b.md", "second")
    await take_in(bench)
    bench.api.replies.extend(replies)
    await send(bench)


def mark_as_cancelled(bench: Bench) -> None:
    """Cancel a, as intake does when it runs beside another stage's step."""
    with sqlite3.connect(bench.state / "batchbox.db") as connection:
        connection.execute("UPDATE requests SET canceled_at = 1 WHERE custom_id = 'a'")
    connection.close()


def error_of(bench: Bench, stem: str) -> dict[str, object]:
    """Return what an `.error.json` says, without what it says of the request itself."""
    document = bench.document(f"{stem}.error.json")
    said = document["error"]
    assert isinstance(said, dict)
    told = {key: document.get(key) for key in ("billed", "cost_usd", "usage", "message", "batch_ids")}
    return {"type": said["type"], **{key: value for key, value in told.items() if value is not None}}


NOT_SENT = {"type": "canceled", "billed": False, "cost_usd": 0, "batch_ids": []}


def rejected(bench: Bench, lane: str | None = None) -> dict[str, str]:
    """Return the reasons in rejected/, by file."""
    folder = bench.root / "rejected" if lane is None else bench.root / "rejected" / lane
    reasons = {}
    for path in folder.glob("*.error.txt"):
        (line,) = [line for line in path.read_text().splitlines() if line.startswith("Reason:")]
        reasons[path.name.removesuffix(".error.txt")] = line.split()[1]
    return reasons


async def test_a_file_in_the_inbox_is_moved_to_rejected_before_it_is_even_still(bench: Bench) -> None:
    """Nobody waits for it to be complete."""
    bench.drop("a.md", "first")

    await cancel(bench, "a.md")
    await bench.settle()

    assert rejected(bench) == {"a.md": "canceled"}
    assert (bench.root / "rejected" / "a.md").read_text() == "first"
    assert (bench.api.bought, dict(bench.outbox())) == ([], {})


async def test_a_request_that_waits_is_never_sent(bench: Bench) -> None:
    """Its file is done with, and its error says that nothing was bought."""
    bench.drop("a.md", "first")
    await take_in(bench)

    await cancel(bench, "a.md")
    await bench.settle()

    assert bench.api.bought == []
    assert error_of(bench, "a") == NOT_SENT
    document = bench.document("a.error.json")
    assert (document["attempts"], document["sent_at"]) == (0, None)
    assert "cancelled while it waited" in str(document["error"])
    assert (bench.root / "done" / "a.md").exists()


async def test_a_request_in_a_sealed_batch_is_taken_out_of_it(bench: Bench) -> None:
    """The others in it go on."""
    await send_two(bench, Reply.SURELY_NOT)
    assert bench.rows("SELECT state FROM batches") == [("sealed",)]

    await cancel(bench, "a.md")
    await bench.settle()

    assert error_of(bench, "a") == NOT_SENT
    assert [len(batch.requests) for batch in bench.api.batches] == [1]
    assert marks(bench) == {"a.error.json", "b.result.json"}


async def test_what_is_cancelled_while_sending_holds_ends_at_once(bench: Bench) -> None:
    """Who takes something back need not wait until the account is in order."""
    bench.api.troubles.append(TROUBLE)
    await send_two(bench)
    await bench.step("dispatch")
    assert set(holds(bench)) == {"sending"}

    await cancel(bench, "a.md")
    await bench.step("dispatch")
    await bench.step("delivery")

    assert set(holds(bench)) == {"sending"}
    assert marks(bench) == {"a.error.json"}


async def test_what_is_cancelled_between_the_choice_and_the_intent_is_not_sent(bench: Bench) -> None:
    """The call that asks for the mark may take a minute."""
    bench.drop("a.md", "first")
    bench.drop("b.md", "second")
    await take_in(bench)
    list_batches = bench.api.list_batches

    async def slow_list(**arguments: object) -> object:
        bench.api.list_batches = list_batches  # type: ignore[method-assign] # it is slow once
        assert bench.stages is not None
        bench.drop_sign("a.md.cancel")
        await bench.stages.intake.step(bench.now)
        return await list_batches(**arguments)  # type: ignore[arg-type] # passed on as they came

    bench.api.list_batches = slow_list  # type: ignore[assignment,method-assign] # what the network does
    await send(bench)
    await bench.settle()

    assert error_of(bench, "a") == NOT_SENT
    assert [len(batch.requests) for batch in bench.api.batches] == [1]


@pytest.mark.parametrize("reply", [Reply.ACCEPT, Reply.SURELY_NOT, Reply.NEVER_ARRIVED, Reply.LOSE])
async def test_a_request_that_is_being_uploaded_stays_in_its_batch_for_that_call_alone(
    bench: Bench, reply: Reply
) -> None:
    """What the API has is answered and paid for; what it surely has not is taken out before the next call."""
    bench.drop("a.md", "first")
    bench.drop("b.md", "second")
    await take_in(bench)
    bench.api.replies.append(reply)
    create = bench.api.create
    is_uploading, may_end = anyio.Event(), anyio.Event()

    async def slow_create(*body: object, **arguments: object) -> CreateOutcome:
        is_uploading.set()
        await may_end.wait()
        return await create(*body, **arguments)  # type: ignore[arg-type] # passed on as they came

    bench.api.create = slow_create  # type: ignore[method-assign] # what the network does
    bench.advance(1.1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.step, "dispatch")
        await is_uploading.wait()
        await cancel(bench, "a.md")
        may_end.set()
    bench.api.create = create  # type: ignore[method-assign] # from here on it is quick
    await bench.settle()

    is_bought = reply in {Reply.ACCEPT, Reply.LOSE}
    assert marks(bench) == {"a.error.json", "b.result.json"}
    assert error_of(bench, "a")["billed"] is is_bought
    assert [len(batch.requests) for batch in bench.api.batches] == [2 if is_bought else 1]


async def test_a_request_in_doubt_is_not_in_the_resend(bench: Bench) -> None:
    """It is noted, and comes into effect when it turns out that nothing was sent."""
    await send_two(bench, Reply.NEVER_ARRIVED)

    await cancel(bench, "a.md")
    await dispatch_for(bench, 20)
    in_doubt = dict(bench.outbox())
    await bench.settle()

    assert in_doubt == {}
    assert error_of(bench, "a") == NOT_SENT
    assert [len(batch.requests) for batch in bench.api.batches] == [1]


async def test_a_request_in_doubt_that_was_sent_after_all_is_paid_for(bench: Bench) -> None:
    """The API has it: then its answer is fetched."""
    await send_two(bench, Reply.LOSE)

    await cancel(bench, "a.md")
    await bench.settle()

    assert error_of(bench, "a")["billed"] is True
    assert len(bench.api.bought) == 2


async def test_the_answer_to_a_request_that_was_sent_goes_into_its_error(bench: Bench) -> None:
    """It was paid for, so it is not thrown away; but nobody takes it for a result."""
    bench.api.answerer = always(succeeded("end_turn", text="too late", output_tokens=20))
    await send_two(bench)

    await cancel(bench, "a.md")
    await bench.settle()

    error = error_of(bench, "a")
    message = error.pop("message")
    assert isinstance(message, dict)
    assert message["content"][1] == {"type": "text", "text": "too late"}
    assert error == {
        "type": "canceled",
        "billed": True,
        "cost_usd": bench.document("b.result.json")["cost_usd"],
        "usage": {"input_tokens": 1_000_000, "output_tokens": 20},
        "batch_ids": ["msgbatch_0001"],
    }
    assert bench.rows("SELECT count(*) FROM charges") == [(2,)]
    assert set(bench.outbox()) == {"a.error.json", "b.md", "b.result.json"}
    assert bench.api.cancelled == []


async def test_the_answer_to_a_request_whose_batch_has_ended_goes_into_its_error(bench: Bench) -> None:
    await send_two(bench)
    bench.api.end_all()
    bench.advance(2)
    await bench.step("polling")
    assert bench.rows("SELECT state FROM batches") == [("ended",)]

    await cancel(bench, "a.md")
    await bench.settle()

    assert error_of(bench, "a")["billed"] is True
    assert marks(bench) == {"a.error.json", "b.result.json"}


@pytest.mark.parametrize(
    "result",
    [
        {"type": "canceled"},
        {"type": "expired"},
        errored("overloaded_error", "busy"),
        errored("invalid_request_error", "no such tool"),
        errored("billing_error", "Your credit balance is too low"),
    ],
)
async def test_a_cancelled_request_that_was_not_answered_is_not_billed_and_not_tried_again(
    bench: Bench, result: dict[str, object]
) -> None:
    """Whatever the reason: nobody wants it any more."""
    await send_two(bench)
    await cancel(bench, "a.md")
    await cancel(bench, "b.md")

    bench.api.answerer = always(result)
    bench.api.end_all()
    await bench.settle()

    assert error_of(bench, "a") == {"type": "canceled", "billed": False, "cost_usd": 0, "batch_ids": ["msgbatch_0001"]}
    assert len(bench.api.bought) == 2


async def test_missing_credit_is_still_noticed_from_a_cancelled_request(bench: Bench) -> None:
    """What its line says about the account is about all others too."""
    await send_two(bench)
    await cancel(bench, "a.md")
    bench.api.answerer = lambda custom_id, *rest: (
        errored("billing_error", "Your credit balance is too low")
        if custom_id.startswith("a__")
        else answer(custom_id, *rest)
    )
    bench.api.end_all()
    bench.advance(2)
    await bench.step("polling")

    await bench.step("delivery")

    assert set(holds(bench)) == {"credit"}


async def test_a_batch_of_which_everything_is_cancelled_is_cancelled_at_the_api(bench: Bench) -> None:
    """Not before the last of its requests is, and then at once."""
    await send_two(bench)
    await bench.step("polling")

    await cancel(bench, "a.md")
    await bench.step("polling")
    early = list(bench.api.cancelled)
    await cancel(bench, "b.md")
    await bench.step("polling")

    assert (early, bench.api.cancelled) == ([], ["msgbatch_0001"])
    await bench.settle(end_batches=False)
    assert error_of(bench, "a") == {"type": "canceled", "billed": False, "cost_usd": 0, "batch_ids": ["msgbatch_0001"]}
    assert error_of(bench, "b")["billed"] is False


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_batch_that_cannot_be_cancelled_now_is_cancelled_later(bench: Bench, is_restarted: bool) -> None:
    """The network may be away, and the process may end."""
    await send_two(bench)
    await bench.step("polling")
    await cancel(bench, "a.md")
    await cancel(bench, "b.md")
    bench.api.troubles.extend([TROUBLE] * 3)

    if is_restarted:
        await bench.step("polling")
        await bench.restart()
    await bench.settle(end_batches=False)

    assert bench.api.cancelled == ["msgbatch_0001"]
    assert marks(bench) == {"a.error.json", "b.error.json"}


async def test_a_batch_that_ends_just_before_it_is_cancelled_is_no_trouble(bench: Bench) -> None:
    """The API says so, and the next poll finds it; until then nothing is asked without a pause."""
    await send_two(bench)
    await cancel(bench, "a.md")
    calls = []

    async def refuse(batch_id: ApiBatchId) -> BatchInfo:
        calls.append(batch_id)
        raise ApiTrouble(Trouble(kind=TroubleKind.CLIENT, text="400 invalid_request_error: it has ended", status=400))

    bench.api.cancel = refuse  # type: ignore[method-assign] # it has ended since it was looked at
    await cancel(bench, "b.md")
    for _ in range(20):
        assert await bench.step("polling") > bench.now.monotonic, "polls without a pause"
        bench.advance(0.1)

    assert 1 <= len(calls) <= 4
    assert "api" not in holds(bench)


async def test_a_request_that_is_being_delivered_keeps_its_answer(bench: Bench) -> None:
    """Once a name in the outbox is recorded its files may be there: nothing may contradict them after a crash."""
    await send_two(bench)
    bench.api.end_all()
    bench.advance(2)
    await bench.step("polling")
    await bench.stop()
    bench.api.points = Hooked("after Outbox.publish", die)
    with pytest.raises(Crash):
        await bench.step("delivery")
    await bench.restart()
    assert set(bench.outbox()) == {"a.md", "a.result.json", "b.md", "b.result.json"}

    sign = bench.drop_sign("a.md.cancel")
    await bench.step("intake")
    assert sign.exists()
    await bench.settle()

    assert set(bench.outbox()) == {"a.md", "a.result.json", "b.md", "b.result.json"}
    assert rejected(bench) == {"a.md.cancel": "nothing_to_cancel"}


async def test_the_rest_of_a_file_is_cancelled_while_a_part_of_it_is_being_delivered(tmp_path: Path) -> None:
    """What may be visible stays as it is; what is on its way does not."""
    bench = Bench(tmp_path, max_requests=1)
    drop_requests(bench, "one", "two")
    await take_in(bench)
    await send(bench)
    bench.api.end_all()
    await send(bench)
    bench.advance(2)
    await bench.step("polling")
    await bench.stop()
    bench.api.points = Hooked("after Outbox.publish", die)
    with pytest.raises(Crash):
        await bench.step("delivery")
    await bench.restart()

    await cancel(bench, "many.jsonl")
    await bench.settle()

    assert set(bench.outbox()) == {"many-1.md", "many-1.result.json", "many-2.error.json"}
    await bench.stop()


async def test_a_request_that_is_cancelled_while_its_answer_is_written_has_one_outcome(bench: Bench) -> None:
    """It was decided that it is answered, and nothing of it is visible yet: what is true now is written instead."""
    await send_two(bench)
    bench.api.end_all()
    bench.advance(2)
    await bench.step("polling")
    await bench.stop()

    bench.api.points = Hooked("after Outbox.write", partial(mark_as_cancelled, bench))
    await bench.settle()

    assert set(bench.outbox()) == {"a.error.json", "b.md", "b.result.json"}
    assert error_of(bench, "a")["billed"] is True
    assert not list((bench.root / "outbox").rglob(".bb-*"))
    assert bench.rows("SELECT short_reads FROM batches") == [(0,)]


async def test_what_has_ended_cannot_be_cancelled(bench: Bench) -> None:
    """It keeps its answer; whoever wanted to take it back is told after a while."""
    bench.drop("a.md", "first")
    await bench.settle()

    sign = bench.drop_sign("a.md.cancel")
    await bench.step("intake")
    bench.advance(4)
    await bench.step("intake")
    early = sign.exists()
    await bench.settle()

    assert early
    assert set(bench.outbox()) == {"a.md", "a.result.json"}
    assert rejected(bench) == {"a.md.cancel": "nothing_to_cancel"}


async def test_a_sign_that_comes_before_its_file_is_obeyed_when_that_is_there(bench: Bench) -> None:
    """Programs that copy folders do it in any order."""
    bench.drop_sign("a.md.cancel")
    await bench.step("intake")
    bench.advance(2)
    bench.drop("a.md", "first")

    await bench.settle()

    assert rejected(bench) == {"a.md": "canceled"}


async def test_a_sign_waits_for_a_file_that_cannot_be_taken_yet(bench: Bench) -> None:
    """Its time does not run out while its file is in use."""
    path = bench.drop("a.md", "first")
    bench.dropped.clear()
    sign = bench.drop_sign("a.md.cancel")
    bench.api.points = Restless(path)
    for _ in range(16):
        await bench.step("intake")
        bench.advance(0.5)
    waited = (path.exists(), sign.exists(), rejected(bench))
    await bench.stop()
    bench.api.points = Points()

    await bench.settle()

    assert waited == (True, True, {})
    assert rejected(bench) == {"a.md": "canceled"}


async def cancel_behind_a_stuck_file(bench: Bench) -> tuple[Path, Restless]:
    """Cancel a recorded request while another file of its name cannot be taken; return that file, and who writes it."""
    bench.drop("a.md", "first")
    await take_in(bench)
    await bench.stop()
    path = bench.drop("a.md", "second")
    bench.dropped.clear()
    bench.api.points = points = Restless(path)
    bench.drop_sign("a.md.cancel")
    for _ in range(12):
        await bench.step("intake")
        await bench.step("dispatch")
        await bench.step("delivery")
        bench.advance(0.5)
    return path, points


async def test_a_recorded_request_is_cancelled_although_a_file_of_its_name_cannot_be_taken(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be bought meanwhile. The file is no request either, and a drain waits for both and says so."""
    _, points = await cancel_behind_a_stuck_file(bench)
    assert bench.stages is not None
    intake = bench.stages.intake
    waited = (bench.inbox_names(), intake.left_count, intake.is_idle, intake.refused())

    points.is_writing = False
    await bench.settle()

    both = ["a.md", "a.md.cancel"]
    assert (sorted(waited[0]), *waited[1:]) == (both, 2, False, both)
    assert (bench.api.bought, error_of(bench, "a"), rejected(bench)) == ([], NOT_SENT, {"a.md": "canceled"})
    told = [vars(record)["file"] for record in caplog.records if record.message.startswith("cancelling waits")]
    assert told == both


async def test_a_file_that_comes_free_is_taken_for_its_sign_and_for_nothing_else(bench: Bench) -> None:
    """Its claim fails; a moment later in the same step it would succeed, and make a request of the file."""
    bench.drop("a.md", "first")
    await bench.step("intake")
    bench.advance(1.1)
    bench.drop_sign("a.md.cancel")
    assert bench.stages is not None
    inbox = bench.stages.intake._inbox
    claim = inbox.claim

    async def busy_once(lane: Lane, files: Sequence[Wanted]) -> list[ClaimOutcome]:
        inbox.claim = claim  # type: ignore[method-assign] # it is busy once
        return [ClaimOutcome.BUSY] * len(files)

    inbox.claim = busy_once  # type: ignore[method-assign] # a client has it open
    await bench.step("intake")
    left = sorted(bench.inbox_names())
    await bench.settle()

    assert left == ["a.md", "a.md.cancel"]
    assert (rejected(bench), bench.rows("SELECT 1 FROM requests")) == ({"a.md": "canceled"}, [])


async def test_a_sign_whose_file_is_withdrawn_while_both_wait_was_not_in_vain(bench: Bench) -> None:
    """Nobody is told that there was nothing to cancel."""
    path, _ = await cancel_behind_a_stuck_file(bench)

    path.unlink()
    await bench.settle()

    assert (bench.api.bought, marks(bench), rejected(bench)) == ([], {"a.error.json"}, {})


async def test_what_waits_in_a_lane_that_is_removed_is_not_waited_for(bench: Bench) -> None:
    """Its files went with it."""
    path = bench.drop("a.md", "first", lane="one")
    bench.dropped.clear()
    sign = bench.drop_sign("a.md.cancel", lane="one")
    bench.api.points = Restless(path)
    await bench.step("intake")
    assert bench.stages is not None
    intake = bench.stages.intake
    assert (intake.left_count, intake.is_idle) == (2, False)

    path.unlink()
    sign.unlink()
    path.parent.rmdir()
    await bench.step("intake")

    assert (intake.left_count, intake.is_idle) == (0, True)


async def test_a_file_is_cancelled_with_all_its_requests_and_a_request_alone_by_its_id(bench: Bench) -> None:
    drop_requests(bench, "one", "two", "three", name="list")
    drop_requests(bench, "four", "five", name="other")
    await take_in(bench)

    await cancel(bench, "list.jsonl")
    await cancel(bench, "other-2")
    await bench.settle()

    errors = {name for name in bench.outbox() if name.endswith(".error.json")}
    assert errors == {"list-1.error.json", "list-2.error.json", "list-3.error.json", "other-2.error.json"}
    assert len(bench.api.bought) == 1


async def test_a_sign_counts_in_its_own_lane(bench: Bench) -> None:
    """Another lane may have a file of the same name."""
    bench.drop("a.md", "first", lane="one")
    bench.drop("a.md", "second", lane="two")
    await take_in(bench)

    await cancel(bench, "a.md", lane="one")
    await bench.settle()

    assert set(bench.outbox("one")) == {"a.error.json"}
    assert set(bench.outbox("two")) == {"a.md", "a.result.json"}


@pytest.mark.parametrize("is_taken", [False, True])
@pytest.mark.parametrize(("dropped", "said"), [("NFD", "NFC"), ("NFC", "NFD")])
async def test_names_compare_as_people_see_them(bench: Bench, dropped: str, said: str, *, is_taken: bool) -> None:
    """The same name is spelled in several ways, and macOS and Windows do not agree on one."""
    name = "Übersicht é.md"
    bench.drop(unicodedata.normalize(dropped, name), "first")  # type: ignore[arg-type] # one of the two forms
    if is_taken:
        await take_in(bench)

    await cancel(bench, unicodedata.normalize(said, name))  # type: ignore[arg-type] # the other one
    await bench.settle()

    assert bench.api.bought == []
    assert (len(rejected(bench)), len(marks(bench))) == ((0, 1) if is_taken else (1, 0))


LONG_NAMES = {"wide": "長" * 74, "wider": "長" * 81, "decomposed": "e\u0301" * 80, "plain": "x" * 244}


@pytest.mark.parametrize("stem", LONG_NAMES.values(), ids=LONG_NAMES)
@pytest.mark.parametrize("is_taken", [False, True])
async def test_a_long_name_is_taken_back_like_a_short_one(bench: Bench, stem: str, *, is_taken: bool) -> None:
    """A claim has no room for all of it; another file whose name begins so is not meant."""
    bench.drop(f"{stem}.md", "first")
    bench.drop(f"{stem[:-1]}o.md", "other")
    bench.dropped.clear()  # in done/ their names are shorter
    if is_taken:
        await take_in(bench)

    await cancel(bench, unicodedata.normalize("NFC", f"{stem}.md"))
    await bench.settle()

    assert [len(batch.requests) for batch in bench.api.batches] == [1]
    assert bench.rows("SELECT count(*) FROM sources WHERE reason = 'nothing_to_cancel'") == [(0,)]
    assert (len(rejected(bench)), len(marks(bench))) == ((0, 2) if is_taken else (1, 1))


async def test_a_name_that_leaves_no_room_for_a_sign_is_taken_back_by_the_id(bench: Bench) -> None:
    """Or by the name that the daemon shows, which is shorter."""
    for letter in "ab":
        bench.drop(letter * 252 + ".md", letter)
    bench.dropped.clear()  # in done/ their names are shorter
    await take_in(bench)
    ((custom_id,), _) = bench.rows("SELECT custom_id FROM requests ORDER BY custom_id")
    (_, (shown_name,)) = bench.rows("SELECT CAST(name AS TEXT) FROM sources ORDER BY 1")

    await cancel(bench, str(custom_id))
    await cancel(bench, str(shown_name))
    await bench.settle()

    assert (bench.api.bought, len(marks(bench))) == ([], 2)


async def test_a_request_that_two_files_ask_for_is_cancelled_by_the_name_of_either(bench: Bench) -> None:
    """The name names it; nobody is left to wait for what will not come."""
    content = json.dumps({"custom_id": "same", "params": request("one")})
    bench.drop("a.json", content)
    bench.drop("b.json", content)
    await take_in(bench)

    await cancel(bench, "b.json")
    await bench.settle()

    assert (bench.api.bought, marks(bench)) == ([], {"same.error.json"})
    assert {path.name for path in (bench.root / "done").iterdir()} == {"a.json", "b.json"}


async def test_what_is_dropped_again_after_it_was_cancelled_is_answered(bench: Bench) -> None:
    """It is no double drop of a request that ends as an error."""
    await send_two(bench)
    await cancel(bench, "a.md")
    bench.drop("a.md", "first")
    await take_in(bench)

    await bench.settle()

    assert error_of(bench, "a")["type"] == "canceled"
    assert {"a-2.md", "a-2.result.json"} <= set(bench.outbox())


async def test_an_id_stays_taken_until_the_cancelled_request_has_ended(bench: Bench) -> None:
    """Two requests of one id would have one name; the rejection says why."""
    content = json.dumps({"custom_id": "mine", "params": request("one")})
    bench.drop("a.json", content)
    await take_in(bench)
    await send(bench)
    await cancel(bench, "mine")

    bench.drop("b.json", content)
    await take_in(bench)
    await bench.step("intake")

    assert rejected(bench) == {"b.json": "duplicate_id"}
    assert "has not ended, though it was taken back" in (bench.root / "rejected" / "b.json.error.txt").read_text()


async def test_an_empty_sign_is_enough_and_a_long_one_is_not_read(bench: Bench) -> None:
    """What is in it does not count."""
    bench.drop("a.md", "first")
    with (bench.root / "inbox" / "a.md.cancel").open("wb") as file:
        file.truncate(10**12)

    await bench.settle()

    assert rejected(bench) == {"a.md": "canceled"}


async def test_a_link_with_such_a_name_is_no_sign(bench: Bench) -> None:
    """It is told what it is, like any odd file, and nothing is cancelled."""
    bench.drop("a.md", "first")
    os.symlink("/etc/passwd", bench.root / "inbox" / "a.md.cancel")

    await bench.settle()

    assert rejected(bench) == {"a.md.cancel": "not_a_regular_file"}
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_a_sign_is_obeyed_although_no_more_files_are_taken(tmp_path: Path) -> None:
    """Who has dropped too much must be able to take it back."""
    bench = Bench(tmp_path, max_pending=1)
    bench.drop("a.md", "first")
    await take_in(bench)
    bench.drop("b.md", "second")

    await cancel(bench, "b.md")
    await cancel(bench, "a.md")
    await bench.settle()

    assert (rejected(bench), marks(bench), bench.api.bought) == ({"b.md": "canceled"}, {"a.error.json"}, [])
    await bench.stop()


async def test_many_are_cancelled_in_one_step(bench: Bench) -> None:
    """Some still in the inbox, some taken."""
    for number in range(150):
        bench.drop(f"taken{number}.md", f"first {number}")
    await take_in(bench)
    for number in range(150):
        bench.drop(f"new{number}.md", f"second {number}")
    for number in range(150):
        bench.drop_sign(f"taken{number}.md.cancel")
        bench.drop_sign(f"new{number}.md.cancel")

    await bench.step("intake")
    left = bench.inbox_names()
    await bench.settle()

    assert left == []
    assert (len(rejected(bench)), len(marks(bench)), bench.api.bought) == (150, 150, [])


async def test_a_long_file_is_cancelled_as_a_whole(tmp_path: Path) -> None:
    """It is read in parts; a sign that comes meanwhile is obeyed after the last."""
    bench = Bench(tmp_path, max_requests=10_000)
    drop_requests(bench, *(f"{number} {'x' * 1000}" for number in range(600)), name="long")
    sign = bench.root / "inbox" / "long.jsonl.cancel"
    bench.api.points = Hooked("before Inbox.read_part", sign.touch)

    await bench.settle()

    assert bench.rows("SELECT error_type, count(*) FROM requests GROUP BY 1") == [("canceled", 600)]
    assert bench.api.bought == []
    await bench.stop()


async def test_a_file_that_settles_anew_is_cancelled_in_processing(bench: Bench) -> None:
    """It had changed after it was taken, and is waited for: nothing of it is a request just now."""
    bench.drop("a.md", "first")
    await take_in(bench)
    (claim,) = (path for path in (bench.root / "processing").rglob("*~a.md"))
    claim.write_text("first, and more")
    bench.dropped["a.md"] = claim.read_bytes()
    await send(bench)
    assert bench.rows("SELECT count(*) FROM unsettled WHERE is_still = 0") == [(1,)]

    await cancel(bench, "a.md")
    await bench.settle()

    assert (rejected(bench), bench.api.bought) == ({"a.md": "canceled"}, [])


async def test_a_file_is_cancelled_that_dispatch_finds_changed_while_intake_takes_a_step(bench: Bench) -> None:
    """Its row is still there when the sign is read: it goes with the next step, and so does the file."""
    bench.drop("a.md", "first")
    await take_in(bench)
    (claim,) = (path for path in (bench.root / "processing").rglob("*~a.md"))
    claim.write_text("first, and more")
    bench.dropped["a.md"] = claim.read_bytes()
    assert bench.stages is not None
    inbox = bench.stages.intake._inbox
    listing = inbox.listing

    async def slow_listing(*arguments: object) -> Listing:
        inbox.listing = listing  # type: ignore[method-assign] # it is slow once
        await send(bench)
        return await listing(*arguments)  # type: ignore[arg-type] # passed on as they came

    inbox.listing = slow_listing  # type: ignore[assignment,method-assign] # long files are read meanwhile
    bench.drop_sign("a.md.cancel")
    await bench.step("intake")
    waited = (bench.inbox_names(), bench.rows("SELECT state, is_still FROM sources, unsettled"))
    await bench.settle()

    assert waited == (["a.md.cancel"], [("reading", 0)])
    assert (rejected(bench), bench.api.bought) == ({"a.md": "canceled"}, [])


async def test_a_file_that_changes_after_a_part_of_it_was_cancelled_stays_as_it_was_read(bench: Bench) -> None:
    """To read it again would bring back what was taken out of it."""
    drop_requests(bench, "one", "two")
    await take_in(bench)
    await cancel(bench, "many-1")
    (claim,) = (path for path in (bench.root / "processing").rglob("*~many.jsonl"))
    claim.write_text(claim.read_text() + "\n")
    bench.dropped["many.jsonl"] = claim.read_bytes()

    await bench.settle()

    assert marks(bench) >= {"many-1.error.json", "many-2.result.json"}
    assert len(bench.api.bought) == 1


async def test_a_file_that_is_found_changed_just_after_it_was_cancelled_is_not_read_again(bench: Bench) -> None:
    """What is read again knows nothing of what was cancelled."""
    bench.drop("a.md", "first")
    await take_in(bench)
    (claim,) = (path for path in (bench.root / "processing").rglob("*~a.md"))
    claim.write_text("first, and more")
    bench.dropped["a.md"] = claim.read_bytes()
    await bench.stop()
    bench.api.points = Hooked("before Inbox.compare", partial(mark_as_cancelled, bench))

    await bench.settle()

    assert (marks(bench), bench.api.bought) == ({"a.error.json"}, [])


async def test_the_others_of_a_halved_batch_go_on(bench: Bench) -> None:
    drop_requests(bench, "one", "two", "three", "four")
    await take_in(bench)
    bench.api.replies.append(Reply.TOO_LARGE)
    await send(bench)
    await cancel(bench, "many-3")

    await bench.settle()

    assert sorted(len(batch.requests) for batch in bench.api.batches) == [1, 2]
    assert error_of(bench, "many-3") == NOT_SENT


async def test_the_others_of_a_held_batch_stay_held(bench: Bench) -> None:
    """All of it was refused with the same words, so it was joined again: that is no less true of what is left."""
    bench.api.refuses = lambda _: True
    bench.api.refusal = "400 invalid_request_error: not today"
    drop_requests(bench, "one", "two", "three")
    await take_in(bench)
    await send(bench)
    await dispatch_for(bench, 20)
    assert bench.rows("SELECT is_joined, request_count FROM batches WHERE state = 'sealed'") == [(1, 3)]

    await cancel(bench, "many-2")
    await dispatch_for(bench, 20)

    assert bench.rows("SELECT is_joined, request_count FROM batches WHERE state = 'sealed'") == [(1, 2)]
    bench.api.refuses = lambda _: False
    await bench.settle()
    assert error_of(bench, "many-2") == NOT_SENT
    assert len(bench.api.bought) == 2


async def test_a_refused_request_may_be_cancelled_while_its_neighbours_fate_is_open(bench: Bench) -> None:
    """Its file says one thing or the other, and it is not sent again."""
    bench.api.refuses = lambda raw: b"poison" in raw
    drop_requests(bench, "poison", "two")
    await take_in(bench)
    await send(bench)
    await cancel(bench, "many-1")

    await bench.settle()

    assert error_of(bench, "many-1")["billed"] is False
    assert "many-2.result.json" in bench.outbox()


async def test_another_request_tries_the_account_when_the_probe_is_cancelled(bench: Bench) -> None:
    """One request goes alone to see whether there is credit again; the next one takes its place."""
    bench.api.answerer = always(errored("billing_error", "Your credit balance is too low"))
    await send_two(bench)
    bench.api.end_all()
    bench.advance(2)
    await bench.step("polling")
    await bench.step("delivery")
    bench.api.answerer = answer
    bench.api.replies.extend([Reply.SURELY_NOT])
    while not bench.rows("SELECT 1 FROM batches WHERE is_probe = 1"):
        await bench.step("dispatch")
        bench.advance(0.5)

    await cancel(bench, "a.md")
    await bench.settle()

    assert marks(bench) == {"a.error.json", "b.result.json"}
    assert error_of(bench, "a")["billed"] is False


def load(bench: Bench) -> None:
    """Drop a file that is taken back in the inbox, two that are taken back later, and one that is not."""
    bench.drop("new.md", "zero")
    bench.drop_sign("new.md.cancel")
    bench.drop("a.md", "first")
    bench.drop("b.json", json.dumps({"requests": [request("two"), {"custom_id": "own", "params": request("three")}]}))
    bench.drop("c.md", "fourth")


async def run_through(bench: Bench, signs: list[str], *, crash_at: int | None) -> bool:
    """Drop the signs when something is sent, and go on to the end or to the crash; return whether there was one."""
    bench.points.crash_at = crash_at
    try:
        while not bench.api.batches:
            await bench.step_all()
            bench.advance(0.5)
        while signs:
            bench.drop_sign(signs.pop())
        await bench.settle()
    except Crash:
        return True
    return False


def verify(bench: Bench) -> None:
    """Judge that everything is either cancelled or not, and that whoever took something back was heard."""
    told = rejected(bench)
    errors = {name: error_of(bench, name.partition(".")[0])["type"] for name in marks(bench) if ".error." in name}
    assert (told.pop("new.md", None) == "canceled") is not (errors.pop("new.error.json", None) == "canceled")
    assert errors == {"a.error.json": "canceled", "own.error.json": "canceled"}
    assert told == {}, "a sign that was obeyed is rejected"
    assert set(bench.outbox()) >= {"b-1.md", "b-1.result.json", "c.md", "c.result.json"}
    assert not list((bench.root / "processing").rglob("*~*"))


def made(folder: Path, name: str) -> Path:
    """Make a folder for one run."""
    (folder / name).mkdir()
    return folder / name


async def crash_everywhere(folder: Path, *, first: int = 1, every: int) -> int:
    """Let the process die at points that far from each other; return how many those were."""
    whole = Bench(made(folder, "whole"))
    load(whole)
    assert not await run_through(whole, ["a.md.cancel", "own.cancel"], crash_at=None)
    verify(whole)
    await whole.stop()
    points = range(first, whole.points.passed, every)
    for point in points:
        bench, signs = Bench(made(folder, str(point))), ["a.md.cancel", "own.cancel"]
        load(bench)
        await run_through(bench, signs, crash_at=point)
        bench.points.crash_at = None
        await bench.restart()
        assert not await run_through(bench, signs, crash_at=None)
        verify(bench)
        await bench.stop()
    return len(points)


async def test_a_crash_leaves_nothing_half_cancelled(tmp_path: Path) -> None:
    """Whoever dies, and wherever: after the start everything is as if nothing had happened."""
    assert await crash_everywhere(tmp_path, every=61) >= 2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(1, 9))
async def test_a_crash_at_any_point_leaves_nothing_half_cancelled(tmp_path: Path, first: int) -> None:
    """The same at every point."""
    assert await crash_everywhere(tmp_path, first=first, every=8) >= 10
