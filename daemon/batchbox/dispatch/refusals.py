"""What becomes of a refused batch: halved until the poison stands alone, or held when no request can be to blame.

The API refuses a batch as a whole and need not say which request it means. Halving finds the one, and its neighbours
go through. But a refusal that is about the account looks the same, and would be halved into an error for every
request: so a half waits for the other one, and if both are refused with the same words that name no request, they are
put together again, held, and tried from time to time as a whole. One request alone is held for words that others are
held for, and for words that name what every batch asks for: nothing shows that it is to blame.

If we die                        | what is left                     | what the next step does
----------------------------------+-----------------------------------+------------------------------
after the refusal was recorded   | an undecided batch               | decides
after the decision               | new sealed batches, or an error  | sends them, or publishes it
"""

import logging
from collections.abc import Callable, Collection
from datetime import datetime
from enum import StrEnum

from batchbox.model import BatchState, Now
from batchbox.store.regrouping import OtherHalf, RefusedBatch, RegroupingStore
from batchbox.triage import blames_betas, may_be_about_own_header, names_a_request

log = logging.getLogger(__name__)


class Fate(StrEnum):
    """What becomes of a refused batch's members."""

    WAIT = "wait"
    """For the other half to be answered."""
    HALVE = "halve"
    JOIN = "join"
    """With the other half, which was refused with the same words: then no request is to blame."""
    HOLD = "hold"
    """Alone, because others are held for the same words, or because these may be about every batch's header."""
    FAIL = "fail"


class Refusals:
    """Decides about every refused batch."""

    def __init__(
        self, store: RegroupingStore, *, own_betas: Collection[str], ring_delivery: Callable[[], None]
    ) -> None:
        self._store = store
        self._own_betas = own_betas
        self._ring_delivery = ring_delivery

    async def step(self, now: Now) -> None:
        """Decide about those that can be decided."""
        joined: set[int] = set()
        for batch in await self._store.undecided():
            if batch.id not in joined:
                joined |= await self._decide(batch, now.wall)

    async def _decide(self, batch: RefusedBatch, now: datetime) -> set[int]:
        fate = fate_of(batch, own_betas=self._own_betas, is_held_for=await self._store.is_held_for(batch.refusal))
        match fate:
            case Fate.WAIT:
                return set()
            case Fate.HALVE:
                await self._store.halve(batch.id, now=now)
            case Fate.FAIL:
                await self._store.fail(batch.id, error_text=batch.refusal, now=now)
                self._ring_delivery()
            case Fate.HOLD | Fate.JOIN:
                return await self._join(batch, fate, now)
        log.warning("refused batch", extra={"decision": fate, "request_count": batch.request_count})
        return set()

    async def _join(self, batch: RefusedBatch, fate: Fate, now: datetime) -> set[int]:
        parts = [batch.id]
        if fate is Fate.JOIN and batch.other_half is not None:
            parts.append(batch.other_half.batch_id)
        why = "refused whatever is in it" if fate is Fate.JOIN else "refused, and perhaps not for what is in it"
        await self._store.join(parts, refusal=batch.refusal, held_reason=f"{why}: {batch.refusal}", now=now)
        log.error("no request is known to be to blame: held, and tried again; batchbox status says why")
        return set(parts)


def fate_of(batch: RefusedBatch, *, own_betas: Collection[str], is_held_for: bool) -> Fate:
    """Decide what becomes of a refused batch.

    Args:
        batch: The batch, with what is known of its other half.
        own_betas: Those that every batch asks for.
        is_held_for: Whether another batch is held because all of its parts were refused with these words.
    """
    in_parts = Fate.HALVE if batch.request_count > 1 else Fate.FAIL
    if batch.is_too_large:
        return in_parts
    if blames_betas(batch.refusal, betas=batch.betas, own_betas=own_betas):
        return Fate.FAIL
    if names_a_request(batch.refusal):
        return in_parts
    fate = _beside(batch.other_half, batch.refusal) if batch.other_half is not None else None
    if fate is None and batch.request_count == 1 and (is_held_for or _may_be_anybodys(batch, own_betas)):
        return Fate.HOLD
    return fate or in_parts


def _may_be_anybodys(batch: RefusedBatch, own_betas: Collection[str]) -> bool:
    """Say whether nothing shows that the one request is to blame for words about the header."""
    is_half = batch.other_half is not None
    return not is_half and may_be_about_own_header(batch.refusal, betas=batch.betas, own_betas=own_betas)


def _beside(other: OtherHalf, refusal: str) -> Fate | None:
    """Return what the other half makes of it, None if nothing."""
    is_being_sent = other.state in {BatchState.SEALED, BatchState.SUBMITTING} and not other.is_held
    if is_being_sent:
        return Fate.WAIT
    return Fate.JOIN if other.is_undecided and other.refusal == refusal else None
