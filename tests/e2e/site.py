"""One place where a daemon works: its folders and settings, the process, and what must hold whatever happened.

Nothing the daemon says of itself is believed: what was bought is read from the simulator's ledger, and everything
else from the folders. Log lines are used only to know when to act, and to look for what must never be in them.
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import tomli_w

from batchbox.folders.layout import make_root
from batchbox.simulator import Simulator
from forking import Child, ForkServer

COMMAND = Path(sys.executable).parent / "batchbox"

KEY = "sk-ant-canary-key-0123456789"
SECRET = "canary-words-of-a-prompt"  # noqa: S105 - a word to look for, not a password
"""In every prompt; neither this nor the key may ever be seen in a log."""

DEADLINE_SECONDS = 20.0
LOOK_SECONDS = 0.02

FAST: Mapping[str, Mapping[str, object]] = {
    "api": {"grace": 0.6, "create_timeout": 30, "timeout": 5},
    "window": {"max_wait": 0.1},
    "poll": {"first": 0.1, "max": 0.3},
    "inbox": {"quiet": 0.1, "rescan": 0.3, "incomplete_after": 0.6},
    "defaults": {"model": "claude-opus-5-5"},
    "retry": {"first": 0.05, "max": 0.2},
    "log": {"level": "debug"},
}
"""Everything that waits, waits fractions of a second."""

Json = dict[str, Any]
"""Any: what JSON can hold."""


async def until(is_so: Callable[[], object], claim: str, *, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until something is so; fail, naming the claim, when it does not become so in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not is_so():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not so within {seconds} s: {claim}")
        await asyncio.sleep(LOOK_SECONDS)


class Daemon:
    """One process of the daemon."""

    def __init__(self, process: Child, log_file: Path) -> None:
        self._process = process
        self._log_file = log_file

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything that the process has written to its standard streams."""
        return self._log_file.read_text(errors="replace")

    async def says(self, words: str, *, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until the words are in the log, or fail."""
        await until(lambda: words in self.log or not self.is_running, f"the log says {words!r}", seconds=seconds)
        assert words in self.log, self.log

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def stop(self) -> int:
        """Ask it to stop; return the exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        await self._process.ended()

    async def ended(self, *, seconds: float = DEADLINE_SECONDS) -> int:
        """Wait for its end; return the exit code."""
        try:
            async with asyncio.timeout(seconds):
                return await self._process.ended()
        except TimeoutError as error:
            raise AssertionError(f"still running after {seconds} s:\n{self.log}") from error


class Site:
    """A root, a state folder, a configuration file, and the processes that were started with it."""

    def __init__(self, folder: Path, simulator: Simulator | None, *, forks: ForkServer | None = None) -> None:
        self.root = folder / "root"
        self.state = folder / "state"
        self.config_file = folder / "config.toml"
        self._folder = folder
        self._forks = forks
        self._simulator = simulator
        self._daemons: list[Daemon] = []
        make_root(self.root)
        self.configure()

    @property
    def simulator(self) -> Simulator:
        """The API, and the judge of what was bought."""
        assert self._simulator is not None, "this site has no simulator"
        return self._simulator

    @property
    def logs(self) -> str:
        """What all the processes have written to their standard streams."""
        return "".join(daemon.log for daemon in self._daemons)

    def configure(self, **sections: Mapping[str, object]) -> None:
        """Write the configuration: fast, with these keys on top."""
        base_url = self._simulator.base_url if self._simulator else "http://127.0.0.1:9"
        given = {"paths": {"root": str(self.root), "state": str(self.state)}, "api": {"base_url": base_url}}
        names = {*FAST, *given, *sections}
        whole = {
            name: {**FAST.get(name, {}), **given.get(name, {}), **sections.get(name, {})} for name in sorted(names)
        }
        self.config_file.write_text(tomli_w.dumps(whole))

    @asynccontextmanager
    async def daemon(
        self,
        *options: str,
        key: str | None = KEY,
        environment: Mapping[str, str] | None = None,
        anew: bool = False,
        through: Sequence[str] = (),
    ) -> AsyncIterator[Daemon]:
        """Run a daemon while the block lasts; whatever still runs then is killed.

        With `anew=True` it is started as systemd starts it, not forked with everything loaded; so is one that is
        started through another command.
        """
        assert self._forks is not None, "this site starts no daemons"
        log_file = self._folder / f"daemon-{len(self._daemons)}.log"
        with log_file.open("wb") as log:
            process = self._forks.spawn(
                ["run", "--config", str(self.config_file), *options],
                program=[*through, str(COMMAND)] if anew or through else None,
                environment=self._environment(key, anew=anew or bool(through)) | dict(environment or {}),
                cwd=self._folder,
                stdout=log.fileno(),
                stderr=log.fileno(),
            )
        daemon = Daemon(process, log_file)
        self._daemons.append(daemon)
        try:
            yield daemon
        finally:
            await daemon.kill()

    async def run(
        self, *options: str, key: str | None = KEY, anew: bool = False, through: Sequence[str] = ()
    ) -> tuple[int, str]:
        """Run a daemon to its end; return the exit code and what it wrote."""
        async with self.daemon(*options, key=key, anew=anew, through=through) as daemon:
            code = await daemon.ended()
        return code, daemon.log

    def _environment(self, key: str | None, *, anew: bool) -> dict[str, str]:
        variables = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "LANG": "C.UTF-8"}
        if anew and "PYTHONPATH" in os.environ:
            variables["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return variables if key is None else {**variables, "ANTHROPIC_API_KEY": key}

    def drop(self, name: str | bytes, content: str | bytes, *, lane: str = "") -> None:
        """Put a finished file into the inbox."""
        folder = os.fsencode(self.root / "inbox" / lane)
        data = content.encode() if isinstance(content, str) else content
        hidden = os.path.join(folder, b".dropped")
        with open(hidden, "wb") as file:
            file.write(data)
        os.rename(hidden, os.path.join(folder, os.fsencode(name)))

    def visible(self, top: str, lane: str = "") -> set[str]:
        """Return the names of the files in a folder of the root, without hidden ones and without lanes."""
        folder = self.root / top / lane
        if not folder.is_dir():
            return set()
        return {path.name for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir()}

    def claims(self) -> list[str]:
        """Return the files that are in processing/."""
        found = self.root.glob("processing/*/*/*")
        return sorted(path.name for path in found)

    def waiting(self) -> list[str]:
        """Return the files that are in the inbox and its lanes."""
        found = [*self.root.glob("inbox/*"), *self.root.glob("inbox/*/*")]
        return sorted(path.name for path in found if not path.name.startswith(".") and not path.is_dir())

    def text(self, name: str, lane: str = "") -> str:
        """Return the text of a file in the outbox."""
        return (self.root / "outbox" / lane / name).read_text()

    def document(self, name: str, lane: str = "") -> Json:
        """Return a JSON document in the outbox."""
        document: Json = json.loads(self.text(name, lane))
        return document

    def explanation(self, name: str) -> dict[str, str]:
        """Return the parts of an explanation in rejected/, by their titles."""
        text = (self.root / "rejected" / f"{name}.error.txt").read_bytes().decode()
        assert text.endswith("\r\n")
        lines = [line for line in text.split("\r\n") if line and not line.startswith(" ")]
        return {title: rest.strip() for title, _, rest in (line.partition(":") for line in lines)}

    async def ends(self, *markers: str, lane: str = "", seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until the `.result.json`s or `.error.json`s are there."""
        await until(
            lambda: set(markers) <= self.visible("outbox", lane),
            f"the outbox has {sorted(set(markers))[:5]}",
            seconds=seconds,
        )

    async def answers(self, *stems: str, lane: str = "", seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until the requests are answered."""
        await self.ends(*(f"{stem}.result.json" for stem in stems), lane=lane, seconds=seconds)

    async def settles(self, *, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until nothing lies in the inbox or in processing/ any more."""
        await until(
            lambda: not self.claims() and not self.waiting(),
            "nothing is left in the inbox and in processing/",
            seconds=seconds,
        )

    def check_nothing_was_bought_twice(self) -> None:
        """Fail if the ledger has one request's params paid for more than once."""
        twice = {sha: len(bought) for sha, bought in self.simulator.ledger.purchases_by_params().items() if bought[1:]}
        assert not twice, f"paid for more than once: {twice}"

    def check_everything_ended(self) -> None:
        """Fail if anything is half done: a claim, a hidden part, an open manifest."""
        assert self.claims() == []
        assert [path.name for path in self.root.glob("outbox/**/.bb-*")] == []
        assert [path.name for path in self.root.glob(".batchbox/batches/*/*.jsonl")] == []

    def check_log_is_clean(self) -> None:
        """Fail if a log has a crash in it, or what must never be in one."""
        assert "Traceback" not in self.logs, self.logs
        assert KEY not in self.logs
        assert SECRET not in self.logs

    def attempts(self) -> Counter[str | None]:
        """Return how many create calls met which fault."""
        return Counter(attempt.fault for attempt in self.simulator.ledger.attempts)

    def batch_sizes(self) -> list[int]:
        """Return how many requests each accepted batch has."""
        return list(Counter(purchase.batch_id for purchase in self.simulator.ledger.purchases).values())


@asynccontextmanager
async def open_site(folder: Path, forks: ForkServer, simulator: Simulator | None) -> AsyncIterator[Site]:
    """Make a site; after a test that went well, what must hold for every site is checked."""
    site = Site(folder, simulator, forks=forks)
    yield site
    site.check_log_is_clean()
    if simulator is not None:
        site.check_nothing_was_bought_twice()


def prompt(words: str) -> str:
    """Return a prompt with these words; it holds what must be in no log."""
    return f"{words} {SECRET}\n"


def request(words: str, **rest: object) -> Json:
    """Return a request's params with one message."""
    return {"messages": [{"role": "user", "content": prompt(words)}], **rest}
