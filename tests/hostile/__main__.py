"""Fuzz the parsers for long: in tests/, `python -m hostile 1000000` tries so many files."""

import sys

from .fuzzing import fuzz


def main(arguments: list[str]) -> int:
    """Fuzz, or say how."""
    if len(arguments) != 1 or not arguments[0].isdecimal():
        print("usage: python -m hostile COUNT   of files to try", file=sys.stderr)  # noqa: T201 - what it says is its purpose
        return 2
    fuzz(int(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
