"""SIGKILL before every change that a small run makes, an onlooker between the kill and the restart, and a judge.

A run is the real command against the simulator over HTTP. It is killed before its N-th change, for every N of a run
that nobody disturbs; what lies there is looked at from outside, the next life, which is killed once too, and the one
after it go on unaided, and the simulator's ledger and the folders say whether it mattered.
"""

import asyncio
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from . import rotating
from .blackbox_mistakes import MUTATIONS, Planted
from .blackbox_trial import Victim, Whole, open_trial, open_victim
from .blackbox_victim import Aim
from .mutants import plant
from .places import workplace
from .record import Record, Size
from .telling import said
from .tracing import hindrance_in_a_process_of_its_own

PROVES = "SIGKILL before every change of a small run, seen from outside, then restarted: nothing lost, bought once"
SUITE = "blackbox"
SHORT_POINTS = 8
SHORT_ATTEMPTS = 8
VICTIMS = {Size.SHORT: 1, Size.LONG: 2}
SECOND_POINTS = 150
"""The life after the kill is killed before one of its first changes; most make more."""
REACHED = 0.9
"""Runs differ a little in length: so much of the longest one is always reached."""
KILLED = -9
ENDS = (0, 3)
"""A drain is over: nothing was rejected in this life, or something was."""


async def run_undisturbed(folder: Path, victim: Victim) -> tuple[Whole, Sequence[str]]:
    """Run once to the end; return the texts and what was changed on the way."""
    async with open_trial(folder, victim) as trial:
        life = await trial.live(None, is_listed=True)
        assert life.code in ENDS, f"{life.code}: {trial.log}"
        outbox = trial.site.root / "outbox"
        whole = {path.relative_to(outbox).as_posix(): path.read_bytes() for path in outbox.rglob("*.md")}
        trial.judge(whole)
        return whole, life.points


async def kill(aim: Aim, *, again: Aim | None, folder: Path, victim: Victim, whole: Whole) -> tuple[int, str | None]:
    """Kill before one change, and the next life before another; return how often, and what is against a promise."""
    async with open_trial(folder, victim) as trial:
        life = await trial.live(aim)
        if life.code != KILLED:
            return 0, None if life.code in ENDS else f"{aim}: ended with {life.code}: {trial.log[-2000:]}"
        kills = 1
        try:
            trial.look(whole)
            if again is not None:
                second = await trial.live(again)
                assert second.code in {KILLED, *ENDS}, f"the next life ended with {second.code}: {trial.log[-2000:]}"
                kills += second.code == KILLED
                trial.look(whole)
            last = await trial.live(None)
            assert last.code in ENDS, f"the last life ended with {last.code}: {trial.log[-2000:]}"
            trial.judge(whole)
        except (AssertionError, ValueError, OSError) as error:
            return kills, f"{aim} ({life.last}), then {again}: {said(error)}"
        return kills, None


@dataclass(slots=True)
class Sweep:
    """Kills again and again, with several victims at once. Written by `go_on` alone."""

    folder: Path
    whole: Whole
    aims: Iterator[Aim]
    is_twice: bool
    kills: int = 0
    points: int = 0
    missed: list[Aim] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    async def go_on(self, victim: Victim, *, until_caught: bool = False) -> None:
        """Kill until nothing is left to aim at."""
        for aim in self.aims:
            again = Aim(number=aim.number * 7919 % SECOND_POINTS + 1) if self.is_twice else None
            kills, found = await kill(aim, again=again, folder=self.folder, victim=victim, whole=self.whole)
            self.kills += kills
            self.points += kills > 0
            self.missed += [] if kills else [aim]
            self.violations += [found] if found else []
            if until_caught and self.violations:
                return


async def sweep_all(size: Size, folder: Path) -> tuple[Mapping[str, int], Sequence[str]]:
    """Kill the true daemon: at a sample of the points, or at every one and again in the life that follows."""
    source = plant(None, folder / "true")
    async with AsyncExitStack() as stack:
        victims = [await stack.enter_async_context(open_victim(source)) for _ in range(VICTIMS[size])]
        runs = [await run_undisturbed(folder, victim) for victim in victims]
        whole, points = runs[0]
        aims = [Aim(number=number) for number in range(1, len(points) + 1)]
        if size is Size.SHORT:
            aims = random.Random(rotating.seed()).sample(aims, SHORT_POINTS)  # noqa: S311 - to be repeatable
        sweep = Sweep(folder=folder, whole=whole, aims=iter(aims), is_twice=size is Size.LONG)
        await asyncio.gather(*(sweep.go_on(victim) for victim in victims))
    unreached = [aim for aim in sweep.missed if aim.number < REACHED * len(points)]
    trouble = [f"{aim} of {len(points)} was not reached: nothing was killed" for aim in unreached]
    return {"points": sweep.points, "kills": sweep.kills}, [*sweep.violations, *trouble]


async def catches(planted: Planted, size: Size, folder: Path, turn: asyncio.Semaphore) -> bool:
    """Say whether the kills bring a planted mistake to light."""
    source = plant(planted.mutation, folder / planted.mutation.name.replace(" ", "-"))
    async with turn, open_victim(source) as victim:
        whole, points = await run_undisturbed(folder, victim)
        aims = order_of_attack(planted, points)
        aims = aims[:SHORT_ATTEMPTS] if size is Size.SHORT else aims
        sweep = Sweep(folder=folder, whole=whole, aims=iter(aims), is_twice=False)
        await sweep.go_on(victim, until_caught=True)
    return bool(sweep.violations)


def order_of_attack(planted: Planted, points: Sequence[str]) -> list[Aim]:
    """Return what to aim at: where the mistake does harm, and then everything."""
    count = sum(1 for point in points if re.search(planted.where, point))
    targeted = [
        Aim(where=planted.where, number=number, plus=plus) for plus in planted.plus for number in range(1, count + 1)
    ]
    return [*targeted, *(Aim(number=number) for number in range(1, len(points) + 1))]


async def _run(size: Size, folder: Path) -> Record:
    mutations = [planted for planted in MUTATIONS if size is Size.LONG or planted.is_cheap]
    turn = asyncio.Semaphore(1)
    with workplace(folder) as place:
        hunts = asyncio.gather(*(catches(planted, size, place, turn) for planted in mutations))
        tried, violations = await sweep_all(size, place)
        caught = await hunts
    names = [planted.mutation.name for planted in mutations]
    return Record(
        suite=SUITE,
        proves=PROVES,
        tried=tried,
        violations=violations,
        mutations=dict(zip(names, caught, strict=True)),
    )


def run(size: Size, folder: Path) -> Record:
    """Run the suite."""
    skipped = hindrance_in_a_process_of_its_own()
    if skipped is not None:
        return Record(suite=SUITE, proves=PROVES, tried={}, skipped=skipped)
    return asyncio.run(_run(size, folder))
