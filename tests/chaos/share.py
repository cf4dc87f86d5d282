"""The shared folder: writers reach it always, as on the file server; to the daemons it goes away and comes back.

Where mounting is allowed, the root is a mount of the folder, and without it an empty directory, which is what a share
looks like that is not mounted. Elsewhere the folder is renamed and an empty one stands in its place.
"""

import os
import subprocess
from pathlib import Path


class Share:
    """The folder on its server, and the root as the daemons see it."""

    def __init__(self, place: Path) -> None:
        self.root = place / "root"
        self._away = place / "away"
        self.is_mount = os.geteuid() == 0 and _can_mount(place)
        self.root.mkdir()
        self.folder = self._away if self.is_mount else self.root
        """Where the folder is for the server, and for whoever has opened it before it goes away."""
        if self.is_mount:
            self._away.mkdir()
            self.come_back()

    def go_away(self) -> None:
        """Leave an empty folder in the root's place."""
        if self.is_mount:
            _run("umount", "-l", str(self.root))
            return
        self.root.rename(self._away)
        self.root.mkdir()

    def come_back(self) -> None:
        """Be there again."""
        if self.is_mount:
            _run("mount", "--bind", str(self._away), str(self.root))
            return
        self.root.rmdir()
        self._away.rename(self.root)

    def close(self) -> None:
        """Leave no mount behind."""
        if self.is_mount:
            subprocess.run(["umount", "-l", self.root], capture_output=True, check=False)


def _can_mount(place: Path) -> bool:
    one, other = place / "try", place / "tried"
    one.mkdir()
    other.mkdir()
    done = subprocess.run(["mount", "--bind", one, other], capture_output=True, check=False)
    if done.returncode == 0:
        _run("umount", str(other))
    one.rmdir()
    other.rmdir()
    return done.returncode == 0


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
