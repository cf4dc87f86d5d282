"""The process dies at every point of a run, and again during the recovery: nothing is lost, nothing bought twice."""

import json
from collections import Counter
from pathlib import Path

import pytest

from .bench import Bench, Crash
from .fake_api import Reply

REQUEST = {"messages": [{"role": "user", "content": "one"}]}


def load(bench: Bench) -> None:
    """Drop a little of everything: two lanes, a file of several requests, a double drop, a bad file."""
    bench.drop("a.md", "first question")
    bench.drop("b.json", json.dumps({"requests": [REQUEST, {"custom_id": "own", "params": REQUEST}]}))
    bench.drop("bad.json", "{]")
    bench.drop("c.txt", "in a lane", lane="reports")


async def run_through(bench: Bench, *, crash_at: int | None) -> str | None:
    """Run until settled or dead; return where it died."""
    bench.points.crash_at = crash_at
    try:
        await bench.settle()
    except Crash as crash:
        return str(crash)
    return None


async def recover(bench: Bench, *, crash_at: int | None = None) -> str | None:
    """Start anew and go on to the end, or to the next crash."""
    bench.points.crash_at = None
    await bench.stop()
    bench.points.passed = 0
    return await run_through(bench, crash_at=crash_at)


def verify(bench: Bench) -> None:
    """Judge by the ledger and the folders that everything was answered once, and paid for once."""
    assert max(Counter(bench.api.bought).values()) <= 2, (
        "b-1 and own have the same content; nothing else is bought twice"
    )
    assert len(bench.api.bought) == 4
    assert set(bench.outbox()) == {
        *("a.md", "a.result.json"),
        *("b-1.md", "b-1.result.json", "own.md", "own.result.json"),
    }
    assert set(bench.outbox("reports")) == {"c.md", "c.result.json"}
    assert {path.name for path in (bench.root / "done").rglob("*") if path.is_file()} >= {"a.md", "b.json", "c.txt"}
    assert {path.name for path in (bench.root / "rejected").iterdir()} >= {"bad.json", "bad.json.error.txt"}
    assert not list((bench.root / "outbox").rglob(".bb-*")), "parts were left behind"


async def count_points(folder: Path) -> int:
    """Return how many points a run without a crash passes."""
    bench = Bench(folder)
    load(bench)
    await bench.settle()
    verify(bench)
    await bench.stop()
    return bench.points.passed


@pytest.mark.parametrize(
    "stride", [13, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])], ids=["some", "every"]
)
async def test_a_crash_at_any_point_loses_nothing_and_buys_nothing_twice(
    stride: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Kill at each point in turn; the next process finishes the work."""
    total = await count_points(tmp_path_factory.mktemp("whole"))

    for crash_at in range(1, total + 1, stride):
        bench = Bench(tmp_path_factory.mktemp("crash"))
        load(bench)
        where = await run_through(bench, crash_at=crash_at)
        assert where is not None, f"point {crash_at} of {total} was not reached"
        await recover(bench)
        verify(bench)
        await bench.stop()

    assert total > 60


@pytest.mark.parametrize("stride", [17])
async def test_crashes_during_the_recovery_do_no_harm_either(tmp_path: Path, stride: int) -> None:
    """Kill every few points, over and over, until the work is done all the same."""
    bench = Bench(tmp_path)
    load(bench)

    where = await run_through(bench, crash_at=stride)
    crash_count = 0
    while where is not None:
        crash_count += 1
        where = await recover(bench, crash_at=stride + 5 * crash_count)

    verify(bench)
    await bench.stop()
    assert crash_count > 3


async def in_doubt(folder: Path, reply: Reply) -> Bench:
    """Return a bench just after a create call whose outcome nobody knows, beside another program's batch."""
    bench = Bench(folder)
    bench.drop("a.md", "only question")
    bench.api.replies.append(reply)
    bench.api.add_foreign(1, has_ended=True)
    while not bench.api.create_count:
        await bench.step_all()
        bench.advance(0.5)
    bench.points.passed = 0
    return bench


@pytest.mark.parametrize(
    "stride", [31, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])], ids=["some", "every"]
)
@pytest.mark.parametrize("reply", [Reply.LOSE, Reply.NEVER_ARRIVED])
async def test_a_crash_at_any_point_of_a_reconcile_does_no_harm(
    reply: Reply, stride: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The reply to the create call is lost or never made, and the process dies at each point that follows."""
    where: str | None = ""
    crash_at = 1
    while where is not None:
        bench = await in_doubt(tmp_path_factory.mktemp("doubt"), reply)
        where = await run_through(bench, crash_at=crash_at)
        await recover(bench)
        _foreign, *ours = bench.api.batches
        assert sum(len(batch.requests) for batch in ours) == 1
        assert set(bench.outbox()) == {"a.md", "a.result.json"}
        await bench.stop()
        crash_at += stride

    assert crash_at > 15
