"""Points in one life of a process, and the fault that strikes at one of them.

A point lies before and after everything that changes something outside the process. Which faults can strike at a
point is the point's own; a shot strikes at the first point from its number on that knows its fault.
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path

FULL_SECONDS = 20.0
"""So long a disk stays full, by the bench's clock."""
STRUCK_FILE = "struck"


class Fault(StrEnum):
    """What goes wrong."""

    KILL = "kill"
    """The process is gone at once: nothing is closed."""
    FAIL = "fail"
    """The call fails: EIO on a disk, no answer from the API. After the call: it fails although it took effect."""
    FULL = "full"
    """The disk is full, this once."""
    STAY_FULL = "stay_full"
    """The disk is full, and stays so for a while, over restarts too."""
    CANCEL = "cancel"
    """The service is stopped and the step cancelled; a thread that is inside a call goes on to its end."""
    ABANDON = "abandon"
    """The same, but the thread that is inside the call never comes back, and dies with the process."""


class Place(StrEnum):
    """What a point's call is about."""

    ROOT = "root"
    STATE = "state"
    API = "api"


class Ending(IntEnum):
    """How a life ended: the process's exit code."""

    SETTLED = 0
    """Nothing is open any more."""
    KILLED = 11
    CANCELED = 12
    DIED = 13
    """An error that nobody caught: the service is started again."""
    BROKEN = 14
    """A promise was broken, or the service would not be started again."""


READS = (Fault.FAIL,)
CHANGES = (Fault.KILL, Fault.FAIL, Fault.CANCEL, Fault.ABANDON)
GROWS = (*CHANGES, Fault.FULL, Fault.STAY_FULL)
HAS_CHANGED = (Fault.FAIL,)
"""To die after a call is to die before the next one."""
HAS_HAPPENED = (Fault.KILL, Fault.FAIL, Fault.CANCEL)
"""Where nothing may come after the call for long."""
CALLS = (Fault.KILL, Fault.FAIL, Fault.CANCEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A fault, and from which point of a life on it strikes."""

    number: int
    fault: Fault

    def __str__(self) -> str:
        return f"{self.number}:{self.fault}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point that a life has passed."""

    number: int
    label: str
    faults: Sequence[Fault]


@dataclass(slots=True, kw_only=True)
class Failpoints:
    """The points of one life. Reached from the loop and from the root's thread, never from both at once."""

    shot: Shot | None
    folder: Path
    full_until: dict[Place, float]
    """By the bench's monotonic clock; outlives the process."""
    clock: Callable[[], float]
    keep: Callable[[], None]
    """Writes down what outlives the process."""
    stop: Callable[[], None] = lambda: None
    """Cancels the step in hand, from the loop. Written by the life, for each step, as is the next."""
    call_in_loop: Callable[[Callable[[], None]], object] = lambda call: call()
    is_stopping: bool = False
    step_is_over: threading.Event = field(default_factory=threading.Event)
    group_is_over: threading.Event = field(default_factory=threading.Event)
    """Whether the root's thread has nothing in hand. Written by that thread."""
    passed: list[Point] = field(default_factory=list)
    change_count: int = 0
    """How many of the points were about a change."""
    struck: bool = False

    def reach(self, place: Place, label: str, faults: Sequence[Fault], *, error: Callable[[Fault], Exception]) -> None:
        """Pass a point, or meet the fault there."""
        self.passed.append(Point(number=len(self.passed) + 1, label=label, faults=faults))
        self.change_count += faults is not READS
        if Fault.STAY_FULL in faults and self.clock() < self.full_until.get(place, 0.0):
            raise error(Fault.FULL)
        shot = self.shot
        if shot is None or self.struck or shot.fault not in faults or len(self.passed) < shot.number:
            return
        self.struck = True
        (self.folder / STRUCK_FILE).write_text(f"{shot.fault} at point {len(self.passed)}, {label}")
        self._strike(shot.fault, place, error)

    def _strike(self, fault: Fault, place: Place, error: Callable[[Fault], Exception]) -> None:
        match fault:
            case Fault.KILL:
                os._exit(Ending.KILLED)
            case Fault.FAIL | Fault.FULL:
                raise error(fault)
            case Fault.STAY_FULL:
                self.full_until[place] = self.clock() + FULL_SECONDS
                self.keep()
                raise error(Fault.FULL)
            case Fault.CANCEL | Fault.ABANDON:
                self._cancel(is_abandoned=fault is Fault.ABANDON)

    def _cancel(self, *, is_abandoned: bool) -> None:
        self.is_stopping = True
        if threading.current_thread() is threading.main_thread():
            self.stop()
            return
        self.call_in_loop(self.stop)
        if is_abandoned:
            self.group_is_over.set()
            threading.Event().wait()
        self.step_is_over.wait()
