"""The bench: real store, real folders, real stages, a fake workspace, a clock that is pushed, and a power switch.

The bench checks its invariants after every step, so that no test has to remember them. `crash_at(n)` makes the n-th
*point* raise Crash: a point lies before and after every group of folder operations, every transaction and every call
of the API, which is where a real process can die with something half done. After a crash the process is started anew
from what is on disk, by the same code that starts it the first time.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from batchbox.api import ApiTrouble, BatchBody, BatchesApi, CreateOutcome
from batchbox.config import Settings, parse_settings
from batchbox.folders.layout import Presence, make_root
from batchbox.folders.root import Root, open_root, read_identity
from batchbox.model import Instance, Now
from batchbox.service.ground import Ground
from batchbox.service.signs import Bell, Bells
from batchbox.service.wiring import Stages, wire
from batchbox.store import assemble
from batchbox.store.database import Database, Transaction, open_database
from batchbox.store.meta import Fact
from batchbox.store.verifying import HAS_NO_ROW

from .fake_api import FakeApi
from .invariants import check, stranger

T = TypeVar("T")

INSTANCE = Instance("bench-00000001")
_WAITED_FOR = f"SELECT 1 FROM unsettled WHERE is_still = 0 OR {HAS_NO_ROW}"  # noqa: S608 - our own constant
STEPS_MAX = 400
STAGES = ("intake", "orders", "dispatch", "polling", "delivery")

SETTINGS = """
[paths]
root = "{root}"
state = "{state}"
[api]
grace = 60
[window]
max_wait = 1
max_requests = {max_requests}
[poll]
first = 1
max = 10
[inbox]
quiet = 1
rescan = 5
incomplete_after = 5
max_pending = {max_pending}
[defaults]
model = "claude-opus-5-5"
[retry]
first = 1
max = 5
[outbox]
on_existing = "{on_existing}"
[retention]
done_days = {done_days}
"""


class Crash(BaseException):
    """The process dies here."""


@dataclass(slots=True)
class Points:
    """Counts the points that are passed, and is the power switch."""

    passed: int = 0
    crash_at: int | None = None
    labels: list[str] = field(default_factory=list)

    def pass_by(self, label: str) -> None:
        """Pass a point, or die at it."""
        self.passed += 1
        self.labels.append(label)
        if self.crash_at is not None and self.passed >= self.crash_at:
            raise Crash(label)


class BenchRoot(Root):
    """The real root, with a point before and after every group of operations."""

    def __init__(self, path: Path, *, identity: str, points: Points) -> None:
        super().__init__(path, identity=identity)
        self._points = points

    async def run(self, work: Callable[[int], T]) -> T:
        self._points.pass_by(f"before {work.__qualname__}")
        result = await super().run(work)
        self._points.pass_by(f"after {work.__qualname__}")
        return result


class BenchDatabase(Database):
    """The real database, with a point before and after every commit."""

    def __init__(self, database: Database, points: Points) -> None:
        super().__init__(writer=database._writer, reader=database._reader, path=database.path)
        self._points = points

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as transaction:
            yield transaction
            self._points.pass_by("before commit")
        self._points.pass_by("after commit")


class BenchApi(FakeApi):
    """The fake workspace, with a point before and after a create call."""

    def __init__(self, wall: Callable[[], datetime]) -> None:
        super().__init__(wall)
        self.points = Points()

    async def create(self, body: BatchBody, *, betas: object) -> CreateOutcome:
        self.points.pass_by("before create")
        outcome = await super().create(body, betas=betas)  # type: ignore[arg-type] # passed through as it came
        self.points.pass_by("after create")
        return outcome


class Bench:
    """One root, one state folder, one workspace, and at most one process at work on them."""

    def __init__(
        self,
        folder: Path,
        *,
        max_requests: int = 100,
        max_pending: int = 200_000,
        on_existing: str = "suffix",
        done_days: int = 30,
    ) -> None:
        self.root = folder / "root"
        self.state = folder / "state"
        self.state.mkdir()
        make_root(self.root)
        self.settings: Settings = parse_settings(
            SETTINGS.format(
                root=self.root,
                state=self.state,
                max_requests=max_requests,
                max_pending=max_pending,
                on_existing=on_existing,
                done_days=done_days,
            ),
            source="bench",
        )
        self._home = self.settings.api.base_url
        self._monotonic = 1000.0
        self._wall = datetime(2026, 8, 1, tzinfo=UTC)
        self.api = BenchApi(lambda: self._wall)
        self.key_hash = b"key"
        """Of the key that the next process has."""
        self.dropped: dict[str, bytes] = {}
        self.stages: Stages | None = None
        self._process = AsyncExitStack()
        self._onlooker: sqlite3.Connection | None = None

    @property
    def points(self) -> Points:
        """The points of the process at work."""
        return self.api.points

    def drop(self, name: str, content: str | bytes, *, lane: str | None = None) -> Path:
        """Put a file into the inbox, or into a lane's folder there."""
        folder = self.root / "inbox" if lane is None else self.root / "inbox" / lane
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.dropped[path.relative_to(self.root / "inbox").as_posix()] = path.read_bytes()
        return path

    def drop_sign(self, name: str, *, lane: str | None = None) -> Path:
        """Put an empty file into the inbox that is obeyed and deleted, not kept: `.cancel` or `.ready`."""
        folder = self.root / "inbox" if lane is None else self.root / "inbox" / lane
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
        return folder / name

    def advance(self, seconds: float) -> None:
        """Push both clocks."""
        self._monotonic += seconds
        self._wall += timedelta(seconds=seconds)

    @property
    def now(self) -> Now:
        """What the clocks say."""
        return Now(wall=self._wall, monotonic=self._monotonic)

    async def start(self) -> None:
        """Start a process from what is on disk."""
        with open_root(self.root) as descriptor:
            identity = read_identity(descriptor)
        assert identity is not None
        database = BenchDatabase(await self._process.enter_async_context(open_database(self.state)), self.points)
        store = assemble(database)
        root = BenchRoot(self.root, identity=identity, points=self.points)
        presence = Presence(root, INSTANCE)
        if await store.meta.get(Fact.ESTABLISHED) is None:
            await presence.establish()
            await store.meta.get_or_record(Fact.ESTABLISHED, lambda: "yes")
        ground = Ground(instance=INSTANCE, root=root, presence=presence, store=store)
        self.bells = Bells(intake=Bell(), dispatch=Bell(), polling=Bell(), delivery=Bell())
        api: BatchesApi = self.api
        self.stages = wire(
            self.settings,
            ground,
            api,
            key_hash=self.key_hash,
            bells=self.bells,
            keep_going=lambda: True,
            clock=lambda: self.now,
            watch=lambda _: None,
        )

    async def stop(self) -> None:
        """End the process: what it had in memory is gone."""
        self.stages = None
        if self._onlooker is not None:
            self._onlooker.close()
            self._onlooker = None
        await self._process.aclose()
        self._process = AsyncExitStack()

    def move_to_other(self, what: str) -> None:
        """Let the next process find another address or organisation, where nothing is known of ours."""
        if what == "base_url":
            self._configure(base_url="https://elsewhere.example")
        else:
            self.api.organization_id = "org_other"

    def return_home(self) -> None:
        """Let the next process find everything where it was."""
        self._configure(base_url=self._home)
        self.api.organization_id = "org_fake"

    def _configure(self, *, base_url: str) -> None:
        api = self.settings.api.model_copy(update={"base_url": base_url})
        self.settings = self.settings.model_copy(update={"api": api})

    async def restart(self) -> None:
        """End the process and start another."""
        await self.stop()
        await self.start()

    async def step(self, stage: str) -> float:
        """Let one stage take one step, and check every invariant."""
        if self.stages is None:
            await self.start()
        stages = self.stages
        assert stages is not None
        step: Callable[[Now], Awaitable[float]] = getattr(stages, stage).step
        due = await step(self.now)
        replaces_old = self.settings.outbox.on_existing == "replace"
        check(self.root, self.rows, self.api, self.dropped, replaces_old=replaces_old)
        return due

    async def step_all(self) -> float:
        """Let every stage take one step; return when the next is due."""
        return min([await self.step(stage) for stage in STAGES])

    async def settle(self, *, end_batches: bool = True, restart_each_step: bool = False) -> None:
        """Go on, clocks and all, until nothing is open any more."""
        for _ in range(STEPS_MAX):
            due = await self.step_all()
            if end_batches:
                self.api.end_all()
            if self.is_settled():
                return
            if restart_each_step and not self.inbox_names():
                await self.restart()
            self.advance(max(0.05, min(due - self._monotonic, 10.0)))
        left = self.rows("SELECT custom_id, state FROM requests")
        raise AssertionError(f"not settled after {STEPS_MAX} rounds: {left}")

    def inbox_names(self) -> list[str]:
        """Return the files in the inbox and its lanes."""
        return [path.name for path in (self.root / "inbox").rglob("*") if not path.is_dir()]

    def is_settled(self) -> bool:
        """Say whether every file has found its place and no request is open."""
        states = {state for (state,) in self.rows("SELECT DISTINCT state FROM sources")}
        open_requests = self.rows(
            "SELECT 1 FROM requests WHERE state IN ('incoming', 'waiting', 'batched', 'failing') LIMIT 1"
        )
        is_waiting = bool(open_requests or self.rows(_WAITED_FOR))
        return not self.inbox_names() and states <= {"done", "rejected"} and not is_waiting and not self._unclaimed()

    def _unclaimed(self) -> bool:
        own = self.root / "processing" / INSTANCE
        return any(path.name != ".heartbeat" for path in own.rglob("*") if path.is_file())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:  # Any: what SQLite can hold
        """Ask the database as a stranger would, who stays for as long as the process at work does."""
        if self.stages is not None:
            self._onlooker = self._onlooker or sqlite3.connect(self.state / "batchbox.db")
            return self._onlooker.execute(sql).fetchall()
        with stranger(self.state) as ask:
            return ask(sql)

    def outbox(self, lane: str | None = None) -> Mapping[str, bytes]:
        """Return the visible files of an outbox."""
        folder = self.root / "outbox" if lane is None else self.root / "outbox" / lane
        if not folder.exists():
            return {}
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name[0] != "."}

    def document(self, name: str, lane: str | None = None) -> dict[str, object]:
        """Return a `.result.json` or `.error.json`."""
        document: dict[str, object] = json.loads(self.outbox(lane)[name])
        return document


__all__ = ["ApiTrouble", "Bench", "Crash"]
