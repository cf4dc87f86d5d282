"""Fuzz the parsers for long: in tests/, `python -m hostile 1000000` tries so many files."""

import sys

from .fuzzing import IN_PIECES, UNDERSTOOD, fuzz


def main(arguments: list[str]) -> int:
    """Fuzz, or say how."""
    if len(arguments) != 1 or not arguments[0].isdecimal():
        print("usage: python -m hostile COUNT   of files to try", file=sys.stderr)  # noqa: T201 - what it says is its purpose
        return 2
    found = fuzz(int(arguments[0]))
    pieces = found.pop(IN_PIECES)
    understood = found.pop(UNDERSTOOD, 0)
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in found.most_common())
    print(  # noqa: T201 - as above
        f"tried {understood + found.total():,} files: {understood:,} were understood, {found.total():,} rejected "
        f"({rejected}); tried {pieces:,} files in pieces. Nothing broke a promise."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
