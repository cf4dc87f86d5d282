"""What a recovery makes of each thing that may have happened before the database was lost."""

import json
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from batchbox.errors import BatchboxError, ConfigurationError, RetiredError
from batchbox.folders.takeover import neighbours
from batchbox.service import recovering
from batchbox.store.orders import OrderKind

from .bench import INSTANCE
from .fake_api import Reply, answer, errored
from .recovering import OTHER, THIRD, RecoveryBench

THREE = json.dumps({"requests": [{"messages": [{"role": "user", "content": f"question {n}"}]} for n in range(3)]})


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[RecoveryBench]:
    bench = RecoveryBench(tmp_path, max_requests=1)
    yield bench
    await bench.stop()


async def send(bench: RecoveryBench, batch_count: int = 1) -> None:
    """Go on until so many calls were made, and no further."""
    while bench.api.create_count < batch_count:
        for stage in ("intake", "dispatch"):
            if bench.api.create_count < batch_count:
                await bench.step(stage)
        bench.advance(1)


async def let_grace_pass(bench: RecoveryBench) -> None:
    """Look for what is in doubt until nothing more can turn up."""
    for _ in range(12):
        await bench.step_all()
        bench.advance(10)


def stranger(bench: RecoveryBench) -> None:
    """Let another program's batch of the same size lie in the list."""
    bench.api.add_foreign(1, has_ended=True)


async def test_what_was_accepted_is_found_and_delivered(bench: RecoveryBench) -> None:
    """The answer says whose it is; nothing is bought for it."""
    bench.drop("a.md", "question")
    stranger(bench)
    await send(bench)
    stranger(bench)

    await bench.lose_database()
    recovered = await bench.recover()
    await bench.finish()

    assert (recovered.batch_count, recovered.request_count) == (1, 1)
    assert bench.api.create_count == 1
    assert set(bench.outbox()) == {"a.md", "a.result.json"}
    assert bench.document("a.result.json")["wire_ids"] == [*bench.api.batches[1].requests]


async def test_what_is_not_found_is_never_sent_again_by_itself(bench: RecoveryBench) -> None:
    """It waits for a person, for days, and goes out once when told to."""
    bench.drop("a.md", "question")
    bench.api.replies.append(Reply.NEVER_ARRIVED)
    await send(bench)

    await bench.lose_database()
    await bench.recover()
    await let_grace_pass(bench)
    bench.advance(3 * 86_400)
    await let_grace_pass(bench)

    assert bench.api.create_count == 1
    assert bench.rows("SELECT state, needs_person FROM batches") == [("sealed", 1)]
    assert await bench.ground.store.overview.for_a_person() == [1]
    assert not await bench.ground.store.overview.has_open_work()
    await bench.order(OrderKind.RESEND, "1")
    await bench.finish()
    assert bench.api.create_count == 2
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_what_was_sent_once_is_not_looked_at_again(bench: RecoveryBench) -> None:
    """What its file has become since counts no more than it does for any other that was sent."""
    bench.drop("a.md", "question")
    bench.api.replies.append(Reply.NEVER_ARRIVED)
    await send(bench)
    await bench.lose_database()
    await bench.recover()
    await let_grace_pass(bench)
    (claim,) = (bench.root / "processing" / INSTANCE / "_").iterdir()
    claim.write_text("another question")

    await bench.order(OrderKind.RESEND, "1")
    await bench.finish()

    ((params,),) = [list(batch.requests.values()) for batch in bench.api.batches]
    assert b'"question"' in params


async def test_what_is_given_up_ends_as_an_error(bench: RecoveryBench) -> None:
    bench.drop("a.md", "question")
    bench.api.replies.append(Reply.NEVER_ARRIVED)
    await send(bench)
    await bench.lose_database()
    await bench.recover()
    await let_grace_pass(bench)

    answered = await bench.order(OrderKind.GIVE_UP, "1")
    await bench.finish()

    assert answered.startswith("done")
    assert set(bench.outbox()) == {"a.error.json"}
    assert bench.api.bought == []


