"""Create calls and results that fail in every known way, one by one over real HTTP and by the thousand simulated.

Each request must be bought once and answered once, whatever the call met, whoever else creates batches of the same
size, and whenever the process ended; and of the strategies that are known to be wrong, each must be seen to fail.
"""

import asyncio
import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from . import rotating
from .api_create import every_create
from .api_crowd import Crowd
from .api_mistakes import MISTAKES, Planted
from .api_results import every_result
from .api_verdict import Verdict, together
from .mutants import plant
from .record import Record, Size

SUITE = "api"
PROVES = "create calls and results that fail in every known way, alone and beside others: one POST each, bought once"

CROWD_COUNT = 200
CROWD_BATCHES = 100
FAULT_SHARE = 0.1
SIZES = (1, 2, 3)
SHORT_CREATES = 4
SHORT_RESULTS = 3
SHORT_BATCHES = 25
SHORT_FAULT_SHARE = 0.3


def run(size: Size, folder: Path) -> Record:
    """Run the suite."""
    return asyncio.run(_run(size, folder))


def long_trials() -> list[str]:
    """Return the names of all trials: over the wire, and 20,000 calls alone and as many beside others."""
    crowds = [
        Crowd(seed=seed, batch_count=CROWD_BATCHES, size=SIZES[seed % 3], is_shared=is_shared, fault_share=FAULT_SHARE)
        for seed in range(CROWD_COUNT)
        for is_shared in (False, True)
    ]
    return [*every_create(), *every_result(), *(crowd.name for crowd in crowds)]


def short_trials(seed: int) -> list[str]:
    """Return the names of the trials that this commit makes."""
    chance = random.Random(seed)  # noqa: S311 - to be repeatable, not to be secret
    crowds = [
        Crowd(seed=seed, batch_count=SHORT_BATCHES, size=1, is_shared=is_shared, fault_share=SHORT_FAULT_SHARE)
        for is_shared in (False, True)
    ]
    wire = [*chance.sample(every_create(), SHORT_CREATES), *chance.sample(every_result(), SHORT_RESULTS)]
    return [*wire, *(crowd.name for crowd in crowds)]


async def _run(size: Size, folder: Path) -> Record:
    names = long_trials() if size is Size.LONG else short_trials(rotating.seed())
    planted = [mistake for mistake in MISTAKES if size is Size.LONG or mistake.is_cheap]
    cores = os.cpu_count() or 1
    turn = asyncio.Semaphore(cores)
    true = plant(None, folder / "true")
    shares = [work(true, names[start::cores], turn=turn) for start in range(cores)]
    verdicts = asyncio.gather(*shares)
    caught = await asyncio.gather(*(_catches(one, folder, turn=turn) for one in planted))
    verdict = together(await verdicts)
    return Record(
        suite=SUITE,
        proves=PROVES,
        tried={"trials": len(names), **verdict.tried},
        violations=verdict.violations,
        mutations={one.mutation.name: is_caught for one, is_caught in zip(planted, caught, strict=True)},
    )


async def work(source: Path, names: Sequence[str], *, turn: asyncio.Semaphore, until_found: bool = False) -> Verdict:
    """Make the trials in a process that imports the daemon from a folder."""
    async with turn:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"{__package__}.api_worker", str(source)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(source),
            limit=2**24,
        )
        try:
            return await _told(process, names, until_found=until_found)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _told(process: asyncio.subprocess.Process, names: Sequence[str], *, until_found: bool) -> Verdict:
    assert process.stdin is not None
    assert process.stdout is not None
    verdicts: list[Verdict] = []
    for name in names:
        process.stdin.write(f"{name}\n".encode())
        line = await process.stdout.readline()
        assert line, f"{name}: the trial itself broke off"
        verdicts.append(Verdict(**json.loads(line)))
        if until_found and verdicts[-1].violations:
            break
    return together(verdicts)


async def _catches(planted: Planted, folder: Path, *, turn: asyncio.Semaphore) -> bool:
    source = plant(planted.mutation, folder / planted.mutation.name.replace(" ", "-"))
    verdict = await work(source, planted.trials, turn=turn, until_found=True)
    return bool(verdict.violations)


def _environment(source: Path) -> Mapping[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "PYTHONPATH": f"{source}:{Path(__file__).parents[1]}",
    }
