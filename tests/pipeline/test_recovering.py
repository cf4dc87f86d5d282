"""What was sent is never bought again, whatever became of the database that knew of it."""

import json
from pathlib import Path

import pytest

from batchbox.model import Instance
from batchbox.service.recovering import needs_recovery

from .bench import INSTANCE, Crash
from .recovering import OTHER, THIRD, RecoveryBench

REQUEST = {"messages": [{"role": "user", "content": "one"}]}
OTHER_REQUEST = {"messages": [{"role": "user", "content": "two"}]}


def load(bench: RecoveryBench) -> None:
    """Drop files of one and of several requests, into two lanes; they go out in several batches."""
    bench.drop("a.md", "first question")
    bench.drop("b.json", json.dumps({"requests": [REQUEST, {"custom_id": "own", "params": OTHER_REQUEST}]}))
    bench.drop("c.txt", "in a lane", lane="reports")


def verify(bench: RecoveryBench) -> None:
    """Judge by the ledger and the folders."""
    assert bench.bought_twice() == []
    assert len(bench.api.bought) == 4
    assert set(bench.outbox()) == {
        *("a.md", "a.result.json"),
        *("b-1.md", "b-1.result.json", "own.md", "own.result.json"),
    }
    assert set(bench.outbox("reports")) == {"c.md", "c.result.json"}
    assert {path.name for path in (bench.root / "done").rglob("*") if path.is_file()} == {"a.md", "b.json", "c.txt"}
    assert not list((bench.root / "outbox").rglob(".bb-*")), "parts were left behind"


async def run_until(bench: RecoveryBench, point: int | None) -> bool:
    """Run until settled or dead; return whether it died."""
    bench.points.crash_at = point
    try:
        await bench.finish()
    except Crash:
        return True
    finally:
        bench.points.crash_at = None
        await bench.stop()
    return False


async def count_points(folder: Path) -> int:
    """Return how many points a run without a crash passes."""
    bench = RecoveryBench(folder, max_requests=1)
    load(bench)
    await run_until(bench, None)
    verify(bench)
    return bench.points.passed


some_or_many = pytest.mark.parametrize(
    "is_thorough",
    [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
    ids=["some", "many"],
)


@some_or_many
async def test_a_restored_backup_buys_nothing_twice(
    is_thorough: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The backup is of any moment, the disk dies at any later one: `run` refuses until `recover` was run."""
    total = await count_points(tmp_path_factory.mktemp("whole"))
    backups = range(3, total, 9 if is_thorough else total // 3)
    refusals = 0

    for backup_at in backups:
        for crash_at in range(backup_at + 7, total + 100, 17 if is_thorough else total // 2):
            bench = RecoveryBench(tmp_path_factory.mktemp("restored"), max_requests=1)
            load(bench)
            await run_until(bench, backup_at)
            bench.back_up(bench.state.parent / "backup.db")
            await run_until(bench, bench.points.passed + crash_at - backup_at)

            await bench.restore(bench.state.parent / "backup.db")
            refusals += await bench.refuses()
            await bench.recover()
            await run_until(bench, None)

            verify(bench)

    assert refusals > len(backups) / 2


@some_or_many
async def test_the_work_of_a_lost_machine_is_done_by_another(
    is_thorough: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The machine is lost at any moment, its database with it; its files and what it had sent are taken over."""
    total = await count_points(tmp_path_factory.mktemp("whole"))

    for crash_at in range(total // 6, total, 3 if is_thorough else total // 5):
        bench = RecoveryBench(tmp_path_factory.mktemp("lost"), max_requests=1)
        load(bench)
        await run_until(bench, crash_at)

        await bench.move()
        await bench.recover(INSTANCE)
        await run_until(bench, None)

        verify(bench)


@some_or_many
async def test_a_recovery_may_die_at_any_point_and_be_run_again(
    is_thorough: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Until it has come to its end, `run` refuses to start; run again, it comes to the same end."""
    stride = 1 if is_thorough else 17
    crash_at, refusals, has_died = 1, 0, True
    while has_died:
        bench = RecoveryBench(tmp_path_factory.mktemp("twice"), max_requests=2)
        load(bench)
        await run_until(bench, 90)
        await bench.move()
        has_died = await recovery_dies(bench, bench.points.passed + crash_at)
        refusals += has_died and await bench.refuses()

        if await is_begun(bench):
            await bench.recover()
        elif has_died and (bench.root / "processing" / INSTANCE).exists():
            await bench.recover(INSTANCE)
        await run_until(bench, None)

        verify(bench)
        crash_at += stride

    assert crash_at > 40
    assert refusals > 40 / stride / 2


@some_or_many
async def test_a_machine_that_is_lost_in_a_recovery_is_recovered_by_a_third(
    is_thorough: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What it had only taken is done as well, though the third dies at any point too, and begins again."""
    stride = 1 if is_thorough else 25
    crash_at, has_died = 1, True
    while has_died:
        bench = RecoveryBench(tmp_path_factory.mktemp("thrice"), max_requests=2)
        load(bench)
        await run_until(bench, 90)
        await bench.move()
        await bench.take(INSTANCE)
        await bench.move(THIRD)
        has_died = await recovery_dies(bench, bench.points.passed + crash_at, OTHER)

        if await is_begun(bench):
            await bench.recover()
        elif has_died and (bench.root / "processing" / OTHER).exists():
            await bench.recover(OTHER)
        await run_until(bench, None)

        verify(bench)
        assert [path.name for path in (bench.root / "processing").iterdir()] == [THIRD]
        assert [path.name for path in (bench.root / ".batchbox" / "batches").iterdir()] == [THIRD]
        crash_at += stride


async def recovery_dies(bench: RecoveryBench, point: int, lost: Instance = INSTANCE) -> bool:
    """Run a recovery with a point at which it dies; return whether it reached it."""
    bench.points.crash_at = point
    try:
        await bench.recover(lost)
    except Crash:
        return True
    finally:
        bench.points.crash_at = None
    return False


async def is_begun(bench: RecoveryBench) -> bool:
    """Say whether `recover` without a name finds something to go on with."""
    async with bench.opened() as (ground, _):
        return await needs_recovery(ground)