async def test_requests_of_a_file_that_were_answered_are_not_bought_with_the_rest(bench: RecoveryBench) -> None:
    """The manifest of the first batch is closed, and the file is still in processing/ because of the others."""
    bench.drop("b.json", THREE)
    await send(bench)
    bench.api.end_all()
    while "b-1.result.json" not in bench.outbox():
        await bench.step("polling")
        await bench.step("delivery")
        bench.advance(5)
    assert [*(bench.root / ".batchbox" / "batches" / INSTANCE).glob("*.closed")]

    await bench.lose_database()
    assert await bench.refuses()
    await bench.recover()
    await bench.finish()

    assert max(Counter(bench.api.bought).values()) == 1
    assert set(bench.outbox()) == {f"b-{n}.{kind}" for n in (1, 2, 3) for kind in ("md", "result.json")}


async def test_a_chain_of_replacements_is_one_batch(bench: RecoveryBench) -> None:
    """Two sendings surely created nothing, the third did: one batch, of which the third is in doubt."""
    bench.drop("a.md", "question")
    bench.api.replies.extend([Reply.SURELY_NOT, Reply.NEVER_ARRIVED])
    await send(bench, 2)
    await let_grace_pass(bench)
    assert bench.api.create_count == 3

    await bench.lose_database()
    await bench.recover()

    assert bench.rows("SELECT count(*) FROM batches") == [(1,)]
    outcomes = bench.rows("SELECT outcome FROM sendings ORDER BY replaces IS NOT NULL, intended_at")
    assert outcomes == [("withdrawn",), ("withdrawn",), ("open",)]
    await bench.finish()
    assert len(bench.api.bought) == 1
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_a_resend_joins_the_batch_that_the_backup_knows(bench: RecoveryBench, tmp_path: Path) -> None:
    """The backup is of a moment of doubt; since then it was sent again."""
    bench.drop("a.md", "question")
    bench.api.replies.append(Reply.NEVER_ARRIVED)
    await send(bench)
    bench.back_up(tmp_path / "backup")
    await let_grace_pass(bench)
    assert bench.api.create_count == 2

    await bench.restore(tmp_path / "backup")
    await bench.recover()

    assert bench.rows("SELECT count(*) FROM batches") == [(1,)]
    assert bench.rows("SELECT outcome FROM sendings ORDER BY intended_at") == [("withdrawn",), ("open",)]
    await bench.finish()
    assert len(bench.api.bought) == 1


async def test_a_request_is_waited_for_where_it_was_sent_last(bench: RecoveryBench, tmp_path: Path) -> None:
    """Its first try expired and it went out again: only the second answer counts, and no third is bought."""
    bench.api.answerer = lambda custom_id, params, times: (
        {"type": "expired"} if times == 1 else answer(custom_id, params, times)
    )
    bench.drop("a.md", "question")
    await send(bench)
    bench.back_up(tmp_path / "backup")
    bench.api.end_all()
    while bench.api.create_count < 2:
        await bench.step_all()
        bench.advance(2)

    for before in (tmp_path / "backup", None):
        await (bench.lose_database() if before is None else bench.restore(before))
        await bench.recover()
    await bench.finish()

    assert len(bench.api.bought) == 2
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_an_answer_comes_though_its_file_is_gone(bench: RecoveryBench) -> None:
    """The manifest knows its name; what was asked is nobody's knowledge any more."""
    bench.drop("a.md", "question", lane="reports")
    await send(bench)
    for path in (bench.root / "processing").rglob("*~a.md"):
        path.unlink()

    await bench.lose_database()
    await bench.recover()
    await bench.finish()

    document = bench.document("a.result.json", "reports")
    assert (document["source"], document["model"], document["status"]) == ("a.md", "claude-opus-5-5", "answered")
    assert not (bench.root / "done" / "reports").exists() or not [*(bench.root / "done" / "reports").iterdir()]


async def test_a_line_about_credit_ends_a_request_without_content(bench: RecoveryBench) -> None:
    """Any other one would wait to be sent again; this one has nothing that could be sent."""
    bench.api.answerer = lambda *_: errored("invalid_request_error", "Your credit balance is too low")
    bench.drop("a.md", "question")
    await send(bench)
    for path in (bench.root / "processing").rglob("*~a.md"):
        path.unlink()

    await bench.lose_database()
    await bench.recover()
    await bench.finish()

    assert bench.api.create_count == 1
    assert set(bench.outbox()) == {"a.error.json"}


