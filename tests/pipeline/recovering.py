"""A bench whose database can be backed up, restored and lost, and whose work can be recovered, here or elsewhere."""

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from batchbox.api import BatchesApi
from batchbox.dispatch.orders import Orders
from batchbox.errors import ConfigurationError
from batchbox.folders.layout import Presence
from batchbox.folders.manifests import Manifests
from batchbox.folders.root import open_root, read_identity
from batchbox.folders.takeover import Takeover
from batchbox.model import Instance
from batchbox.service import recovering
from batchbox.service.entering import RecoverSettings
from batchbox.service.ground import Ground, require_current
from batchbox.service.signs import Bell, Bells
from batchbox.service.wiring import Stages, wire
from batchbox.store import assemble
from batchbox.store.database import open_database
from batchbox.store.orders import OrderKind

from .bench import INSTANCE, Bench, BenchDatabase, BenchRoot
from .invariants import NEVER

OTHER = Instance("bench-00000002")
THIRD = Instance("bench-00000003")
ROUNDS_MAX = 300


class RecoveryBench(Bench):
    """A bench that does not hold a restored database to what it cannot know: what was bought after the backup."""

    instance = INSTANCE

    async def step(self, stage: str) -> float:
        """Let one stage take one step; the database must make sense by itself after it."""
        if self.stages is None:
            await self.start()
        assert self.stages is not None
        due: float = await getattr(self.stages, stage).step(self.now)
        self.check_tables()
        return due

    def check_tables(self) -> None:
        """Raise AssertionError, naming what is broken."""
        for what, query in NEVER.items():
            rows = self.rows(query)
            assert not rows, f"{what}: {rows}"

    async def start(self) -> None:
        """Start a process, which refuses to work under a database that is older than what was sent."""
        ground, stages = await self._process.enter_async_context(self.opened())
        await require_current(ground.root, ground.instance, ground.store)
        if (await ground.store.meta.get("established")) is None:  # type: ignore[arg-type] # a Fact is a text
            await recovering._settle_in(ground, self.instance)
        self.stages = stages
        self.ground = ground

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[Ground, Stages]]:
        """Open what a process stands on, and wire its stages."""
        with open_root(self.root) as descriptor:
            identity = read_identity(descriptor)
        assert identity is not None
        async with AsyncExitStack() as stack:
            database = BenchDatabase(await stack.enter_async_context(open_database(self.state)), self.points)
            root = BenchRoot(self.root, identity=identity, points=self.points)
            ground = Ground(
                instance=self.instance,
                root=root,
                presence=Presence(root, self.instance),
                store=assemble(database),
            )
            api: BatchesApi = self.api
            stages = wire(
                self.settings,
                ground,
                api,
                key_hash=b"key",
                bells=Bells(intake=Bell(), dispatch=Bell(), polling=Bell(), delivery=Bell()),
                keep_going=lambda: True,
                clock=lambda: self.now,
                watch=lambda _: None,
            )
            yield ground, stages

    async def recover(self, other: Instance | None = None) -> recovering.Recovered:
        """Run `recover`, as a process of its own."""
        await self.stop()
        settings = RecoverSettings(base_url=self.settings.api.base_url, key_hash=b"key", extension=lambda _: "md")
        async with self.opened() as (ground, stages):
            return await recovering.recover(settings, ground, other, recorder=stages.recorder, now=self.now)

    async def take(self, other: Instance) -> None:
        """Run `recover` in a process that dies once the other's folder is taken, and before it does more."""
        await self.start()
        await Takeover(self.ground.root, self.instance, self.ground.presence).begin(other)
        await self.stop()

    async def refuses(self) -> bool:
        """Say whether a daemon refuses to start."""
        await self.stop()
        try:
            await self.start()
        except ConfigurationError:
            return True
        else:
            return False
        finally:
            await self.stop()

    def back_up(self, target: Path) -> None:
        """Copy the database, as a running daemon leaves it."""
        with sqlite3.connect(self.state / "batchbox.db") as connection, sqlite3.connect(target) as copy:
            connection.backup(copy)
        connection.close()
        copy.close()

    async def restore(self, backup: Path) -> None:
        """Put the copy in the place of the database."""
        await self.lose_database()
        shutil.copy(backup, self.state / "batchbox.db")

    async def lose_database(self) -> None:
        """Delete the database."""
        await self.stop()
        for path in self.state.glob("batchbox.db*"):
            path.unlink()

    async def move(self, heir: Instance = OTHER) -> None:
        """Let this machine be lost, and go on with another one on the same root."""
        await self.stop()
        heartbeat = self.root / "processing" / self.instance / ".heartbeat"
        if heartbeat.exists():
            os.utime(heartbeat, (0, 0))
        self.state = self.state.parent / f"state of {heir}"
        self.state.mkdir()
        self.instance = heir

    async def order(self, kind: OrderKind, argument: str) -> str:
        """Give an order and have it obeyed; return the answer."""
        if self.stages is None:
            await self.start()
        store = self.ground.store
        orders = Orders(
            store.orders,
            decisions=store.decisions,
            dispatch=store.dispatch,
            manifests=Manifests(self.ground.root, self.instance),
            api=self.api,
            ring_polling=lambda: None,
            ring_delivery=lambda: None,
        )
        number = await store.orders.give(kind, argument, now=self.now.wall)
        await orders.step(self.now)
        answer = await store.orders.answer_to(number)
        assert answer is not None
        return answer

    async def finish(self) -> None:
        """Go on until nothing is open, and let a person resend what is held once there is nothing else to do."""
        for _ in range(ROUNDS_MAX):
            due = await self.step_all()
            self.api.end_all()
            if self.is_settled():
                return
            held = self.rows("SELECT id FROM batches WHERE state = 'sealed' AND needs_person = 1")
            for (batch_id,) in held:
                answer = await self.order(OrderKind.RESEND, str(batch_id))
                assert answer.startswith("done"), answer
            self.advance(max(0.05, min(due - self.now.monotonic, 10.0)))
        left = self.rows("SELECT custom_id, state, batch_id FROM requests WHERE ended_at IS NULL")
        batches = self.rows("SELECT id, state, held_reason FROM batches")
        raise AssertionError(f"not settled after {ROUNDS_MAX} rounds: {left} {batches}")

    def is_settled(self) -> bool:
        """Say whether every file has found its place and no request is open."""
        states = {state for (state,) in self.rows("SELECT DISTINCT state FROM sources")}
        open_requests = self.rows("SELECT 1 FROM requests WHERE ended_at IS NULL OR state = 'failing' LIMIT 1")
        claims = [path for path in (self.root / "processing").rglob("*~*") if path.is_file()]
        return not self.inbox_names() and states <= {"done", "rejected"} and not open_requests and not claims

    def bought_twice(self) -> list[str]:
        """Return what was paid for more than once."""
        return [digest for digest, count in Counter(self.api.bought).items() if count > 1]
