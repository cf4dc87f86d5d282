"""Drops the whole table before one daemon, and looks at what has become of it."""

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from batchbox.logs import shown
from batchbox.naming import claim_name, parse_claim_name
from e2e.site import Site, prompt, until
from forking import ForkServer

from .cases import LEFT, Case
from .making import World
from .surroundings import ANSWERS, REFUSAL, VARIABLES

NEIGHBOUR = "neighbour"
"""An innocent file in every lane."""
WARM = "warm"
UNIT = Path(__file__).parents[2] / "systemd" / "batchbox.service"
GROWING = "growing.md"
REFUSED = "refused.md"
SWAPPED = "swapped"
"""A lane that its owner replaces by a link to a folder outside, and puts back, again and again."""
OUTSIDE_FOLDER = "outside"
OUTSIDE = "the words of a file outside of the root"
SETTLED_SECONDS = 240.0
START_SECONDS = 60.0
SWAPS = 40
READ_BYTES_MAX = 50_000_000
"""More is in nothing but the sparse files."""
COMMANDS = (("status",), ("status", "--json"), ("check",), ("reconcile",), ("config",))


class Decoy:
    """A server to which nothing may ever come."""

    def __init__(self) -> None:
        self.visit_count = 0
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Wait for visits while the block lasts."""
        server = await asyncio.start_server(self._visited, "127.0.0.1", 0)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield

    async def _visited(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visit_count += 1
        writer.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What there is to see when everything has settled."""

    site: Site
    outcomes: Mapping[str, Mapping[str, Sequence[str]]]
    """By lane and by the file's name as it is shown: a reason, or for each request how it ended, or `left`."""
    grown_mb: float
    """By how much the most memory that the daemon ever had lies over what it had before."""
    said: Mapping[str, str]
    """What commands beside the daemon have printed."""
    log: str
    exit_code: int
    decoy: Decoy
    faults_left: Collection[str]
    """Names of the hostile answers that no call has met."""


def file_name(case: Case) -> str:
    """Return the name of a case's file as Python gives it to system calls."""
    return case.file if isinstance(case.file, str) else os.fsdecode(case.file)


def known_as(case: Case) -> str:
    """Return what the daemon calls the file: a claim has room for most of a long name."""
    claim = parse_claim_name(claim_name(file_name(case), dropped_ms=0, random_bytes=bytes(8)))
    assert claim is not None
    return shown(claim[1])


def possible(cases: Sequence[Case]) -> list[Case]:
    """Return the cases that can be made here."""
    return [case for case in cases if not case.needs_root or os.geteuid() == 0]


async def drop_everything(
    site: Site, table: Mapping[str, Sequence[Case]], forged: Sequence[Case], *, decoy: Decoy, forks: ForkServer
) -> Aftermath:
    """Run one daemon over the table; return what has become of it."""
    outside = site.root.parent / OUTSIDE_FOLDER
    outside.mkdir()
    (outside / "secret.txt").write_text(OUTSIDE)
    (outside / "swapped.md").write_text(OUTSIDE)
    world = World(folder=outside, database=site.state / "batchbox.db")
    await site.run("--drain")
    (own,) = [path for path in (site.root / "processing").iterdir() if path.is_dir()]
    for case in forged:
        case.make(own / "_" / file_name(case), world)
    with world.closing:
        async with site.daemon(anew=True, environment=_unit_environment() | _lures(decoy, outside)) as daemon:
            await _warm_up(site)
            await _be_refused(site)
            for answer in ANSWERS:
                location = answer.fault.location.format(decoy=decoy.url)
                site.simulator.faults.add(replace(answer.fault, location=location))
            before_mb = _memory(daemon.pid, "VmRSS")
            _forget_peak(daemon.pid)
            await _drop(site, table, world)
            await _settle(site, table)
            grown_mb = _memory(daemon.pid, "VmHWM") - before_mb
            said = {" ".join(command): await _say(site, forks, command) for command in COMMANDS}
            code = await daemon.stop()
    return Aftermath(
        site=site,
        outcomes=_outcomes(site),
        grown_mb=grown_mb,
        said=said,
        log=site.logs,
        exit_code=code,
        decoy=decoy,
        faults_left=[fault.kind for fault in site.simulator.faults.pending],
    )


def _unit_environment() -> dict[str, str]:
    """Return the variables that the service's unit sets."""
    lines = [line for line in UNIT.read_text().splitlines() if line.startswith("Environment=")]
    words = [word for line in lines for word in line.removeprefix("Environment=").split()]
    return dict(word.split("=", 1) for word in words)


def _lures(decoy: Decoy, outside: Path) -> dict[str, str]:
    return {variable.name: variable.value.format(decoy=decoy.url, outside=outside) for variable in VARIABLES}