async def test_a_request_without_content_is_not_sent_again(bench: RecoveryBench) -> None:
    """A person says that the batch goes out again; what cannot be sent any more is an error that says so."""
    bench.drop("a.md", "question")
    bench.api.replies.append(Reply.NEVER_ARRIVED)
    await send(bench)
    for path in (bench.root / "processing").rglob("*~a.md"):
        path.unlink()
    await bench.lose_database()
    await bench.recover()
    await let_grace_pass(bench)

    await bench.order(OrderKind.RESEND, "1")
    await bench.finish()

    assert bench.api.create_count == 1
    assert "What was asked is not known any more" in str(bench.document("a.error.json")["error"])


async def test_an_original_that_is_done_already_is_known_again(bench: RecoveryBench, tmp_path: Path) -> None:
    """It keeps its name in done/, and no empty file is put beside it."""
    bench.drop("a.md", "question")
    await send(bench)
    bench.back_up(tmp_path / "backup")
    await bench.finish()

    await bench.restore(tmp_path / "backup")
    await bench.recover()
    await bench.finish()

    assert [path.read_text() for path in (bench.root / "done").iterdir()] == ["question"]
    assert bench.rows("SELECT state, target FROM sources") == [("done", b"a.md")]


async def test_a_daemon_that_lives_after_all_stops_before_it_sends(tmp_path: Path) -> None:
    """Its folder is gone: it cannot look at its files once more, without which there is no call, and it ends."""
    bench = RecoveryBench(tmp_path)
    bench.drop("a.md", "question")
    await bench.step("intake")
    bench.advance(2)
    await bench.step("intake")
    alive = bench.stages
    assert alive is not None
    bench.advance(2)
    heir = RecoveryBench.__new__(RecoveryBench)
    heir.__dict__.update(bench.__dict__)
    heir._process = type(bench._process)()
    heir.stages = None
    await heir.move()

    await heir.recover(INSTANCE)

    with pytest.raises(RetiredError):
        await alive.dispatch.step(bench.now)
    bench.advance(60)
    with pytest.raises(RetiredError):
        await alive.intake.step(bench.now)
    assert bench.api.create_count == 0
    await bench.stop()
    await heir.finish()
    assert len(bench.api.bought) == 1
    await heir.stop()


async def test_a_living_instance_is_left_alone(bench: RecoveryBench) -> None:
    bench.drop("a.md", "question")
    await send(bench)
    await bench.move()
    (bench.root / "processing" / INSTANCE / ".heartbeat").touch()

    with pytest.raises(BatchboxError, match="is alive"):
        await bench.recover(INSTANCE)

    assert (bench.root / "processing" / INSTANCE).exists()


async def test_an_instance_that_is_not_there_is_named_with_those_that_are(bench: RecoveryBench) -> None:
    await send_nothing(bench)
    await bench.move()

    with pytest.raises(BatchboxError, match=f"there are: {INSTANCE}"):
        await bench.recover(type(INSTANCE)("nobody-00000000"))


async def test_what_was_sent_is_recovered_though_the_folder_has_gone(bench: RecoveryBench) -> None:
    """A person deleted it in processing/: its manifests say what was sent, once there is a folder to take."""
    bench.drop("a.md", "question")
    await send(bench)
    await bench.move()
    folder = bench.root / "processing" / INSTANCE
    shutil.rmtree(folder)

    with pytest.raises(BatchboxError, match=f"{folder}: this has gone.* make that folder"):
        await bench.recover(INSTANCE)
    folder.mkdir()
    await bench.recover(INSTANCE)
    await bench.finish()

    assert len(bench.api.bought) == 1
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def send_nothing(bench: RecoveryBench) -> None:
    """Be at home on the root."""
    await bench.step("intake")


async def test_work_that_was_sent_elsewhere_is_left_alone(bench: RecoveryBench) -> None:
    """Another base_url would not show the batch, so nothing is touched before it is set back."""
    bench.drop("a.md", "question")
    await send(bench)
    await bench.move()
    elsewhere = bench.settings.api.model_copy(update={"base_url": "https://gateway.example"})
    bench.settings = bench.settings.model_copy(update={"api": elsewhere})

    with pytest.raises(ConfigurationError, match="Set base_url to the former"):
        await bench.recover(INSTANCE)

    assert (bench.root / "processing" / INSTANCE).exists()


