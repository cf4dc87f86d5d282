"""The fake workspace as the model uses it: every request has a tag, a fate for each purchase, and a history.

Tags are in the prompts, so that whatever comes back, in a body, a ledger or a document, says whose it is.
"""

import json
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum

from batchbox.api import (
    RESULTS_KEPT,
    ApiTrouble,
    BatchBody,
    BatchInfo,
    CreateOutcome,
    Refused,
    SurelyNot,
    Trouble,
    TroubleKind,
)
from batchbox.model import ApiBatchId
from pipeline.bench import BenchApi
from pipeline.fake_api import FakeBatch, answer, errored
from pipeline.lines import succeeded

from .model_power import Power

_TAG = re.compile(r"\[q([0-9]+)\]")
_POISON = "poison"
CREDIT = "Your credit balance is too low"
GONE = Trouble(kind=TroubleKind.NOT_FOUND, text="404 not_found_error", status=404)
NO_ENTRY = Trouble(kind=TroubleKind.KEY, text="403 permission_error", status=403)
CUT = Trouble(kind=TroubleKind.NETWORK, text="connection reset while reading")


class Fate(StrEnum):
    """How one purchase of a request ends."""

    ANSWER = "answer"
    SHORT = "short"
    """Stopped at max_tokens."""
    TRANSIENT = "transient"
    EXPIRED = "expired"
    CREDIT = "credit"
    INVALID = "invalid"
    CANCELED = "canceled"
    MISSING = "missing"
    """Its line is not in the results."""


COUNTED_FATES = frozenset({Fate.TRANSIENT, Fate.EXPIRED})
"""Not paid, bought again, and counted as an attempt."""
REPEATED_FATES = COUNTED_FATES | {Fate.CREDIT}
"""Not paid, and bought again."""


