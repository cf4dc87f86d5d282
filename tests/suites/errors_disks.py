"""The real daemon on small disks of its own that are full, read-only, gone or dead for a while, and then well again."""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from batchbox.folders.layout import make_root
from batchbox.simulator import SimulatorSettings, serve
from e2e.site import Daemon, Site, prompt, request, until
from forking import ForkServer

from .telling import said

DISK_BYTES = 64 * 1024 * 1024
WHOLE_SHARE = 0.05
"""The most of a processor that a daemon may take while it waits."""
CURED_SECONDS = 60.0
EXIT_FAILED = 1
_GOING_DOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)
_TICKS = os.sysconf("SC_CLK_TCK")

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "window": {"max_wait": 0.1},
    "poll": {"first": 0.5, "max": 2},
    "inbox": {"quiet": 0.2, "rescan": 2, "min_free": "1MB"},
    "log": {"level": "info"},
}
SIMULATOR = SimulatorSettings(processing_seconds=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long things last. Seconds."""

    fault: float
    first_retry: float


class Disk:
    """A small file system in an image, and what can happen to it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self._image = folder / f"{name}.img"
        self._fillers: list[Path] = []
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(DISK_BYTES)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))

    def mount(self) -> None:
        """Have it where it belongs."""
        _run("mount", "-o", "loop", str(self._image), str(self.path))

    def unmount(self) -> None:
        """Have it nowhere; it may have been taken away."""
        subprocess.run(["umount", self.path], capture_output=True, check=False)

    def take_away(self) -> None:
        """Let it vanish, whoever works on it."""
        _run("umount", "-l", str(self.path))

    def fill(self) -> None:
        """Leave no block free."""
        filler = self.path / "filler"
        size = DISK_BYTES
        with filler.open("wb") as file:
            while size >= 1024:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2
        self._fillers.append(filler)

    def use_up_inodes(self) -> None:
        """Let no further file be made."""
        place = self.path / "many"
        place.mkdir()
        with contextlib.suppress(OSError):
            while True:
                self._fillers.append(place / f"{len(self._fillers)}")
                self._fillers[-1].touch()

    def make_room(self) -> None:
        """Undo what took blocks and inodes."""
        for filler in self._fillers:
            filler.unlink(missing_ok=True)
        self._fillers.clear()

    def close(self) -> None:
        """Let it be read and no longer written; wait until nobody is just writing."""
        for _ in range(200):
            if (
                subprocess.run(["mount", "-o", "remount,ro", self.path], capture_output=True, check=False).returncode
                == 0
            ):
                return
        raise AssertionError("somebody writes all the time")

    def open(self) -> None:
        """Let it be written again."""
        _run("mount", "-o", "remount,rw", str(self.path))

    def die(self) -> None:
        """Let every call on it fail from now on."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _GOING_DOWN, _NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def revive(self) -> None:
        """Mount it anew, as after a power cut."""
        _run("umount", "-l", str(self.path))
        self.mount()


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """What happens to which disk, and its cure."""

    disk: str
    strike: Callable[[Disk], None]
    cure: Callable[[Disk], None]
    ends_daemon: bool = False
    """Whether the process cannot go on, and has to be started again by whoever watches over it."""


HAPPENINGS: Mapping[str, Happening] = {
    "the root is full": Happening(disk="root", strike=Disk.fill, cure=Disk.make_room),
    "the state is full": Happening(disk="state", strike=Disk.fill, cure=Disk.make_room),
    "the root has no inodes": Happening(disk="root", strike=Disk.use_up_inodes, cure=Disk.make_room),
    "the root is read-only": Happening(disk="root", strike=Disk.close, cure=Disk.open),
    "the root is gone": Happening(disk="root", strike=Disk.take_away, cure=Disk.mount),
    "the root's disk is dead": Happening(disk="root", strike=Disk.die, cure=Disk.revive),
    "the state's disk is dead": Happening(disk="state", strike=Disk.die, cure=Disk.revive, ends_daemon=True),
}
SHORT: Sequence[str] = ("the root is full", "the state is full")


def hindrance(folder: Path) -> str | None:
    """Say why no disk can be made here, or None if one can."""
    if os.geteuid() != 0:
        return "only root can mount disks of its own"
    try:
        with mounted(folder / "trial"):
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no disk can be made and mounted here: {error}"
    return None


@contextmanager
def mounted(folder: Path) -> Iterator[Mapping[str, Disk]]:
    """Have a disk for the root and one for the state while the block lasts."""
    folder.mkdir()
    disks = {name: Disk(folder, name) for name in ("root", "state")}
    with contextlib.ExitStack() as stack:
        for disk in disks.values():
            disk.mount()
            stack.callback(disk.unmount)
        yield disks


async def try_all(names: Sequence[str], folder: Path, waits: Waits, *, source: Path | None = None) -> list[str]:
    """Let each happen to a daemon of its own, all at the same time; return what went wrong."""
    with ForkServer(source=source) as forks:
        found = await asyncio.gather(*(_try(name, folder, waits, forks) for name in names))
    return [complaint for complaint in found if complaint is not None]


async def _try(name: str, folder: Path, waits: Waits, forks: ForkServer) -> str | None:
    place = folder / name.replace(" ", "-").replace("'", "")
    try:
        async with _site(place, waits, forks) as (site, disks):
            happening = HAPPENINGS[name]
            await _let_happen(site, disks[happening.disk], happening, waits)
    except (AssertionError, OSError, TimeoutError) as error:
        return f"{name}: {said(error)}"
    return None


@asynccontextmanager
async def _site(folder: Path, waits: Waits, forks: ForkServer) -> AsyncIterator[tuple[Site, Mapping[str, Disk]]]:
    with mounted(folder) as disks:
        async with serve(SIMULATOR) as simulator:
            site = Site(folder / "beside", simulator, forks=forks)
            site.root, site.state = disks["root"].path, disks["state"].path
            make_root(site.root)
            site.configure(**SETTINGS, retry={"first": waits.first_retry, "max": 900})
            yield site, disks
            site.check_log_is_clean()


async def _let_happen(site: Site, disk: Disk, happening: Happening, waits: Waits) -> None:
    async with site.daemon() as daemon:
        site.drop("a.jsonl", "".join(json.dumps(request(f"question {number}")) + "\n" for number in range(5)))
        await until(lambda: len(site.simulator.ledger.purchases) == 5, "the batch is sent while all is well")
        happening.strike(disk)
        if happening.ends_daemon:
            assert await daemon.ended() == EXIT_FAILED, "a dead disk under the database did not end the process"
        else:
            await _check_calm(daemon, waits.fault)
        happening.cure(disk)
        if not happening.ends_daemon:
            await _check_recovery(site)
            return
    async with site.daemon():
        await _check_recovery(site)


async def _check_calm(daemon: Daemon, seconds: float) -> None:
    await asyncio.sleep(1.0)  # for what was under way
    before = _processor_seconds(daemon.pid)
    await asyncio.sleep(seconds)
    assert daemon.is_running, "the daemon has ended"
    share = (_processor_seconds(daemon.pid) - before) / seconds
    assert share < WHOLE_SHARE, f"a hot loop: {share:.0%} of a processor while nothing could be done"


async def _check_recovery(site: Site) -> None:
    site.drop("b.md", prompt("after the cure"))
    stems = ["b", *(f"a-{number}" for number in range(1, 6))]
    await site.answers(*stems, seconds=CURED_SECONDS)
    await site.settles()
    site.check_nothing_was_bought_twice()
    assert len(site.simulator.ledger.purchases) == 6, "not every request was bought once"
    assert site.visible("rejected") == set(), "something was rejected for the disk's fault"
    await until(lambda: _is_all_ended(site), "nothing is left half done")


def _is_all_ended(site: Site) -> bool:
    try:
        site.check_everything_ended()
    except AssertionError:
        return False
    return True


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
