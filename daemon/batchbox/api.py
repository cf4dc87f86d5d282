"""What batchbox needs of the Message Batches API, as one Protocol, and what the API can answer, as data.

The one call that must not be repeated, `create`, never raises for what happened on the wire: it returns one of four
outcomes, and *unknown* is one of them. The other calls are safe to repeat and raise ApiTrouble. `anthropic_api`
implements this over the SDK; the tests' fake is the second implementation.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from batchbox.model import ApiBatchId

RESULTS_KEPT = timedelta(days=29)
"""For so long after `created_at` results can be read (the API's documentation)."""

RESULTS_URGENT_AFTER = timedelta(days=25)
"""From then on a person is told that results which are not delivered will soon be gone."""


class TroubleKind(StrEnum):
    """What stands in the way, as far as it is not a request's own fault."""

    KEY = "key"
    """401, 403: the key is wrong or may not do this."""
    BILLING = "billing"
    """402, a spend limit or a credit balance: the account must be looked at."""
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    SERVER = "server"
    """5xx, or an answer that is not the API's."""
    NETWORK = "network"
    NOT_FOUND = "not_found"
    """404: no such batch, or another workspace's."""
    CLIENT = "client"
    """Any other 4xx: this call, as it was made, will not be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One failed call, in words that may be shown: never a prompt, never a key."""

    kind: TroubleKind
    text: str
    status: int | None = None
    retry_after_seconds: float | None = None
    """What the server asked for, where it did."""


class ApiTrouble(Exception):  # noqa: N818 - "trouble" is the word for it everywhere, and it is not always an error
    """A call that may be repeated has failed. `trouble` says how."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.text)
        self.trouble = trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCounts:
    """How many requests of a batch are where; everything is `processing` until the batch ends."""

    processing: int
    succeeded: int
    errored: int
    canceled: int
    expired: int

    @property
    def total(self) -> int:
        """The number of requests in the batch; the sum is always exact."""
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInfo:
    """A batch as the API describes it."""

    id: ApiBatchId
    status: str
    """`in_progress`, `canceling` or `ended`; other values may appear."""
    counts: RequestCounts
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    archived_at: datetime | None = None
    """Since when its results can no longer be read; None while they can."""

    @property
    def has_ended(self) -> bool:
        """Whether results can be read."""
        return self.status == "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPage:
    """One page of the list of batches, newest first."""

    batches: Sequence[BatchInfo]
    has_more: bool
    last_id: ApiBatchId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What `GET /v1/models/{id}` says that batchbox can use."""

    id: str
    output_tokens_max: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The batch exists."""

    batch: BatchInfo
    request_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The API has read the envelope and will not take it: nothing was bought, and the same body would fare the same."""

    too_large: bool
    """413 in any shape, as against a 400 of the API's."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SurelyNot:
    """The batch was not created, for a reason that is not the batch's fault."""

    trouble: Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """The batch may or may not exist. Nothing may be rounded from here to yes or no."""

    trouble: Trouble
    candidate_id: ApiBatchId | None = None
    """An id that a 2xx answer named although the answer did not fit."""


CreateOutcome = Accepted | Refused | SurelyNot | Unknown


class BatchBody(Protocol):
    """The bytes of a create call, produced while they are sent."""

    @property
    def size_bytes(self) -> int:
        """The exact number of bytes that one iteration yields."""

    @property
    def request_count(self) -> int:
        """How many requests the body holds."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Start from the first byte, every time anew."""


class BatchesApi(Protocol):
    """The calls, each at most once on the wire: nothing in here retries."""

    @property
    def organization_id(self) -> str | None:
        """Whose account gave the latest answer, as far as an answer has said so."""

    async def create(self, body: BatchBody, *, betas: Sequence[str]) -> CreateOutcome:
        """Send one batch, once. Raises nothing for what the network or the server did."""

    async def list_batches(self, *, limit: int, after_id: ApiBatchId | None = None) -> BatchPage:
        """List the workspace's batches, newest first. Raises ApiTrouble."""

    async def retrieve(self, batch_id: ApiBatchId) -> BatchInfo:
        """Look at one batch. Raises ApiTrouble, NOT_FOUND among others."""

    async def cancel(self, batch_id: ApiBatchId) -> BatchInfo:
        """Ask for a batch to end early; what is finished keeps its results. Raises ApiTrouble: CLIENT if it ended."""

    def results(self, batch_id: ApiBatchId) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream the results of an ended batch as raw pieces of JSON Lines.

        Both entering and iterating raise ApiTrouble; a stream that is cut cleanly at a line's end looks complete.
        """

    async def model(self, model_id: str) -> ModelInfo:
        """Look a model up. Raises ApiTrouble, NOT_FOUND among others."""
