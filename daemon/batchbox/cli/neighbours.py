"""Looks who else is on the root, for commands that write nothing there and wait for no share that hangs."""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

from batchbox.errors import RootOfflineError
from batchbox.folders.root import open_root
from batchbox.folders.takeover import Neighbour, neighbours
from batchbox.model import Instance

LOOK_SECONDS_MAX = 5.0


class Neighbourhood:
    """Who else is on a root, as far as it tells.

    It is asked in a thread, which is left behind if the root does not answer: the next question waits for that one.
    """

    def __init__(self, root: Path, *, seconds_max: float = LOOK_SECONDS_MAX) -> None:
        self._root = root
        self._seconds_max = seconds_max
        self._asked: Future[Sequence[Neighbour] | None] | None = None  # a question that has no answer yet

    def orphans(self, own: str | None) -> Sequence[Neighbour] | None:
        """Return the others that have left work behind or cannot be looked at; None: nobody knows of any."""
        if self._asked is None:
            self._asked = Future()
            look = Thread(
                target=_answer, args=(self._asked, self._root, own), daemon=True, name=f"look at {self._root}"
            )
            look.start()
        try:
            found = self._asked.result(self._seconds_max)
        except TimeoutError:
            return None
        self._asked = None
        return found


def orphans_on(root: Path, own: str | None) -> Sequence[Neighbour] | None:
    """Return what `Neighbourhood.orphans` does, for as long as it may take."""
    try:
        with open_root(root) as descriptor:
            found = neighbours(descriptor, None if own is None else Instance(own))
    except (OSError, RootOfflineError):
        return None
    return [one for one in found if one.is_orphaned or one.unreadable is not None]


def _answer(asked: "Future[Sequence[Neighbour] | None]", root: Path, own: str | None) -> None:
    try:
        asked.set_result(orphans_on(root, own))
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
        asked.set_exception(error)
