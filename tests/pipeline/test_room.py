"""Too little room on a disk: nothing is taken, what is on its way goes on, and people are told."""

import json
import logging
import os
from pathlib import Path

import pytest

from batchbox.folders import space
from batchbox.folders.space import Disk
from batchbox.naming import claim_name

from .bench import Bench
from .test_shares import claims

MB = 1000**2
REQUEST = {"messages": [{"role": "user", "content": "one"}]}


class Disks:
    """The disks as they are said to be: one, for the root and for the state."""

    def __init__(self) -> None:
        self.free_bytes = 10_000 * MB
        self.looks = 0

    def look(self, folder: Path | int) -> Disk:
        """Look at the disk, whichever folder is asked about."""
        del folder
        self.looks += 1
        return Disk(device=1, free_bytes=self.free_bytes, has_files_left=True)


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Disks:
    """Stand in for the real disks."""
    made = Disks()
    monkeypatch.setattr(space, "disk_of", made.look)
    return made


def holds(bench: Bench) -> list[tuple[object, ...]]:
    return bench.rows("SELECT name, reason FROM holds")


async def test_without_room_files_stay_in_the_inbox_and_people_are_told_why(
    bench: Bench, disks: Disks, caplog: pytest.LogCaptureFixture
) -> None:
    disks.free_bytes = 12 * MB
    bench.drop("a.md", "one")

    for _ in range(8):
        await bench.step_all()
        bench.advance(10.0)
    left, held = bench.inbox_names(), holds(bench)
    told = [record for record in caplog.records if record.message == "nothing is taken for lack of room"]
    disks.free_bytes = 10_000 * MB
    await bench.settle()

    assert left == ["a.md"]
    reason = f"12 MB free on the disk of {bench.state}, less than [inbox] min_free 500MB"
    assert held == [("disk", reason)]
    assert len(told) == 1
    assert "a.result.json" in bench.outbox()
    assert holds(bench) == []


async def test_it_is_looked_again_within_half_a_minute_however_long_it_lasts(bench: Bench, disks: Disks) -> None:
    disks.free_bytes = 12 * MB
    bench.drop("a.md", "one")
    rests = []

    for _ in range(20):
        due = await bench.step("intake")
        rests.append(due - bench.now.monotonic)
        bench.advance(max(0.1, due - bench.now.monotonic))

    assert max(rests) <= 30
    assert min(rests[-5:]) >= 1


async def test_a_claim_that_is_not_recorded_yet_waits_for_room_too(bench: Bench, disks: Disks) -> None:
    """It lay there since before the start, and is recorded first when there is room."""
    await bench.step("intake")
    claim = claim_name("a.md", dropped_ms=1, random_bytes=os.urandom(8))
    bench.drop("a.md", "one").rename(claims(bench) / claim)
    disks.free_bytes = MB
    await bench.restart()
    await bench.step("intake")
    recorded, held = bench.rows("SELECT 1 FROM sources"), holds(bench)

    disks.free_bytes = 10_000 * MB
    await bench.settle()

    assert recorded == []
    assert [name for name, _ in held] == ["disk"]
    assert "a.result.json" in bench.outbox()


async def test_a_sealed_batch_is_not_sent_without_room(bench: Bench, disks: Disks) -> None:
    bench.drop("a.md", "one")
    while not (await bench.step("intake") and bench.rows("SELECT 1 FROM requests")):
        bench.advance(1.0)
    disks.free_bytes = 12 * MB
    for _ in range(8):
        await bench.step("dispatch")
        bench.advance(10.0)
    sent, held = bench.api.create_count, holds(bench)

    disks.free_bytes = 10_000 * MB
    await bench.settle()

    assert sent == 0
    assert held == [("sending", f"12 MB free on the disk of {bench.state}, less than [inbox] min_free 500MB")]
    assert len(bench.api.bought) == 1


