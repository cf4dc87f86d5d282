"""One trial: real stages at work on real folders when calls begin to fail; after half an hour they are cured.

Time is pushed from one due step to the next, as the drive loops would wait, bells included.
`python -m suites.errors_trial FOLDER NAME…` runs in a process of its own, so that a planted mistake is what it imports.
"""

import asyncio
import errno
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import batchbox
from batchbox.config import parse_settings
from batchbox.service.driving import Patient
from batchbox.service.signs import Bell
from pipeline.bench import SETTINGS, Bench

from .errors_faults import CALLS, ONLY_IN, Fault, empty, fill, installed
from .telling import said

NUMBERS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EMFILE)
FULL_DATABASE = "database:FULL"
LITTLE_ROOM = "room:little"

STAGES = ("intake", "dispatch", "polling", "delivery")
LONG_SECONDS = 900.0
"""Long enough for every back-off to have grown as far as it goes."""
CURED_SECONDS = 60.0
STEPS_AT_ONCE_MAX = 40
STEPS_PER_SECOND_MAX = 0.5
"""Of one stage, over the whole of the fault."""

PATIENT_SETTINGS = (
    SETTINGS.replace("rescan = 5", "rescan = 30")
    .replace("first = 1\nmax = 5", "first = 30\nmax = 900")
    .replace("max_pending =", 'min_free = "1MB"\nmax_pending =')
)
"""What waits for the API waits as long as by default; nothing else may."""


def every_trial() -> Sequence[str]:
    """Return the names of all trials."""
    faults = [f"{call}:{errno.errorcode[number]}" for call in CALLS for number in NUMBERS]
    return [*faults, FULL_DATABASE, LITTLE_ROOM]


@dataclass(slots=True)
class _Loop:
    """One stage's drive loop: when it steps next, and how often it has."""

    stage: Patient
    bell: Bell
    due: float
    step_count: int = 0


