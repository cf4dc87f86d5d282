"""One small run, from the drop to the verdict: who lives and dies in it, the onlooker, and the judge."""

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from batchbox.simulator import SimulatorSettings, serve
from e2e.site import KEY, Site, prompt, request
from pipeline.invariants import NEVER

from .blackbox_victim import Aim, Life, Order

LANE = "reports"
FILES = {
    "a.md": prompt("the first"),
    "b.json": json.dumps({"requests": [request("the second"), request("the third")]}),
    "bad.json": "{]",
}
IN_LANE = {"c.txt": prompt("the fourth, in a lane")}
REQUEST_COUNT = 4
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "api": {"grace": 0.25},
    "window": {"max_wait": 0.02},
    "poll": {"first": 0.02, "max": 0.05},
    "inbox": {"quiet": 0.02, "rescan": 0.1, "incomplete_after": 0.2},
    "retry": {"first": 0.02, "max": 0.1},
    "log": {"level": "info"},
}
SIMULATOR = SimulatorSettings(processing_seconds=0.02)

Whole = Mapping[str, bytes]
"""By path below the outbox: the texts of a run that nobody disturbed."""


class Victim:
    """The process that lives and dies on command."""

    def __init__(self, process: asyncio.subprocess.Process, source: Path) -> None:
        self._process = process
        self._source = source

    async def live(self, order: Order) -> Life:
        """Let it live one life; return what became of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise EOFError("the victim's own process has ended")
        life = Life(**json.loads(line))
        assert Path(life.source).is_relative_to(self._source), f"{life.source} was imported, not {self._source}"
        return life


@asynccontextmanager
async def open_victim(source: Path) -> AsyncIterator[Victim]:
    """Start a victim that imports the daemon from a folder."""
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "PYTHONPATH": f"{source}:{Path(__file__).parents[1]}",
        "ANTHROPIC_API_KEY": KEY,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"{__package__}.blackbox_victim",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment, limit=2**24,
    )  # fmt: skip
    try:
        yield Victim(process, source)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class Trial:
    """One small run, from the drop to the verdict."""

    def __init__(self, site: Site, victim: Victim, folder: Path) -> None:
        self.site = site
        self._victim = victim
        self._folder = folder
        self._log_file = folder / "log"

    @property
    def log(self) -> str:
        """What every life has written."""
        return self._log_file.read_text(errors="replace")

    async def live(self, aim: Aim | None, *, is_listed: bool = False) -> Life:
        """Live once."""
        order = Order(
            config_file=str(self.site.config_file), log_file=str(self._log_file), aim=aim, is_listed=is_listed
        )
        return await self._victim.live(order)

    def look(self, whole: Whole) -> None:
        """Look at what a kill has left, before anybody mends it. Raises AssertionError."""
        self._check_outbox(whole)
        self._check_rejected()
        self._check_nothing_is_lost()
        self.site.check_nothing_was_bought_twice()
        self._check_database()

    def judge(self, whole: Whole) -> None:
        """Judge the end. Raises AssertionError."""
        self.look(whole)
        bought = len(self.site.simulator.ledger.purchases)
        assert bought == REQUEST_COUNT, f"bought {bought} of {REQUEST_COUNT}"
        texts = {path.removesuffix(".md") for path in whole}
        for lane in ("", LANE):
            stems = {Path(text).name for text in texts if Path(text).parent.name == lane}
            expected = {stem + end for stem in stems for end in (".md", ".result.json")}
            assert self.site.visible("outbox", lane) == expected, f"outbox: {sorted(self.site.visible('outbox', lane))}"
        assert self.site.visible("done") == {"a.md", "b.json"}, f"done: {sorted(self.site.visible('done'))}"
        assert self.site.visible("done", LANE) == {*IN_LANE}, f"done: {sorted(self.site.visible('done', LANE))}"
        assert self.site.visible("rejected") == {"bad.json", "bad.json.error.txt"}
        self.site.check_everything_ended()
        assert "Traceback" not in self.log, self.log[-2000:]

    def _check_outbox(self, whole: Whole) -> None:
        outbox = self.site.root / "outbox"
        for path in outbox.rglob("*"):
            if path.is_dir() or path.name.startswith("."):
                continue
            name = path.relative_to(outbox).as_posix()
            if name.endswith(".result.json"):
                text = name.replace(".result.json", ".md")
                assert (outbox / text).exists(), f"{name} is there before its text"
                told = json.loads(path.read_bytes())
                assert (told["custom_id"], told["status"]) == (Path(text).stem, "answered"), f"{name} is torn"
            else:
                assert path.read_bytes() == whole.get(name), f"{name} is torn, or none of ours"

    def _check_rejected(self) -> None:
        if "bad.json" in self.site.visible("rejected"):
            assert self.site.explanation("bad.json")["Reason"], "the explanation is torn"

    def _check_nothing_is_lost(self) -> None:
        places = [
            path for top in ("inbox", "processing", "done", "rejected") for path in (self.site.root / top).rglob("*")
        ]
        there = {path.read_bytes() for path in places if path.is_file()}
        for name, text in {**FILES, **IN_LANE}.items():
            assert text.encode() in there, f"{name} is lost"

    def _check_database(self) -> None:
        if not (self.site.state / "batchbox.db").exists():
            return
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.site.state, copy)
        connection = sqlite3.connect(copy / "batchbox.db")
        with contextlib.closing(connection):
            assert connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",), "the database is damaged"
            if connection.execute("PRAGMA user_version").fetchone()[0]:
                for what, query in NEVER.items():
                    rows = connection.execute(query).fetchall()
                    assert not rows, f"{what}: {rows}"


@asynccontextmanager
async def open_trial(folder: Path, victim: Victim) -> AsyncIterator[Trial]:
    """Drop a little of everything at a new site, with a simulator of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        async with serve(SIMULATOR) as simulator:
            site = Site(place, simulator)
            site.configure(**SETTINGS)
            (site.root / "inbox" / LANE).mkdir()
            for file, text in FILES.items():
                site.drop(file, text)
            for file, text in IN_LANE.items():
                site.drop(file, text, lane=LANE)
            yield Trial(site, victim, place)
