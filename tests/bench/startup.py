"""How long commands take that need no API, against importing the SDK."""

import statistics
import sys
from pathlib import Path

from .place import COMMAND, make_place, measure, table

TIMES = 7


def main(parent: Path) -> None:
    """Print medians, taken in turns."""
    place = make_place(parent, "http://127.0.0.1:9")
    config = ["--config", str(place.config_file)]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import anthropic": [sys.executable, "-c", "import anthropic"],
        "batchbox --help": [str(COMMAND), "--help"],
        "batchbox status": [str(COMMAND), "status", *config],
        "batchbox config": [str(COMMAND), "config", *config],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    peaks: dict[str, float] = {}
    codes: dict[str, int] = {}
    for _ in range(TIMES):
        for name, command in commands.items():
            took, _ = measure(command, log_file=parent / "startup.log")
            taken[name].append(took.wall_seconds)
            peaks[name], codes[name] = took.peak_mb, took.exit_code
    sdk = statistics.median(taken["import anthropic"])
    rows = [
        [name, statistics.median(seconds), statistics.median(seconds) / sdk, peaks[name], codes[name]]
        for name, seconds in taken.items()
    ]
    table("start-up", ["", "s", "of import anthropic", "peak MB", "exit code"], rows)
