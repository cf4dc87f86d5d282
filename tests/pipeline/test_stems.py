"""A database that is older than the outbox: an answer that is there already is this answer, not another one's."""

import errno
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from batchbox.folders import outbox
from folders.failing import FailingOs

from .bench import Bench, Crash, Points
from .fake_api import errored
from .lines import always, send, succeeded
from .recovering import RecoveryBench


@dataclass
class Dying(Points):
    """The process dies just before the first group of folder operations of that name."""

    before: str = ""

    def pass_by(self, label: str) -> None:
        """Pass a point, or die at it."""
        super().pass_by(label)
        if label.startswith(f"before {self.before}."):
            raise Crash(label)


def back_up(bench: Bench) -> Path:
    """Copy the state away; the process must not run."""
    copy = bench.state.with_name("backup")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bench.state, copy)
    return copy


def restore(bench: Bench, copy: Path) -> None:
    """Put the copy in the place of the state."""
    shutil.rmtree(bench.state)
    shutil.copytree(copy, bench.state)


async def deliver_twice(bench: Bench) -> dict[str, bytes]:
    """Deliver, forget it, and deliver again; return what was in the outbox after the first time."""
    await send(bench)
    await bench.stop()
    copy = back_up(bench)
    bench.api.end_all()
    bench.advance(10.0)
    await bench.step("polling")
    await bench.step("delivery")
    first = dict(bench.outbox())
    await bench.stop()
    restore(bench, copy)
    for path in (bench.root / "done").iterdir():  # where the database expects it
        shutil.move(path, next((bench.root / "processing").glob("*/_")) / _claim(bench))
    await bench.settle()
    return first


def _claim(bench: Bench) -> str:
    ((claim,),) = bench.rows("SELECT claim FROM sources ORDER BY id DESC LIMIT 1")
    assert isinstance(claim, bytes)
    return claim.decode()


@pytest.mark.parametrize("on_existing", ["suffix", "replace"])
async def test_what_was_delivered_before_a_restore_is_delivered_under_the_same_name(
    tmp_path: Path, on_existing: str
) -> None:
    """Byte by byte the same, and no `__2` beside it."""
    bench = Bench(tmp_path, on_existing=on_existing)
    bench.drop("a.md", "one")

    first = await deliver_twice(bench)

    assert set(first) == {"a.md", "a.result.json"}
    assert bench.outbox() == first
    await bench.stop()


async def test_an_error_that_was_delivered_before_a_restore_keeps_its_name(bench: Bench) -> None:
    bench.api.answerer = always(errored("invalid_request_error", "no"))
    bench.drop("a.md", "one")

    first = await deliver_twice(bench)

    assert set(first) == {"a.error.json"}
    assert bench.outbox() == first


async def test_a_name_with_a_number_is_found_again(bench: Bench) -> None:
    """Behind an earlier answer of the same custom_id, which stays as it is."""
    bench.drop("a.md", "yesterday's")
    await bench.settle()
    (bench.root / "done" / "a.md").unlink()
    bench.dropped.clear()
    bench.drop("a.md", "today's")
    while len(bench.api.batches) < 2:
        await bench.step_all()
        bench.advance(0.5)

    first = await deliver_twice(bench)

    assert set(first) == {"a.md", "a.result.json", "a__2.md", "a__2.result.json"}
    assert bench.outbox() == first


async def test_another_requests_answer_of_that_name_is_not_taken_for_it(bench: Bench) -> None:
    """Even one that mentions our ids somewhere else."""
    bench.drop("a.md", "one")
    await send(bench)
    ((wire_id,),) = [tuple(batch.requests) for batch in bench.api.batches]
    theirs = f'{{"custom_id": "a",\n "note": "{wire_id}",\n "deep": {{\n    "wire_ids": ["{wire_id}"]}}}}\n'
    (bench.root / "outbox" / "a.result.json").write_text(theirs)

    await bench.settle()

    assert bench.outbox()["a.result.json"] == theirs.encode()
    assert set(bench.outbox()) == {"a.result.json", "a__2.md", "a__2.result.json"}


@pytest.mark.parametrize(
    ("saved", "answer"),
    [
        ({"a.docx": "mine"}, {"a.md", "a.result.json"}),
        ({"a.docx": "mine", "a.md": "mine too"}, {"a__2.md", "a__2.result.json"}),
    ],
)
async def test_what_a_person_saved_under_a_recorded_stem_is_not_taken_for_an_old_answer(
    tmp_path: Path, saved: dict[str, str], answer: set[str]
) -> None:
    """We died when the stem was recorded and nothing of it was visible; only a document makes an old answer."""
    bench = Bench(tmp_path, on_existing="replace")
    bench.drop("a.md", "one")
    await send(bench)
    bench.api.end_all()
    bench.advance(10.0)
    await bench.step("polling")
    bench.api.points = Dying(before="Outbox.publish")
    await bench.restart()
    with pytest.raises(Crash):
        await bench.step("delivery")
    recorded = bench.rows("SELECT stem FROM requests")
    bench.api.points = Points()
    for name, text in saved.items():
        (bench.root / "outbox" / name).write_text(text)
    await bench.restart()
    await bench.settle()

    assert recorded == [("a",)]
    assert set(bench.outbox()) == {*saved, *answer}
    assert {name: bench.outbox()[name].decode() for name in saved} == saved
    await bench.stop()


async def test_what_a_daemon_alone_showed_before_it_was_lost_is_completed_by_who_takes_over(tmp_path: Path) -> None:
    """It made no note, and the text says nothing of its request: but it is what would be written again."""
    bench = RecoveryBench(tmp_path)
    bench.drop("a.md", "one")
    await send(bench)
    bench.api.end_all()
    bench.advance(10.0)
    await bench.step("polling")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(outbox, "os", FailingOs(errno.EIO, {"a.result.json"}))
        await bench.step("delivery")
    shown = {path.name for path in (bench.root / "outbox").iterdir() if path.name[0] != "."}
    lost = bench.instance
    await bench.move()
    await bench.recover(lost)
    await bench.finish()

    assert shown == {"a.md"}
    assert set(bench.outbox()) == {"a.md", "a.result.json"}
    assert not list((bench.root / "outbox").glob(".bb-*"))
    await bench.stop()


async def test_a_text_that_another_of_our_requests_has_shown_is_not_taken_for_the_own(tmp_path: Path) -> None:
    """They have the same stem and the same answer, and the first one waits for the name of its document."""
    bench = Bench(tmp_path, max_requests=1)
    bench.api.answerer = always(succeeded("end_turn", text="yes"))
    both = [{"custom_id": id_, "params": {"messages": [{"role": "user", "content": id_}]}} for id_ in ("con", "id-con")]
    bench.drop("both.json", json.dumps(both))
    await send(bench, batch_count=2)
    bench.api.end_all()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(outbox, "os", FailingOs(errno.EBUSY, {"id-con.result.json"}))
        for _ in range(4):
            bench.advance(4.0)
            await bench.step("polling")
            await bench.step("delivery")
        meanwhile = set(bench.outbox())
    await bench.settle()

    assert meanwhile == {"id-con.md", "id-con__2.md", "id-con__2.result.json"}
    assert set(bench.outbox()) == {*meanwhile, "id-con.result.json"}
    assert bench.document("id-con.result.json")["custom_id"] == "con"
    await bench.stop()
