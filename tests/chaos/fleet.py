"""The daemons: each on a machine of its own, killed and started again, and none of them may end by itself."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from e2e.machines import Machine
from e2e.site import Daemon, until
from forking import ForkServer

from .share import Share
from .writers import QUIET_SECONDS, WINDOW_SECONDS

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "window": {"max_wait": WINDOW_SECONDS},
    "poll": {"first": 0.3, "max": 1},
    "inbox": {"quiet": QUIET_SECONDS, "rescan": 0.3, "incomplete_after": 120, "min_free": "1MB"},
    "retry": {"first": 0.1, "max": 0.5},
    "log": {"level": "info", "format": "json"},
}
START_SECONDS = 30.0
STOP_SECONDS = 30.0


class Fleet:
    """Several daemons on one root."""

    def __init__(self, count: int, place: Path, share: Share, *, api: Mapping[str, object], forks: ForkServer) -> None:
        self._machines = [
            Machine(place / f"machine-{number}", root=share.root, forks=forks, settings={**SETTINGS, "api": api})
            for number in range(count)
        ]
        self._daemons: list[Daemon] = []
        self.kill_count = 0
        self.complaints: list[str] = []

    @property
    def size(self) -> int:
        """The number of machines."""
        return len(self._machines)

    async def start(self) -> None:
        """Start every daemon, and wait until each is at home on the root."""
        self._daemons = [machine.start() for machine in self._machines]
        for daemon in self._daemons:
            await daemon.says("started", seconds=START_SECONDS)

    async def kill(self, number: int, *, away_seconds: float) -> None:
        """Kill one, and start it again after a while."""
        self._note_end(number)
        await self._daemons[number].kill()
        self.kill_count += 1
        await asyncio.sleep(away_seconds)
        self._daemons[number] = self._machines[number].start()

    async def stop(self) -> None:
        """Stop every daemon in good order; what has ended by itself, or badly, is a complaint."""
        for number, daemon in enumerate(self._daemons):
            if not self._note_end(number):
                await daemon.says("started", seconds=START_SECONDS)  # else it does not know yet what is asked of it
                code = await daemon.stop()
                if code != 0:
                    self.complaints.append(f"daemon {number} stopped with {code}: {daemon.log[-2000:]}")
        for machine in self._machines:
            if "Traceback" in machine.logs:
                self.complaints.append(f"a traceback: {machine.logs.partition('Traceback')[2][:2000]}")

    async def end(self) -> None:
        """Let none run on, whatever happened."""
        for daemon in self._daemons:
            await daemon.kill()

    def _note_end(self, number: int) -> bool:
        daemon = self._daemons[number]
        if daemon.is_running:
            return False
        self.complaints.append(f"daemon {number} ended by itself: {daemon.log[-2000:]}")
        return True


async def settle(root: Path, *, seconds: float) -> None:
    """Wait until nothing lies in the inbox or in processing/ any more."""
    await until(lambda: not _left(root), f"nothing is left in {root}: {_left(root)[:10]}", seconds=seconds)


def _left(root: Path) -> list[str]:
    found = [path for path in root.glob("inbox/**/*") if path.is_file()] + list(root.glob("processing/*/*/*"))
    return sorted(str(path.relative_to(root)) for path in found)