async def test_results_are_delivered_without_room(bench: Bench, disks: Disks) -> None:
    """They go first: what is kept free is kept for them."""
    bench.drop("a.md", "one")
    while not bench.api.create_count:
        await bench.step_all()
        bench.advance(1.0)
    disks.free_bytes = 12 * MB
    bench.drop("b.md", "two")

    for _ in range(10):
        await bench.step_all()
        bench.api.end_all()
        bench.advance(5.0)

    assert set(bench.outbox()) == {"a.md", "a.result.json"}
    assert bench.inbox_names() == ["b.md"]


async def test_nobody_waits_for_room_where_nothing_is_to_be_taken(bench: Bench, disks: Disks) -> None:
    disks.free_bytes = 0

    await bench.step("intake")

    assert bench.stages is not None
    assert bench.stages.intake.is_idle
    assert holds(bench) == []
    assert disks.looks == 0


async def test_a_long_file_is_begun_only_if_there_is_room_for_all_of_it(bench: Bench, disks: Disks) -> None:
    """Else it would be read again and again up to the same place."""
    line = json.dumps({"messages": [{"role": "user", "content": "x" * 100_000}]})
    bench.drop("long.jsonl", "\n".join([line] * 60))
    disks.free_bytes = 520 * MB

    for _ in range(5):
        await bench.step_all()
        bench.advance(10.0)
    recorded, left = bench.rows("SELECT 1 FROM sources"), bench.inbox_names()
    disks.free_bytes = 10_000 * MB
    await bench.settle()

    assert (recorded, left) == ([], ["long.jsonl"])
    assert len(bench.api.bought) == 60


async def test_the_wait_and_its_end_are_logged_once(
    bench: Bench, disks: Disks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    disks.free_bytes = 12 * MB
    bench.drop("a.md", "one")
    for _ in range(8):
        await bench.step("intake")
        bench.advance(31.0)
    disks.free_bytes = 10_000 * MB
    await bench.settle()

    told = [record.message for record in caplog.records if "room" in record.message]
    assert told == ["nothing is taken for lack of room", "there is room on the disk again"]


async def test_a_file_that_is_too_large_for_the_room_waits_alone(
    bench: Bench, disks: Disks, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once; all the others go on, of its lane and of those that have their turn after it."""
    with (bench.drop("big.jsonl", "", lane="b")).open("wb") as file:
        file.truncate(40 * MB)
        file.seek(0, os.SEEK_END)
        file.write(b"\n")
    del bench.dropped["b/big.jsonl"]
    for lane in ("a", "b", "c"):
        bench.drop(f"{lane}.md", "small", lane=lane)
    disks.free_bytes = 550 * MB
    await bench.start()
    assert bench.stages is not None

    for _ in range(12):
        await bench.step("intake")
        bench.advance(6.0)
    left, refused, is_idle = bench.inbox_names(), bench.stages.intake.refused(), bench.stages.intake.is_idle
    told = [record.message for record in caplog.records if "room" in record.message]

    assert left == refused == ["big.jsonl"]
    assert holds(bench) == []
    assert not is_idle
    assert told == ["file waits: there is too little room for it"]
    assert len(bench.rows("SELECT 1 FROM requests")) == 3


async def test_a_large_claim_that_the_room_was_taken_from_waits_alone(
    bench: Bench, disks: Disks, caplog: pytest.LogCaptureFixture
) -> None:
    """It lay there since before the start; what was dropped since is taken, and the claim when there is room."""
    await bench.step("intake")
    line = json.dumps({"messages": [{"role": "user", "content": "x" * 100_000}]})
    claim = claim_name("long.jsonl", dropped_ms=1, random_bytes=os.urandom(8))
    bench.drop("long.jsonl", "\n".join([line] * 40)).rename(claims(bench) / claim)
    bench.drop("a.md", "one")
    disks.free_bytes = 520 * MB
    await bench.restart()

    for _ in range(3):
        await bench.step("intake")
        bench.advance(31.0)
    recorded, held = bench.rows("SELECT custom_id FROM requests"), holds(bench)
    told = [record.message for record in caplog.records]
    disks.free_bytes = 10_000 * MB
    await bench.settle()

    assert (recorded, held) == ([("a",)], [])
    assert told.count("claimed file cannot be read") == 1
    assert len(bench.api.bought) == 41
