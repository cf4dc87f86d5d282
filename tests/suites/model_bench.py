"""The bench with what the model adds: a stop in order, a server with a clock of its own, and faults of folders."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import anyio

from batchbox.dispatch.orders import Orders
from batchbox.folders import space
from batchbox.folders.manifests import Manifests
from batchbox.folders.root import Root, open_root, read_identity
from batchbox.folders.space import Disk
from batchbox.store import join_store
from batchbox.store.decisions import OpenDoubt
from batchbox.store.orders import OrderKind
from pipeline.bench import INSTANCE, Bench, Crash
from pipeline.invariants import check

from .model_ledger import Ledger
from .model_power import Power
from .model_workspace import Workspace

LAG_SECONDS_MAX = 50.0
"""The list shows a batch well before grace, which is 60 s on the bench, is over."""
STAGES = ("intake", "dispatch", "polling", "delivery")


class ModelBench(Bench):
    """A bench on which everything may go wrong."""

    def __init__(self, folder: Path, *, max_requests: int) -> None:
        super().__init__(folder, max_requests=max_requests, done_days=10_000)
        self.power = Power()
        self._server_wall = self.now.wall
        self.workspace = Workspace(lambda: self._server_wall, power=self.power)
        self.api = self.workspace
        self.ledger = Ledger()
        self.root_now = self.root
        """Where the root's folders are, which may be not where batchbox looks for them."""
        self.step_count = 0
        self.crash_count = 0
        self._hidden_since: dict[str, float] = {}

    def advance(self, seconds: float) -> None:
        """Push all clocks; the list shows what was made long enough ago."""
        for batch in self.workspace.home:
            if batch.is_hidden and not batch.was_hidden:
                since = self._hidden_since.setdefault(batch.id, self.now.monotonic)
                batch.is_hidden = self.now.monotonic + seconds - since < LAG_SECONDS_MAX
        super().advance(seconds)
        self._server_wall += timedelta(seconds=seconds)

    def set_wall(self, seconds: float) -> None:
        """Let our wall clock jump, and nobody else's."""
        self._wall += timedelta(seconds=seconds)

    async def start(self) -> None:
        """Start a process; which root is its own it knows from before, whether that is there or not."""
        with self._identity_at_hand():
            await super().start()

    @contextmanager
    def _identity_at_hand(self) -> Iterator[None]:
        here, self.root = self.root, self.root_now
        try:
            yield
        finally:
            self.root = here

    async def step(self, stage: str) -> float:
        """Let one stage take one step, to its end or not, and check every invariant."""
        self.step_count += 1
        due, passed = self.now.monotonic, self.power.total
        try:
            due = await self._take_step(stage)
        except Crash:
            self.crash_count += 1
            await self.stop()
        if self.power.total != passed:
            self._check()
        return due

    def _check(self) -> None:
        self.ledger.note_recorded(self.rows, self.workspace)
        self.ledger.note_obeyed(self._is_there, self.workspace)
        check(self.root_now, self.rows, self.workspace, self.dropped, replaces_old=False)
        self.ledger.check_purchases(self.workspace)

    def _is_there(self, place: str) -> bool:
        """Say whether a dropped file is in the inbox, or claimed and not dealt with."""
        name = place.rpartition("/")[2]
        claims = (self.root_now / "processing").rglob(f"*~{name}")
        return (self.root_now / "inbox" / place).exists() or any(claim.is_file() for claim in claims)

    async def _take_step(self, stage: str) -> float:
        if self.stages is None:
            await self.start()
        due = self.now.monotonic
        with anyio.CancelScope() as scope:
            self.power.scope = scope
            due = await getattr(self.stages, stage).step(self.now)
        if scope.cancel_called:
            await self.stop()
        return due

    async def stop(self) -> None:
        """End the process, and with it what was to befall it."""
        self.power.fail_at()
        self.power.scope = None
        await super().stop()

    async def work(self, rounds: int) -> None:
        """Let every stage take so many steps, resting in between as long as they want."""
        for _ in range(rounds):
            due = await self.step_all()
            self.advance(max(0.05, min(due - self.now.monotonic, 10.0)))

    async def take_in(self, rounds: int) -> None:
        """Let intake take so many steps, while everybody else sleeps."""
        for _ in range(rounds):
            due = await self.step("intake")
            self.advance(max(0.05, min(due - self.now.monotonic, 10.0)))

    async def judge_candidates(self) -> None:
        """Let a person decide what only a person can, rightly."""
        async with join_store(self.state) as store:
            for doubt in await store.decisions.doubts():
                for kind, argument in self._decisions(doubt):
                    await store.orders.give(kind, argument, now=self.now.wall)
            with open_root(self.root_now) as descriptor:
                identity = read_identity(descriptor) or ""
            orders = Orders(
                store.orders,
                decisions=store.decisions,
                dispatch=store.dispatch,
                manifests=Manifests(Root(self.root_now, identity=identity), INSTANCE),
                api=self.api,
                ring_polling=lambda: None,
                ring_delivery=lambda: None,
            )
            await orders.step(self.now)

    def _decisions(self, doubt: OpenDoubt) -> Iterator[tuple[OrderKind, str]]:
        wire_ids = {batch.id: str([*batch.requests]) for batch in self.workspace.ours}
        for candidate in doubt.candidates:
            if candidate.verdict == "open" and candidate.trouble is not None:
                if candidate.api_id not in wire_ids:
                    yield OrderKind.NOT_OURS, candidate.api_id
                elif doubt.nonce in wire_ids[candidate.api_id]:
                    yield OrderKind.OURS, f"{candidate.api_id} {doubt.batch_id}"

    def grow(self, before: bytes, after: bytes) -> None:
        """Let a dropped file that is still being written have another content."""
        name = next(name for name, content in self.dropped.items() if content == before)
        self.dropped[name] = after

    def take_root_away(self, *, leave_folder: bool) -> None:
        """Let the share go away; an empty folder may be where it was mounted."""
        if self.root_now == self.root:
            self.root_now = self.root.with_name("away")
            self.root.rename(self.root_now)
            if leave_folder:
                self.root.mkdir()

    def bring_root_back(self) -> None:
        """Let the share be there again; nothing may have been put where it was."""
        if self.root_now != self.root:
            if self.root.exists():
                assert not list(self.root.iterdir()), "something was put into a folder that is not the root"
                self.root.rmdir()
            self.root_now.rename(self.root)
            self.root_now = self.root

    @contextmanager
    def blocked(self, top: str, lane: str) -> Iterator[None]:
        """Put a link where a lane's folder is, which batchbox does not follow, though the invariants do."""
        folder, hidden = self.root / top / lane, self.root / top / f"{lane}~hidden"
        folder.mkdir(exist_ok=True)
        folder.rename(hidden)
        folder.symlink_to(hidden)
        try:
            yield
        finally:
            folder.unlink()
            hidden.rename(folder)


class Disks:
    """Every disk, as the daemon is told of it."""

    def __init__(self) -> None:
        self.is_full = False
        self._real = space.disk_of

    def install(self) -> None:
        """Answer for the real disks."""
        space.disk_of = self._look

    def remove(self) -> None:
        """Let the real disks answer."""
        space.disk_of = self._real

    def _look(self, folder: Path | int) -> Disk:
        del folder
        return Disk(device=1, free_bytes=0 if self.is_full else 10**12, has_files_left=True)
