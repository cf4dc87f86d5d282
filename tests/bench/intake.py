"""Taking files in, durably: files a second against bare renames, and how many flushes a request and an answer cost."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from .place import daemon_command, drop_files, environment, make_place, simulated, table

COUNT = 20_000
COUNTED = 5_120
GROUP = 256
FLUSHES = "fsync,fdatasync,syncfs"


def main(parent: Path) -> None:
    """Print the speed of both, then the flushes of intake and of the whole cycle."""
    bare = _bare_seconds(parent)
    with simulated() as base_url:
        seconds = _intake(parent, base_url, COUNT, prefix=[])
        table(
            f"{COUNT} files taken in",
            ["", "s", "files/s", "of bare"],
            [
                [f"bare rename, fsync per {GROUP}", bare, COUNT / bare, 1.0],
                ["daemon", seconds, COUNT / seconds, bare / seconds],
            ],
        )
        if shutil.which("strace"):
            _print_flushes(parent, base_url)


def _bare_seconds(parent: Path) -> float:
    place = make_place(parent, "http://127.0.0.1:9")
    drop_files(place, COUNT)
    (place.root / "taken").mkdir()
    source, target = (os.open(place.root / name, os.O_RDONLY) for name in ("inbox", "taken"))
    started = time.perf_counter()
    names = os.listdir(source)
    for start in range(0, len(names), GROUP):
        for name in names[start : start + GROUP]:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        os.fsync(target)
        os.fsync(source)
    return time.perf_counter() - started


def _intake(parent: Path, base_url: str, count: int, *, prefix: list[str]) -> float:
    """Run a daemon that only takes files in; return the seconds from its first sign of life to the empty inbox."""
    place = make_place(parent, base_url, window={"max_wait": "1h", "max_requests": 100_000})
    drop_files(place, count)
    daemon = subprocess.Popen([*prefix, *daemon_command(place)], env=environment(), start_new_session=True)
    while not any(place.root.glob("processing/*/.heartbeat")):
        time.sleep(0.001)
    started = time.perf_counter()
    while next(os.scandir(place.root / "inbox"), None) is not None:
        time.sleep(0.005)
    seconds = time.perf_counter() - started
    time.sleep(1)  # the last group is claimed, and not recorded yet
    os.killpg(daemon.pid, signal.SIGTERM)
    daemon.wait()
    return seconds


def _print_flushes(parent: Path, base_url: str) -> None:
    rows = []
    before = 0
    for name, is_whole in (("intake", False), ("dispatch, delivery, done/", True)):
        counts = parent / f"{'cycle' if is_whole else 'intake'}.strace"
        prefix = ["strace", "-f", "-c", "-o", str(counts), "-e", f"trace={FLUSHES}"]
        if is_whole:
            window = {"max_wait": 5, "max_requests": COUNTED}
            place = make_place(parent, base_url, window=window)
            drop_files(place, COUNTED)
            subprocess.run([*prefix, *daemon_command(place, "--drain")], env=environment(), check=True)
        else:
            _intake(parent, base_url, COUNTED, prefix=prefix)
        total = _total(counts)
        rows.append([name, total - before, (total - before) / COUNTED])
        before = total
    table(f"flushes for {COUNTED} files ({FLUSHES})", ["", "flushes", "a file"], rows)


def _total(counts: Path) -> int:
    lines = [line.split() for line in counts.read_text().splitlines()]
    return sum(int(fields[3]) for fields in lines if fields and fields[-1] in FLUSHES.split(","))
