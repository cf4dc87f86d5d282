import itertools
import os
import shutil
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from batchbox.watch import ring_on_changes

LIMIT_SECONDS = 15.0
TRY_SECONDS = 0.4
IN_A_ROW = 4


class Watched:
    """A folder that is being watched, and the bell that is rung."""

    def __init__(self, inbox: Path, log: pytest.LogCaptureFixture) -> None:
        self.inbox = inbox
        self.stop = anyio.Event()
        self._log = log
        self._rung = anyio.Event()

    @property
    def end_count(self) -> int:
        """How often the watcher below has ended by itself."""
        return sum(1 for record in self._log.records if record.name == "batchbox.watch")

    def ring(self) -> None:
        """Ring."""
        self._rung.set()

    async def is_rung(self) -> bool:
        """Say whether the bell rings soon."""
        with anyio.move_on_after(TRY_SECONDS):
            await self._rung.wait()
        return self._rung.is_set()

    async def is_rung_by_each(self, act: Callable[[], None], *, limit_seconds: float = LIMIT_SECONDS) -> bool:
        """Act until the bell has rung for each of several acts in a row, with nothing else that might have rung it.

        Nobody can see from outside when a watch begins, and a watcher that is started anew rings of itself.
        """
        in_a_row = 0
        with anyio.move_on_after(limit_seconds):
            while in_a_row < IN_A_ROW:
                ended = self.end_count
                self._rung = anyio.Event()
                act()
                in_a_row = in_a_row + 1 if await self.is_rung() and self.end_count == ended else 0
        return in_a_row == IN_A_ROW


@asynccontextmanager
async def watched(inbox: Path, log: pytest.LogCaptureFixture) -> AsyncIterator[Watched]:
    """Watch the inbox until the block ends."""
    watch = Watched(inbox, log)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ring_on_changes, inbox, watch.ring, watch.stop)
        yield watch
        watch.stop.set()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Return an empty inbox."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def drops(folder: Path, name: bytes = b"file") -> Callable[[], None]:
    """Return an act that drops another file each time."""
    numbers = itertools.count()
    return lambda: Path(os.fsdecode(b"%s/%s-%d" % (os.fsencode(folder), name, next(numbers)))).touch()


def replace(folder: Path) -> None:
    """Take the folder away and put another in its place."""
    shutil.rmtree(folder)
    folder.mkdir()


async def test_it_rings_once_before_anything_has_happened(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What came before the watch began is not an event."""
    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung()


async def test_it_rings_for_a_file_in_the_inbox_and_for_one_in_a_lane(
    inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (inbox / "reports").mkdir()

    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung_by_each(drops(inbox))
        assert await watch.is_rung_by_each(drops(inbox / "reports"))

    assert watch.end_count == 0


async def test_it_rings_for_a_file_in_a_lane_that_was_made_later(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung_by_each(drops(inbox))
        (inbox / "later").mkdir()
        assert await watch.is_rung_by_each(drops(inbox / "later"))

    assert watch.end_count == 0


async def test_it_leaves_at_once_when_it_is_stopped(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Leaving a watch without its stop event takes seconds, which a stopping service does not have."""
    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung_by_each(drops(inbox))
        began = anyio.current_time()

    assert anyio.current_time() - began < 2


async def test_it_survives_a_name_that_is_not_utf8(
    inbox: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a name ends the watcher below; it is started again."""
    monkeypatch.setattr("batchbox.watch.RESTART_SECONDS", 0.05)

    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung_by_each(drops(inbox))
        drops(inbox, b"caf\xe9")()
        assert await watch.is_rung_by_each(drops(inbox))


async def test_it_survives_an_inbox_that_goes_away(
    inbox: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends without an inbox, is started again until there is one, and says each time that it has ended."""
    monkeypatch.setattr("batchbox.watch.RESTART_SECONDS", 0.05)
    os.rmdir(inbox)

    async with watched(inbox, caplog) as watch:
        assert not await watch.is_rung()
        os.mkdir(inbox)
        assert await watch.is_rung_by_each(drops(inbox))

    assert watch.end_count > 0


@pytest.mark.parametrize("lane", ["", "reports"])
async def test_it_notices_that_a_folder_was_replaced_by_another_of_its_name(
    lane: str, inbox: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that is mounted again is another folder of the same name, and the old watch stays silent for ever."""
    monkeypatch.setattr("batchbox.watch.LOOK_AROUND_MS", 100)
    folder = inbox / lane
    folder.mkdir(exist_ok=True)

    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung_by_each(drops(folder))
        replace(folder)
        assert await watch.is_rung_by_each(drops(folder), limit_seconds=1)


async def test_it_asks_nothing_of_the_watcher_that_is_going_away(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with watched(inbox, caplog) as watch:
            assert await watch.is_rung()

    assert watch.end_count == 0
