"""Shares that hang, go away, come back, are mounted over, or are not ours to work on."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batchbox.folders.layout import INBOX, make_root
from batchbox.simulator import Call, Fault, FaultKind
from mounting import Share, make_disk, mount, mounted, needs_mounts, shared, unmount

from .site import Daemon, Site, prompt, until

STOP_SECONDS = 5.0

WITHOUT_POWERS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""What turns root into somebody to whom modes apply."""

has_no_setpriv = os.geteuid() == 0 and shutil.which("setpriv") is None
obeying_modes = WITHOUT_POWERS if os.geteuid() == 0 else ("env",)
needs_modes = pytest.mark.skipif(has_no_setpriv, reason="not tried: root may do everything, and there is no setpriv")


@pytest.fixture
async def shared_site(site: Site, tmp_path: Path) -> AsyncIterator[tuple[Site, Share]]:
    """Return a site whose root is on a share, and the share's share."""
    (tmp_path / "behind").mkdir()
    site.root = tmp_path / "share"
    site.root.mkdir()
    with shared(tmp_path / "behind", at=site.root) as share:
        make_root(site.root)
        site.configure()
        yield site, share


@pytest.fixture
async def disk_site(site: Site, tmp_path: Path) -> AsyncIterator[Site]:
    """Return a site whose root is a disk of its own, which is mounted."""
    site.root = tmp_path / "disk"
    site.root.mkdir()
    with mounted("-o", "loop", make_disk(tmp_path / "image"), site.root):
        make_root(site.root)
        site.configure(inbox={"min_free": "1MB"})
        yield site


async def _stops_in_time(daemon: Daemon) -> None:
    asked_at = time.monotonic()
    code = await daemon.stop()

    assert time.monotonic() - asked_at < STOP_SECONDS
    assert code == 0


@needs_mounts
async def test_a_share_that_hangs_keeps_nothing_waiting_but_its_own_work(
    shared_site: tuple[Site, Share], tmp_path: Path
) -> None:
    """Polling goes on, the watchdog is fed, and a stop is obeyed. What was begun is done by the next daemon."""
    site, share = shared_site
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.setblocking(False)
        heard: list[str] = []
        told = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "200000"}
        site.simulator.faults.add(Fault(kind=FaultKind.SLOW_REPLY, call=Call.CREATE, seconds=0.5))
        site.drop("a.md", prompt("A"))
        async with site.daemon(environment=told) as daemon:
            await until(lambda: site.simulator.ledger.purchases, "the API has the batch")
            share.hang()
            await daemon.says("batch ended")
            _listen(manager, heard)
            heard.clear()
            await until(lambda: _listen(manager, heard).count("WATCHDOG=1") > 5, "it shows that it is alive")
            await _stops_in_time(daemon)
            share.answer()
    code, log = await site.run("--drain")

    assert "batch delivered" not in daemon.log
    assert code == 0, log
    assert site.visible("outbox") == {"a.md", "a.result.json"}
    assert len(site.simulator.ledger.purchases) == 1
    site.check_everything_ended()


@pytest.mark.slow
@needs_mounts
async def test_a_daemon_that_is_started_while_the_share_hangs_begins_with_what_needs_no_share(
    shared_site: tuple[Site, Share],
) -> None:
    """It polls, can be stopped, and goes on by itself as soon as the share answers."""
    site, share = shared_site
    site.simulator.faults.add(Fault(kind=FaultKind.SLOW_REPLY, call=Call.CREATE, seconds=1))
    site.drop("a.md", prompt("A"))
    async with site.daemon() as daemon:
        await until(lambda: site.simulator.ledger.purchases, "the API has the batch")
        await daemon.kill()
    share.hang()
    async with site.daemon() as daemon:
        await daemon.says("started", seconds=STOP_SECONDS)
        await _stops_in_time(daemon)
    async with site.daemon() as daemon:
        await daemon.says("started", seconds=STOP_SECONDS)
        share.answer()
        site.drop("b.md", prompt("B"))
        await site.answers("a", "b")
        await site.settles()
        assert await daemon.stop() == 0

    assert len(site.simulator.ledger.purchases) == 2
    site.check_everything_ended()