async def test_work_that_had_been_taken_over_and_was_sent_elsewhere_is_left_alone(bench: RecoveryBench) -> None:
    """The manifests of whoever lies in the lost machine's folder are looked at beforehand too."""
    bench.drop("a.md", "question")
    await send(bench)
    await bench.move()
    await bench.take(INSTANCE)
    await bench.move(THIRD)
    elsewhere = bench.settings.api.model_copy(update={"base_url": "https://gateway.example"})
    bench.settings = bench.settings.model_copy(update={"api": elsewhere})

    with pytest.raises(ConfigurationError, match="Set base_url to the former"):
        await bench.recover(OTHER)

    assert (bench.root / "processing" / OTHER).exists()


async def test_our_own_folder_may_come_back_with_the_one_who_had_taken_it(bench: RecoveryBench) -> None:
    """The database was lost and the name kept, so that it began anew while another machine died in its recovery."""
    bench.drop("a.md", "question")
    await bench.step("intake")
    bench.advance(2)
    await bench.step("intake")
    await bench.move()
    await bench.take(INSTANCE)
    await bench.move(INSTANCE)

    recovered = await bench.recover(OTHER)
    await bench.finish()

    assert recovered.instances == [OTHER, INSTANCE]
    assert len(bench.api.bought) == 1
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_a_manifest_that_cannot_be_understood_stops_everything(bench: RecoveryBench) -> None:
    bench.drop("a.md", "question")
    await send(bench)
    await bench.lose_database()
    (path,) = (bench.root / ".batchbox" / "batches" / INSTANCE).iterdir()
    path.write_bytes(path.read_bytes()[:-5])

    with pytest.raises(ConfigurationError, match="breaks off"):
        await bench.recover()

    assert await bench.refuses()


async def test_nothing_is_recovered_where_nothing_is_missing(bench: RecoveryBench) -> None:
    """The others on the root are listed instead, and whoever has left work behind is marked."""
    bench.drop("a.md", "question")
    await send(bench)
    await bench.move()
    async with bench.opened() as (ground, _):
        needed = await recovering.needs_recovery(ground)

        (other,) = await recovering.neighbours(ground)

    assert not needed
    assert (other.instance, other.claim_count, other.open_manifest_count) == (INSTANCE, 1, 1)
    assert other.is_orphaned


async def test_a_backup_in_a_new_state_folder_belongs_to_the_old_instance(bench: RecoveryBench, tmp_path: Path) -> None:
    """`recover` without a name takes over whom the database was of."""
    bench.drop("a.md", "question")
    await send(bench)
    bench.back_up(tmp_path / "backup")
    await bench.move()
    await bench.restore(tmp_path / "backup")

    recovered = await bench.recover()
    await bench.finish()

    assert recovered.instances == [INSTANCE]
    assert bench.rows("SELECT value FROM meta WHERE key = 'instance'") == [(OTHER,)]
    assert len(bench.api.bought) == 1
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_names_that_are_no_text_survive(bench: RecoveryBench) -> None:
    """A claim is known again by its mark, whatever bytes its name has."""
    path = bench.root / "inbox" / os.fsdecode(b"caf\xe9.md")
    path.write_bytes(b"question")
    await send(bench)

    await bench.lose_database()
    recovered = await bench.recover()
    await bench.finish()

    assert recovered.request_count == 1
    assert len(bench.api.bought) == 1


async def test_neighbours_are_judged_by_our_own_heartbeat(bench: RecoveryBench) -> None:
    """Clocks of servers are skewed: the age is the difference of two touches on the same one."""
    await send_nothing(bench)
    await bench.move()
    async with bench.opened() as (ground, _):
        await recovering.neighbours(ground)
        processing = bench.root / "processing"
        for name, touched in ((OTHER, 10_000), (INSTANCE, 9_700)):
            (processing / name / ".heartbeat").touch()
            os.utime(processing / name / ".heartbeat", (touched, touched))

        (other,) = await ground.root.run(lambda root: neighbours(root, OTHER))

    assert replace(other, claim_count=1).is_orphaned
    assert other.silent_seconds == 300
