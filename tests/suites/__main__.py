"""Runs the suites whole and writes what they found into `tests/README.md`.

cd tests && python -m suites            every suite, in its long form; the table is written
cd tests && python -m suites crash api  some of them; the table keeps the other rows
cd tests && python -m suites --short    as the tests run them; the table is left alone
"""

import argparse
import importlib
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from .record import Record, Size
from .table import write_table

SUITES = ("model", "failpoints", "blackbox", "powercut", "errors", "api")
README = Path(__file__).parents[1] / "README.md"

Run = Callable[[Size, Path], Record]


def main() -> int:
    """Run what was asked for; return 1 if anything was found or not run."""
    parser = argparse.ArgumentParser(prog="python -m suites", description="Try to break batchbox.")
    parser.add_argument("names", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; without any, all")
    parser.add_argument("--short", action="store_true", help="the sample that the tests run; the table is left alone")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(SUITES)
    if unknown:
        parser.error(f"there is no suite {', '.join(sorted(unknown))}")
    size = Size.SHORT if arguments.short else Size.LONG
    records = run_all(arguments.names or SUITES, size)
    if size is Size.LONG:
        write_table(README, records, day=datetime.now(UTC).date(), machine=_machine())
    return 0 if all(record.is_clean for record in records) else 1


def run_all(names: Sequence[str], size: Size) -> list[Record]:
    """Run the suites one after the other, saying what each found."""
    records = []
    for name in names:
        run: Run = importlib.import_module(f"{__package__}.{name}").run
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"batchbox-{name}-") as folder:
            record = run(size, Path(folder))
        record = replace(record, seconds=time.monotonic() - started)
        sys.stdout.write(f"{record.complaint()}  ({dict(record.tried)}, {record.seconds:.0f} s)\n")
        sys.stdout.flush()
        records.append(record)
    return records


def _machine() -> str:
    return f"{platform.system()} {platform.release()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
