"""Cuts the power again and again: each time a run on two disks, a cut, what is left, and the run that goes on from it.

`python -m suites.powercut_worker FOLDER JOB` runs in a process of its own, so that a planted mistake is what it
imports. The workspace is outside: it writes what was bought into a file that no cut reaches, and that file and the
folders are the judge.
"""

import asyncio
import gc
import json
import logging
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import batchbox

from .powercut_disk import leave_mounts_behind
from .powercut_trial import Machine, PlainBench, Story, Trial, settle
from .tracing import Point

SECOND_POINTS = 150
"""The run that goes on is cut before one of its first changes; most such runs make more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Which cuts one worker makes."""

    file_system: str
    story: Story = Story.PLAIN
    seed: int
    """Decides the order of the points, and the moments."""
    point_cuts: int
    """At most so many, each before another change; all of them if there are fewer."""
    moment_cuts: int = 0
    """At moments that have nothing to do with what goes on."""
    is_cut_again: bool = False
    """Whether the run that goes on is cut too, once."""
    until_caught: bool = False
    share: int = 0
    shares: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What came of a job."""

    source: str
    """Where batchbox was imported from."""
    point_count: int
    """How many changes one run makes."""
    point_cuts: int = 0
    moment_cuts: int = 0
    second_cuts: int = 0
    violations: Sequence[str] = ()


def warm_up(folder: Path) -> None:
    """Work once in this process, so that its forks find everything imported; no thread is left."""
    folder.mkdir()
    bench = PlainBench(folder)
    bench.drop("a.md", "first question")
    asyncio.run(settle(bench))
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    gc.collect()
    gc.freeze()


def work(folder: Path, job: Job) -> Findings:
    """Make the cuts that the job asks for."""
    leave_mounts_behind()
    folder.mkdir(exist_ok=True)
    warm_up(folder / "warm")
    machine = Machine(folder, file_system=job.file_system)
    order = random.Random(job.seed)  # noqa: S311 - to be repeatable
    points: list[int] = []

    def count(point: Point) -> bool:
        points.append(point.number)
        return False

    with machine.on():
        clean = Trial(machine, folder / "outside", job.story)
        started = time.monotonic()
        trouble = clean.live(count) or clean.judge()
        duration = time.monotonic() - started
    assert trouble is None, f"without a cut: {trouble}"
    order.shuffle(points)
    moments = [order.uniform(0, duration) for _ in range(job.moment_cuts)]
    cuts = [*points[job.share :: job.shares][: job.point_cuts], *moments]
    return _cut_all(machine, folder / "outside", job, cuts, point_count=len(points))


def _cut_all(machine: Machine, outside: Path, job: Job, cuts: Sequence[float], *, point_count: int) -> Findings:
    tally: Counter[str] = Counter()
    violations: list[str] = []
    for cut in cuts:
        found = _cut_once(machine, outside, job, cut, tally)
        if found is not None:
            where = f"point {cut} of {point_count}" if isinstance(cut, int) else f"{cut:.4f} s"
            violations.append(f"{job.file_system}, {job.story}, cut at {where}: {found}")
            if job.until_caught:
                break
    return Findings(source=batchbox.__file__, point_count=point_count, violations=violations, **tally)


def _cut_once(machine: Machine, outside: Path, job: Job, cut: float, tally: Counter[str]) -> str | None:
    """Cut before a change (a whole number) or at a moment, perhaps again; return what the onlookers have found."""
    is_point = isinstance(cut, int)
    labels: list[str] = []
    with machine.on():
        trial = Trial(machine, outside, job.story)
        trouble = trial.live(_cutting(machine, cut, labels), alarm_seconds=0.0 if is_point else cut)
    if is_point and not machine.is_cut:
        return trouble or "was not reached"
    tally["point_cuts" if is_point else "moment_cuts"] += machine.is_cut
    with machine.on():
        trouble = trouble or trial.look()
        if job.is_cut_again and trouble is None:
            trouble = trial.live(_cutting(machine, int(cut * 7919) % SECOND_POINTS + 1, labels))
            tally["second_cuts"] += machine.is_cut
    with machine.on():
        trouble = trouble or trial.look() or trial.live(lambda _: False) or trial.judge()
    return f"{trouble} (before {', and '.join(labels)})" if trouble else None


def _cutting(machine: Machine, cut: float, labels: list[str]) -> Callable[[Point], bool]:
    """Return what cuts the power before the change of that number, and says which one it was."""

    def at(point: Point) -> bool:
        if point.number != cut:
            return False
        labels.append(point.describe())
        return machine.cut()

    return at


if __name__ == "__main__":
    logging.disable()
    asked = json.loads(sys.argv[2])
    found = work(Path(sys.argv[1]), Job(**{**asked, "story": Story(asked["story"])}))
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
