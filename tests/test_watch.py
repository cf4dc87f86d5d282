import itertools
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from batchbox.watch import Watcher
from mounting import mounted, needs_mounts, shared

LIMIT_SECONDS = 15.0
TRY_SECONDS = 0.4
IN_A_ROW = 4


class Watched:
    """An inbox that is being watched, the bell that is rung, and somebody who lists the inbox when it is."""

    def __init__(self, inbox: Path, log: pytest.LogCaptureFixture) -> None:
        self.inbox = inbox
        self.stop = anyio.Event()
        self.watcher = Watcher(self.ring)
        self._log = log
        self._rung = anyio.Event()
        self._listen = anyio.Event()

    @property
    def told(self) -> list[str]:
        """Why it was said that there are no events."""
        return [vars(record)["why"] for record in self._log.records if record.name == "batchbox.watch"]

    def ring(self) -> None:
        """Ring."""
        self._rung.set()
        self._listen.set()

    def scan(self) -> None:
        """List the inbox, and tell the watcher of its folders."""
        inbox = self.inbox
        lanes = [path for path in inbox.iterdir() if path.is_dir()] if inbox.is_dir() else []
        facts = [(path, path.stat()) for path in (inbox, *lanes) if path.is_dir()]
        self.watcher.watch({path: (found.st_dev, found.st_ino) for path, found in facts})

    async def scan_when_rung(self) -> None:
        """Do so whenever the bell rings."""
        while True:
            await self._listen.wait()
            self._listen = anyio.Event()
            self.scan()

    async def rung(self) -> None:
        """Wait for the next ring."""
        self._rung = anyio.Event()
        await self._rung.wait()

    async def is_rung(self) -> bool:
        """Say whether the bell rings soon."""
        with anyio.move_on_after(TRY_SECONDS):
            await self._rung.wait()
        return self._rung.is_set()

    async def is_rung_by_each(self, act: Callable[[], None], *, limit_seconds: float = LIMIT_SECONDS) -> bool:
        """Act until the bell has rung for each of several acts in a row.

        Nobody can see from outside when a watch begins.
        """
        in_a_row = 0
        with anyio.move_on_after(limit_seconds):
            while in_a_row < IN_A_ROW:
                self._rung = anyio.Event()
                act()
                in_a_row = in_a_row + 1 if await self.is_rung() else 0
        return in_a_row == IN_A_ROW


@asynccontextmanager
async def watched(inbox: Path, log: pytest.LogCaptureFixture) -> AsyncIterator[Watched]:
    """Watch the inbox until the block ends."""
    watch = Watched(inbox, log)
    watch.scan()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.scan_when_rung)
        async with anyio.create_task_group() as watching:
            watching.start_soon(watch.watcher.run, watch.stop)
            yield watch
            watch.stop.set()
        tasks.cancel_scope.cancel()


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

    assert watch.told == []


