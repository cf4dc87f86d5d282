"""One bench on two disks, from the drop to the verdict: the workspace outside, what dies, the onlooker, the judge."""

import asyncio
import json
import pickle
import re
import shutil
import signal
import sqlite3
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from batchbox.model import Now
from batchbox.naming import parse_wire_id
from pipeline import invariants
from pipeline.bench import INSTANCE, Bench, BenchApi
from pipeline.fake_api import FakeBatch, Reply

from .powercut_disk import Disk
from .telling import said
from .tracing import Point, trace

LANE = "reports"
FILES = {
    "a.md": "first question",
    "b.json": json.dumps(
        {"requests": [{"messages": [{"role": "user", "content": word}]} for word in ("two", "three")]}
    ),
    "bad.json": "{]",
}
OUTBOX = {f"{stem}.{end}" for stem in ("a", "b-1", "b-2") for end in ("md", "result.json")}
LANE_OUTBOX = {"c.md", "c.result.json"}
REQUEST_COUNT = 4
ANSWER = re.compile(rb"answer to [0-9a-f]{64}\n?")
DOWN_SECONDS = 600
"""How long the machine is down, by the bench's clocks."""


class Story(StrEnum):
    """What happens besides the cut."""

    PLAIN = "plain"
    LOST_REPLY = "lost reply"
    """The create call takes effect, and its answer never comes."""


class Workspace(BenchApi):
    """The fake workspace, outside of the machine: what it sold stays sold."""

    def __init__(self, bench: Bench, ledger: Path) -> None:
        super().__init__(lambda: bench.now.wall)
        self._ledger = ledger

    def _add(self, requests: dict[str, bytes]) -> FakeBatch:
        batch = super()._add(requests)
        with self._ledger.open("ab") as ledger:
            pickle.dump(batch, ledger)
        return batch

    def remember(self) -> None:
        """Read what was sold, by whatever process."""
        self.batches = [*_pickled(self._ledger)]
        if self.batches:
            self.replies.clear()


def _pickled(path: Path) -> Iterator[FakeBatch]:
    with path.open("rb") as file:
        while file.peek(1):
            yield pickle.load(file)  # noqa: S301 - written above


class Machine:
    """The two disks, one for the folders and one for the database, cut at the same moment."""

    def __init__(self, folder: Path, *, file_system: str) -> None:
        self.disks = [Disk(folder / name, file_system=file_system) for name in ("shared", "local")]
        self.shared, self.local = (disk.path for disk in self.disks)
        self.is_cut = False

    @contextmanager
    def on(self) -> Iterator[None]:
        """Have the power on while the block runs."""
        self.is_cut = False
        shared, local = self.disks
        with shared.mounted(), local.mounted():
            yield

    def cut(self) -> bool:
        """Cut the power; return that it is."""
        if not self.is_cut:
            for disk in self.disks:
                disk.cut()
        self.is_cut = True
        return True


class PlainBench(Bench):
    """A bench that leaves the judging to those outside."""

    async def step(self, stage: str) -> float:
        """Let one stage take one step."""
        if self.stages is None:
            await self.start()
        step: Callable[[Now], Awaitable[float]] = getattr(self.stages, stage).step
        return await step(self.now)