def _listen(manager: socket.socket, heard: list[str]) -> list[str]:
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.append(manager.recv(4096).decode())
    return heard


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="not tried: only /proc tells what a process has open")
async def test_an_idle_daemon_has_nothing_of_the_root_open(site: Site) -> None:
    """What is open keeps a share from being unmounted, and a share's handle alive."""
    (site.root / "inbox" / "reports").mkdir()
    site.drop("a.md", prompt("A"), lane="reports")
    async with site.daemon() as daemon:
        await site.answers("a", lane="reports")
        await site.settles()
        await until(lambda: not _opened_below(daemon.pid, site.root), "nothing is open")
        begun = time.monotonic()
        looks = [_opened_below(daemon.pid, site.root) for _ in range(200)]

    assert sum(map(bool, looks)) < len(looks) / 10, f"{looks} within {time.monotonic() - begun:.2f} s"


def _opened_below(pid: int, root: Path) -> list[str]:
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(os.readlink(link))
    return [target for target in targets if target == str(root) or target.startswith(f"{root}/")]


@needs_mounts
async def test_a_root_that_is_unmounted_and_comes_back_is_waited_for(disk_site: Site, tmp_path: Path) -> None:
    """Nothing keeps it from being unmounted, nothing is written where it was, and what is dropped later is answered."""
    site = disk_site
    async with site.daemon() as daemon:
        site.drop("before.md", prompt("Before"))
        await site.answers("before")
        await site.settles()
        await until(lambda: _is_unmounted(site.root), "nobody has anything of it open for long")
        await daemon.says("root cannot be worked on")
        (site.root / "inbox").mkdir()
        (site.root / "inbox" / "stray.md").write_text(prompt("Dropped on the bare mount point"))
        tries = daemon.log.count("poll")
        await until(lambda: tries <= daemon.log.count("poll"), "some time goes by")
        in_place = sorted(path.name for path in site.root.rglob("*"))
        mount("-o", "loop", tmp_path / "image", site.root)
        await daemon.says("root is back")
        site.drop("after.md", prompt("After"))
        await site.answers("after")
        await site.settles()
        assert await daemon.stop() == 0

    assert in_place == ["inbox", "stray.md"]
    assert len(site.simulator.ledger.purchases) == 2
    site.check_everything_ended()


def _is_unmounted(place: Path) -> bool:
    try:
        unmount(place)
    except subprocess.CalledProcessError:
        return False
    return True


async def test_another_root_in_the_place_of_ours_is_left_alone(site: Site) -> None:
    """It has an identity, and not ours."""
    away = site.root.with_name("away")
    async with site.daemon() as daemon:
        site.drop("before.md", prompt("Before"))
        await site.answers("before")
        await site.settles()
        site.root.rename(away)
        make_root(site.root)
        site.drop("theirs.md", prompt("Theirs"))
        await daemon.says("root cannot be worked on")
        left = site.waiting(), site.claims(), list(site.root.glob("processing/*"))
        site.root.rename(site.root.with_name("theirs"))
        away.rename(site.root)
        site.drop("after.md", prompt("After"))
        await site.answers("after")
        assert await daemon.stop() == 0

    assert left == (["theirs.md"], [], [])
    assert len(site.simulator.ledger.purchases) == 2


@needs_mounts
async def test_an_inbox_that_is_mounted_over_is_not_read_until_it_is_there_again(site: Site, tmp_path: Path) -> None:
    """What lies in it could not be claimed; it stays, and it is told once."""
    async with site.daemon() as daemon:
        site.drop("before.md", prompt("Before"))
        await site.answers("before")
        with mounted("-t", "tmpfs", "none", site.root / "inbox"):
            site.drop("over.md", prompt("Over"))
            await daemon.says("folder is not read")
            await until(lambda: daemon.log.count("folder is not read") == 1, "it is told")
            assert site.waiting() == ["over.md"]
        site.drop("after.md", prompt("After"))
        await site.answers("after")
        await site.settles()
        assert await daemon.stop() == 0

    assert daemon.log.count("folder is not read") == 1
    assert len(site.simulator.ledger.purchases) == 2