class Trial:
    """A bench whose stages are driven, and which is judged."""

    def __init__(self, folder: Path, name: str) -> None:
        self._name = name
        self._bench = Bench(folder)
        text = PATIENT_SETTINGS.format(
            root=self._bench.root,
            state=self._bench.state,
            max_requests=100,
            max_pending=200_000,
            on_existing="suffix",
            done_days=30,
        )
        self._bench.settings = parse_settings(text, source="trial")
        call, _, number = name.partition(":")
        self._fault = Fault(
            calls=CALLS.get(call, ("statvfs",)), number=getattr(errno, number, 0), only_in=ONLY_IN.get(call, ())
        )
        self._loops: Mapping[str, _Loop] = {}
        self._was_met = False

    async def run(self) -> list[str]:
        """Return what went wrong."""
        try:
            with installed(self._fault):
                await self._run()
        except AssertionError as error:
            return [f"{self._name}: {said(error)}"]
        except Exception as error:  # noqa: BLE001 - whatever it is, a daemon would have died of it
            return [f"{self._name}: the service ended: {said(error)}"]
        finally:
            await self._bench.stop()
        return []

    async def _run(self) -> None:
        bench = self._bench
        await self._start()
        bench.drop("a.md", "first question")
        bench.drop(
            "b.json", json.dumps({"requests": [_request("two"), {"custom_id": "own", "params": _request("two")}]})
        )
        await self._go(10.0, until=lambda: bool(bench.api.bought))
        assert bench.api.bought, "nothing was sent while all was well"
        bench.drop("bad.json", "{]")
        bench.drop("c.txt", "third question " * 20_000, lane="reports")
        await self._switch(is_on=True)
        counts = {name: loop.step_count for name, loop in self._loops.items()}
        await self._go(LONG_SECONDS)
        self._judge_fault(counts)
        await self._switch(is_on=False)
        await self._go(CURED_SECONDS)
        self._judge_end()

    async def _start(self) -> None:
        bench = self._bench
        await bench.start()
        stages = bench.stages
        assert stages is not None
        bells = {
            "intake": Bell(),
            "dispatch": stages.delivery._ring_dispatch.__self__,  # type: ignore[attr-defined] # a bound method
            "polling": stages.dispatch._sender._ring_polling.__self__,  # type: ignore[attr-defined] # a bound method
            "delivery": stages.polling._ring_delivery.__self__,  # type: ignore[attr-defined] # a bound method
        }
        self._loops = {
            name: _Loop(
                stage=Patient(name, getattr(stages, name), chance=lambda: 0.0),
                bell=bells[name],
                due=bench.now.monotonic,
            )
            for name in STAGES
        }

    async def _switch(self, *, is_on: bool) -> None:
        assert self._bench.stages is not None
        if self._name == FULL_DATABASE:
            await (fill if is_on else empty)(self._bench.stages.intake._store._database)
        else:
            self._fault.is_on = is_on

    async def _go(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Push the time from one due step to the next; batches end when nobody looks."""
        bench = self._bench
        end = bench.now.monotonic + seconds
        at_once = 0
        while bench.now.monotonic < end and not until():
            loop = min(self._loops.values(), key=lambda loop: loop.due)
            if loop.due > bench.now.monotonic:
                bench.advance(min(loop.due, end) - bench.now.monotonic)
                bench.api.end_all()
                at_once = 0
                continue
            at_once += 1
            assert at_once < STEPS_AT_ONCE_MAX * len(STAGES), "a hot loop: steps without a rest"
            await self._step(loop)

    async def _step(self, loop: _Loop) -> None:
        now = self._bench.now
        loop.bell.silence()
        loop.step_count += 1
        loop.due = await loop.stage.step(now)
        for other in self._loops.values():
            if other.bell._rung.is_set():
                other.due = min(other.due, now.monotonic)

    def _judge_fault(self, before: Mapping[str, int]) -> None:
        self._was_met = self._fault.hit_count > 0 or any(loop.stage.trouble for loop in self._loops.values())
        if self._name.startswith("fsync:"):
            assert not self._delivered(), "answers are visible that may not be durable"
        if self._name == LITTLE_ROOM:
            assert set(self._bench.inbox_names()) == {"bad.json", "c.txt"}, "files were taken without room"
        most = LONG_SECONDS * STEPS_PER_SECOND_MAX
        for name, loop in self._loops.items():
            taken = loop.step_count - before[name]
            assert taken <= most, f"a hot loop: {name} took {taken} steps in {LONG_SECONDS:.0f} s"
        assert self._parts() <= 6, f"{self._parts()} parts have piled up"

    def _judge_end(self) -> None:
        bench = self._bench
        expected = {*("a.md", "a.result.json", "b-1.md", "b-1.result.json", "own.md", "own.result.json")}
        missing = {*expected, "reports/c.md", "reports/c.result.json"} - self._delivered()
        assert not missing, f"not there {CURED_SECONDS:.0f} s after the cure: {sorted(missing)[:9]}"
        assert (bench.root / "rejected" / "bad.json.error.txt").exists(), "bad.json is not explained"
        rejected = {path.name for path in (bench.root / "rejected").rglob("*") if path.is_file()}
        assert rejected == {"bad.json", "bad.json.error.txt"}, f"rejected for the disk's fault: {sorted(rejected)}"
        twice = [count for count in Counter(bench.api.bought).values() if count > 2]  # b-1 and own are alike
        assert len(bench.api.bought) == 4, f"bought {len(bench.api.bought)} times, for 4 requests"
        assert not twice, "bought twice"
        assert not self._parts(), "parts were left behind"
        assert self._was_met, "the fault was never met"

    def _delivered(self) -> set[str]:
        return {*self._bench.outbox(), *(f"reports/{name}" for name in self._bench.outbox("reports"))}

    def _parts(self) -> int:
        return len(list((self._bench.root / "outbox").rglob(".bb-*")))


def _request(words: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": words}]}


def main(folder: Path, names: Sequence[str]) -> None:
    """Make the trials one after the other; say what was imported, and then what went wrong."""
    logging.disable(logging.CRITICAL)
    sys.stdout.write(f"{batchbox.__file__}\n")
    for number, name in enumerate(names):
        place = folder / f"{number}"
        place.mkdir()
        for complaint in asyncio.run(Trial(place, name).run()):
            sys.stdout.write(complaint.replace("\n", " ") + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
