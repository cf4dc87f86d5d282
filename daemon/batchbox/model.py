"""The nouns of batchbox: identifiers, closed sets of values and the records that more than one module passes on.

Everything here is immutable data. How states may change is in `lifecycle`; what the API says is in `api`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

CustomId = NewType("CustomId", str)
"""The name of an answer, `^[a-zA-Z0-9_-]{1,64}$`: given in the file or derived from its name."""

WireId = NewType("WireId", str)
"""What the API gets as custom_id: `<custom_id, cut to 44>__<nonce>-<number>`, unique for ever."""

Nonce = NewType("Nonce", str)
"""Eight base32 characters that belong to one sending of one batch."""

ApiBatchId = NewType("ApiBatchId", str)
"""The API's own name of a batch, `msgbatch_…`."""

Instance = NewType("Instance", str)
"""`<host>-<8 hex>`: one state folder's name on a shared root."""

Lane = NewType("Lane", str)
"""The name of a direct sub-folder of the inbox, or INBOX_LANE."""

INBOX_LANE = Lane("_")
"""The inbox itself. No folder can have this name as a lane, because names that begin with `_` are never read."""

OUTPUT_300K_BETA = "output-300k-2026-03-24"
"""Raises max_tokens to 300,000 in batches; without it a larger value is silently clamped. In every create call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """One reading of both clocks. Intervals are measured on `monotonic`; `wall` is for people and for records."""

    wall: datetime
    """Aware, in UTC."""
    monotonic: float
    """Seconds, of this process only."""


class SourceState(StrEnum):
    """Where a claimed file is."""

    READING = "reading"
    """Being recorded; its requests are not yet visible to dispatch. After a crash it is read again from the start."""
    OPEN = "open"
    """Every one of its requests is recorded, and at least one has not ended."""
    SETTLED = "settled"
    """Every one of its requests has ended; the original is still in processing/."""
    DONE = "done"
    """The original is in done/, or was deleted because done_days is 0."""
    REJECTING = "rejecting"
    """It cannot become requests; the file is still in processing/."""
    REJECTED = "rejected"
    """The file is in rejected/, beside its explanation."""


class RequestState(StrEnum):
    """Where one request is."""

    INCOMING = "incoming"
    """Its file is still being read."""
    WAITING = "waiting"
    """In a window, in no batch."""
    BATCHED = "batched"
    """A member of exactly one batch that has not delivered it yet."""
    FAILING = "failing"
    """It has ended without a line of results; its error is recorded and its .error.json is not written yet."""
    ANSWERED = "answered"
    INCOMPLETE = "incomplete"
    FAILED = "failed"


OPEN_REQUEST_STATES = (
    RequestState.INCOMING,
    RequestState.WAITING,
    RequestState.BATCHED,
    RequestState.FAILING,
)
"""A request in one of these has not ended: a second file of its id is a double drop."""


class BatchState(StrEnum):
    """Where one batch is."""

    SEALED = "sealed"
    """Its members are fixed; no POST of it is under way or in doubt."""
    SUBMITTING = "submitting"
    """An intent is recorded. Unless this very process is inside the call, the batch is in doubt."""
    IN_PROGRESS = "in_progress"
    ENDED = "ended"
    CLOSED = "closed"
    """Every member has been delivered or sent on."""
    LOST = "lost"
    """The API does not know it any more, or its results have gone. A person is asked."""
    REFUSED = "refused"
    """Its members go on without it, halved, joined or ended as errors: the API refused it, or it never got through."""


class LostReason(StrEnum):
    """What of a LOST batch could not be had, and is asked for again and again."""

    UNKNOWN_BATCH = "unknown_batch"
    """The API said that it does not know the batch."""
    NO_RESULTS = "no_results"
    """The API knows the batch, said that it has ended, and has no results of it."""


class RejectReason(StrEnum):
    """Why a dropped file never became a request. Scripts read these words."""

    NOT_A_REGULAR_FILE = "not_a_regular_file"
    HARD_LINK = "hard_link"
    UNKNOWN_TYPE = "unknown_type"
    EMPTY = "empty"
    INCOMPLETE = "incomplete"
    UNSTABLE = "unstable"
    WITHDRAWN = "withdrawn"
    """It was deleted from processing/ while it was waited for."""
    TOO_LARGE = "too_large"
    BAD_ENCODING = "bad_encoding"
    BAD_JSON = "bad_json"
    BAD_HEADER = "bad_header"
    BAD_DOCUMENT = "bad_document"
    TOO_DEEP = "too_deep"
    BAD_ID = "bad_id"
    DUPLICATE_ID = "duplicate_id"
    NO_MESSAGES = "no_messages"
    NOT_ALLOWED = "not_allowed"
    OVER_LIMIT = "over_limit"
    CANCELED = "canceled"
    NOTHING_TO_CANCEL = "nothing_to_cancel"
    FORGED = "forged"


class ErrorType(StrEnum):
    """The error types that are ours, beside the API's own, in `.error.json`."""

    EXPIRED = "expired"
    RESULT_MISSING = "result_missing"
    RESULTS_GONE = "results_gone"
    CANCELED = "canceled"
    """Somebody dropped a file that says so."""
    CANCELED_ELSEWHERE = "canceled_elsewhere"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    """Its file was deleted from processing/ before it was sent."""


class IncompleteReason(StrEnum):
    """Why an answer is incomplete, where the API's stop reason does not say it by itself."""

    EMPTY = "empty"
    CLAMPED = "clamped"
    """Stopped at a max_tokens well under the one that was asked for: the cap was lowered on the way."""
