"""What a simulator can be told before it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose key it is: batches are seen by every key of one workspace, and by no other."""

    organization_id: str = "org_simulated"
    workspace_id: str = "wrkspc_simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """How one simulator behaves. All seconds are simulated ones."""

    port: int = 0
    """0 takes any free port; the host is always the loopback address."""
    speed: float = 1.0
    """Simulated seconds per real second; at 0 the clock moves only when it is pushed."""
    processing_seconds: float = 60.0
    """From a batch's creation to the end of its last request."""
    processing_jitter_seconds: float = 0.0
    """Up to so much is added to processing_seconds, per batch, by the seed."""
    canceling_seconds: float = 1.0
    """From a cancel call to the batch's end."""
    answer_tokens: int | None = None
    """How long an answer is where its prompt does not say; None is a short text about the prompt."""
    seed: int = 0
    """Decides ids, jitter and the order of results."""
    keep_params: bool = True
    """False lets a batch's params go once it has ended, which saves memory; the ledger keeps their hashes."""
    accounts: Mapping[str, Account] = field(default_factory=dict)
    """Who owns which key. Empty: every key is accepted, and all are of one workspace."""
    results_origin: str | None = None
    """Whose address every `results_url` is, for a client that must not go there. None: the simulator's own."""
