"""One case: a process that lives until a fault or the end, and further ones until the work is done.

Each life is a fork of one process that has imported everything and started no thread. It works on folders in memory
where there are any, because a kill leaves what the page cache has, wherever that is.
"""

import asyncio
import logging
import os
import pickle
import random
import shutil
import signal
import sqlite3
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio._backends._asyncio  # or every life would do so, at the first use

from batchbox.errors import BatchboxError, ExitCode

from .doubles import install
from .judge import Outcome, require_settled, require_sound
from .points import STRUCK_FILE, Ending, Failpoints, Point, Shot
from .story import STAGES, Story

LIVES_MAX = 30
LIFE_SECONDS = 60
"""Of real time: a life that takes longer hangs."""
RESTART_SECONDS = 5.0
"""After so much of the bench's time systemd starts the service again."""
STEP_SECONDS = 0.05
WAIT_SECONDS_MAX = 10.0
BENCH_SECONDS_MAX = 600.0
"""So much of the bench's time a case may take, all faults included."""
ROUNDS_AT_ONCE = 25
ROUNDS_PER_SECOND = 3.0
"""Beyond these a stage does not wait but turn: ROUNDS_AT_ONCE, and so many more per second of the bench's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What goes wrong in each life; those after the last have no fault."""

    shots: Sequence[Shot]

    def __str__(self) -> str:
        return " ".join(map(str, self.shots))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a case ended."""

    struck: Sequence[str]
    """The faults that were met, and where."""
    killed_count: int
    violation: str | None


class Site:
    """A folder in which cases are played, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fresh = folder.with_name(f"{folder.name}-fresh")
        folder.mkdir()
        self.story = Story(folder)
        self.story.begin()
        shutil.copytree(folder, self._fresh)
        self.clean: Outcome | None = None
        self.points: Sequence[Point] = ()

    def play_clean(self) -> None:
        """Play the story without a fault, and learn its points and its ending. Raises AssertionError."""
        verdict = self.play(Case(shots=[]))
        assert verdict.violation is None, verdict.violation
        self.clean = require_settled(self.story, clean=None)
        self.points = _read_points(self._folder / "points")

    def play(self, case: Case) -> Verdict:
        """Play one case to its end."""
        shutil.rmtree(self._folder)
        shutil.copytree(self._fresh, self._folder)
        struck: list[str] = []
        killed_count = 0
        violation = None
        ending = Ending.DIED
        try:
            for life in range(LIVES_MAX):
                ending = self._live(case.shots[life] if life < len(case.shots) else None, is_first=life == 0)
                killed_count += ending is Ending.KILLED
                struck += self._struck()
                require_sound(self.story)
                if ending is Ending.SETTLED:
                    break
            assert ending is Ending.SETTLED, f"not settled after {LIVES_MAX} lives"
            require_settled(self.story, clean=self.clean)
        except (AssertionError, OSError, ValueError, KeyError, sqlite3.Error) as error:
            struck += self._struck()
            violation = f"{str(case) or 'no fault'} ({'; '.join(struck)}): {type(error).__name__}: {error}"
        return Verdict(struck=struck, killed_count=killed_count, violation=violation)

    def _live(self, shot: Shot | None, *, is_first: bool) -> Ending:
        process = os.fork()
        if process == 0:
            _be_child(self.story, self._folder, shot, is_first=is_first)
        _, status = os.waitpid(process, 0)
        assert os.WIFEXITED(status), f"the process hung or was ended by signal {os.WTERMSIG(status)}"
        ending = Ending(os.WEXITSTATUS(status))
        assert ending is not Ending.BROKEN, (self._folder / "broken").read_text()
        self.story.recall()
        return ending

    def _struck(self) -> list[str]:
        path = self._folder / STRUCK_FILE
        if not path.exists():
            return []
        text = path.read_text()
        path.unlink()
        return [text]


def _be_child(story: Story, folder: Path, shot: Shot | None, *, is_first: bool) -> None:
    """Live, and leave with the ending as the exit code. Never returns."""
    ending = Ending.BROKEN
    try:
        signal.alarm(LIFE_SECONDS)
        logging.disable()
        random.seed(0)
        story.recall()
        points = Failpoints(
            shot=shot,
            folder=folder,
            full_until=story.full_until,
            clock=lambda: story.now.monotonic,
            keep=story.keep,
        )
        install(points)
        story.workspace.failpoints = points
        if not is_first:
            story.advance(RESTART_SECONDS)
        ending = asyncio.run(_live(story, points), debug=False)
        if shot is None:
            _write_points(folder / "points", points.passed)
    except BaseException:  # noqa: BLE001 - whatever it was is told, and this process ends here
        (folder / "broken").write_text(traceback.format_exc())
        ending = Ending.BROKEN
    os._exit(ending)


async def _live(story: Story, points: Failpoints) -> Ending:
    rounds, began_at = 0, story.now.monotonic
    while True:
        due = story.now.monotonic + WAIT_SECONDS_MAX
        has_changed = rounds == 0
        for stage in STAGES:
            changes_before = points.change_count
            try:
                due = min(due, await _step(story, stage, points))
            except (OSError, sqlite3.Error, BatchboxError) as error:
                _require_restart(error, points)
                await story.stop()
                return Ending.DIED
            if points.is_stopping:
                await story.stop()
                return Ending.CANCELED
            if points.change_count > changes_before:
                story.require_invariants()
                has_changed = True
        if has_changed and story.is_settled():
            await story.stop()
            return Ending.SETTLED
        rounds += 1
        _require_patience(rounds, story.now.monotonic - began_at)
        story.advance(max(STEP_SECONDS, min(due - story.now.monotonic, WAIT_SECONDS_MAX)))


def _require_patience(rounds: int, elapsed: float) -> None:
    assert rounds <= ROUNDS_AT_ONCE + ROUNDS_PER_SECOND * elapsed, f"{rounds} rounds in {elapsed:.1f} s"
    assert elapsed < BENCH_SECONDS_MAX, f"not settled after {elapsed:.0f} s"


async def _step(story: Story, stage: str, points: Failpoints) -> float:
    """Let a stage take one step, which a fault may cancel."""
    due = story.now.monotonic
    points.step_is_over.clear()
    points.call_in_loop = asyncio.get_running_loop().call_soon_threadsafe
    with anyio.CancelScope() as scope:
        points.stop = scope.cancel
        due = await story.take_step(stage)
    points.step_is_over.set()
    points.group_is_over.wait()  # a thread that was left behind in the middle of something goes on to its end
    return due


def _write_points(path: Path, points: Sequence[Point]) -> None:
    path.write_bytes(pickle.dumps(list(points)))


def _read_points(path: Path) -> Sequence[Point]:
    points: Sequence[Point] = pickle.loads(path.read_bytes())  # noqa: S301 - our own, of a moment ago
    return points


def _require_restart(error: Exception, points: Failpoints) -> None:
    """Make sure that what ends the process is the fault, and that the service would be started again."""
    if isinstance(error, BatchboxError):
        assert error.exit_code not in {ExitCode.PERMISSION, ExitCode.CONFIGURATION}, f"stopped for good: {error}"
    is_faulty = points.struck or any(until > points.clock() for until in points.full_until.values())
    assert is_faulty, f"died without a fault: {error!r}"
