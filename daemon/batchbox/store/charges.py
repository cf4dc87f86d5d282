"""What was paid, once per wire id: however often a line of results is read, it is charged once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.model import WireId
from batchbox.pricing import Catalogue, usage_from
from batchbox.results import ResultLine
from batchbox.store.columns import to_ms, to_nanodollars
from batchbox.store.database import Transaction

TOKENS_MAX = 10**12
COST_USD_MAX = 10**6
"""Beyond these a count is nonsense, and would not fit into a column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one line of results cost."""

    wire_id: WireId
    request_id: int
    model: str
    input_tokens: int
    output_tokens: int
    cost_nanousd: int | None
    """None: the model has no price."""
    sent_at: datetime


def charge_for(line: ResultLine, *, request_id: int, model: str, sent_at: datetime, catalogue: Catalogue) -> Charge:
    """Return what a line with an answer in it cost."""
    usage = usage_from(line.usage)
    cost = catalogue.cost_usd(model, usage)
    return Charge(
        wire_id=line.wire_id,
        request_id=request_id,
        model=model,
        input_tokens=min(usage.prompt_tokens, TOKENS_MAX),
        output_tokens=min(usage.output_tokens, TOKENS_MAX),
        cost_nanousd=None if cost is None or cost > COST_USD_MAX else to_nanodollars(cost),
        sent_at=sent_at,
    )


async def insert_charges(transaction: Transaction, charges: Sequence[Charge]) -> None:
    """Charge what has not been charged before."""
    await transaction.run_many(
        "INSERT INTO charges (wire_id, request_id, model, input_tokens, output_tokens, cost_nanousd, sent_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [
            (
                charge.wire_id, charge.request_id, charge.model, charge.input_tokens,
                charge.output_tokens, charge.cost_nanousd, to_ms(charge.sent_at),
            )
            for charge in charges
        ],
    )  # fmt: skip
