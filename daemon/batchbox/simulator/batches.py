"""The simulator's batches and their lives in simulated time.

Theory of operation. Nothing runs between calls: a batch is created with the moment at which it will end, and whoever
looks at it later than that finds it ended. Ending it decides every request's answer, once. Requests are processed in
a seeded order, evenly over the batch's time, so that a cancellation or the expiry after 24 hours finds some finished.

One event loop owns the batches; only Batches changes them.
"""

import hashlib
import random
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import msgspec

from batchbox.simulator.answers import CANCELED, EXPIRED, Answer, Outcome, decide, line
from batchbox.simulator.clock import Clock
from batchbox.simulator.envelope import Entry
from batchbox.simulator.paging import Page, Window, cut
from batchbox.simulator.refusals import Refusal
from batchbox.simulator.settings import SimulatorSettings

EXPIRES_AFTER = timedelta(hours=24)
RESULTS_READABLE_FOR = timedelta(days=29)


@dataclass(slots=True, kw_only=True)
class Batch:
    """One batch. Changed by the ledger only."""

    id: str
    workspace_id: str
    created_at: datetime
    visible_at: datetime
    """Before this moment no call but its own creation knows of it."""
    processing: timedelta
    extended: bool
    """Whether it was sent with the output-300k header."""
    is_foreign: bool
    custom_ids: Sequence[str]
    digests: Sequence[bytes]
    """SHA-256 of each request's params, as sent."""
    params: Sequence[msgspec.Raw]
    """Empty once the batch has ended, where the settings say so."""
    counts: Mapping[Outcome, int]
    """`request_counts`: everything is processing until the end."""
    cancel_initiated_at: datetime | None = None
    ended_at: datetime | None = None
    answers: Sequence[Answer] = ()
    """One per request, in the order of the requests; empty until the batch has ended."""
    order: Sequence[int] = ()
    """In which order the requests are processed and their results come."""
    is_deleted: bool = False

    @property
    def size(self) -> int:
        """The number of requests."""
        return len(self.custom_ids)

    @property
    def expires_at(self) -> datetime:
        """When whatever is not processed expires."""
        return self.created_at + EXPIRES_AFTER

    @property
    def stopped_at(self) -> datetime:
        """When processing stops at the latest, whatever is left."""
        return min(self.expires_at, self.cancel_initiated_at or self.expires_at)

    @property
    def archived_at(self) -> datetime:
        """When its results can be read no more."""
        return self.created_at + RESULTS_READABLE_FOR

    def ends_at(self, *, canceling: timedelta) -> datetime:
        """Return the moment of its end, as things stand."""
        end = min(self.created_at + self.processing, self.expires_at)
        return end if self.cancel_initiated_at is None else min(end, self.cancel_initiated_at + canceling)

    def finished_count(self) -> int:
        """Return how many requests are processed before processing stops."""
        if self.created_at + self.processing <= self.stopped_at:
            return self.size
        return int(self.size * ((self.stopped_at - self.created_at) / self.processing))


