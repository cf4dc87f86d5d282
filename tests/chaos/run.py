"""One run: a plan in, a verdict out."""

import asyncio
import random
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from batchbox.folders.layout import make_root
from batchbox.simulator import Call, Fault, FaultKind, Simulator, SimulatorSettings, serve
from forking import ForkServer

from .drops import Book, Fate, Kind
from .fleet import Fleet, settle
from .judge import complaints
from .share import Share
from .writers import Writer

SIMULATOR = SimulatorSettings(processing_seconds=0.3, processing_jitter_seconds=0.5)
WRITERS: Mapping[Kind, int] = {
    Kind.ATOMIC: 2,
    Kind.SLOW: 4,
    Kind.STALLING: 8,
    Kind.PREALLOCATING: 4,
    Kind.APPENDING: 4,
    Kind.AGAIN: 3,
    Kind.CANCELED: 3,
}
"""How many write at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much happens, and how often. Seconds."""

    files: Mapping[Kind, int]
    seed: int
    daemon_count: int = 3
    kill_every: float = 1.5
    away_every: float = 6.0
    lost_reply_every: float = 5.0
    grace: float = 4.0
    settle_within: float = 120.0


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What happened, and what was wrong with it."""

    file_count: int
    deleted_count: int
    excused_count: int
    sent_count: int
    kill_count: int
    away_count: int
    was_mount: bool
    writing_seconds: float
    settling_seconds: float
    complaints: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Say it in a few lines."""
        what = "unmounted" if self.was_mount else "renamed away"
        said = (
            f"{self.file_count} files ({self.deleted_count} deleted in time, {self.excused_count} excused), "
            f"{self.sent_count} requests sent, {self.kill_count} kills, root {self.away_count} times {what}, "
            f"written in {self.writing_seconds:.0f} s, settled {self.settling_seconds:.0f} s later: "
            f"{len(self.complaints)} complaints"
        )
        return "\n  ".join([said, *self.complaints[:30]])


async def run(plan: Plan, place: Path, forks: ForkServer) -> Verdict:
    """Let everything happen, wait until it has settled, and judge."""
    share = Share(place)
    make_root(share.folder)
    book = Book()
    async with serve(SIMULATOR) as simulator:
        api = {"base_url": simulator.base_url, "grace": plan.grace}
        fleet = Fleet(plan.daemon_count, place, share, api=api, forks=forks)
        try:
            await fleet.start()
            began = time.monotonic()
            away_count = await _let_happen(plan, share, fleet, book, simulator)
            written_at = time.monotonic()
            found = await _come_to_rest(plan, share, fleet)
        finally:
            await fleet.end()
            share.close()
        found += fleet.complaints + complaints(book, simulator, share.folder)
        sent_count = len(simulator.ledger.purchases)
    return Verdict(
        file_count=len(book.drops),
        deleted_count=book.count(Fate.DELETED),
        excused_count=book.count(Fate.EXCUSED),
        sent_count=sent_count,
        kill_count=fleet.kill_count,
        away_count=away_count,
        was_mount=share.is_mount,
        writing_seconds=written_at - began,
        settling_seconds=time.monotonic() - written_at,
        complaints=found,
    )


def run_anew(plan: Plan, *, keep: Path | None = None) -> Verdict:
    """Run in a place that is made for it, and removed after it unless it is named."""
    with tempfile.TemporaryDirectory(prefix="batchbox-chaos-") as folder, ForkServer() as forks:
        place = Path(folder) if keep is None else keep
        place.mkdir(parents=True, exist_ok=True)
        return asyncio.run(run(plan, place, forks))


async def _let_happen(plan: Plan, share: Share, fleet: Fleet, book: Book, simulator: Simulator) -> int:
    """Write, kill, take away and lose replies until every file is written; return how often the root was away."""
    chance = random.Random(plan.seed)  # noqa: S311 - to be repeatable, not to be secret
    over = asyncio.Event()
    async with asyncio.TaskGroup() as happenings:
        aways = happenings.create_task(_take_away(plan, share, chance, over))
        happenings.create_task(_kill(plan, fleet, chance, over))
        happenings.create_task(_lose_replies(plan, simulator, chance, over))
        try:
            await _write(plan, share, book)
        finally:
            over.set()
    return aways.result()


async def _write(plan: Plan, share: Share, book: Book) -> None:
    async with asyncio.TaskGroup() as writing:
        for kind, count in plan.files.items():
            writer_count = min(WRITERS[kind], count)
            for number in range(writer_count):
                own_count = count // writer_count + (number < count % writer_count)
                writer = Writer(number, kind, share.folder, book, seed=plan.seed)
                writing.create_task(_write_all(writer, own_count))


async def _write_all(writer: Writer, count: int) -> None:
    try:
        for _ in range(count):
            await writer.drop()
    finally:
        writer.close()


async def _kill(plan: Plan, fleet: Fleet, chance: random.Random, over: asyncio.Event) -> None:
    while not await _passed(over, plan.kill_every * chance.uniform(0.3, 1.7)):
        await fleet.kill(chance.randrange(fleet.size), away_seconds=chance.choice([0.0, 0.0, 0.5, 2.0]))


async def _take_away(plan: Plan, share: Share, chance: random.Random, over: asyncio.Event) -> int:
    away_count = 0
    while not await _passed(over, plan.away_every * chance.uniform(0.5, 1.5)):
        share.go_away()
        away_count += 1
        await _passed(over, chance.uniform(0.2, 2.0))
        share.come_back()
    return away_count


async def _lose_replies(plan: Plan, simulator: Simulator, chance: random.Random, over: asyncio.Event) -> None:
    while not await _passed(over, plan.lost_reply_every * chance.uniform(0.5, 1.5)):
        if not simulator.faults.pending:
            kind = chance.choice([FaultKind.LOST_REPLY, FaultKind.RESET_BEFORE, FaultKind.HTML_AFTER])
            simulator.faults.add(Fault(kind=kind, call=Call.CREATE))


async def _passed(over: asyncio.Event, seconds: float) -> bool:
    """Wait for so long; return at once, and True, when it is over."""
    try:
        async with asyncio.timeout(seconds):
            return await over.wait()
    except TimeoutError:
        return False


async def _come_to_rest(plan: Plan, share: Share, fleet: Fleet) -> list[str]:
    """Wait until every file has its place, and stop the daemons; return it as a complaint if that takes too long."""
    found = []
    try:
        await settle(share.folder, seconds=plan.settle_within)
    except AssertionError as error:
        found.append(str(error))
    await fleet.stop()
    return found
