"""What every benchmark stands on: folders of its own, the simulator in a process of its own, and measured children.

Every variant runs in a fresh interpreter, and figures come from the kernel (rusage of the child, the clock), not
from what is measured. Nothing is deleted between variants: on ext4 a folder is slower after files were deleted.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from batchbox.folders.layout import make_root

COMMAND = Path(sys.executable).parent / "batchbox"
HERE = Path(__file__).parent
PROMPT_BYTES = 2048
LOOK_SECONDS = 0.005

MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one child took."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    exit_code: int
    noted: Mapping[str, float]
    """When words were first seen in its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Folders and a configuration."""

    root: Path
    state: Path
    config_file: Path

    @property
    def log_file(self) -> Path:
        """Where the daemon's log goes."""
        return self.config_file.with_suffix(".log")


def make_place(parent: Path, base_url: str, **sections: Mapping[str, object]) -> Place:
    """Make a root and a configuration without waits, with these keys on top."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    place = Place(root=folder / "root", state=folder / "state", config_file=folder / "config.toml")
    make_root(place.root)
    given: dict[str, dict[str, object]] = {
        "paths": {"root": str(place.root), "state": str(place.state)},
        "api": {"base_url": base_url},
        "window": {"max_wait": 0.2},
        "poll": {"first": 0.2, "max": 0.5},
        "inbox": {"quiet": 0.1, "rescan": 0.5},
        "defaults": {"model": "claude-opus-5-5"},
        "log": {"level": "warning"},
    }
    names = {*given, *sections}
    place.config_file.write_text(
        tomli_w.dumps({name: {**given.get(name, {}), **sections.get(name, {})} for name in names})
    )
    return place


def drop_files(place: Place, count: int, *, extension: str = "md") -> None:
    """Put small texts into the inbox."""
    for number in range(count):
        text = f"# Question {number}\n\n".ljust(PROMPT_BYTES - 1, "x") + "\n"
        (place.root / "inbox" / f"q{number:06}.{extension}").write_text(text)


@contextlib.contextmanager
def simulated(*, processing_seconds: float = 0.2, answer_tokens: int | None = None) -> Iterator[str]:
    """Run the simulator in a process of its own; yield its base_url."""
    command = [sys.executable, str(HERE / "simulated.py"), str(processing_seconds), str(answer_tokens or "")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def daemon_command(place: Place, *options: str) -> list[str]:
    """Return the command that runs the daemon."""
    return [str(COMMAND), "run", "--config", str(place.config_file), *options]


def environment() -> dict[str, str]:
    """Return this process's environment with a key in it."""
    return {**os.environ, "ANTHROPIC_API_KEY": "sk-ant-benchmark"}


def measure(
    command: Sequence[str], *, log_file: Path, watch: Path | None = None, note: Sequence[str] = ()
) -> tuple[Measured, dict[str, float]]:
    """Run a child to its end; return what it took, and when things under `watch` were first seen to be so.

    `note` are words of the log; when they were first seen in it is in the result.
    """
    started = time.perf_counter()
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment())
    milestones: dict[str, float] = {}
    noted: dict[str, float] = {}
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        _note(log_file, note, noted, started)
        if pid:
            break
        if watch is not None:
            _look(watch, milestones, started)
        time.sleep(LOOK_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    measured = Measured(
        wall_seconds=time.perf_counter() - started,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss * 1024 / MB,
        exit_code=process.returncode,
        noted=noted,
    )
    return measured, milestones


def log_moments(measured: Measured, words: Sequence[str]) -> list[float]:
    """Return when the words were first seen in the log. Raises KeyError if they were not."""
    return [measured.noted[word] for word in words]


def _note(log_file: Path, words: Sequence[str], noted: dict[str, float], started: float) -> None:
    if len(noted) < len(words):
        text = log_file.read_text()
        for word in words:
            if word in text:
                noted.setdefault(word, time.perf_counter() - started)


def _look(root: Path, milestones: dict[str, float], started: float) -> None:
    """Note when the daemon was there, when the inbox was empty, and when the first answer was visible."""
    now = time.perf_counter() - started
    if "up" not in milestones:
        if any(root.glob("processing/*/.heartbeat")):
            milestones["up"] = now
    elif "taken" not in milestones:
        if next(os.scandir(root / "inbox"), None) is None:
            milestones["taken"] = now
    elif "first" not in milestones and _has_answer(root / "outbox"):
        milestones["first"] = now


def _has_answer(outbox: Path) -> bool:
    with os.scandir(outbox) as entries:
        return any(not entry.name.startswith(".") for entry in entries)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table."""
    cells = [[_cell(value) for value in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    print(f"\n{title}")  # noqa: T201 - what it says is its purpose
    for row in cells:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))  # noqa: T201 - what it says is its purpose


def _cell(value: object) -> str:
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )
