"""Makes sure that what the API says is about the account that our open work lies in.

A batch belongs to a workspace. Under the key of another one, or at another address, the API answers as if our batches
had never existed: a look would find nothing and the batch would be bought again; a poll would lose what is running.
So every call goes through a guard. It refuses to ask another address while something is open at the old one, and to
believe another organisation. A change of key is common and harmless as long as the workspace is the same, which one
batch of ours that answers under the new key proves; without that proof nothing is believed about what the old key sent.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from batchbox.api import (
    ApiTrouble,
    BatchBody,
    BatchesApi,
    BatchInfo,
    BatchPage,
    CreateOutcome,
    ModelInfo,
    SurelyNot,
    Trouble,
    TroubleKind,
)
from batchbox.model import ApiBatchId, Now
from batchbox.store.account import AccountStore
from batchbox.store.holds import HoldName, HoldStore
from batchbox.store.meta import Fact

ASK_AGAIN_SECONDS = 600.0

log = logging.getLogger(__name__)


class Account:
    """A `BatchesApi` that answers only for the account that our open work lies in."""

    def __init__(
        self,
        api: BatchesApi,
        *,
        store: AccountStore,
        holds: HoldStore,
        base_url: str,
        key_hash: bytes,
        clock: Callable[[], Now],
    ) -> None:
        self._api = api
        self._store = store
        self._holds = holds
        self._base_url = base_url
        self._key_hash = key_hash
        self._clock = clock
        self._is_address_known = False
        self._known_organization: str | None = None
        self._ask_again: dict[bytes, float] = {}

    @property
    def organization_id(self) -> str | None:
        """Whose account gave the latest answer."""
        return self._api.organization_id

    async def vouches_for(self, key_hash: bytes) -> bool:
        """Say whether what the API says under our key holds for what was sent under that one. Raises ApiTrouble."""
        if key_hash == self._key_hash:
            return True
        now = self._clock()
        if now.monotonic < self._ask_again.get(key_hash, 0.0):
            return False
        for batch_id in await self._store.sent_with(key_hash):
            if await self._answers(batch_id):
                await self._store.replace_key(key_hash, self._key_hash)
                await self._holds.release(HoldName.ACCOUNT)
                log.info("another key of the same workspace", extra={"batch": batch_id})
                return True
        self._ask_again[key_hash] = now.monotonic + ASK_AGAIN_SECONDS
        await self._hold_for_key(now)
        return False

    async def _answers(self, batch_id: ApiBatchId) -> bool:
        try:
            await self.retrieve(batch_id)
        except ApiTrouble as error:
            if error.trouble.kind is TroubleKind.NOT_FOUND:
                return False
            raise
        return True

    async def _hold_for_key(self, now: Now) -> None:
        reason = (
            "this key belongs to another workspace, or cannot be shown to belong to the one that open batches were "
            "sent from: they wait. Put the earlier key back, or a new one of the same workspace."
        )
        next_attempt_at = now.wall + timedelta(seconds=ASK_AGAIN_SECONDS)
        await self._holds.put(HoldName.ACCOUNT, reason, now=now.wall, next_attempt_at=next_attempt_at)
        log.error("key of another workspace", extra={"why": reason})

    async def create(self, body: BatchBody, *, betas: Sequence[str]) -> CreateOutcome:
        """Send one batch, once; nothing is sent to an address that is not that of our open work."""
        try:
            await self._check_address()
        except ApiTrouble as error:
            return SurelyNot(trouble=error.trouble)
        return await self._api.create(body, betas=betas)

    async def list_batches(self, *, limit: int, after_id: ApiBatchId | None = None) -> BatchPage:
        """List the workspace's batches, newest first. Raises ApiTrouble."""
        await self._check_address()
        page = await self._api.list_batches(limit=limit, after_id=after_id)
        await self._check_organization()
        return page

    async def retrieve(self, batch_id: ApiBatchId) -> BatchInfo:
        """Look at one batch. Raises ApiTrouble, NOT_FOUND among others."""
        await self._check_address()
        try:
            return await self._api.retrieve(batch_id)
        finally:
            await self._check_organization()

    async def cancel(self, batch_id: ApiBatchId) -> BatchInfo:
        """Ask for a batch to end early. Raises ApiTrouble."""
        await self._check_address()
        return await self._api.cancel(batch_id)

    @asynccontextmanager
    async def results(self, batch_id: ApiBatchId) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream the results of an ended batch. Both entering and iterating raise ApiTrouble."""
        await self._check_address()
        async with self._api.results(batch_id) as pieces:
            yield pieces

    async def model(self, model_id: str) -> ModelInfo:
        """Look a model up. Raises ApiTrouble, NOT_FOUND among others."""
        return await self._api.model(model_id)

    async def _check_address(self) -> None:
        if self._is_address_known:
            return
        known = await self._store.get(Fact.BASE_URL)
        if known not in {None, self._base_url} and await self._store.has_open_batches():
            text = (
                f"work is open at {known}, and [api] base_url is now {self._base_url}: everything waits. "
                f"Set it back until that work has ended."
            )
            raise ApiTrouble(Trouble(kind=TroubleKind.CLIENT, text=text))
        if known != self._base_url:
            await self._store.record(Fact.BASE_URL, self._base_url)
        self._is_address_known = True

    async def _check_organization(self) -> None:
        answering = self._api.organization_id
        if answering is None or answering == self._known_organization:
            return
        known = await self._store.get(Fact.ORGANIZATION)
        if known not in {None, answering} and await self._store.has_open_batches():
            text = (
                f"work is open in organisation {known}, and this key belongs to {answering}: everything waits. "
                f"Put a key of {known} back until that work has ended."
            )
            raise ApiTrouble(Trouble(kind=TroubleKind.KEY, text=text))
        if known != answering:
            await self._store.record(Fact.ORGANIZATION, answering)
        self._known_organization = answering
