"""Run benchmarks by name: in tests/, `python -m bench cycle`. Without a name it lists them.

They are for a machine that does nothing else, and are no tests: only ratios within one table mean anything.
"""

import sys
import tempfile
from pathlib import Path

from . import create, cycle, idle, intake, results, scan, startup

BENCHMARKS = {
    "cycle": cycle.main,
    "results": results.main,
    "intake": intake.main,
    "idle": idle.main,
    "scan": scan.main,
    "create": create.main,
    "startup": startup.main,
}


def main(names: list[str]) -> int:
    """Run the named benchmarks, one after the other."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown or not names:
        print(f"usage: python -m bench NAME...   with any of {', '.join(BENCHMARKS)}", file=sys.stderr)  # noqa: T201 - what it says is its purpose
        return 2
    for name in names:
        parent = Path(tempfile.mkdtemp(prefix=f"batchbox-bench-{name}-"))
        BENCHMARKS[name](parent)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