async def _warm_up(site: Site) -> None:
    """Let the daemon do once what it does all day."""
    one = {"messages": [{"role": "user", "content": prompt("Be ready")}]}
    site.drop(f"{WARM}.md", prompt("Be ready"))
    site.drop(f"{WARM}-ö.txt", prompt("Be ready, too"))
    site.drop(f"{WARM}-1.json", json.dumps(one | {"top_k": 1}))
    site.drop(f"{WARM}-2.jsonl", json.dumps(one | {"top_k": 2}))
    await until(
        lambda: len([name for name in site.visible("outbox") if name.startswith(WARM)]) == 8,
        "it is warm",
        seconds=START_SECONDS,
    )


async def _be_refused(site: Site) -> None:
    site.simulator.faults.add(REFUSAL)
    site.drop(REFUSED, prompt("Never mind"))
    await site.ends("refused.error.json")


async def _drop(site: Site, table: Mapping[str, Sequence[Case]], world: World) -> None:
    (site.root / "inbox" / SWAPPED).mkdir()
    async with asyncio.TaskGroup() as busy:
        busy.create_task(_grow(site.root / "inbox" / GROWING))
        busy.create_task(_swap(site.root / "inbox" / SWAPPED, world.folder))
        for lane, cases in table.items():
            folder = site.root / "inbox" / lane
            folder.mkdir()
            for case in possible(cases):
                await asyncio.to_thread(case.make, folder / file_name(case), world)
            site.drop(f"{NEIGHBOUR}.md", prompt(f"Say hello to {lane}"), lane=lane)


async def _grow(path: Path) -> None:
    """Write a file for as long as others are dropped: it is whole when nobody writes it any more."""
    with path.open("a") as file:
        for number in range(100):
            file.write(prompt(f"{number}"))
            file.flush()
            await asyncio.sleep(0.03)


async def _swap(lane: Path, outside: Path) -> None:
    (lane / "innocent.md").write_text(prompt("Mine"))
    for _ in range(SWAPS):
        _put_link(lane, outside)
        await asyncio.sleep(0.02)
        _put_back(lane)
        await asyncio.sleep(0.02)


def _put_link(lane: Path, outside: Path) -> None:
    lane.rename(lane.with_name(".aside"))
    lane.symlink_to(outside)


def _put_back(lane: Path) -> None:
    lane.unlink()
    lane.with_name(".aside").rename(lane)


async def _settle(site: Site, table: Mapping[str, Sequence[Case]]) -> None:
    for lane in table:
        await site.answers(NEIGHBOUR, lane=lane, seconds=SETTLED_SECONDS)
    await site.answers("innocent", lane=SWAPPED, seconds=SETTLED_SECONDS)
    await site.answers("growing", seconds=SETTLED_SECONDS)
    left = {file_name(case) for cases in table.values() for case in cases if case.expected == LEFT}
    await until(
        lambda: not site.claims() and {path.name for path in site.root.glob("inbox/*/*")} <= left,
        "everything has found its place",
        seconds=SETTLED_SECONDS,
    )


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _memory(pid: int, line: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (kilobytes,) = [words.split()[1] for words in status.splitlines() if words.startswith(f"{line}:")]
    return int(kilobytes) / 1024


async def _say(site: Site, forks: ForkServer, command: Sequence[str]) -> str:
    """Run a command beside the daemon; return all that it prints."""
    said = site.state.with_name("said.txt")
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    process = forks.spawn(
        [*command, "--config", str(site.config_file)],
        environment={"PATH": os.environ["PATH"], "HOME": str(site.state), "LANG": "C.UTF-8", "COLUMNS": "80"},
        cwd=site.state,
        stdout=descriptor,
        stderr=descriptor,
    )
    os.close(descriptor)
    await process.ended()
    return said.read_text(errors="replace")


def _outcomes(site: Site) -> Mapping[str, Mapping[str, Sequence[str]]]:
    outcomes: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in site.root.glob("rejected/**/*.error.txt"):
        titles = dict(line.split(":", 1) for line in path.read_bytes().decode().split("\r\n") if ":" in line[:15])
        lane = path.parent.relative_to(site.root / "rejected").as_posix()
        outcomes[lane][titles["Not processed"].removeprefix(" ")].append(titles["Reason"].strip())
    for path in [*site.root.glob("outbox/**/*.result.json"), *site.root.glob("outbox/**/*.error.json")]:
        document = json.loads(path.read_bytes())
        lane = path.parent.relative_to(site.root / "outbox").as_posix()
        outcomes[lane][shown(document["source"])].append(document["status"])
    for path in site.root.glob("inbox/*/*"):
        outcomes[path.parent.name][shown(path.name)].append(LEFT)
    return outcomes


def everything_written(site: Site) -> Mapping[str, bytes]:
    """Return every file of the root and of the state, by its path; links and the like have no content."""
    files = (path for top in (site.root, site.state) for path in top.rglob("*"))
    return {str(path): _start_of(path) for path in files if path.is_file() and not path.is_symlink()}


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(READ_BYTES_MAX)
