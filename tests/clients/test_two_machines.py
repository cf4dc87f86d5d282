"""Two daemons on one root: one where it is, one that sees it over SSH as another machine would."""

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from batchbox.simulator import serve
from e2e.site import Daemon, Site, open_site, prompt, until
from forking import ForkServer

from .openssh import OpenSsh
from .programs import needs
from .share import SIMULATOR

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    needs("sshd", "ssh", "ssh-keygen", "sshfs", "fusermount3", root=True),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="NOT TRIED: this machine has no /dev/fuse"),
]

WAVE = 60
FILES_MIN = 3 * WAVE
FILES_MAX = 10 * WAVE
MOUNT = "reconnect,ServerAliveInterval=1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """The root's own machine and the other."""

    here: Site
    there: Site
    mount: Callable[[], AbstractContextManager[None]]

    def check(self, stems: list[str]) -> None:
        """Fail unless each was bought once and answered once, and its original is in done/."""
        bought = Counter(one.custom_id.rpartition("__")[0] for one in self.here.simulator.ledger.purchases)
        assert bought == Counter(stems)
        assert self.here.visible("done") == {f"{stem}.md" for stem in stems}
        assert self.here.visible("rejected") == set()
        assert self.here.visible("outbox") == {f"{stem}{end}" for stem in stems for end in (".md", ".result.json")}


@pytest_asyncio.fixture(loop_scope="module")
async def machines(tmp_path: Path, forks: ForkServer, openssh: OpenSsh) -> AsyncIterator[Machines]:
    """Mount one site's root as the other's."""
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(serve(SIMULATOR))
        folders = [tmp_path / name for name in ("here", "there")]
        (folders[1] / "root").mkdir(parents=True)
        folders[0].mkdir()
        here = await stack.enter_async_context(open_site(folders[0], forks, simulator))
        mount = partial(openssh.mounted, here.root, on=folders[1] / "root", options=MOUNT)
        with mount():
            there = Site(folders[1], simulator, forks=forks)
        yield Machines(here=here, there=there, mount=mount)
        there.check_log_is_clean()
        here.check_everything_ended()


def drop(site: Site, stem: str) -> None:
    """Put a file into the inbox, by a hidden name that is used once: a machine remembers names that the other moved."""
    hidden = site.root / "inbox" / f".{stem}.dropped"
    hidden.write_text(prompt(stem))
    hidden.rename(hidden.with_name(f"{stem}.md"))


def taken_by(daemon: Daemon) -> int:
    """Return how many files the daemon says it has taken: not to judge by, only to see that there was a race."""
    return daemon.log.count("file taken")


@asynccontextmanager
async def head_start(*daemons: Daemon) -> AsyncIterator[None]:
    """Let the one that has taken more stand still until the other has taken something of what is dropped."""
    behind, ahead = sorted(daemons, key=taken_by)
    before = taken_by(behind)
    ahead.signal(signal.SIGSTOP)
    try:
        yield
        await until(lambda: taken_by(behind) > before, "the slower one has taken something")
    finally:
        ahead.signal(signal.SIGCONT)


async def test_every_file_is_claimed_by_one_of_them(machines: Machines) -> None:
    """They race for some waves; then whoever has won less gets a head start, until each has won some."""
    here, there = machines.here, machines.there
    for site in (here, there):
        site.configure(inbox={"quiet": 0.1, "rescan": 0.1})
    stems: list[str] = []

    with machines.mount():
        async with here.daemon() as near, there.daemon() as far:
            await near.says("started")
            await far.says("started")
            while len(stems) < FILES_MIN or (len(stems) < FILES_MAX and not (taken_by(near) and taken_by(far))):
                wave = [f"file-{number}" for number in range(len(stems), len(stems) + WAVE)]
                async with head_start(near, far) if len(stems) >= FILES_MIN - WAVE else nullcontext():
                    for number, stem in enumerate(wave):
                        drop((here, there)[number % 2], stem)
                stems += wave
                await here.answers(*wave, seconds=40)
            await here.settles()
            counts = taken_by(near), taken_by(far)
            codes = await near.stop(), await far.stop()

    assert codes == (0, 0)
    assert min(counts) > 0, f"there was no race: {counts}"
    machines.check(stems)


async def test_the_other_machine_loses_the_share_and_gets_it_back(machines: Machines) -> None:
    """What it had claimed waits until it is back; all else is taken by the one that is still there."""
    here, there = machines.here, machines.there
    there.configure(inbox={"quiet": 0.1, "rescan": 0.1}, window={"max_wait": 2})
    before, after = [f"before-{number}" for number in range(5)], [f"after-{number}" for number in range(5)]

    async with AsyncExitStack() as stack:
        with machines.mount():
            far = await stack.enter_async_context(there.daemon())
            await far.says("started")
            for stem in before:
                drop(there, stem)
            await until(lambda: taken_by(far) == len(before), "the other machine has claimed what was there")
        near = await stack.enter_async_context(here.daemon())
        for stem in after:
            drop(here, stem)
        await here.answers(*after)
        await far.says("cannot be worked on")
        await until(lambda: len(here.claims()) == len(before), "all is done but what the other machine has claimed")
        with machines.mount():
            await far.says("root is back")
            await here.answers(*before, seconds=40)
            await here.settles()
            codes = await near.stop(), await far.stop()

    assert codes == (0, 0)
    machines.check([*before, *after])
