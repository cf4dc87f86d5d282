"""Faults of disks and shares that last for a while: no hot loop, no file blamed, and all is well soon after the cure.

In process every kind of call fails with every error, and the database is full; on disks of its own the real daemon
meets what a machine's administrator would see. What waits must wait in no hurry, and go on unaided.
"""

import asyncio
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import errors_disks, rotating
from .errors_disks import HAPPENINGS, Waits
from .errors_trial import FULL_DATABASE, LITTLE_ROOM, every_trial
from .mutants import SOURCE, Mutation, plant
from .places import workplace
from .record import Record, Size

PROVES = "Disks and shares that fail, fill up or vanish for a while: no hot loop, all is well within 60 s of the cure"
TESTS = Path(__file__).parents[1]
SHORT_TRIALS = 3
AT_ONCE = 3
TRIALS_SECONDS_MAX = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A mistake, and the trial that must notice it."""

    mutation: Mutation
    trial: str
    is_cheap: bool = False
    """Whether the short form tries it."""


PLANTED = (
    Planted(
        mutation=Mutation(
            name="a back-off that does not wait",
            file="timing.py",
            before="return float(min(longest, first * 2**doublings))",
            after="return 0.0",
        ),
        trial="list:EIO",
    ),
    Planted(
        mutation=Mutation(
            name="a share is waited for as long as the API",
            file="timing.py",
            before="PLACE_SECONDS_MAX = 30.0",
            after="PLACE_SECONDS_MAX = 900.0",
        ),
        trial="list:EIO",
    ),
    Planted(
        mutation=Mutation(
            name="an error of the disk is the file's fault",
            file="folders/reading.py",
            before="content = _not_a_regular_file() if error.errno in NOT_A_FILE else error",
            after="content = _not_a_regular_file()",
        ),
        trial="read a file:EIO",
        is_cheap=True,
    ),
    Planted(
        mutation=Mutation(
            name="min_free is not heeded",
            file="folders/space.py",
            before="if self._bytes_min == 0:",
            after="if self._bytes_min >= 0:",
        ),
        trial=LITTLE_ROOM,
    ),
    Planted(
        mutation=Mutation(
            name="a full disk ends the service",
            file="service/driving.py",
            before="except StateNotWritableError as error:",
            after="except ZeroDivisionError as error:",
        ),
        trial=FULL_DATABASE,
        is_cheap=True,
    ),
    Planted(
        mutation=Mutation(
            name="a file that could not be made durable is shown",
            file="folders/outbox.py",
            before="            os.fsync(descriptor)\n            return True",
            after="            with suppress(OSError):\n                os.fsync(descriptor)\n            return True",
        ),
        trial="fsync:EIO",
    ),
    Planted(
        mutation=Mutation(
            name="a file that cannot be taken is tried again at once",
            file="settling.py",
            before="REFUSED_SECONDS_MAX = 30.0",
            after="REFUSED_SECONDS_MAX = 0.0",
        ),
        trial="rename:ESTALE",
    ),
)


def run(size: Size, folder: Path) -> Record:
    """Run the suite, or the part of it that every commit's checks have time for."""
    trials = every_trial() if size is Size.LONG else _sample()
    planted = [one for one in PLANTED if size is Size.LONG or one.is_cheap]
    hindrance = errors_disks.hindrance(folder)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        on_disks = pool.submit(_on_disks, size, folder) if hindrance is None else None
        in_process = pool.submit(_try, trials, folder)
        caught = list(pool.map(lambda one: _is_caught(one, folder), planted))
    disk_count, found = on_disks.result() if on_disks is not None else (0, [])
    if hindrance is not None:
        sys.stderr.write(f"errors: no disks were tried: {hindrance}\n")
    return Record(
        suite="errors",
        proves=PROVES,
        tried={"faults": len(trials), "disks": disk_count},
        violations=[*in_process.result(), *found],
        mutations={one.mutation.name: is_caught for one, is_caught in zip(planted, caught, strict=True)},
    )


def _sample() -> Sequence[str]:
    chosen = random.Random(rotating.seed()).sample(every_trial(), SHORT_TRIALS)  # noqa: S311 - a sample, no secret
    return [*chosen, FULL_DATABASE, LITTLE_ROOM]


def _on_disks(size: Size, folder: Path) -> tuple[int, list[str]]:
    names = [*HAPPENINGS] if size is Size.LONG else errors_disks.SHORT
    waits = [Waits(fault=3.0, first_retry=1.0)]
    if size is Size.LONG:
        waits.append(Waits(fault=60.0, first_retry=30.0))
    found: list[str] = []
    for one in waits:
        place = Path(tempfile.mkdtemp(prefix="disks-", dir=folder))
        found += asyncio.run(errors_disks.try_all(names, place, one))
    return len(names) * len(waits), found


def _try(names: Sequence[str], folder: Path, *, source: Path | None = None) -> list[str]:
    """Make the trials in a process of its own, which imports the source that it is given."""
    with workplace(folder) as place:
        done = subprocess.run(
            [sys.executable, "-P", "-m", f"{__package__}.errors_trial", str(place), *names],
            cwd=TESTS,
            env=_environment(source),
            capture_output=True,
            text=True,
            timeout=TRIALS_SECONDS_MAX,
            check=True,
        )
    imported, *found = done.stdout.splitlines()
    assert source is None or Path(imported).is_relative_to(source), f"{imported} was imported, not {source}"
    return found


def _is_caught(one: Planted, folder: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return bool(_try([one.trial], folder, source=plant(one.mutation, Path(place))))


def _environment(source: Path | None) -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(source or SOURCE), str(TESTS)])}
