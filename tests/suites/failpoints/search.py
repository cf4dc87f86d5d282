"""Plays cases in this process's forks and writes down what was found; started in a fresh interpreter by the suite.

cd tests && python -m suites.failpoints.search --out FILE                     every case
cd tests && python -m suites.failpoints.search --out FILE --every 40          a sample of them
cd tests && python -m suites.failpoints.search --out FILE --case '120:kill 7:fail'    one case again
"""

import argparse
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import batchbox
from suites.places import workplace

from .lives import Case, Site, Verdict
from .points import READS, Fault, Point, Shot

CHANGES_PER_LABEL = {Fault.CANCEL: 10, Fault.ABANDON: 10, Fault.FULL: 10, Fault.STAY_FULL: 10}
READS_PER_LABEL = 3
"""The same is done again and again; so much of each is enough. Every change is killed and failed."""
VIOLATIONS_MAX = 50


def main() -> int:
    """Play what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--source", type=Path, help="where batchbox must have been imported from")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th case")
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--near", default="", metavar="TEXT", help="only cases whose first point's name has this in it")
    parser.add_argument("--until-caught", type=int, metavar="N", help="stop at the first violation, or after N cases")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--case", help="this case alone")
    arguments = parser.parse_args()
    if arguments.source and not Path(batchbox.__file__).is_relative_to(arguments.source):
        parser.error(f"batchbox was imported from {batchbox.__file__}")
    with workplace(arguments.out.parent) as folder:
        found = search(arguments, folder)
    arguments.out.write_text(json.dumps(found))
    return 0


def search(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Play the cases in as many processes as are allowed; return how many were tried, and the violations."""
    site = Site(folder / "clean")
    try:
        site.play_clean()
    except AssertionError as error:
        return {"tried": {"cases": 1}, "violations": [f"no fault: {error}"]}
    if arguments.case:
        cases = [_parse_case(arguments.case)]
    else:
        near = [point for point in site.points if arguments.near in point.label]
        cases = list(islice(cases_at(near, len(site.points)), arguments.offset, None, arguments.every))
    if arguments.until_caught:
        random.Random(0).shuffle(cases)  # noqa: S311 - the same order every time
        cases = cases[: arguments.until_caught]
    workers = [
        _start_worker(folder / f"worker-{number}", cases[number :: arguments.workers], site, arguments)
        for number in range(arguments.workers)
    ]
    for process in workers:
        os.waitpid(process, 0)
    tallies = [json.loads((folder / f"worker-{number}.json").read_text()) for number in range(arguments.workers)]
    tried: Counter[str] = Counter()
    for tally in tallies:
        tried.update(tally["tried"])
    return {
        "tried": {"points": len({case.shots[0].number for case in cases}), **tried},
        "violations": [violation for tally in tallies for violation in tally["violations"]],
    }


def cases_at(points: Sequence[Point], point_count: int) -> Iterator[Case]:
    """Yield, for every point, each of its faults alone, and one of them with two more during the recovery."""
    chance = random.Random(1)  # noqa: S311 - the same cases every time
    seen: Counter[tuple[str, Fault]] = Counter()
    for point in points:
        limits = dict.fromkeys(Fault, READS_PER_LABEL) if point.faults == READS else CHANGES_PER_LABEL
        shots = []
        for fault in point.faults:
            seen[point.label, fault] += 1
            if seen[point.label, fault] <= limits.get(fault, point_count):
                shots.append(Shot(number=point.number, fault=fault))
        yield from (Case(shots=[shot]) for shot in shots)
        if shots and point.faults != READS:
            yield Case(shots=[chance.choice(shots), *_later(chance, point_count)])


def _later(chance: random.Random, point_count: int) -> Iterator[Shot]:
    for _ in range(2):
        fault = chance.choice([*Fault, Fault.KILL])
        yield Shot(number=chance.randrange(1, point_count // 2), fault=fault)


def _start_worker(folder: Path, cases: Sequence[Case], site: Site, arguments: argparse.Namespace) -> int:
    process = os.fork()
    if process == 0:
        own = Site(folder)
        own.clean = site.clean
        tally = play_all(own, cases, stops_early=bool(arguments.until_caught), is_loud=bool(arguments.case))
        folder.with_suffix(".json").write_text(json.dumps(tally))
        os._exit(0)
    return process


def play_all(site: Site, cases: Iterable[Case], *, stops_early: bool, is_loud: bool) -> dict[str, object]:
    """Play cases one after the other; return the tally."""
    tried: Counter[str] = Counter()
    violations: list[str] = []
    for case in cases:
        verdict = site.play(case)
        _count(tried, verdict)
        if is_loud:
            sys.stdout.write(f"{case}: {'; '.join(verdict.struck)}\n")
        if verdict.violation is not None:
            violations.append(verdict.violation)
        if violations and (stops_early or len(violations) >= VIOLATIONS_MAX):
            break
    return {"tried": tried, "violations": violations}


def _count(tried: Counter[str], verdict: Verdict) -> None:
    tried["cases"] += 1
    tried["faults"] += len(verdict.struck)
    tried["kills"] += verdict.killed_count


def _parse_case(text: str) -> Case:
    shots = [one.split(":") for one in text.split()]
    return Case(shots=[Shot(number=int(number), fault=Fault(fault)) for number, fault in shots])


if __name__ == "__main__":
    sys.exit(main())