class Batches:
    """Every batch of every workspace."""

    def __init__(self, settings: SimulatorSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._random = random.Random(settings.seed)  # noqa: S311 - to be repeatable, not to be secret
        self._by_id: dict[str, Batch] = {}  # in the order of creation
        self._times_processed: Counter[bytes] = Counter()

    def create(
        self,
        entries: Sequence[Entry],
        *,
        workspace_id: str,
        extended: bool,
        hidden_seconds: float = 0.0,
        is_foreign: bool = False,
    ) -> Batch:
        """Take a batch in. It can be seen by other calls after hidden_seconds."""
        now = self._clock.now()
        jitter = self._settings.processing_jitter_seconds * self._random.random()
        batch = Batch(
            id=f"msgbatch_01{self._random.getrandbits(88):022x}",
            workspace_id=workspace_id,
            created_at=now,
            visible_at=now + timedelta(seconds=hidden_seconds),
            processing=timedelta(seconds=self._settings.processing_seconds + jitter),
            extended=extended,
            is_foreign=is_foreign,
            custom_ids=[entry.custom_id for entry in entries],
            digests=[hashlib.sha256(entry.params).digest() for entry in entries],
            params=[entry.params for entry in entries],
            counts=Counter({Outcome.PROCESSING: len(entries)}),
        )
        self._by_id[batch.id] = batch
        return batch

    def every(self) -> Iterator[Batch]:
        """Yield every batch that was ever created, as it stands now, oldest first."""
        for batch in self._by_id.values():
            yield self._settled(batch)

    def find(self, batch_id: str, *, workspace_id: str) -> Batch:
        """Return the batch as it stands now. Raises Refusal where the workspace does not have it."""
        batch = self._by_id.get(batch_id)
        if batch is None or not self._is_seen(batch, workspace_id):
            raise Refusal("not_found_error", f"No message batch with the id {batch_id} was found")
        return self._settled(batch)

    def page(self, window: Window, *, workspace_id: str, lag_seconds: float) -> Page[Batch]:
        """Return a page of the workspace's batches, newest first, without those younger than the lag.

        Raises Refusal for a cursor that is not in the list.
        """
        newest = self._clock.now() - timedelta(seconds=lag_seconds)
        seen = [batch for batch in self._by_id.values() if self._is_seen(batch, workspace_id)]
        page = cut([b for b in reversed(seen) if b.created_at <= newest], window, name=lambda batch: batch.id)
        for batch in page.items:
            self._settled(batch)
        return page

    def cancel(self, batch_id: str, *, workspace_id: str) -> Batch:
        """Begin to cancel the batch. Raises Refusal when it has ended or is not there."""
        batch = self.find(batch_id, workspace_id=workspace_id)
        if batch.ended_at is not None:
            raise Refusal("invalid_request_error", f"Batch {batch_id} cannot be canceled because it has ended")
        if batch.cancel_initiated_at is None:
            batch.cancel_initiated_at = self._clock.now()
        return batch

    def delete(self, batch_id: str, *, workspace_id: str) -> None:
        """Forget the batch, except in the ledger. Raises Refusal when it has not ended or is not there."""
        batch = self.find(batch_id, workspace_id=workspace_id)
        if batch.ended_at is None:
            raise Refusal("invalid_request_error", f"Batch {batch_id} cannot be deleted before it has ended")
        batch.is_deleted = True

    def lines(self, batch: Batch) -> Iterator[bytes]:
        """Yield the lines of results. Raises Refusal, at once, when there are none to read."""
        if batch.ended_at is None:
            raise Refusal("not_found_error", f"Batch {batch.id} has no available results")
        if self.is_archived(batch):
            raise Refusal("not_found_error", f"The results of batch {batch.id} have been archived")
        return (line(batch.answers[index], batch.custom_ids[index], batch_id=batch.id) for index in batch.order)

    def is_archived(self, batch: Batch) -> bool:
        """Return whether the batch's results have gone."""
        return batch.ended_at is not None and self._clock.now() >= batch.archived_at

    def _is_seen(self, batch: Batch, workspace_id: str) -> bool:
        return batch.workspace_id == workspace_id and not batch.is_deleted and batch.visible_at <= self._clock.now()

    def _settled(self, batch: Batch) -> Batch:
        """End the batch if its time has come."""
        end = batch.ends_at(canceling=timedelta(seconds=self._settings.canceling_seconds))
        if batch.ended_at is None and end <= self._clock.now():
            batch.order = self._shuffled(batch)
            batch.answers = self._answers(batch)
            batch.counts = Counter(answer.outcome for answer in batch.answers)
            batch.ended_at = end
            if not self._settings.keep_params:
                batch.params = ()
        return batch

    def _shuffled(self, batch: Batch) -> Sequence[int]:
        order = array("I", range(batch.size))
        random.Random(f"{self._settings.seed}/{batch.id}").shuffle(order)  # noqa: S311 - to be repeatable
        return order

    def _answers(self, batch: Batch) -> Sequence[Answer]:
        unfinished = CANCELED if batch.cancel_initiated_at is not None else EXPIRED
        answers = [unfinished] * batch.size
        for index in batch.order[: batch.finished_count()]:
            answers[index] = decide(
                batch.params[index],
                extended=batch.extended,
                answer_tokens=self._settings.answer_tokens,
                times_processed=partial(self._count_processed, batch.digests[index]),
            )
        return answers

    def _count_processed(self, digest: bytes) -> int:
        self._times_processed[digest] += 1
        return self._times_processed[digest]
