"""Plays examples in this process and prints what was found; started in a fresh interpreter by the suite.

cd tests && python -m suites.model_worker --seed 7 --examples 20    the same examples every time
"""

import argparse
import json
import logging
import sys
import traceback
from dataclasses import asdict
from functools import partial
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import run_state_machine_as_test

import batchbox

from .model_machine import Machine, Tally
from .places import workplace

RULES_PER_EXAMPLE = 60
PLACES_TOLD = 4
HERE = Path(__file__).parent


def main() -> int:
    """Play what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--examples", type=int, required=True)
    parser.add_argument("--rules", type=int, default=RULES_PER_EXAMPLE, help="at most, per example")
    parser.add_argument("--source", type=Path, help="where batchbox must have been imported from")
    parser.add_argument("--no-shrink", action="store_true", help="stop at the first violation")
    arguments = parser.parse_args()
    if arguments.source and not Path(batchbox.__file__).is_relative_to(arguments.source):
        parser.error(f"batchbox was imported from {batchbox.__file__}")
    logging.disable(logging.CRITICAL)
    tally = Tally()
    with workplace(HERE) as folder:
        set_hypothesis_home_dir(folder)
        violation = _violation(arguments, folder, tally)
    sys.stdout.write(json.dumps({"tried": asdict(tally), "violation": violation}))
    return 0


def _violation(arguments: argparse.Namespace, folder: Path, tally: Tally) -> str | None:
    """Return what went wrong with what it takes to see it again, None if nothing did."""
    phases = [Phase.generate] if arguments.no_shrink else [Phase.generate, Phase.shrink]
    how = settings(
        max_examples=arguments.examples,
        stateful_step_count=arguments.rules,
        phases=phases,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    machine = seed(arguments.seed)(partial(Machine, folder, tally))
    try:
        run_state_machine_as_test(machine, settings=how)  # type: ignore[arg-type] # a factory, as its docstring allows
    except BaseException as error:  # noqa: BLE001 - whatever it is, it was found
        return f"--seed {arguments.seed}: {_told(error)}"
    return None


def _told(error: BaseException) -> str:
    """Say where it was found, what it is, and the example, without the steps that follow all that happens."""
    places = traceback.format_tb(error.__traceback__)[-PLACES_TOLD:]
    said = "".join([*places, *traceback.format_exception_only(error)])
    return "\n".join(line for line in said.splitlines() if line != "state.go_on()")


if __name__ == "__main__":
    sys.exit(main())
