"""The power is cut before every change of a small run, and at moments in between: on ext4, and on XFS where it is.

Folders and database lie on two disks, which are cut at the same moment. A workspace that is outside keeps what it
sold. After the cut both disks are mounted again, looked at, and another life goes on; the ledger and the folders judge.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from dataclasses import asdict
from pathlib import Path

from . import rotating
from .blackbox_mistakes import WRITE_IN_PLACE
from .mutants import Mutation, plant
from .places import workplace
from .powercut_disk import file_systems, hindrance
from .powercut_trial import Story
from .powercut_worker import Findings, Job
from .record import Record, Size
from .tracing import hindrance_in_a_process_of_its_own

SUITE = "powercut"
PROVES = "two disks cut off at once, before every change and between: nothing lost, torn, bought or delivered twice"
ALL = 1_000_000
SHORT_CUTS = 8
LONG_MOMENTS = 250
WORKERS = 2
MUTANT_CUTS = {Size.SHORT: 80, Size.LONG: ALL}

MUTATIONS: Sequence[Mutation] = (
    Mutation(
        name="database not flushed at a commit",
        file="store/database.py",
        before="PRAGMA synchronous = FULL",
        after="PRAGMA synchronous = NORMAL",
    ),
    Mutation(
        name="folders not flushed",
        file="folders/root.py",
        before="        os.fsync(descriptor)\n",
        after="        pass\n",
    ),
    Mutation(
        name="answers not flushed before they are visible",
        file="folders/outbox.py",
        before="            robbed = self._make_durable(outbox, group)\n",
        after="            robbed: set[str] = set()\n",
    ),
    Mutation(
        name="claims not flushed before they are recorded",
        file="folders/inbox.py",
        before="            if ClaimOutcome.CLAIMED in outcomes:\n",
        after="            if False:\n",
    ),
    Mutation(
        name="manifest not flushed before the call",
        file="folders/manifests.py",
        before="os.fsync(descriptor)",
        after="pass",
    ),
    WRITE_IN_PLACE,
)
CONTROL = "nothing flushed at all (eatmydata)"
"""Not a mistake of ours, but a library that turns every flush into nothing; tried where it is installed."""
CHEAP = 3
"""So many of them are planted in the short form too."""


def run(size: Size, folder: Path) -> Record:
    """Run the suite."""
    skipped = hindrance(folder) or hindrance_in_a_process_of_its_own()
    if skipped is not None:
        return Record(suite=SUITE, proves=PROVES, tried={}, skipped=skipped)
    mutations = MUTATIONS if size is Size.LONG else MUTATIONS[:CHEAP]
    with workplace(folder) as place, ThreadPoolExecutor(WORKERS) as workers:
        jobs = [workers.submit(_work, job, None, place / f"job-{number}") for number, job in enumerate(_jobs(size))]
        hunts = {
            mutation.name: workers.submit(_work, _hunt(size), mutation, place / f"mutant-{number}")
            for number, mutation in enumerate(mutations)
        }
        control = find_library("eatmydata")
        if control is not None and size is Size.LONG:
            hunts[CONTROL] = workers.submit(_work, _hunt(size), None, place / "control", preloaded=control)
        findings = [job.result() for job in jobs]
        caught = {name: bool(hunt.result().violations) for name, hunt in hunts.items()}
    return Record(
        suite=SUITE,
        proves=PROVES,
        tried=_tally(findings),
        violations=[found for one in findings for found in one.violations],
        mutations=caught,
    )


def _jobs(size: Size) -> Sequence[Job]:
    """Return the cuts of the true daemon: a sample, or every point of every story on every file system."""
    seed = rotating.seed()
    if size is Size.SHORT:
        return [Job(file_system="ext4", seed=seed, point_cuts=SHORT_CUTS, moment_cuts=1, is_cut_again=True)]
    return [
        Job(
            file_system=file_system,
            story=story,
            seed=seed,
            point_cuts=ALL,
            moment_cuts=LONG_MOMENTS // WORKERS,
            is_cut_again=story is Story.LOST_REPLY,
            share=share,
            shares=WORKERS,
        )
        for file_system in file_systems()
        for story in Story
        for share in range(WORKERS)
    ]


def _hunt(size: Size) -> Job:
    return Job(file_system="ext4", seed=rotating.seed(), point_cuts=MUTANT_CUTS[size], until_caught=True)


def _tally(findings: Sequence[Findings]) -> Mapping[str, int]:
    tally: Counter[str] = Counter()
    for one in findings:
        tally["cuts before a change"] += one.point_cuts
        tally["cuts at a moment"] += one.moment_cuts
        tally["cuts of the life that follows"] += one.second_cuts
    return tally


def _work(job: Job, mutation: Mutation | None, folder: Path, *, preloaded: str | None = None) -> Findings:
    """Let a worker do a job with the daemon as it is, or with a mistake."""
    folder.mkdir()
    source = plant(mutation, folder)
    environment = {**os.environ, "PYTHONPATH": f"{source}:{Path(__file__).parents[1]}"}
    if preloaded is not None:
        environment["LD_PRELOAD"] = preloaded
    command = [sys.executable, "-m", f"{__package__}.powercut_worker", str(folder / "disks"), json.dumps(asdict(job))]
    worker = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert worker.returncode == 0, worker.stderr
    findings = Findings(**json.loads(worker.stdout))
    assert Path(findings.source).is_relative_to(source), f"{findings.source} was imported, not {source}"
    return findings