@needs_mounts
async def test_a_lane_that_is_a_mount_of_its_own_waits_alone(site: Site, tmp_path: Path) -> None:
    """Its files stay where they are, and a drain ends without them, saying that somebody has to look."""
    lane = site.root / "inbox" / "far"
    lane.mkdir()
    with mounted("-t", "tmpfs", "none", lane):
        site.drop("far.md", prompt("Far"), lane="far")
        site.drop("near.md", prompt("Near"))

        code, log = await site.run("--drain")

        assert code == 3
        assert site.waiting() == ["far.md"]
    assert site.visible("outbox") == {"near.md", "near.result.json"}
    assert log.count("folder is not read") == 1
    assert "folder needs a person" in log
    assert "inbox/far" in log


@needs_mounts
@pytest.mark.parametrize("name", [INBOX, "processing", "done", "rejected"])
async def test_folders_between_which_nothing_can_be_renamed_refuse_the_start(site: Site, name: str) -> None:
    """Even if both are on one disk."""
    (site.root / "elsewhere").mkdir()
    with mounted("--bind", site.root / "elsewhere", site.root / name):
        code, log = await site.run()

    assert code == 78
    assert "files cannot be renamed between processing/ and" in log
    assert "Mount the root as a whole" in log


@needs_modes
@pytest.mark.parametrize("name", [INBOX, "", ".batchbox"])
async def test_a_folder_of_the_root_that_we_may_not_use_refuses_the_start(site: Site, name: str) -> None:
    """77, naming the folder; nothing is tried again by itself."""
    (site.root / name).mkdir(exist_ok=True)
    (site.root / name).chmod(0o000 if name == "" else 0o550)
    try:
        code, log = await site.run(through=obeying_modes)
    finally:
        (site.root / name).chmod(0o750)

    assert code == 77, log
    assert f"{site.root / name}: the user who runs batchbox may not" in log


@pytest.mark.slow
@needs_modes
async def test_a_drain_waits_visibly_for_a_file_that_it_may_not_read(site: Site) -> None:
    """It says what it waits for, and goes on as soon as it can."""
    site.drop("mine.md", prompt("Mine"))
    (site.root / "inbox" / "mine.md").chmod(0o000)
    async with site.daemon("--drain", through=obeying_modes) as daemon:
        await daemon.says("drain waits")
        assert "files_in_inbox=1" in daemon.log
        assert "mine.md" in daemon.log.partition("drain waits")[2]
        (site.root / "inbox" / "mine.md").chmod(0o600)
        code = await daemon.ended(seconds=60)

    assert code == 0
    assert site.visible("outbox") == {"mine.md", "mine.result.json"}


@pytest.mark.slow
@pytest.mark.timeout(2000)
async def test_a_burst_while_the_daemon_is_stopped_is_answered_whole(site: Site) -> None:
    """20,000 files, far more than any queue of events holds, while the process sleeps."""
    count = 20_000
    site.configure(window={"max_wait": 1, "max_requests": 5_000})
    async with site.daemon() as daemon:
        await daemon.says("started")
        daemon.signal(signal.SIGSTOP)
        for number in range(count):
            (site.root / "inbox" / f"{number}.md").write_text(prompt(f"Question {number}"))
        daemon.signal(signal.SIGCONT)
        await until(lambda: len(site.simulator.ledger.purchases) >= count, "all are bought", seconds=900)
        await site.settles(seconds=900)
        assert await daemon.stop() == 0

    assert len(site.simulator.ledger.purchases) == count
    assert len(site.visible("outbox")) == 2 * count
    assert len(site.visible("done")) == count
    site.check_everything_ended()
