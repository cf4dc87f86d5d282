"""Several daemons on one root, each on a machine of its own: nothing is sent twice, no answer takes another's place."""

import asyncio
import json
import os
import signal
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from batchbox.folders.layout import make_root
from batchbox.simulator import Call, Fault, FaultKind, Simulator, SimulatorSettings, serve
from forking import ForkServer

from .machines import Machine
from .site import Daemon, prompt, until

GROUP = 4242

OpenMachine = Callable[[str], Machine]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Serve an API whose batches end when the clock is pushed."""
    async with serve(SimulatorSettings(speed=0, processing_seconds=10)) as served:
        yield served


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root that nobody has worked on yet."""
    make_root(tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def machine(tmp_path: Path, root: Path, simulator: Simulator, forks: ForkServer) -> OpenMachine:
    """Set machines up by their names."""
    api = {"base_url": simulator.base_url}
    return lambda name: Machine(tmp_path / name, root=root, forks=forks, settings={"api": api})


def drop(root: Path, name: str, text: str) -> None:
    """Put a finished file into the inbox."""
    hidden = root / "inbox" / ".dropped"
    hidden.write_text(text)
    hidden.rename(root / "inbox" / name)


def claims(root: Path, machine: Machine) -> list[Path]:
    return list((root / "processing" / machine.instance / "_").glob("*~*"))


def has_claimed(root: Path, machine: Machine, count: int) -> bool:
    return len(claims(root, machine)) == count


def visible(folder: Path, pattern: str) -> set[str]:
    return {path.name for path in folder.glob(pattern) if not path.name.startswith(".")}


async def until_settled(root: Path, simulator: Simulator) -> None:
    """Let batches end as they come, until nothing is left in the inbox and in processing/."""

    def is_settled() -> bool:
        simulator.clock.advance(11)
        waiting = [path for path in root.glob("inbox/**/*") if path.is_file()]
        return not waiting and not list(root.glob("processing/*/*/*"))

    await until(is_settled, "everything has its place", seconds=30)


def check_bought_once(simulator: Simulator, count: int) -> None:
    """Fail if anything was paid for more than once, or not at all."""
    bought = simulator.ledger.purchases_by_params()
    assert [sha for sha, purchases in bought.items() if purchases[1:]] == []
    assert len(bought) == count


async def test_three_daemons_share_an_inbox_and_send_each_file_once(
    root: Path, machine: OpenMachine, simulator: Simulator
) -> None:
    """Though one of them is killed when it has taken some."""
    machines = [machine(name) for name in ("one", "two", "three")]
    async with machines[0].daemon() as first, machines[1].daemon() as second, machines[2].daemon() as third:
        daemons = [first, second, third]
        for daemon in daemons:
            await daemon.says("started")
        for number in range(30):
            drop(root, f"{number}.md", prompt(f"question {number}"))
        await until(lambda: list(root.glob("processing/*/_/*~*")), "something is taken")
        (taker, *_) = [number for number, one in enumerate(machines) if claims(root, one)]
        await daemons[taker].kill()
        for number in range(30, 60):
            drop(root, f"{number}.md", prompt(f"question {number}"))
        async with machines[taker].daemon():
            await until_settled(root, simulator)

    check_bought_once(simulator, 60)
    assert visible(root / "outbox", "*.result.json") == {f"{number}.result.json" for number in range(60)}
    assert len(visible(root / "done", "*")) == 60


@asynccontextmanager
async def both_with_the_same_names(
    root: Path, machine: OpenMachine, simulator: Simulator, count: int
) -> AsyncIterator[tuple[Machine, Daemon, Daemon]]:
    """Let two daemons have sent files of the same names, all of which end as the block begins.

    Yields the first one's machine, and the two; the second stands still.
    """
    one, two = machine("one"), machine("two")
    async with one.daemon() as first, two.daemon() as second:
        await first.says("started")
        await second.says("started")
        for own, other in ((one, second), (two, first)):
            other.signal(signal.SIGSTOP)
            for number in range(count):
                drop(root, f"same-{number}.md", prompt(f"{own.instance} asks {number}"))
            await until(partial(has_claimed, root, own, count), "one daemon has them all")
            other.signal(signal.SIGCONT)
        await until(lambda: len(simulator.ledger.purchases) == 2 * count, "everything is sent")
        second.signal(signal.SIGSTOP)
        simulator.clock.advance(11)
        yield one, first, second


def check_answers(root: Path, simulator: Simulator, count: int) -> None:
    """Fail unless each request that was sent has one document, beside which stands its own text."""
    documents = list((root / "outbox").glob("*.result.json"))
    told = {path: path.read_text() for path in documents}
    for purchase in simulator.ledger.purchases:
        assert sum(f'"{purchase.custom_id}"' in text for text in told.values()) == 1, purchase.custom_id
    assert len(documents) == len(list((root / "outbox").glob("*.md"))) == count
    for path, text in told.items():
        answer = json.loads(text)["message"]["content"][0]["text"]
        assert path.with_name(path.name.replace(".result.json", ".md")).read_text() == answer
    check_bought_once(simulator, count)


async def first_answer(root: Path) -> None:
    """Wait until a text is visible, and look often, to catch the moment between two renames."""
    async with asyncio.timeout(20):
        while not any(name.endswith(".md") for name in os.listdir(root / "outbox")):  # noqa: ASYNC110 - no bell rings
            await asyncio.sleep(0)


async def test_two_daemons_that_publish_the_same_names_at_once_do_not_touch_each_others_answers(
    root: Path, machine: OpenMachine, simulator: Simulator
) -> None:
    """The first stands still between its look at the names and its renames, while the second publishes."""
    async with both_with_the_same_names(root, machine, simulator, 250) as (_, first, second):
        await first_answer(root)
        first.signal(signal.SIGSTOP)
        second.signal(signal.SIGCONT)
        await until(lambda: len(visible(root / "outbox", "*.result.json")) >= 250, "the second has published")
        first.signal(signal.SIGCONT)
        await until_settled(root, simulator)

    check_answers(root, simulator, 500)
    assert list((root / "outbox").glob(".bb-*")) == []


async def test_what_a_daemon_had_half_published_when_it_died_is_its_own_afterwards(
    root: Path, machine: OpenMachine, simulator: Simulator
) -> None:
    """Whatever another one, which is asked for the same names, takes meanwhile."""
    async with both_with_the_same_names(root, machine, simulator, 100) as (one, first, second):
        await first_answer(root)
        await first.kill()
        second.signal(signal.SIGCONT)
        await until(lambda: len(visible(root / "outbox", "*.result.json")) >= 100, "the second has published")
        async with one.daemon():
            await until_settled(root, simulator)

    check_answers(root, simulator, 200)
    assert list((root / "outbox").glob(".bb-*")) == []


@pytest.mark.parametrize("is_before", [Call.LIST, Call.CREATE], ids=["before the POST", "in the POST"])
async def test_a_daemon_that_was_only_paused_does_nothing_more_after_another_has_taken_its_work_over(
    root: Path, machine: OpenMachine, simulator: Simulator, is_before: Call
) -> None:
    """Stopped like a machine that sleeps: its files are sent once, by whoever it was; it ends with 78."""
    old, new = machine("old"), machine("new")
    async with old.daemon() as paused:
        await paused.says("started")
        simulator.faults.add(Fault(kind=FaultKind.SLOW_REPLY, call=is_before, seconds=2))
        drop(root, "a.md", prompt("question"))
        await until(lambda: claims(root, old) and not simulator.faults.pending, "the call is under way")
        paused.signal(signal.SIGSTOP)
        heartbeat = root / "processing" / old.instance / ".heartbeat"
        await until(lambda: is_stopped(paused), "the process stands still")
        os.utime(heartbeat, (0, 0))

        code, said = await new.command("recover", old.instance)
        async with new.daemon() as heir:
            await heir.says("started")
            paused.signal(signal.SIGCONT)
            await until_settled(root, simulator)
            assert await paused.ended() == 78, paused.log

    assert (code, "are this machine's now" in said) == (0, True), said
    assert len(simulator.ledger.attempts) == 1
    check_answers(root, simulator, 1)


def is_stopped(daemon: Daemon) -> bool:
    """Say whether every thread of the process stands still."""
    return all(
        (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
        for task in Path(f"/proc/{daemon.pid}/task").iterdir()
    )


@dataclass(frozen=True, slots=True)
class Modes:
    """What is made under a umask."""

    umask: int
    file: int
    folder: int
    done: int = 0o2750
    """People read there, and do not write, whatever the umask says."""


@pytest.mark.parametrize(
    "modes", [Modes(0o007, 0o660, 0o2770), Modes(0o027, 0o640, 0o2750)], ids=["umask 007", "umask 027"]
)
async def test_what_the_daemon_makes_has_the_modes_and_the_group_of_the_share(
    root: Path, simulator: Simulator, forks: ForkServer, modes: Modes
) -> None:
    """As the umask says; the group comes from the folders: the daemon may not be allowed to change it."""
    group = of_another_group(root)
    for name in ("good.md", "bad.json"):
        (root / "inbox" / name).write_text(prompt("question") if name == "good.md" else "{]")
        (root / "inbox" / "lane").mkdir(exist_ok=True)
        (root / "inbox" / "lane" / name).write_text(prompt("question in a lane") if name == "good.md" else "{]")
    api = {"base_url": simulator.base_url}
    one = Machine(root.with_name("one"), root=root, forks=forks, settings={"api": api}, umask=modes.umask)

    async with one.daemon():
        await until_settled(root, simulator)

    lanes = {top: found(root, f"{top}/lane") for top in ("outbox", "rejected", "done")}
    files = found(root, "outbox/**/good.*") | found(root, "rejected/**/*.error.txt")
    assert len(files) == 6
    assert {facts.st_mode & 0o7777 for facts in files.values()} == {modes.file}
    assert {facts.st_mode & 0o7777 for top in ("outbox", "rejected") for facts in lanes[top].values()} == {modes.folder}
    assert {facts.st_mode & 0o7777 for facts in lanes["done"].values()} == {modes.done}
    assert {facts.st_gid for facts in found(root, "**/*").values()} == {group}


def of_another_group(root: Path) -> int:
    """Give the root to a group that is not the daemon's, if we may; return the group that it has."""
    if os.geteuid() == 0:
        for path in [root, *root.rglob("*")]:
            os.chown(path, -1, GROUP)
        for path in root.iterdir():
            path.chmod(path.stat().st_mode | stat.S_ISGID)  # which the change of the group may have taken away
    return root.stat().st_gid


def found(root: Path, pattern: str) -> dict[Path, os.stat_result]:
    """Return what is there."""
    return {path: path.stat() for path in root.glob(pattern)}
