"""Runs the chaos from the command line: in tests/, `python -m chaos`. The seed repeats the writers, not the machine.

python -m chaos                              three daemons, 1,500 files of every kind
python -m chaos --files 300 --seed 7         fewer, by another chance
python -m chaos --kinds atomic slow again    only some kinds of writers
python -m chaos --keep /tmp/x                leave the folders, databases and logs there to be looked at
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .drops import Kind
from .run import Plan, run_anew

SHARES = {Kind.STALLING: 0.5, Kind.AGAIN: 1.5}
"""How many files of a kind there are, compared with the others: a stalling writer waits for its file to be done."""


def main(arguments: Sequence[str]) -> int:
    """Run once; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1500, help="how many files are dropped in all")
    parser.add_argument("--daemons", type=int, default=3, help="how many daemons share the root")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", type=Kind, default=list(Kind), metavar="KIND", help=", ".join(Kind))
    parser.add_argument("--keep", type=Path, help="a new folder, which stays")
    chosen = parser.parse_args(arguments)
    plan = Plan(files=files_of(chosen.kinds, chosen.files), seed=chosen.seed, daemon_count=chosen.daemons)
    verdict = run_anew(plan, keep=chosen.keep)
    sys.stdout.write(f"{verdict}\n")
    return 1 if verdict.complaints else 0


def files_of(kinds: Sequence[Kind], count: int) -> dict[Kind, int]:
    """Share out so many files among the kinds, or one or two more."""
    whole = sum(SHARES.get(kind, 1.0) for kind in kinds)
    return {kind: -(-int(count * SHARES.get(kind, 1.0) * 1000) // int(whole * 1000)) for kind in kinds}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
