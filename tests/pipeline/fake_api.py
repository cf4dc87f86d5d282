"""The second implementation of `batchbox.api.BatchesApi`: a workspace in memory, with a ledger of what was bought."""

import hashlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from batchbox.api import (
    Accepted,
    ApiTrouble,
    BatchBody,
    BatchInfo,
    BatchPage,
    CreateOutcome,
    ModelInfo,
    Refused,
    RequestCounts,
    SurelyNot,
    Trouble,
    TroubleKind,
    Unknown,
)
from batchbox.model import ApiBatchId

NO_NETWORK = Trouble(kind=TroubleKind.NETWORK, text="connection reset")


class Reply(StrEnum):
    """How the next create call fares."""

    ACCEPT = "accept"
    LOSE = "lose"
    """Accepted, and nobody hears of it."""
    NEVER_ARRIVED = "never_arrived"
    """Not accepted, and nobody can tell."""
    SURELY_NOT = "surely_not"
    OVERLOADED = "overloaded"
    TOO_LARGE = "too_large"


OUTCOMES: Mapping[Reply, CreateOutcome] = {
    Reply.LOSE: Unknown(trouble=NO_NETWORK),
    Reply.NEVER_ARRIVED: Unknown(trouble=NO_NETWORK),
    Reply.SURELY_NOT: SurelyNot(trouble=NO_NETWORK),
    Reply.OVERLOADED: SurelyNot(trouble=Trouble(kind=TroubleKind.OVERLOADED, text="529 overloaded_error", status=529)),
    Reply.TOO_LARGE: Refused(too_large=True, text="413 request_too_large"),
}


@dataclass(slots=True)
class FakeBatch:
    """A batch in the workspace."""

    id: ApiBatchId
    requests: dict[str, bytes]
    created_at: datetime
    has_ended: bool = False
    is_deleted: bool = False
    is_foreign: bool = False
    is_hidden: bool = False
    """Not in the list: it lags."""
    was_hidden: bool = False
    """For longer than batchbox waits for it: then it may be bought again."""
    lines: list[bytes] = field(default_factory=list)


Answerer = Callable[[str, bytes, int], dict[str, object]]
"""Given custom_id, params and how often these params were bought before: the `result` of the line."""


def answer(custom_id: str, params: bytes, times_bought: int) -> dict[str, object]:
    """Answer with a text that only these params have."""
    del custom_id, times_bought
    text = f"answer to {hashlib.sha256(params).hexdigest()}"
    message = {
        "type": "message",
        "model": "claude-opus-5-5",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 20},
    }
    return {"type": "succeeded", "message": message}


def errored(error_type: str, message: str) -> dict[str, object]:
    """Return the result of a line that was not answered."""
    return {"type": "errored", "error": {"type": "error", "error": {"type": error_type, "message": message}}}


