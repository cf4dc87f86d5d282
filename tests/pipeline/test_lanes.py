"""Folders in the inbox: a lane keeps its place, and whose files wait for a person is said at the end of a drain."""

import errno
import os

import pytest

from batchbox.errors import ExitCode
from batchbox.folders import inbox, listing
from batchbox.folders.listing import Unread
from batchbox.intake import looking
from batchbox.service.draining import verdict
from batchbox.store import open_store
from folders.failing import FailingOs

from .bench import Bench


async def looks(bench: Bench, count: int) -> None:
    """Let intake look at the inbox so many times."""
    for _ in range(count):
        await bench.step("intake")
        bench.advance(1.1)


async def test_files_that_cannot_be_taken_do_not_keep_others_from_being_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even where as many of them lie as can be watched, and however their names begin."""
    monkeypatch.setattr(looking, "SIGHTINGS_MAX", 4)
    stuck = [f"!{number}.md" for number in range(6)]
    for name in (*stuck, "good.md"):
        bench.drop(name, name)
    with monkeypatch.context() as patched:
        patched.setattr(inbox, "os", FailingOs(errno.EBUSY, stuck))
        await looks(bench, 30)
    left = sorted(bench.inbox_names())
    await bench.settle()

    assert left == stuck
    assert [record.message for record in caplog.records] == ["file cannot be taken: in use, or not ours"] * len(stuck)
    assert len(bench.api.bought) == len(stuck) + 1


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_nobody_switches_off_a_lane_by_making_a_folder(bench: Bench, *, is_restarted: bool) -> None:
    """Not by one whose name sorts before it either."""
    bench.drop("a.md", "first", lane="invoices")
    await looks(bench, 3)
    (bench.root / "inbox" / "Invoices").mkdir()
    if is_restarted:
        await bench.restart()

    bench.drop("b.md", "second", lane="invoices")
    await looks(bench, 3)

    assert bench.rows("SELECT lane, custom_id FROM requests ORDER BY id") == [("invoices", "a"), ("invoices", "b")]


async def test_a_drain_does_not_say_that_all_is_done_while_files_lie_in_a_folder_that_is_not_read(
    bench: Bench,
) -> None:
    bench.drop("a.md", "first", lane="invoices")
    await bench.settle()
    (bench.root / "inbox" / "Invoices").mkdir()
    await looks(bench, 1)
    assert bench.stages is not None
    empty = bench.stages.intake.broken_folders
    (bench.root / "inbox" / "Invoices" / "b.md").write_text("second")
    await looks(bench, 1)

    async with open_store(bench.state) as store:
        code = await verdict(bench.stages.intake, store, bench.now.wall)

    assert empty == {}
    assert bench.stages.intake.is_idle
    assert bench.stages.intake.broken_folders == {"inbox/Invoices": Unread.SAME_NAME}
    assert code is ExitCode.FINISHED_WITH_ERRORS


async def test_a_lane_that_cannot_be_read_just_now_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain that comes at that moment would leave its files behind, and call for a person for nothing."""
    bench.drop("a.md", "first", lane="fax")
    await bench.start()
    assert bench.stages is not None
    obstacle = listing._obstacle

    def fail_once(descriptor: int, within: tuple[int | None, int]) -> Unread | None:
        if os.listdir(descriptor) == ["a.md"]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return obstacle(descriptor, within)

    with monkeypatch.context() as patched:
        patched.setattr(listing, "_obstacle", fail_once)
        await looks(bench, 1)
    was_idle, broken = bench.stages.intake.is_idle, bench.stages.intake.broken_folders
    await looks(bench, 3)

    assert (was_idle, broken) == (False, {})
    assert bench.rows("SELECT custom_id FROM requests") == [("a",)]
