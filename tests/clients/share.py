"""A folder that a daemon serves and clients drop into: a lane per test, and what must have become of its files.

What was bought is read from the simulator's ledger, by the hash of exactly what had to be sent; where the files went is
read from the folders. Nothing the daemon says of itself is believed.
"""

import asyncio
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from batchbox.simulator import SimulatorSettings, serve
from e2e.site import SECRET, Site, open_site, until
from forking import ForkServer

MODEL = "claude-opus-5-5"
TOKENS_MAX = 500
QUIET_SECONDS = 0.5
PAUSE_SECONDS = 0.05
"""A writer's pause that must not be taken for its end: far shorter than `quiet`, on a busy machine too."""
SLOW_BYTES_PER_SECOND = 1_000_000
"""A slow line: Samba passes on 64 KiB at once, every 16th of a second."""
OLD = 1_000_000_000
"""A moment in 2001."""
ARRIVAL_SECONDS = 40.0

SIMULATOR = SimulatorSettings(processing_seconds=0.1)
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "defaults": {"model": MODEL, "max_tokens": TOKENS_MAX},
    "window": {"max_wait": 0.2},
    "inbox": {"quiet": QUIET_SECONDS, "rescan": 0.3, "incomplete_after": 60},
}

_NUMBERED = re.compile(r"__\d+(?=\.\w+\Z)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """One file as it is when its writer is done, and what is to be asked for it."""

    name: str
    content: bytes
    prompt: str

    def write(self, folder: Path, *, name: str | None = None) -> Path:
        """Write it into a folder of the client's own, or into the inbox by the means of Python."""
        path = folder / (name or self.name)
        path.write_bytes(self.content)
        return path

    def write_old(self, folder: Path) -> Path:
        """Write it as a file that nobody has changed for a long time."""
        path = self.write(folder)
        os.utime(path, (OLD, OLD))
        return path

    def with_prompt(self, prompt: str) -> "Drop":
        """Return a text of the same name that says something else."""
        return Drop(name=self.name, content=prompt.encode(), prompt=prompt)

    @property
    def purchase(self) -> str:
        """What the ledger calls a purchase of exactly this content."""
        return hashlib.sha256(_compact(_params(self.prompt))).hexdigest()


class Lane:
    """A lane of a test's own."""

    def __init__(self, site: Site, name: str, *, desk: Path) -> None:
        self.name = name
        self.inbox = site.root / "inbox" / name
        self.desk = desk
        """A folder of the client's own, where its files lie before they are dropped."""
        self.arrived: list[Drop] = []
        self._site = site
        self._version_count = 0
        self.inbox.mkdir()
        self.desk.mkdir(parents=True)

    def text(self, name: str, *, line_count: int = 200) -> Drop:
        """Think up a text of lines that no other file has, about 60 bytes each."""
        self._version_count += 1
        title = f"{self.name}, {name}, version {self._version_count}"
        prompt = "".join(f"{title}, line {number} of {line_count} {SECRET}\n" for number in range(1, line_count + 1))
        return Drop(name=name, content=prompt.encode(), prompt=prompt)

    def document(self, name: str, *, line_count: int = 200) -> Drop:
        """Think up a JSON document, which shows by itself whether it is whole."""
        prompt = self.text(name, line_count=line_count).prompt
        return Drop(name=name, content=json.dumps(_params(prompt), indent=1).encode(), prompt=prompt)

    def claims(self) -> list[str]:
        """Return what of this lane is in processing/."""
        return sorted(path.name for path in self._site.root.glob(f"processing/*/{self.name}/*"))

    def size_in_inbox(self, name: str) -> int:
        """Return how many bytes of a file have come; 0 if it is not there."""
        try:
            return (self.inbox / name).stat().st_size
        except FileNotFoundError:
            return 0

    async def has_part_of(self, drop: Drop) -> None:
        """Wait until a part of the file is in the inbox, under its own name."""
        await until(lambda: self.size_in_inbox(drop.name), f"a part of {drop.name} is in the inbox")
        assert self.size_in_inbox(drop.name) < len(drop.content), "the client was too fast to be caught at it"

    async def receives(
        self, *drops: Drop, perhaps: Sequence[Drop] = (), left: Collection[str] = (), seconds: float = ARRIVAL_SECONDS
    ) -> None:
        """Wait until everything has ended, and fail unless each file arrived once, whole, and nothing else did.

        Args:
            drops: What has to arrive.
            perhaps: What may have arrived before something else took its place: once and whole, or not at all.
            left: Names that stay in the inbox, because they are never requests.
            seconds: How long that may take.
        """
        await until(lambda: self._is_done(len(drops), left), f"{self.name} has ended: {self._where()}", seconds=seconds)
        self._check_originals(drops, perhaps)
        self._check_answers()

    def _is_done(self, count: int, left: Collection[str]) -> bool:
        """Look in the order of a file's way, so that none is overlooked while it is moved."""
        waiting = {path.name for path in self.inbox.iterdir()} - set(left)
        return not waiting and not self.claims() and len(self._originals()) >= count

    def _where(self) -> str:
        return f"in done/ {sorted(self._originals())[:5]}, in the inbox {sorted(self.inbox.iterdir())[:5]}"

    def _originals(self) -> list[tuple[str, bytes]]:
        folder = self._site.root / "done" / self.name
        return [
            (_NUMBERED.sub("", path.name), path.read_bytes())
            for path in folder.glob("*")
            if not path.name.startswith(".")
        ]

    def _check_originals(self, drops: Sequence[Drop], perhaps: Sequence[Drop]) -> None:
        originals = Counter(self._originals())
        expected = Counter((drop.name, drop.content) for drop in drops)
        earlier = [drop for drop in perhaps if (drop.name, drop.content) in originals]
        expected.update((drop.name, drop.content) for drop in earlier)
        self.arrived = [*drops, *earlier]
        assert self._site.visible("rejected", self.name) == set()
        assert _listed(originals - expected) == [], "these arrived, and nobody dropped them so"
        assert _listed(expected - originals) == [], "these were dropped, and did not arrive so"

    def _check_answers(self) -> None:
        """Check that each original has one answer, to exactly what is in it."""
        site, ledger = self._site, self._site.simulator.ledger
        markers = [name for name in site.visible("outbox", self.name) if name.endswith((".result.json", ".error.json"))]
        documents = {name: site.document(name, self.name) for name in markers}
        bought = {purchase.custom_id: purchase.params_sha256 for purchase in ledger.purchases}
        answered = Counter(
            (document["source"], bought[wire_id]) for document in documents.values() for wire_id in document["wire_ids"]
        )
        assert answered == Counter((drop.name, drop.purchase) for drop in self.arrived)
        for name, document in documents.items():
            answer = site.text(name.replace(".result.json", ".md"), self.name)
            assert document["message"]["content"][0]["text"] == answer


class Share:
    """A daemon at work, and the lanes of all tests that drop into its root."""

    def __init__(self, site: Site, desks: Path) -> None:
        self.site = site
        self._desks = desks
        self._lanes: list[Lane] = []
        self._clock_count = 0

    def lane(self, title: str) -> Lane:
        """Make a lane."""
        name = re.sub(r"\W+", "-", title).strip("-")
        lane = Lane(self.site, name, desk=self._desks / name)
        self._lanes.append(lane)
        return lane

    async def at_once(self, title: str, stories: Mapping[str, Callable[[Lane], Awaitable[None]]]) -> None:
        """Let stories happen at the same time, each in a lane of its own. What went wrong names the lane."""
        async with asyncio.TaskGroup() as group:
            for name, story in stories.items():
                group.create_task(_told(story, self.lane(f"{title} {name}")))

    async def outlast(self) -> None:
        """Wait until a file of an unknown type, dropped now, is given up: so would be all that nobody ignores."""
        self._clock_count += 1
        clock = self.site.root / "inbox" / f"clock-{self._clock_count}"
        clock.mkdir()
        (clock / "clock.unknown").write_text("tick\n")
        await until(lambda: self.site.visible("rejected", clock.name), "a file of an unknown type is given up")

    def check(self) -> None:
        """Fail if anything was bought that no lane received."""
        bought = Counter(purchase.params_sha256 for purchase in self.site.simulator.ledger.purchases)
        expected = Counter(drop.purchase for lane in self._lanes for drop in lane.arrived)
        assert bought == expected, f"{(bought - expected).total()} were bought that nobody dropped so"


@asynccontextmanager
async def open_share(folder: Path, forks: ForkServer, **sections: Mapping[str, object]) -> AsyncIterator[Share]:
    """Run a daemon on a new root while the block lasts; it stops in good order, with nothing half done."""
    async with serve(SIMULATOR) as simulator, open_site(folder, forks, simulator) as site:
        names = {*SETTINGS, *sections}
        site.configure(**{name: {**SETTINGS.get(name, {}), **sections.get(name, {})} for name in names})
        async with site.daemon() as daemon:
            share = Share(site, folder / "desks")
            yield share
            share.check()
            code = await daemon.stop()
        assert code == 0, daemon.log
        site.check_everything_ended()


async def _told(story: Callable[[Lane], Awaitable[None]], lane: Lane) -> None:
    try:
        await story(lane)
    except Exception as error:
        error.add_note(f"in the lane {lane.name}")
        raise


def _params(prompt: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": prompt}], "model": MODEL, "max_tokens": TOKENS_MAX}


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _listed(files: Counter[tuple[str, bytes]]) -> list[str]:
    return [f"{count} times {name}, {len(content)} bytes" for (name, content), count in files.items()]
