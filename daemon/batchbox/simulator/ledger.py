"""What was bought: every create call that arrived, and every request of every batch that was accepted.

This is the judge of "nothing is paid for twice". It is fed by the server's own calls and can be read in the same
process or over HTTP; faults that hide an answer from the caller hide nothing from it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from batchbox.simulator.answers import Outcome
from batchbox.simulator.batches import Batch, Batches
from batchbox.simulator.clock import Clock
from batchbox.simulator.envelope import Entry
from batchbox.simulator.settings import Account

_FOREIGN_PARAMS = msgspec.Raw(
    b'{"model":"claude-haiku-4-5","max_tokens":64,"messages":[{"role":"user","content":"from another program"}]}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """One request of one accepted batch."""

    batch_id: str
    workspace_id: str
    created_at: datetime
    custom_id: str
    params_sha256: str
    outcome: Outcome

    @property
    def is_billed(self) -> bool:
        """Whether it costs money: only what succeeded does."""
        return self.outcome is Outcome.SUCCEEDED


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateAttempt:
    """One create call that reached the server, however it went on."""

    request_id: str
    at: datetime
    fault: str | None
    """The fault that met it."""
    batch_id: str | None = None
    """The batch that it created, whatever the caller was told."""
    refused: str | None = None
    """The error type with which the API, and not a fault, refused it."""


class Ledger:
    """Create calls and purchases. Batches of other programs are left out of both."""

    def __init__(self, batches: Batches, clock: Clock) -> None:
        self._batches = batches
        self._clock = clock
        self._attempts: dict[str, CreateAttempt] = {}

    @property
    def attempts(self) -> Sequence[CreateAttempt]:
        """Every create call that arrived, oldest first."""
        return tuple(self._attempts.values())

    @property
    def purchases(self) -> Sequence[Purchase]:
        """Every request of every accepted batch, as it stands now: sent twice is listed twice."""
        return [purchase for batch in self._batches.every() if not batch.is_foreign for purchase in _purchases(batch)]

    @property
    def bought(self) -> Sequence[Purchase]:
        """The purchases that cost money."""
        return [purchase for purchase in self.purchases if purchase.is_billed]

    def purchases_by_params(self) -> Mapping[str, Sequence[Purchase]]:
        """Return what was bought, by the hash of the params: more than one entry is the same thing paid for again."""
        groups: defaultdict[str, list[Purchase]] = defaultdict(list)
        for purchase in self.bought:
            groups[purchase.params_sha256].append(purchase)
        return groups

    def arrive(self, request_id: str, *, fault: str | None) -> None:
        """Write down that a create call has arrived."""
        self._attempts[request_id] = CreateAttempt(request_id=request_id, at=self._clock.now(), fault=fault)

    def conclude(self, request_id: str, *, batch_id: str | None = None, refused: str | None = None) -> None:
        """Write down what the create call came to."""
        self._attempts[request_id] = replace(self._attempts[request_id], batch_id=batch_id, refused=refused)

    def create_foreign_batch(self, request_count: int, *, account: Account) -> str:
        """Let another program of the account's create a batch, and return its id."""
        entries = [Entry(custom_id=f"foreign-{number}", params=_FOREIGN_PARAMS) for number in range(request_count)]
        workspace_id = account.workspace_id
        return self._batches.create(entries, workspace_id=workspace_id, extended=False, is_foreign=True).id


def _purchases(batch: Batch) -> Sequence[Purchase]:
    outcomes = [answer.outcome for answer in batch.answers] or [Outcome.PROCESSING] * batch.size
    return [
        Purchase(
            batch_id=batch.id,
            workspace_id=batch.workspace_id,
            created_at=batch.created_at,
            custom_id=custom_id,
            params_sha256=digest.hex(),
            outcome=outcome,
        )
        for custom_id, digest, outcome in zip(batch.custom_ids, batch.digests, outcomes, strict=True)
    ]