class Workspace(BenchApi):
    """The workspace, with what happened to every request in it."""

    def __init__(self, wall: Callable[[], datetime], *, power: Power) -> None:
        super().__init__(wall)
        self.points = power
        self.answerer = self._answer
        self.refuses = self._refuses
        self.fates: dict[int, Sequence[Fate]] = {}
        """By tag: how its purchases end, one after the other; further ones are answered."""
        self.outcomes: dict[ApiBatchId, dict[int, Fate]] = {}
        """How the requests of ended batches fared."""
        self.touched: set[int] = set()
        """Requests of which something has become that may have ended them."""
        self.refused: set[int] = set()
        self.short_reads: Counter[ApiBatchId] = Counter()
        self.breaks: deque[int] = deque()
        """After how many pieces the next readings of results meet trouble."""
        self.lag_count = 0
        """So many batches to come are not in the list at first."""
        self.is_elsewhere = False
        self.refuses_all = False
        self._home: list[FakeBatch] = []
        self._ended_counts: Counter[int] = Counter()
        self._made_count = 0

    @property
    def home(self) -> list[FakeBatch]:
        """The batches of the workspace that our work lies in, whichever is answering."""
        return self._home if self.is_elsewhere else self.batches

    @property
    def ours(self) -> list[FakeBatch]:
        """What batchbox bought."""
        return [batch for batch in self.home if not batch.is_foreign]

    def enter_other_workspace(self) -> None:
        """Answer for an empty workspace, where nothing can be bought."""
        self.is_elsewhere = True
        self._home, self.batches = self.batches, []

    def return_to_workspace(self) -> None:
        """Answer for the first workspace again."""
        self.batches, self.is_elsewhere = self._home, False

    async def create(self, body: BatchBody, *, betas: object) -> CreateOutcome:
        """Take a batch or not; a refusal says which requests it was about."""
        if self.is_elsewhere:
            return SurelyNot(trouble=NO_ENTRY)
        tags = tags_in(b"".join([piece async for piece in body]))
        self.refusal = f"400 invalid_request_error: requests.0 is bad, one of {_named(tags)}"
        if self.refuses_all and len(tags) > 1:
            self.refusal = "400 invalid_request_error: no"
        before = len(self.batches)
        outcome = await super().create(body, betas=betas)
        for batch in self.batches[before:]:
            batch.is_hidden = self.lag_count > 0
            self.lag_count = max(0, self.lag_count - 1)
        if isinstance(outcome, Refused):
            self.refused |= set(tags)
            self.touched |= set(tags)
            return Refused(
                too_large=outcome.too_large,
                text=f"{outcome.text}{'' if outcome.text == self.refusal else _named(tags)}",
            )
        return outcome

    def end(self, batch: FakeBatch) -> None:
        """Let one batch end, each request as its fate has it."""
        self.outcomes[batch.id] = {}
        super().end(batch)
        for params in () if batch.is_foreign else batch.requests.values():
            tag = tag_of(params)
            self.outcomes[batch.id][tag] = self._fate(tag)
            self._ended_counts[tag] += 1
            self.touched.add(tag)

    def cancel_in_console(self, batch: FakeBatch) -> None:
        """Let somebody cancel a batch that runs."""
        batch.lines = [_line(wire_id, {"type": "canceled"}) for wire_id in batch.requests]
        batch.has_ended = True
        self.outcomes[batch.id] = dict.fromkeys(map(tag_of, batch.requests.values()), Fate.CANCELED)
        self.touched |= self.outcomes[batch.id].keys()

    async def cancel(self, batch_id: ApiBatchId) -> BatchInfo:
        """Let batchbox cancel a batch."""
        info = await super().cancel(batch_id)
        batch = self._find(batch_id)
        self.outcomes[batch_id] = dict.fromkeys(map(tag_of, batch.requests.values()), Fate.CANCELED)
        self.touched |= self.outcomes[batch_id].keys()
        return info

    def lose_line(self, batch: FakeBatch) -> None:
        """Let one line of the results be missing for good."""
        wire_id = json.loads(batch.lines.pop())["custom_id"]
        self.outcomes[batch.id][tag_of(batch.requests[wire_id])] = Fate.MISSING

    def touch_all(self) -> None:
        """Note that so much time has passed that anything may have ended."""
        self.touched |= {tag_of(params) for batch in self.ours for params in batch.requests.values()}

    def is_archived(self, batch: FakeBatch) -> bool:
        """Say whether nobody can read its results any more."""
        return self._wall() >= batch.created_at + RESULTS_KEPT

    @asynccontextmanager
    async def results(self, batch_id: ApiBatchId) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream a batch's lines, cut or broken as the next faults have it."""
        if any(batch.id == batch_id and self.is_archived(batch) for batch in self.batches):
            raise ApiTrouble(GONE)
        cut_count = len(self.cut_results_after)
        async with super().results(batch_id) as pieces:
            self.short_reads[batch_id] += cut_count - len(self.cut_results_after)
            yield _broken(pieces, self.breaks.popleft()) if self.breaks else pieces

    def _add(self, requests: dict[str, bytes]) -> FakeBatch:
        batch = super()._add(requests)
        self._made_count += 1
        batch.id = ApiBatchId(f"msgbatch_{self._made_count:04}")
        return batch

    def _refuses(self, raw: bytes) -> bool:
        return self.refuses_all or _POISON.encode() in raw

    def _fate(self, tag: int) -> Fate:
        fates, number = self.fates.get(tag, ()), self._ended_counts[tag]
        return fates[number] if number < len(fates) else Fate.ANSWER

    def _answer(self, wire_id: str, params: bytes, times_bought: int) -> dict[str, object]:
        found = tags_in(params)
        match self._fate(found[0]) if found else Fate.ANSWER:
            case Fate.SHORT:
                text = str(answer(wire_id, params, times_bought)["message"]["content"][0]["text"])  # type: ignore[index] # JSON
                return succeeded("max_tokens", text=text)
            case Fate.TRANSIENT:
                return errored("overloaded_error", "Overloaded")
            case Fate.CREDIT:
                return errored("invalid_request_error", CREDIT)
            case Fate.INVALID:
                return errored("invalid_request_error", "temperature: is bad")
            case Fate.EXPIRED:
                return {"type": "expired"}
            case _:
                return answer(wire_id, params, times_bought)


def tags_in(data: bytes | str) -> list[int]:
    """Return the tags of all requests in a body, in order."""
    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    return [int(tag) for tag in _TAG.findall(text)]


def tag_of(params: bytes) -> int:
    """Return the tag of one request."""
    (tag,) = tags_in(params)
    return tag


def prompt(tag: int, *, is_poison: bool = False) -> str:
    """Return the prompt of a request."""
    return f"[q{tag}] {_POISON if is_poison else 'please'}"


def foreign_line() -> bytes:
    """Return a line that is about nothing of ours."""
    return _line("theirs-1", {"type": "expired"})


def _named(tags: Iterable[int]) -> str:
    return " ".join(f"[q{tag}]" for tag in tags)


def _line(wire_id: str, result: dict[str, object]) -> bytes:
    return json.dumps({"custom_id": wire_id, "result": result}).encode() + b"\n"


async def _broken(pieces: AsyncIterator[bytes], after: int) -> AsyncIterator[bytes]:
    for _ in range(after):
        yield await anext(pieces, b"")
    raise ApiTrouble(CUT)