async def test_it_rings_for_a_file_in_a_lane_that_was_made_later(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung_by_each(drops(inbox))
        (inbox / "later").mkdir()
        assert await watch.is_rung_by_each(drops(inbox / "later"))

    assert watch.told == []


async def test_it_watches_nothing_that_it_was_not_told_of(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the root is away, or on a share, nobody tells it of any folder."""
    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung_by_each(drops(inbox))
        watch.watcher.watch({})
        watch.inbox = inbox / "nowhere"
        assert not await watch.is_rung_by_each(drops(inbox), limit_seconds=3)


async def test_it_leaves_at_once_when_it_is_stopped(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Leaving a watch without its stop event takes seconds, which a stopping service does not have."""
    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung_by_each(drops(inbox))
        began = anyio.current_time()

    assert anyio.current_time() - began < 2


async def test_it_leaves_at_once_when_there_is_nothing_to_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(tmp_path / "nowhere", caplog):
        began = anyio.current_time()

    assert anyio.current_time() - began < 2


async def test_it_survives_a_name_that_is_not_utf8(
    inbox: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a name ends the watcher below; it is started again."""
    monkeypatch.setattr("batchbox.watch.RESTART_SECONDS_FIRST", 0.05)

    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung_by_each(drops(inbox))
        drops(inbox, b"caf\xe9")()
        assert await watch.is_rung_by_each(drops(inbox))


async def test_it_says_once_that_it_cannot_watch_and_tries_again_more_and_more_seldom(
    inbox: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one of its folders is gone, and nobody lists; as soon as it can it watches."""
    monkeypatch.setattr("batchbox.watch.RESTART_SECONDS_FIRST", 0.05)
    watch = Watched(inbox, caplog)
    watch.watcher.watch({inbox: (0, 0), inbox / "gone": (0, 0)})
    tries: list[float] = []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.watcher.run, watch.stop)
        with anyio.move_on_after(LIMIT_SECONDS):
            while len(tries) < 5:  # each begins with a ring, for what came before it
                await watch.rung()
                tries.append(anyio.current_time())
        told = list(watch.told)
        (inbox / "gone").mkdir()
        is_well = await watch.is_rung_by_each(drops(inbox))
        watch.stop.set()

    assert tries[4] - tries[3] > 2 * (tries[2] - tries[1])
    assert len(told) == 1
    assert "gone" in told[0]
    assert is_well


@pytest.mark.parametrize("lane", ["", "reports"])
async def test_it_notices_that_a_folder_was_replaced_by_another_of_its_name(
    lane: str, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The new one may even have the old one's inode."""
    folder = inbox / lane
    folder.mkdir(exist_ok=True)

    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung_by_each(drops(folder))
        replace(folder)
        watch.scan()
        assert await watch.is_rung_by_each(drops(folder), limit_seconds=5)


async def test_a_lane_that_is_removed_is_no_failure(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said, and the others go on being watched."""
    (inbox / "reports").mkdir()
    watch = Watched(inbox, caplog)
    watch.scan()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.watcher.run, watch.stop)
        assert await watch.is_rung_by_each(drops(inbox))
        (inbox / "reports").rmdir()
        with anyio.move_on_after(TRY_SECONDS):
            await watch.rung()
        told = list(watch.told)  # before anybody has listed the inbox
        watch.scan()
        is_well = await watch.is_rung_by_each(drops(inbox))
        watch.stop.set()

    assert told == watch.told == []
    assert is_well


@needs_mounts
async def test_a_scan_finds_that_something_was_mounted_over_a_folder_and_unmounted(
    inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That is no event, and the old watch stays silent for ever. Watches keep nobody from unmounting."""
    async with watched(inbox, caplog) as watch:
        assert await watch.is_rung_by_each(drops(inbox))
        with mounted("-t", "tmpfs", "none", inbox):
            watch.scan()
            assert await watch.is_rung_by_each(drops(inbox))
            done = await anyio.run_process(["umount", str(inbox)], check=False)
            watch.scan()
            assert done.returncode == 0
            assert await watch.is_rung_by_each(drops(inbox))

    assert watch.told == []


LIMITED = """
import logging, sys, anyio
from pathlib import Path
from batchbox.watch import Watcher

logging.basicConfig(format="%(message)s: %(why)s")

async def main():
    rung = anyio.Event()
    stop = anyio.Event()
    watcher = Watcher(rung.set)
    watcher.watch({Path(name): (0, 0) for name in sys.argv[1:]})
    with anyio.move_on_after(3) as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watcher.run, stop)
            await anyio.sleep(1.5)
            stop.set()
    print("stopped late" if scope.cancelled_caught else "stopped")

anyio.run(main)
"""


@pytest.mark.parametrize(
    ("limit", "setting"),
    [("watches=2", "fs.inotify.max_user_watches"), ("instances=0", "fs.inotify.max_user_instances")],
)
def test_a_limit_of_the_kernel_is_said_once_with_its_name(inbox: Path, limit: str, setting: str) -> None:
    """The scan goes on alone. The limits are those of a namespace of the process's own."""
    if shutil.which("unshare") is None or not os.path.exists("/proc/sys/user/max_inotify_watches"):
        pytest.skip("not tried: limits of one's own need Linux and unshare (Debian: util-linux)")
    lanes = [inbox / name for name in "abc"]
    for lane in lanes:
        lane.mkdir()
    name, _, number = limit.partition("=")
    command = f'echo {number} > /proc/sys/user/max_inotify_{name} && exec "$@"'
    process = subprocess.run(
        ["unshare", "-U", "-r", "sh", "-c", command, "sh", sys.executable, "-c", LIMITED, *lanes],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in process.stderr or "sh:" in process.stderr:
        pytest.skip(f"not tried: this machine gives nobody limits of their own ({process.stderr.strip()})")

    assert process.stdout == "stopped\n", process.stderr
    assert process.stderr.count(f"the limit {setting} is reached") == 1


async def test_it_asks_nothing_of_the_watcher_that_is_going_away(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with watched(inbox, caplog) as watch:
            assert await watch.is_rung()

    assert watch.told == []


@needs_mounts
async def test_a_share_that_hangs_as_the_watch_begins_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "there" / "inbox").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    stop = anyio.Event()
    watcher = Watcher(lambda: None)
    with shared(tmp_path / "there", at=tmp_path / "here") as share:
        found = (tmp_path / "here" / "inbox").stat()
        share.hang()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watcher.run, stop)
                watcher.watch({tmp_path / "here" / "inbox": (found.st_dev, found.st_ino)})
                await anyio.sleep(TRY_SECONDS)  # would not end: it is the loop itself that is held up
                stop.set()
        finally:
            share.answer()