class FakeApi:
    """A workspace. Faults are queued; a call without one succeeds."""

    def __init__(self, wall: Callable[[], datetime]) -> None:
        self._wall = wall
        self.batches: list[FakeBatch] = []
        self._elsewhere: list[FakeBatch] = []
        self.replies: deque[Reply] = deque()
        self.troubles: deque[Trouble] = deque()
        """What the next repeatable calls meet."""
        self.cut_results_after: deque[int] = deque()
        """After how many lines the next readings of results end, looking complete."""
        self.answerer: Answerer = answer
        self.refuses: Callable[[bytes], bool] = lambda _: False
        """Which bodies are refused, whatever the next reply."""
        self.refusal = "400 invalid_request_error: poison"
        """What is said of them."""
        self.when_created: Callable[[], object] = lambda: None
        """What else happens in the world at the moment when a batch is taken."""
        self.before_retrieve: Callable[[], Awaitable[object]] | None = None
        """What else happens before the next question about a batch is answered."""
        self.organization_id: str | None = "org_fake"
        self.cancelled: list[ApiBatchId] = []
        self.raw_results: dict[ApiBatchId, deque[bytes]] = {}
        """What the next readings of a batch's results get instead of its lines."""
        self.gone: set[ApiBatchId] = set()
        """Batches that are known and whose results are not."""
        self.list_without_end = False
        """Whether pages say that there are more and not where."""
        self.create_count = 0
        self.betas_seen: list[Sequence[str]] = []

    @property
    def bought(self) -> list[str]:
        """The SHA-256 of every params that was ever accepted, once per purchase."""
        return [hashlib.sha256(params).hexdigest() for batch in self.batches for params in batch.requests.values()]

    def add_foreign(self, request_count: int, *, has_ended: bool) -> FakeBatch:
        """Add a batch of another program's."""
        requests = {f"theirs-{number}": b'{"messages":[]}' for number in range(request_count)}
        batch = self._add(requests)
        batch.is_foreign = True
        if has_ended:
            self.end(batch)
        return batch

    def enter_other_workspace(self) -> None:
        """Answer for a workspace that is empty, until `return_to_workspace`."""
        self._elsewhere, self.batches = self.batches, []

    def return_to_workspace(self) -> None:
        """Answer for the first workspace again."""
        assert not self.batches, "something was bought in the other workspace"
        self.batches = self._elsewhere

    def end_all(self) -> None:
        """Let every batch end."""
        for batch in self.batches:
            if not batch.has_ended:
                self.end(batch)

    def end(self, batch: FakeBatch) -> None:
        """Let one batch end, its lines in another order than its requests."""
        for custom_id, params in reversed(batch.requests.items()):
            digest = hashlib.sha256(params).hexdigest()
            times_bought = self.bought.count(digest)
            batch.lines.append(_line(custom_id, self.answerer(custom_id, params, times_bought)))
        batch.has_ended = True

    async def create(self, body: BatchBody, *, betas: Sequence[str]) -> CreateOutcome:
        """Take a batch, or do what the next reply says."""
        self.create_count += 1
        self.betas_seen.append(betas)
        raw = b"".join([piece async for piece in body])
        assert len(raw) == body.size_bytes, "content-length is wrong"
        if self.refuses(raw):
            return Refused(too_large=False, text=self.refusal)
        requests = {one["custom_id"]: json.dumps(one["params"]).encode() for one in json.loads(raw)["requests"]}
        assert len(requests) == body.request_count, "custom_ids are not unique"
        reply = self.replies.popleft() if self.replies else Reply.ACCEPT
        self.when_created()
        if reply is Reply.ACCEPT:
            return Accepted(batch=self._info(self._add(requests)), request_id=f"req_{self.create_count}")
        if reply is Reply.LOSE:
            self._add(requests)
        return OUTCOMES[reply]

    async def list_batches(self, *, limit: int, after_id: ApiBatchId | None = None) -> BatchPage:
        """Return a page, newest first."""
        self._meet_trouble()
        newest_first = [batch for batch in reversed(self.batches) if not (batch.is_deleted or batch.is_hidden)]
        start = 0
        if after_id is not None:
            start = 1 + [batch.id for batch in newest_first].index(after_id)
        page = newest_first[start : start + limit]
        return BatchPage(
            batches=[self._info(batch) for batch in page],
            has_more=start + limit < len(newest_first) or self.list_without_end,
            last_id=page[-1].id if page and not self.list_without_end else None,
        )

    async def retrieve(self, batch_id: ApiBatchId) -> BatchInfo:
        """Return one batch."""
        meanwhile, self.before_retrieve = self.before_retrieve, None
        if meanwhile is not None:
            await meanwhile()
        self._meet_trouble()
        return self._info(self._find(batch_id))

    async def cancel(self, batch_id: ApiBatchId) -> BatchInfo:
        """End a batch early: nothing in it is answered any more."""
        self._meet_trouble()
        batch = self._find(batch_id)
        if batch.has_ended:
            raise ApiTrouble(
                Trouble(kind=TroubleKind.CLIENT, text="400 invalid_request_error: it has ended", status=400)
            )
        self.cancelled.append(batch_id)
        batch.lines = [_line(custom_id, {"type": "canceled"}) for custom_id in batch.requests]
        batch.has_ended = True
        return self._info(batch)

    @asynccontextmanager
    async def results(self, batch_id: ApiBatchId) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream a batch's lines, in pieces that do not end where lines do."""
        self._meet_trouble()
        lines = self._find(batch_id).lines
        if batch_id in self.gone:
            raise ApiTrouble(Trouble(kind=TroubleKind.NOT_FOUND, text="404 not_found_error", status=404))
        if self.cut_results_after:
            lines = lines[: self.cut_results_after.popleft()]
        queued = self.raw_results.get(batch_id)
        raw = queued.popleft() if queued else b"".join(lines)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(raw), 100):
                yield raw[start : start + 100]

        yield pieces()

    async def model(self, model_id: str) -> ModelInfo:
        """Return a model."""
        return ModelInfo(id=model_id, output_tokens_max=128_000)

    def _add(self, requests: dict[str, bytes]) -> FakeBatch:
        number = len(self.batches) + 1
        batch = FakeBatch(id=ApiBatchId(f"msgbatch_{number:04}"), requests=requests, created_at=self._wall())
        self.batches.append(batch)
        return batch

    def _find(self, batch_id: ApiBatchId) -> FakeBatch:
        for batch in self.batches:
            if batch.id == batch_id and not batch.is_deleted:
                return batch
        raise ApiTrouble(Trouble(kind=TroubleKind.NOT_FOUND, text="404 not_found_error", status=404))

    def _meet_trouble(self) -> None:
        if self.troubles:
            raise ApiTrouble(self.troubles.popleft())

    def _info(self, batch: FakeBatch) -> BatchInfo:
        count = len(batch.requests)
        ended = count if batch.has_ended else 0
        archived_at = batch.created_at + timedelta(days=29)
        return BatchInfo(
            id=batch.id,
            status="ended" if batch.has_ended else "in_progress",
            counts=RequestCounts(processing=count - ended, succeeded=ended, errored=0, canceled=0, expired=0),
            created_at=batch.created_at.astimezone(UTC),
            expires_at=batch.created_at + timedelta(hours=24),
            ended_at=self._wall() if batch.has_ended else None,
            archived_at=archived_at if self._wall() >= archived_at else None,
        )


def _line(custom_id: str, result: dict[str, object]) -> bytes:
    return json.dumps({"custom_id": custom_id, "result": result}).encode() + b"\n"
