"""rejected/ and done/ in hard times: full disks, thousands of files of one name, folders that are none."""

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from batchbox.folders import shelves
from batchbox.folders.shelves import NUMBERED_MAX
from batchbox.naming import with_suffix_number

from .bench import Bench, Crash, Points

MARKED = r"bad__[0-9a-f]{16}\.(json|md)"


@dataclass
class DyingOnce(Points):
    """Dies just after the first group of that name."""

    after: str = ""
    has_died: bool = False

    def pass_by(self, label: str) -> None:
        """Pass a point, or die at it."""
        super().pass_by(label)
        if not self.has_died and label.startswith(f"after {self.after}."):
            self.has_died = True
            raise Crash(label)


@contextmanager
def full_disk() -> Iterator[None]:
    """Let nothing be written on the shelves while the block lasts."""

    def write_nothing(_descriptor: int, _pieces: list[bytes]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shelves, "write_all", write_nothing)
        yield


async def rounds(bench: Bench, count: int, *, seconds: float = 1.1) -> None:
    """Let every stage take so many steps."""
    for _ in range(count):
        await bench.step_all()
        bench.api.end_all()
        bench.advance(seconds)


def visible(folder: Path) -> set[str]:
    """Return every name in the folder."""
    return {path.name for path in folder.iterdir()}


async def test_nothing_piles_up_in_rejected_while_the_disk_is_full(bench: Bench) -> None:
    """With another daemon at home an empty explanation could be its own: none may stay behind."""
    (bench.root / "processing" / "other-12345678").mkdir()
    bench.drop("bad.json", "{]")

    with full_disk():
        await rounds(bench, 20)
        meanwhile = visible(bench.root / "rejected")
        held = bench.rows("SELECT reason FROM holds")
    await bench.settle()

    assert meanwhile == set()
    assert str(bench.root / "rejected") in str(held), "it says where"
    assert visible(bench.root / "rejected") == {"bad.json", "bad.json.error.txt"}


async def test_old_originals_are_deleted_though_there_is_no_room_for_new_ones(bench: Bench) -> None:
    """What is deleted may be the room that is wanted."""
    bench.drop("old.md", "one")
    await bench.settle()
    del bench.dropped["old.md"]
    bench.drop("new.md", "two")

    with full_disk():
        await rounds(bench, 10)
        bench.advance(timedelta(days=31).total_seconds())
        await rounds(bench, 3)
        meanwhile = visible(bench.root / "done")
    await bench.settle()

    assert meanwhile == set()
    assert visible(bench.root / "done") == {"new.md"}


@pytest.mark.parametrize(
    ("name", "content", "top", "take"),
    [("bad.json", "{]", "rejected", "take_rejected_names"), ("bad.md", "fine", "done", "take_done_names")],
)
async def test_after_a_death_a_file_finds_the_name_again_that_it_took_beyond_the_numbers(
    bench: Bench, name: str, content: str, top: str, take: str
) -> None:
    points = DyingOnce(after=f"Shelves.{take}")
    bench.api.points = points
    taken = {with_suffix_number(name, number) for number in range(1, NUMBERED_MAX + 1)}
    for one in taken:
        (bench.root / top / one).write_text("somebody else's")
    bench.drop(name, content)

    with pytest.raises(Crash):
        await bench.settle()
    at_death = visible(bench.root / top) - taken
    await bench.restart()
    await bench.settle()

    new = visible(bench.root / top) - taken
    (target,) = {one for one in new if not one.endswith(".error.txt")}
    assert re.fullmatch(MARKED, target)
    assert (bench.root / top / target).read_text() == content
    assert points.has_died
    assert at_death <= new
    assert new == ({target, f"{target}.error.txt"} if top == "rejected" else {target})


async def test_originals_of_a_lane_whose_folder_in_done_is_none_wait_and_no_others(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = bench.root / "done" / "blocked"
    blocker.write_text("no folder")
    bench.drop("a.md", "one", lane="blocked")
    await rounds(bench, 10)
    bench.drop("b.md", "two", lane="third")
    await rounds(bench, 10)
    archived = visible(bench.root / "done" / "third")

    blocker.unlink()
    bench.advance(60)
    await bench.settle()

    assert archived == {"b.md"}
    assert visible(bench.root / "done" / "blocked") == {"a.md"}
    (said,) = {record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING}
    whys = {getattr(record, "why", None) for record in caplog.records if record.levelno >= logging.WARNING}
    assert said.startswith("originals wait: clear the way")
    assert whys == {f"[Errno {errno.ENOTDIR}] Not a directory: '{blocker}'"}


async def test_old_originals_of_a_lane_whose_folder_in_done_is_none_keep_no_others_from_being_deleted(
    bench: Bench,
) -> None:
    bench.drop("a.md", "one", lane="blocked")
    bench.drop("b.md", "two", lane="third")
    await bench.settle()
    bench.dropped.clear()
    done = bench.root / "done"
    (done / "blocked").rename(done / "aside")
    (done / "blocked").write_text("no folder")
    bench.advance(timedelta(days=31).total_seconds())
    await rounds(bench, 3)
    meanwhile = visible(done / "third")

    (done / "blocked").unlink()
    (done / "aside").rename(done / "blocked")
    bench.advance(3601)
    await rounds(bench, 3)

    assert meanwhile == set()
    assert visible(done / "blocked") == set()
