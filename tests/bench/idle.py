"""What a daemon costs that has nothing to do: CPU time a second, with an empty inbox and with 10,000 files waiting.

The files wait because as many requests are pending as may be; waits are those of the defaults.
"""

import os
import subprocess
import time
from pathlib import Path

from .place import Place, daemon_command, drop_files, environment, make_place, simulated, table

SECONDS = 60.0
WARM_UP_SECONDS = 15.0
COUNTS = (0, 10_000)


def main(parent: Path) -> None:
    """Print the CPU time a second over a minute, for each inbox; all daemons run at once."""
    with simulated() as base_url:
        places = [_place(parent, base_url, count) for count in COUNTS]
        daemons = [subprocess.Popen(daemon_command(place), env=environment()) for place in places]
        time.sleep(WARM_UP_SECONDS)
        before = [_cpu_seconds(daemon.pid) for daemon in daemons]
        time.sleep(SECONDS)
        after = [_cpu_seconds(daemon.pid) for daemon in daemons]
        resident = [_resident_mb(daemon.pid) for daemon in daemons]
        for daemon in daemons:
            daemon.terminate()
            daemon.wait()
    rows = [
        [count, (end - start) / SECONDS * 1000, memory]
        for count, start, end, memory in zip(COUNTS, before, after, resident, strict=True)
    ]
    table(f"idle, over {SECONDS:.0f} s", ["files waiting", "CPU ms/s", "resident MB"], rows)


def _place(parent: Path, base_url: str, count: int) -> Place:
    inbox = {"quiet": "2s", "rescan": "30s", "max_pending": 1}
    place = make_place(parent, base_url, inbox=inbox, window={"max_wait": "1h"})
    drop_files(place, count)
    return place


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of the process, threads that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024 / 1_000_000
