"""A drain ends when nothing is left that would move by itself, and says meanwhile what it waits for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest

from batchbox.errors import ExitCode
from batchbox.service import draining
from batchbox.service.draining import stop_when_drained, verdict
from batchbox.store import Store, open_store

from .bench import Bench

SECONDS_MAX = 20.0


@asynccontextmanager
async def drained(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Store, anyio.Event]]:
    """Drain the bench while the block lasts, and much sooner told than a person is."""
    monkeypatch.setattr(draining, "TELL_SECONDS_FIRST", 0.05)
    monkeypatch.setattr(draining, "CHECK_SECONDS", 0.01)
    await bench.step_all()
    assert bench.stages is not None
    stop = anyio.Event()

    async def status() -> str:
        return "1 waiting"

    with anyio.fail_after(SECONDS_MAX):
        async with open_store(bench.state) as store, anyio.create_task_group() as tasks:
            tasks.start_soon(partial(stop_when_drained, bench.stages.intake, store, stop, status=status))
            yield store, stop
            tasks.cancel_scope.cancel()


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[object, object]]:
    """Return what was said of the wait: files in the inbox, and the rest."""
    lines = [vars(record) for record in caplog.records if record.message == "drain waits"]
    return [(line["files_in_inbox"], line["status"]) for line in lines]


async def test_a_drain_with_nothing_to_do_stops_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async with drained(bench, monkeypatch) as (store, stop):
        await stop.wait()
        assert bench.stages is not None
        code = await verdict(bench.stages.intake, store, bench.now.wall)

    assert (told(caplog), code) == ([], ExitCode.DONE)


async def test_a_drain_says_less_and_less_often_what_it_waits_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here for a file that nobody finishes."""
    caplog.set_level("INFO")
    bench.drop("empty.md", "")

    async with drained(bench, monkeypatch) as (_, stop):
        with anyio.move_on_after(2):
            await stop.wait()
        has_stopped = stop.is_set()
        (bench.root / "inbox" / "empty.md").unlink()
        await bench.step_all()
        await stop.wait()

    assert not has_stopped
    assert 2 <= len(told(caplog)) <= 7
    assert set(told(caplog)) == {(1, "1 waiting")}
