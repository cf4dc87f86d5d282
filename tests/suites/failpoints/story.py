"""What happens to the files in every run: a little of everything that can go well or wrong without any fault.

Two lanes beside the inbox; a file of several requests; a file that is read in parts; a double drop; two bad files;
a create call whose reply is lost, with other programs' batches of the same size before and after it; a batch that is
refused for one of its requests; a line that is overloaded once; a line that is an error; results that are cut once.
"""

import json
import pickle
import random
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from batchbox.intake import recording
from batchbox.service.driving import Patient
from batchbox.store.database import FILE_NAME
from pipeline.bench import Bench
from pipeline.fake_api import FakeBatch, Reply, answer, errored
from pipeline.invariants import check, stranger

from .doubles import Workspace
from .points import Place

BATCH_SECONDS = 12.0
"""So long the workspace works on a batch, by the bench's clock."""
DOUBLE_DROP_SECONDS = 75.0
"""And so long on the double drop's: a file that cannot be read is tried again within a minute, and its id is open."""
STAGES = ("intake", "dispatch", "polling", "delivery")
LONG_FROM_BYTES = 200
"""From this size on the story's files are read in parts, so that a long file need not be one."""

BOUGHT = {"a": 1, "b-1": 1, "own": 1, "d": 1, "long-1": 1, "long-2": 1, "c": 2, "fine": 1}
"""How often each request is paid for: `c` twice, because its first try was not answered, and not billed."""
CHARGED = 7
"""Lines with an answer."""


def _request(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}]}


def _lines(*requests: object) -> str:
    return "".join(f"{json.dumps(request)}\n" for request in requests)


FILES: Mapping[str, str] = {
    "a.md": "first question",
    "a.txt": "first question",
    "b.json": json.dumps({"requests": [_request("one"), {"custom_id": "own", "params": _request("two")}]}),
    "bad.json": "{]",
    "d.md": "nothing that can be answered",
    "long.jsonl": _lines(_request("three " * 30), _request("four")),
    "reports/c.txt": "in a lane",
    "reports/e.jsonl": _lines(_request("five " * 50), {"custom_id": "no messages"}),
    "odd/fine.md": "a question beside poison",
    "odd/poison.md": "poison",
}


class Story(Bench):
    """A bench whose workspace and clocks outlive the process that works there."""

    def __init__(self, folder: Path) -> None:
        self._world = folder / "world"
        self.full_until: dict[Place, float] = {}
        self._patients: dict[str, Patient] = {}
        super().__init__(folder)
        recording.LONG_FROM_BYTES = recording.PART_BYTES = LONG_FROM_BYTES
        recording.GATHERED_REQUESTS = 1
        self.workspace = Workspace(lambda: self.now.wall, self.keep)
        self.workspace.answerer = _answer
        self.workspace.refuses = lambda body: b'"poison"' in body
        self.api = self.workspace

    def begin(self) -> None:
        """Drop the files, and let other programs be at work."""
        for path, content in FILES.items():
            lane, _, name = path.rpartition("/")
            self.drop(name, content, lane=lane or None)
        self.workspace.replies.append(Reply.LOSE)
        for count in (1, 2, 6):
            self.workspace.add_foreign(count, has_ended=True)
        super().advance(60.0)
        self.keep()

    async def take_step(self, stage: str) -> float:
        """Let one stage take one step, in a process that is started if there is none; return when the next is due."""
        if self.stages is None:
            await self.start()
            self._patients = {name: Patient(name, getattr(self.stages, name), chance=random.random) for name in STAGES}
        return await self._patients[stage].step(self.now)

    def has_tables(self) -> bool:
        """Say whether a process has lived long enough to make the database."""
        return (self.state / FILE_NAME).exists() and bool(self.rows("SELECT 1 FROM sqlite_master"))

    def require_invariants(self) -> None:
        """Check what must hold whatever happened. Raises AssertionError."""
        with stranger(self.state) as ask:
            check(self.root, ask, self.api, self.dropped, replaces_old=False)

    def is_settled(self) -> bool:
        """Say whether nothing is left to do: a batch all of whose answers are there may still have to be closed."""
        return super().is_settled() and not self.rows("SELECT 1 FROM batches WHERE state = 'ended'")

    def keep(self) -> None:
        """Write down what the next process must find: it is written whole between two points, so it is never torn."""
        api = self.workspace
        state = (self._monotonic, self._wall, self.full_until, api.batches, api.replies, api.readings)
        self._world.write_bytes(pickle.dumps(state))

    def recall(self) -> None:
        """Go on with what was written down."""
        api = self.workspace
        state = pickle.loads(self._world.read_bytes())  # noqa: S301 - our own, of a moment ago
        self._monotonic, self._wall, self.full_until, api.batches, api.replies, api.readings = state

    def advance(self, seconds: float) -> None:
        """Push both clocks, and let the batches end whose time has come."""
        super().advance(seconds)
        for batch in self.workspace.batches:
            if not batch.has_ended and self.now.wall >= batch.created_at + _duration(batch):
                self.workspace.end(batch)
        self.keep()


def _duration(batch: FakeBatch) -> timedelta:
    has_double_drop = any(wire_id.startswith("a__") for wire_id in batch.requests)
    return timedelta(seconds=DOUBLE_DROP_SECONDS if has_double_drop else BATCH_SECONDS)


def _answer(custom_id: str, params: bytes, times_bought: int) -> dict[str, object]:
    if b"in a lane" in params and times_bought == 1:
        return errored("overloaded_error", "overloaded")
    if b"nothing that can be answered" in params:
        return errored("invalid_request_error", "no such thing")
    return answer(custom_id, params, times_bought)
