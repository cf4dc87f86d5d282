"""What a daemon costs that has nothing to do: CPU time a second, with an empty inbox and with 10,000 files in it.

They wait because as many requests are pending as may be, or because nobody knows their type; waits are those of the
defaults.
"""

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from .place import Place, daemon_command, drop_files, environment, make_place, simulated, table

INBOX: Mapping[str, object] = {"quiet": "2s", "rescan": "30s"}
SHARE: Mapping[str, object] = {"quiet": "10s", "rescan": "5s", "detection": "scan"}
SECONDS = 60.0
WARM_UP_SECONDS = 120.0
"""Files that do not change are looked at in less and less of a hurry."""
COUNT = 10_000


def main(parent: Path) -> None:
    """Print the CPU time a second over a minute, for each inbox; all daemons run at once."""
    with simulated() as base_url:
        places = {
            "nothing": make_place(parent, base_url, inbox=INBOX),
            "more than may be pending": _place(parent, base_url, extension="md", inbox={**INBOX, "max_pending": 1}),
            "of no known type": _place(parent, base_url, extension="doc", inbox=INBOX),
            "of no known type, on a share": _place(parent, base_url, extension="doc", inbox=SHARE),
        }
        daemons = [subprocess.Popen(daemon_command(place), env=environment()) for place in places.values()]
        time.sleep(WARM_UP_SECONDS)
        before = [_cpu_seconds(daemon.pid) for daemon in daemons]
        time.sleep(SECONDS)
        after = [_cpu_seconds(daemon.pid) for daemon in daemons]
        resident = [_resident_mb(daemon.pid) for daemon in daemons]
        for daemon in daemons:
            daemon.terminate()
            daemon.wait()
    rows = [
        [what, (end - start) / SECONDS * 1000, memory]
        for what, start, end, memory in zip(places, before, after, resident, strict=True)
    ]
    table(f"idle, over {SECONDS:.0f} s", ["in the inbox", "CPU ms/s", "resident MB"], rows)


def _place(parent: Path, base_url: str, *, extension: str, inbox: Mapping[str, object]) -> Place:
    place = make_place(parent, base_url, inbox=inbox, window={"max_wait": "1h"})
    drop_files(place, COUNT, extension=extension)
    return place


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of the process, threads that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024 / 1_000_000
