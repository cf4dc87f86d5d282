"""Hundreds of create calls of one daemon in an unreliable workspace, on a clock that is pushed, and the judgement.

The stages, the store and the folders are the real ones; a call around which the process dies ends it, and the next one
starts from what is on disk. The judge is what the workspace accepted and what lies in the outbox.
"""

import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from batchbox.naming import parse_wire_id

from .api_bench import ApiBench
from .api_verdict import Verdict
from .api_workspace import Workspace

BREATH_SECONDS = 30.0
SENDING_SECONDS = (0.2, 5.0)
PATIENT = {
    "grace = 60": "grace = 900",
    "[poll]\nfirst = 1\nmax = 10": "[poll]\nfirst = 60\nmax = 600",
    "first = 1\nmax = 5": "first = 30\nmax = 900",
}
"""What waits for the API waits as long as by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """One trial."""

    seed: int
    batch_count: int
    size: int
    """How many requests each batch has."""
    is_shared: bool
    """Whether other programs create batches of the same size at the same time."""
    fault_share: float

    @property
    def name(self) -> str:
        """What is needed to see it again."""
        return f"crowd:{self.seed}:{self.batch_count}:{self.size}:{int(self.is_shared)}:{self.fault_share}"

    @classmethod
    def named(cls, name: str) -> "Crowd":
        """Return the trial of that name."""
        _, seed, batch_count, size, is_shared, fault_share = name.split(":")
        return cls(
            seed=int(seed),
            batch_count=int(batch_count),
            size=int(size),
            is_shared=is_shared == "1",
            fault_share=float(fault_share),
        )


class CrowdBench(ApiBench):
    """A bench whose time is that of the workspace."""

    def __init__(self, folder: Path, crowd: Crowd, chance: random.Random) -> None:
        super().__init__(folder, max_requests=crowd.size, instead=PATIENT, breath=BREATH_SECONDS)
        self.workspace = Workspace(
            lambda: self._wall,
            chance=chance,
            fault_share=crowd.fault_share,
            is_shared=crowd.is_shared,
            size=crowd.size,
        )
        self.api = self.workspace
        self._chance = chance

    def advance(self, seconds: float) -> None:
        """Push both clocks, and let batches end."""
        super().advance(seconds)
        self.workspace.pass_time()

    def sending_seconds(self) -> float:
        """Return how long a create call takes."""
        return self._chance.uniform(*SENDING_SECONDS)


async def try_crowd(name: str, folder: Path) -> Verdict:
    """Make the trial of that name in a folder of its own."""
    crowd = Crowd.named(name)
    bench = CrowdBench(folder, crowd, random.Random(crowd.seed))  # noqa: S311 - to be repeatable, not to be secret
    request_count = crowd.batch_count * crowd.size
    bench.drop("all.jsonl", "\n".join(map(_request, range(request_count))))
    violations: list[str] = []
    try:
        await bench.live()
    except AssertionError as error:
        violations.append(str(error))
    finally:
        await bench.stop()
    violations += [*_doubled(bench), *_wrongly_adopted(bench), *_lost(bench, request_count), *_sent_again(bench)]
    return Verdict(
        tried={"creates": bench.workspace.call_count, "kills": bench.workspace.deaths}, violations=violations
    )


def _request(number: int) -> str:
    params = {"messages": [{"role": "user", "content": f"question {number}"}]}
    return json.dumps({"custom_id": f"q{number}", "params": params})


def _doubled(bench: CrowdBench) -> list[str]:
    own = [batch for batch in bench.workspace.batches if not batch.is_foreign]
    counts = Counter(wire_id.partition("__")[0] for batch in own for wire_id in batch.requests)
    return [f"{custom_id} was bought {count} times" for custom_id, count in counts.items() if count > 1]


def _wrongly_adopted(bench: CrowdBench) -> list[str]:
    """Every batch that the daemon takes for its own must be its own, and that of the sending that it says."""
    nonces = {batch.id: parse_wire_id(next(iter(batch.requests))) for batch in bench.workspace.batches}
    adopted = bench.rows("SELECT api_id, nonce FROM batches WHERE api_id IS NOT NULL")
    adopted += bench.rows("SELECT api_id, nonce FROM twins")
    return [
        f"{api_id} was taken for the sending {nonce}"
        for api_id, nonce in adopted
        if (parsed := nonces.get(api_id)) is None or parsed[0] != nonce
    ]


def _lost(bench: CrowdBench, request_count: int) -> list[str]:
    answers = {
        wire_id.partition("__")[0]: f"answer to {hashlib.sha256(params).hexdigest()}".encode()
        for batch in bench.workspace.batches
        for wire_id, params in batch.requests.items()
        if not batch.is_foreign
    }
    outbox = bench.outbox()
    expected = [f"q{number}" for number in range(request_count)]
    return [f"{id_} has no answer, or another's" for id_ in expected if outbox.get(f"{id_}.md") != answers.get(id_, 0)]


def _sent_again(bench: CrowdBench) -> list[str]:
    ((sendings,),) = bench.rows("SELECT count(*) FROM sendings")
    calls = bench.workspace.call_count
    return [] if calls == sendings else [f"{calls} calls were made for {sendings} sendings"]
