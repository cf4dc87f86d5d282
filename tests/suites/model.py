"""A hypothesis state machine over the real store, folders and stages, with a fake workspace and clocks that are pushed.

`model_machine` has what may happen, `model_bench` and `model_workspace` let it happen, `model_ledger` knows after
every step what may have been bought, and `model_judge` looks at what is left when everything is cured. Examples are
played by `model_worker`, in processes of their own, so that a planted mistake is imported like any other source.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .model_mutations import MUTATIONS
from .mutants import Mutation, plant
from .record import Record, Size

PROVES = "whatever people, the API, the account, the disks and the clocks do: nothing is lost or bought twice"
STEPS_MIN = 50_000
EXAMPLES_AT_ONCE = 25
"""Played by one process."""
EXAMPLES_PER_MUTATION = 150
"""At most; most mistakes are noticed within ten."""
SHORT_EXAMPLES = 4
SHORT_SEED = 3
"""Always the same: what a commit breaks must not depend on luck. Long runs draw other seeds every time."""
SHORT_MUTATIONS = frozenset({"halving drops the middle one"})
WORKER_SECONDS_MAX = 1200
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What one process tried and found."""

    tried: Mapping[str, int]
    violation: str | None


def run(size: Size, folder: Path) -> Record:
    """Play examples until enough steps were taken, then plant mistakes; return what was found."""
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        if size is Size.SHORT:
            planted = [mutation for mutation in MUTATIONS if mutation.name in SHORT_MUTATIONS]
            playing = workers.map(partial(play, SHORT_SEED), [SHORT_EXAMPLES])
        else:
            planted = list(MUTATIONS)
            playing = _play_long(workers)
        caught = workers.map(partial(_is_caught, folder=folder), planted)
        played = list(playing)
        mutations = {mutation.name: is_caught for mutation, is_caught in zip(planted, caught, strict=True)}
    tried: Counter[str] = Counter()
    for one in played:
        tried.update(one.tried)
    return Record(
        suite="model",
        proves=PROVES,
        tried=tried,
        violations=[one.violation for one in played if one.violation is not None],
        mutations=mutations,
    )


def play(seed: int, examples: int, *, source: Path | None = None) -> Played:
    """Play examples in a process of their own; with a source, those of that copy, without shortening what is found."""
    command = [sys.executable, "-m", "suites.model_worker", "--seed", str(seed), "--examples", str(examples)]
    environment = dict(os.environ)
    if source is not None:
        command += ["--no-shrink", "--source", str(source)]
        environment["PYTHONPATH"] = str(source)
    done = subprocess.run(
        command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False, timeout=WORKER_SECONDS_MAX
    )
    if done.returncode:
        return Played(tried={}, violation=f"--seed {seed}: the worker ended with {done.returncode}\n{done.stderr}")
    return Played(**json.loads(done.stdout))


def _play_long(workers: ThreadPoolExecutor) -> Iterator[Played]:
    """Play as many examples as it takes, several processes at a time; stop at a violation."""
    step_count = 0
    while step_count < STEPS_MIN:
        seeds: Sequence[int] = [random.randrange(2**32) for _ in range(os.cpu_count() or 1)]  # noqa: S311 - told
        for played in workers.map(lambda seed: play(seed, EXAMPLES_AT_ONCE), seeds):
            yield played
            step_count = STEPS_MIN if played.violation else step_count + played.tried["steps"] + played.tried["rules"]


def _is_caught(mutation: Mutation, folder: Path) -> bool:
    """Say whether the machine finds something; a worker that cannot even begin has found nothing."""
    target = folder / mutation.name
    target.mkdir()
    played = play(SHORT_SEED, EXAMPLES_PER_MUTATION, source=plant(mutation, target))
    return played.violation is not None and played.tried.get("rules", 0) > 0
