"""The one table of state changes: for files, requests and batches, which event leads from which state to which.

Theory of operation. A state is never assigned; an *event* is applied to it, and only the pairs listed here exist. The
store applies them as compare-and-set, so a step that runs twice (after a crash, or because a bell rang twice) finds
the state already changed and does nothing. An event that a state does not know moves nothing.

                       intend            accept              end            close      (accept also from SEALED,
                                                                                        close also from LOST)
    batch:     SEALED ───────▶ SUBMITTING ───────▶ IN_PROGRESS ───▶ ENDED ───────▶ CLOSED
                  ▲               │  │                 │  ▲           │
                  └── withdraw ───┘  └─ refuse ▶       └──┴─ lose, find, lose ▶ LOST
                  └── disband ──▶ REFUSED

    request:   INCOMING ─admit▶ WAITING ─seal▶ BATCHED ─answer | cut_short | fail▶ ANSWERED | INCOMPLETE | FAILED
                                   ▲             │  │                                                ▲
                  ▲                └── requeue ──┘  └─ condemn ▶ FAILING ───────── publish ──────────┘
                  └───── recall ───┴─────────────┘

    source:    READING ─record▶ OPEN ─settle▶ SETTLED ─archive▶ DONE
                 │ ▲            │
                 │ └── recall ──┘
                 └─ reject ▶ REJECTING ─put_aside▶ REJECTED
"""

from collections.abc import Mapping
from enum import StrEnum

from batchbox.model import BatchState, RequestState, SourceState


class BatchEvent(StrEnum):
    """What can happen to a batch."""

    INTEND = "intend"
    """Its sending was written down; the POST may follow."""
    WITHDRAW = "withdraw"
    """The POST surely did not create it."""
    ACCEPT = "accept"
    """The API has it: by its answer, or found again by its nonce."""
    REFUSE = "refuse"
    END = "end"
    LOSE = "lose"
    FIND = "find"
    CLOSE = "close"
    DISBAND = "disband"
    """Its members go on in other batches, without a call that said so."""
    RECLAIM = "reclaim"
    """It has turned up after it was disbanded: those of its members that are still to be sent come back."""


class RequestEvent(StrEnum):
    """What can happen to a request."""

    ADMIT = "admit"
    SEAL = "seal"
    REQUEUE = "requeue"
    RECALL = "recall"
    """Its file has changed, and nothing of it was sent."""
    ANSWER = "answer"
    CUT_SHORT = "cut_short"
    FAIL = "fail"
    CONDEMN = "condemn"
    """It ended without a line of results: its error is written down, the file follows."""
    PUBLISH = "publish"
    """The file that CONDEMN promised is in the outbox."""


class SourceEvent(StrEnum):
    """What can happen to a claimed file."""

    RECORD = "record"
    RECALL = "recall"
    """It has changed since it was read: it is read again when it is still."""
    REJECT = "reject"
    SETTLE = "settle"
    ARCHIVE = "archive"
    PUT_ASIDE = "put_aside"


BATCH_TRANSITIONS: Mapping[tuple[BatchState, BatchEvent], BatchState] = {
    (BatchState.SEALED, BatchEvent.INTEND): BatchState.SUBMITTING,
    (BatchState.SUBMITTING, BatchEvent.WITHDRAW): BatchState.SEALED,
    (BatchState.SUBMITTING, BatchEvent.ACCEPT): BatchState.IN_PROGRESS,
    (BatchState.SEALED, BatchEvent.ACCEPT): BatchState.IN_PROGRESS,  # found after all, before it was sent again
    (BatchState.SUBMITTING, BatchEvent.REFUSE): BatchState.REFUSED,
    (BatchState.IN_PROGRESS, BatchEvent.END): BatchState.ENDED,
    (BatchState.IN_PROGRESS, BatchEvent.LOSE): BatchState.LOST,
    (BatchState.ENDED, BatchEvent.LOSE): BatchState.LOST,
    (BatchState.LOST, BatchEvent.FIND): BatchState.IN_PROGRESS,
    (BatchState.SEALED, BatchEvent.DISBAND): BatchState.REFUSED,
    (BatchState.REFUSED, BatchEvent.RECLAIM): BatchState.IN_PROGRESS,
    (BatchState.ENDED, BatchEvent.CLOSE): BatchState.CLOSED,
    (BatchState.LOST, BatchEvent.CLOSE): BatchState.CLOSED,  # given up: its requests have ended as errors
}

REQUEST_TRANSITIONS: Mapping[tuple[RequestState, RequestEvent], RequestState] = {
    (RequestState.INCOMING, RequestEvent.ADMIT): RequestState.WAITING,
    (RequestState.WAITING, RequestEvent.SEAL): RequestState.BATCHED,
    (RequestState.BATCHED, RequestEvent.REQUEUE): RequestState.WAITING,
    (RequestState.WAITING, RequestEvent.RECALL): RequestState.INCOMING,
    (RequestState.BATCHED, RequestEvent.RECALL): RequestState.INCOMING,
    (RequestState.BATCHED, RequestEvent.ANSWER): RequestState.ANSWERED,
    (RequestState.BATCHED, RequestEvent.CUT_SHORT): RequestState.INCOMPLETE,
    (RequestState.BATCHED, RequestEvent.FAIL): RequestState.FAILED,
    (RequestState.WAITING, RequestEvent.CONDEMN): RequestState.FAILING,
    (RequestState.BATCHED, RequestEvent.CONDEMN): RequestState.FAILING,
    (RequestState.FAILING, RequestEvent.PUBLISH): RequestState.FAILED,
}

SOURCE_TRANSITIONS: Mapping[tuple[SourceState, SourceEvent], SourceState] = {
    (SourceState.READING, SourceEvent.RECORD): SourceState.OPEN,
    (SourceState.OPEN, SourceEvent.RECALL): SourceState.READING,
    (SourceState.SETTLED, SourceEvent.RECALL): SourceState.READING,  # nothing of it had to be sent
    (SourceState.READING, SourceEvent.REJECT): SourceState.REJECTING,
    (SourceState.OPEN, SourceEvent.SETTLE): SourceState.SETTLED,
    (SourceState.SETTLED, SourceEvent.ARCHIVE): SourceState.DONE,
    (SourceState.REJECTING, SourceEvent.PUT_ASIDE): SourceState.REJECTED,
}
