"""The bench over real HTTP: the adapter instead of the fake, the simulator on loopback, both clocks pushed together.

The judge is the simulator's ledger, which knows every create call that arrived, and what lies in the outbox.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import httpx2

from batchbox.anthropic_api import open_api
from batchbox.api import BatchBody, BatchesApi, BatchInfo, BatchPage, CreateOutcome
from batchbox.model import ApiBatchId
from batchbox.simulator import Simulator, SimulatorSettings, serve
from pipeline.bench import BenchApi, Crash

from .api_bench import ApiBench

T = TypeVar("T")

PROCESSING_SECONDS = 90.0
"""Longer than grace: what others have running still runs when the list has been read for the last time."""
TIMEOUT_SECONDS = 30.0
BREATH_SECONDS = 4.0
CALM = {"[poll]\nfirst = 1\nmax = 10": "[poll]\nfirst = 20\nmax = 40"}
SIZE = 2
REQUEST_COUNT = 2 * SIZE
WORDS = 'über "€ 😀" und'
"""In every answer: characters of two, three and four bytes, and some that JSON escapes."""


class Company(StrEnum):
    """Who else works in the workspace, with batches of our size."""

    ALONE = "alone"
    ENDED = "ended"
    RUNNING = "running"


class Death(StrEnum):
    """When the process ends."""

    NEVER = "never"
    BEFORE = "before"
    """Right before the POST."""
    AFTER = "after"
    """With the reply in its hand."""


class WireApi(BenchApi):
    """The real adapter, in the place of the fake."""

    def __init__(
        self, wall: Callable[[], datetime], real: BatchesApi, simulator: Simulator, *, company: Company, death: Death
    ) -> None:
        super().__init__(wall)
        self.organization_id = None
        self._real = real
        self._simulator = simulator
        self._company = company
        self._death = death

    async def create(self, body: BatchBody, *, betas: Sequence[str]) -> CreateOutcome:  # type: ignore[override] # exact
        """Send one batch, if the process lives so long."""
        self._die_at(Death.BEFORE)
        self._meet_others()
        self.create_count += 1
        outcome = await self._told(self._real.create(body, betas=betas))
        self._meet_others()
        self._die_at(Death.AFTER)
        return outcome

    async def list_batches(self, *, limit: int, after_id: ApiBatchId | None = None) -> BatchPage:
        """List the workspace's batches."""
        return await self._told(self._real.list_batches(limit=limit, after_id=after_id))

    async def retrieve(self, batch_id: ApiBatchId) -> BatchInfo:
        """Look at one batch."""
        return await self._told(self._real.retrieve(batch_id))

    @asynccontextmanager
    async def results(self, batch_id: ApiBatchId) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream the results."""
        async with self._real.results(batch_id) as pieces:
            yield pieces

    async def _told(self, call: Awaitable[T]) -> T:
        try:
            return await call
        finally:
            self.organization_id = self._real.organization_id

    def _die_at(self, moment: Death) -> None:
        if self._death is moment:
            self._death = Death.NEVER
            raise Crash(moment)

    def _meet_others(self) -> None:
        if self._company is Company.RUNNING:
            self._simulator.create_foreign_batch(SIZE)


class WireBench(ApiBench):
    """A bench with the simulator behind it."""

    def __init__(self, folder: Path, real: BatchesApi, simulator: Simulator, *, company: Company, death: Death) -> None:
        super().__init__(folder, max_requests=SIZE, instead=CALM, breath=BREATH_SECONDS)
        self._configure(base_url=simulator.base_url)
        self._wall = simulator.clock.now()
        self._simulator = simulator
        self.api = WireApi(lambda: self._wall, real, simulator, company=company, death=death)
        if company is Company.ENDED:
            simulator.create_foreign_batch(SIZE)
            self.advance(PROCESSING_SECONDS)

    def advance(self, seconds: float) -> None:
        """Push both clocks, and the simulator's."""
        super().advance(seconds)
        self._simulator.clock.advance(seconds)

    def drop_all(self) -> None:
        """Put a file into the inbox that becomes two batches."""
        requests = [{"messages": [{"role": "user", "content": _words(number)}]} for number in _numbers()]
        self.drop("all.jsonl", "\n".join(map(json.dumps, requests)))

    def judge(self) -> list[str]:
        """Return what went against a promise."""
        return [*self._attempts(), *self._purchases(), *self._strangers(), *self._answers(), *self._left_over()]

    def _attempts(self) -> list[str]:
        arrived = len(self._simulator.ledger.attempts)
        return [] if arrived == self.api.create_count else [f"{self.api.create_count} calls became {arrived} POSTs"]

    def _purchases(self) -> list[str]:
        counts = Counter(purchase.params_sha256 for purchase in self._simulator.ledger.purchases)
        found = [f"bought {len(counts)} of {REQUEST_COUNT}"] if len(counts) != REQUEST_COUNT else []
        return found + [f"a request was bought {count} times" for count in counts.values() if count > 1]

    def _strangers(self) -> list[str]:
        own = {purchase.batch_id for purchase in self._simulator.ledger.purchases}
        adopted = self.rows("SELECT api_id FROM batches WHERE api_id IS NOT NULL UNION SELECT api_id FROM twins")
        return [f"{api_id} is another program's and was adopted" for (api_id,) in adopted if api_id not in own]

    def _answers(self) -> list[str]:
        outbox = self.outbox()
        texts = {number: outbox.get(f"all-{number}.md", b"").decode() for number in _numbers()}
        found = [
            f"all-{number} has no answer, or another's" for number in _numbers() if _words(number) not in texts[number]
        ]
        return found + [f"{name} is there" for name in outbox if name.endswith(".error.json")]

    def _left_over(self) -> list[str]:
        return [f"{path.name} was left open" for path in self.root.glob(".batchbox/batches/*/*.jsonl")]


@asynccontextmanager
async def open_wire(
    folder: Path,
    *,
    company: Company = Company.ALONE,
    death: Death = Death.NEVER,
    create_timeout: float = TIMEOUT_SECONDS,
    network: httpx2.AsyncBaseTransport | None = None,
) -> AsyncIterator[tuple[WireBench, Simulator]]:
    """Open a bench and its simulator, with something in the place of the network if need be."""
    settings = SimulatorSettings(speed=0, processing_seconds=PROCESSING_SECONDS)
    async with (
        serve(settings) as simulator,
        open_api(
            base_url=simulator.base_url,
            api_key="key",
            timeout_seconds=TIMEOUT_SECONDS,
            create_timeout_seconds=create_timeout,
            transport=network or httpx2.AsyncHTTPTransport(verify=False),  # loopback: no certificates to load
        ) as real,
    ):
        bench = WireBench(folder, real, simulator, company=company, death=death)
        bench.drop_all()
        try:
            yield bench, simulator
        finally:
            await bench.stop()


def _numbers() -> range:
    return range(1, REQUEST_COUNT + 1)


def _words(number: int) -> str:
    return f"{WORDS} {number}"