class Trial:
    """One bench on the machine, from the drop to the verdict. The power is on around each of its methods."""

    def __init__(self, machine: Machine, outside: Path, story: Story) -> None:
        self._machine = machine
        self._outside = outside
        self._trouble = outside / "trouble"
        shutil.rmtree(outside, ignore_errors=True)
        outside.mkdir()
        (outside / "ledger").touch()
        self.bench = self._bench()
        self._workspace = Workspace(self.bench, outside / "ledger")
        self.bench.api = self._workspace
        self._drop(story)
        for disk in machine.disks:
            disk.flush()

    def _bench(self) -> Bench:
        """Make a bench whose root is on one disk and whose state is on the other."""
        folder, root = self._machine.local / "bench", self._machine.shared / "root"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(root, ignore_errors=True)
        folder.mkdir()
        root.mkdir()
        (folder / "root").symlink_to(root)
        return PlainBench(folder)

    def _drop(self, story: Story) -> None:
        for name, text in FILES.items():
            self.bench.drop(name, text)
        self.bench.drop("c.txt", "in a lane", lane=LANE)
        if story is Story.LOST_REPLY:
            self.bench.api.replies.append(Reply.LOSE)

    def live(self, at: Callable[[Point], bool], *, alarm_seconds: float = 0.0) -> str | None:
        """Run until settled, or until the power is cut; return what went wrong by itself."""
        self._trouble.write_text("")
        signal.signal(signal.SIGALRM, lambda *_: self._machine.cut())
        signal.setitimer(signal.ITIMER_REAL, alarm_seconds)
        code = trace(self._life, lambda point: self._machine.is_cut or at(point))
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        self._workspace.remember()
        self.bench.advance(DOWN_SECONDS)
        if self._machine.is_cut or code == 0:
            return None
        return f"a life without a cut ended with {code}: {self._trouble.read_text()[-600:]}"

    def _life(self) -> int:
        """Be the process that dies."""
        try:
            asyncio.run(settle(self.bench))
        except BaseException:  # noqa: BLE001 - it is told in the verdict
            self._trouble.write_text(traceback.format_exc())
            return 1
        return 0

    def look(self) -> str | None:
        """Look at what the cut has left, before anybody mends it; return what is against a promise."""
        return _complaint_of(self._observe)

    def _observe(self) -> None:
        _check_answers_are_whole(self.bench)
        _check_manifests(self.bench)
        copy = self._outside / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.bench.state, copy)
        if _has_schema(copy / "batchbox.db"):
            with invariants.stranger(copy) as ask:
                invariants.check(self.bench.root, ask, self.bench.api, self.bench.dropped, replaces_old=False)
        else:
            assert not self.bench.api.bought, "there is no database, and something was bought"
            invariants._check_files(self.bench.root, self.bench.dropped)

    def judge(self) -> str | None:
        """Judge the end by the ledger and the folders; return what is against a promise."""
        return self.look() or _complaint_of(lambda: _check_end(self.bench))


def _complaint_of(check: Callable[[], None]) -> str | None:
    try:
        check()
    except (AssertionError, OSError, ValueError, sqlite3.Error) as error:
        return said(error)
    return None


def _check_answers_are_whole(bench: Bench) -> None:
    for path in (bench.root / "outbox").rglob("*.md"):
        if not path.name.startswith("."):
            assert ANSWER.fullmatch(path.read_bytes()), f"{path.name} is torn: {path.read_bytes()!r}"
    for path in (bench.root / "outbox").rglob("*.result.json"):
        text = path.with_name(path.name.replace(".result.json", ".md"))
        assert text.exists(), f"{path.name} is there before its text"


def _check_manifests(bench: Bench) -> None:
    """Check that what was bought has a manifest, whole: it is durable before the call."""
    folder = bench.root / ".batchbox" / "batches" / INSTANCE
    for batch in bench.api.batches:
        parsed = parse_wire_id(next(iter(batch.requests)))
        assert parsed is not None
        nonce, _ = parsed
        found = [path for path in folder.glob(f"{nonce}.jsonl*") if path.read_bytes().endswith(b"\n")]
        assert found, f"bought, and the manifest of {nonce} is not there"
        lines = found[0].read_bytes().splitlines()
        assert len(lines) == 1 + len(batch.requests), f"the manifest of {nonce} is torn"


def _has_schema(path: Path) -> bool:
    if not path.exists():
        return False
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",), "the database is damaged"
        return bool(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def _check_end(bench: Bench) -> None:
    twice = [sha for sha, count in Counter(bench.api.bought).items() if count > 1]
    assert not twice, f"paid for more than once: {twice}"
    assert len(bench.api.bought) == REQUEST_COUNT, f"bought {len(bench.api.bought)} of {REQUEST_COUNT}"
    _check_answers_are_whole(bench)
    assert set(bench.outbox()) == OUTBOX, f"outbox: {sorted(bench.outbox())}"
    assert set(bench.outbox(LANE)) == LANE_OUTBOX, f"outbox/{LANE}: {sorted(bench.outbox(LANE))}"
    originals = {path.name: path.read_bytes() for path in (bench.root / "done").rglob("*") if path.is_file()}
    expected = {Path(name).name: content for name, content in bench.dropped.items() if name != "bad.json"}
    assert originals == expected, f"done: {sorted(originals)}, or other content"
    rejected = bench.root / "rejected"
    assert {path.name for path in rejected.iterdir()} - {LANE} == {"bad.json", "bad.json.error.txt"}
    assert (rejected / "bad.json").read_bytes() == bench.dropped["bad.json"]
    explanation = (rejected / "bad.json.error.txt").read_bytes()
    assert explanation.startswith(b"Not processed:"), "the explanation is torn"
    assert not [*(bench.root / "outbox").rglob(".bb-*")], "parts were left behind"


async def settle(bench: Bench) -> None:
    """Let a process do all there is to do, and end."""
    await bench.settle()
    await bench.stop()
