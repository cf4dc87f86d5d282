"""The process is killed, failed, starved of disk or stopped at every point of a run, and again while it recovers.

A point lies around every system call of ours that changes the root, every statement and commit, and every call of the
API. A run is real folders, the real database and the real stages under a clock that is pushed; each life of the
process is a fork. Whatever happens, the work must end as it does without any fault, with nothing bought twice.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from suites.mutants import SOURCE, plant
from suites.record import Record, Size
from suites.rotating import seed

from .mistakes import MISTAKES, Mistake

TESTS = Path(__file__).parents[2]
PROVES = (
    "a kill, a failing call, a full disk or a stop at any point, and again in the recovery, loses and doubles nothing"
)
SHORT_EVERY = 300
"""The short form plays every so many-th case, another selection for every commit."""
SHORT_MISTAKES = 3
CASES_PER_MISTAKE = 150
SEARCH_SECONDS_MAX = 6 * 3600.0


def run(size: Size, folder: Path) -> Record:
    """Play the cases, and then look for each planted mistake until it is found."""
    is_short = size is Size.SHORT
    every = SHORT_EVERY if is_short else 1
    offset = seed() % every
    found = _search(folder / "found.json", SOURCE, ["--every", str(every), "--offset", str(offset)])
    mistakes = MISTAKES[:SHORT_MISTAKES] if is_short else MISTAKES
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        caught = list(pool.map(lambda mistake: _is_caught(mistake, folder), mistakes))
    return Record(
        suite="failpoints",
        proves=PROVES,
        tried=found["tried"],
        violations=found["violations"],
        mutations=dict(zip([mistake.mutation.name for mistake in mistakes], caught, strict=True)),
    )


def _is_caught(mistake: Mistake, folder: Path) -> bool:
    own = folder / mistake.mutation.name.replace("/", "-")
    source = plant(mistake.mutation, own)
    arguments = ["--near", mistake.near, "--until-caught", str(CASES_PER_MISTAKE), "--workers", "1"]
    return bool(_search(own / "found.json", source, arguments)["violations"])


def _search(out: Path, source: Path, arguments: Sequence[str]) -> dict[str, Any]:  # Any: as JSON gives it
    """Search in a fresh interpreter that imports batchbox from the source given."""
    command = [sys.executable, "-m", f"{__package__}.search", "--out", str(out), "--source", str(source), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    subprocess.run(command, cwd=TESTS, env=environment, check=True, timeout=SEARCH_SECONDS_MAX)
    found: dict[str, Any] = json.loads(out.read_text())  # Any: as above
    return found
