"""One sending of one batch: mark, intent, manifest, the POST, and what its outcome leaves behind.

The create call cannot be repeated safely, so everything here is arranged around it: before it a mark, an intent in the
database and a manifest on the root; after it one of four outcomes, of which *unknown* is never rounded.

If we die                  | what is left                            | what the next step does
---------------------------+------------------------------------------+-----------------------------------------
before the intent          | a SEALED batch                           | sends it
after the intent           | SUBMITTING, no POST                      | in doubt; surely not sent after grace
after the manifest         | the same, with an open manifest          | the same
during the POST            | SUBMITTING, perhaps a batch              | in doubt; found by its nonce, or not sent
after the reply            | SUBMITTING, a batch                      | in doubt; found by its nonce
after the id is recorded   | IN_PROGRESS                              | polls it
"""

import logging
import math
import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

import anyio

from batchbox.api import (
    Accepted,
    ApiTrouble,
    BatchesApi,
    BatchInfo,
    CreateOutcome,
    Refused,
    SurelyNot,
    Trouble,
    TroubleKind,
    Unknown,
)
from batchbox.documents import manifest_head, manifest_line
from batchbox.errors import RetiredError, RootOfflineError
from batchbox.folders.layout import Presence
from batchbox.folders.manifests import Manifests
from batchbox.logs import shown
from batchbox.model import Instance, Nonce, Now
from batchbox.naming import new_nonce
from batchbox.store.body import StoredBody
from batchbox.store.dispatch import DispatchStore, SealedBatch, Sending
from batchbox.timing import PLACE_SECONDS_MAX
from batchbox.triage import is_about_own_header

MANIFEST_GROUP_REQUESTS = 1000
RETRY_AFTER_SECONDS_MIN = 1.0
_BREAKS = frozenset({TroubleKind.NETWORK, TroubleKind.SERVER})
_OF_THE_ACCOUNT = frozenset({TroubleKind.KEY, TroubleKind.BILLING, TroubleKind.RATE_LIMIT, TroubleKind.OVERLOADED})
"""What the API says of these is about no request, and may be logged."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingSettings:
    """What a sending says of its circumstances, and how long is waited at most. Durations are seconds."""

    instance: Instance
    base_url: str
    key_hash: bytes
    own_betas: Collection[str]
    """Those that every batch asks for."""
    retry_longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """Why sending holds."""

    reason: str
    logged_reason: str | None = None
    """What the log says in its place, if it is in words of the API's that may repeat what was asked."""
    wait_at_least: float = 0.0
    wait_at_most: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class _Acceptance:
    """An answer that says that the API has the batch."""

    batch: SealedBatch
    nonce: Nonce
    info: BatchInfo
    request_id: str | None


class Sender:
    """Sends one batch at a time."""

    def __init__(
        self,
        settings: SendingSettings,
        *,
        store: DispatchStore,
        manifests: Manifests,
        presence: Presence,
        api: BatchesApi,
        expect: Callable[[Nonce], None],
        ring_polling: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._manifests = manifests
        self._presence = presence
        self._api = api
        self._expect = expect
        self._ring_polling = ring_polling
        self._unrecorded: _Acceptance | None = None

    async def record_acceptance(self, now: Now) -> None:
        """Record the acceptance that is known, if one is not recorded: a full disk must not make it a doubt."""
        known = self._unrecorded
        if known is None:
            return
        with anyio.CancelScope(shield=True):  # nor must a stop
            await self._store.accept(
                known.batch.id, known.nonce, known.info, api_request_id=known.request_id, now=now.wall
            )
        self._unrecorded = None
        log.info(
            "batch accepted",
            extra={
                "nonce": known.nonce,
                "request_count": known.batch.request_count,
                "batch": known.info.id,
                "request_id": known.request_id,
            },
        )
        self._ring_polling()

    async def send(self, batch: SealedBatch, now: Now) -> Setback | None:
        """Send a batch once; return what stands in the way of the next one, if anything does."""
        try:
            return await self._send(batch, now)
        except ApiTrouble as error:
            return self._setback_for(error.trouble)
        except (OSError, RootOfflineError) as error:
            return Setback(reason=f"the manifest cannot be written: {error}", wait_at_most=PLACE_SECONDS_MAX)

    async def _send(self, batch: SealedBatch, now: Now) -> Setback | None:
        if batch.replaces is not None:  # surely not sent; but closing it may be what failed, or was cancelled
            await self._manifests.close(batch.replaces)
        sending = await self._intend(batch, now)
        if sending is None:  # a request was cancelled just now: the batch goes out without it
            return None
        facts = {"nonce": sending.nonce, "lane": shown(batch.lane), "request_count": batch.request_count}
        try:
            await self._manifests.write(sending.nonce, self._manifest(batch, sending))
            await self._presence.confirm()
            body = await self._store.body(batch.id, sending.nonce)
        except (OSError, RootOfflineError, RetiredError, anyio.get_cancelled_exc_class()):
            await self._take_back(batch, sending.nonce, now)
            raise
        log.info("batch goes out", extra={**facts, "size_bytes": body.size_bytes})
        outcome = await self._post(batch, sending.nonce, body, now)
        return await self._record(batch, sending.nonce, outcome, now)

    async def _post(self, batch: SealedBatch, nonce: Nonce, body: StoredBody, now: Now) -> CreateOutcome:
        try:
            return await self._api.create(body, betas=batch.betas)
        except anyio.get_cancelled_exc_class():
            if not body.is_handed_out:  # what the API has is no request: a stop need not make it a doubt
                await self._take_back(batch, nonce, now)
            raise

    async def _take_back(self, batch: SealedBatch, nonce: Nonce, now: Now) -> None:
        """Record that nothing was sent, whatever ends this."""
        with anyio.CancelScope(shield=True):
            await self._store.withdraw(batch.id, nonce, now=now.wall, is_break=False)
        with suppress(OSError, RootOfflineError):  # the root may be what failed; an open manifest says "perhaps"
            await self._manifests.close(nonce)

    async def _intend(self, batch: SealedBatch, now: Now) -> Sending | None:
        newest = await self._api.list_batches(limit=1)
        sending = Sending(
            nonce=new_nonce(os.urandom(5)),
            batch_id=batch.id,
            mark=newest.batches[0].created_at if newest.batches else None,
            base_url=self._settings.base_url,
            key_hash=self._settings.key_hash,
            replaces=batch.replaces,
            intended_at=now.wall,
        )
        return sending if await self._store.intend(sending) else None

    async def _manifest(self, batch: SealedBatch, sending: Sending) -> AsyncIterator[bytes]:
        yield manifest_head(
            nonce=sending.nonce,
            instance=self._settings.instance,
            request_count=batch.request_count,
            mark=sending.mark,
            base_url=sending.base_url,
            replaces=sending.replaces,
            intended_at=sending.intended_at,
        )
        after = 0
        while lines := await self._store.manifest_lines(batch.id, after=after, limit=MANIFEST_GROUP_REQUESTS):
            after = lines[-1].number
            yield b"".join(
                manifest_line(
                    number=line.number,
                    custom_id=line.custom_id,
                    lane=line.lane,
                    source=line.source,
                    claim=line.claim,
                    sha256=line.sha256,
                )
                for line in lines
            )

    async def _record(self, batch: SealedBatch, nonce: Nonce, outcome: CreateOutcome, now: Now) -> Setback | None:
        facts = {"nonce": nonce, "request_count": batch.request_count}
        match outcome:
            case Accepted(batch=info, request_id=request_id):
                self._unrecorded = _Acceptance(batch=batch, nonce=nonce, info=info, request_id=request_id)
                await self.record_acceptance(now)
                return None
            case Refused(text=text, too_large=too_large):
                log.warning("batch refused", extra=facts)  # why may repeat what was asked: the requests' errors say it
                return await self._refuse(batch, nonce, text, now, is_too_large=too_large)
            case SurelyNot(trouble=trouble):
                await self._withdraw(batch, nonce, now, is_break=trouble.kind in _BREAKS)
                return self._setback_for(trouble)
            case Unknown(trouble=trouble, candidate_id=candidate_id):
                if candidate_id is not None:
                    await self._store.add_candidates(nonce, [candidate_id])
                self._expect(nonce)
                log.warning("batch is in doubt", extra={**facts, "why": _logged(trouble)})
                return self._setback_for(trouble)

    async def _refuse(
        self, batch: SealedBatch, nonce: Nonce, text: str, now: Now, *, is_too_large: bool
    ) -> Setback | None:
        own_betas = self._settings.own_betas
        if is_about_own_header(text, betas=batch.betas, own_betas=own_betas) and not is_too_large:
            await self._withdraw(batch, nonce, now, is_break=False)
            return await self._hold_for_header(batch, text)
        if batch.is_joined and text == batch.refusal:
            await self._withdraw(batch, nonce, now, is_break=False)
            return None
        await self._manifests.close(nonce)
        await self._store.refuse(batch.id, nonce, refusal=text, is_too_large=is_too_large)
        return None

    async def _hold_for_header(self, batch: SealedBatch, text: str) -> Setback | None:
        """Hold all sending; or this batch alone, if it asks for more than every batch does: that may be why."""
        if set(batch.betas) <= set(self._settings.own_betas):
            return Setback(reason=text, logged_reason="the API refuses a beta that every batch asks for")
        await self._store.hold(batch.id, f"refused for a beta that every batch asks for; others go on: {text}")
        return None

    async def _withdraw(self, batch: SealedBatch, nonce: Nonce, now: Now, *, is_break: bool) -> None:
        await self._manifests.close(nonce)
        await self._store.withdraw(batch.id, nonce, now=now.wall, is_break=is_break)

    def _setback_for(self, trouble: Trouble) -> Setback:
        longest = self._settings.retry_longest
        if trouble.retry_after_seconds is not None:
            wait = min(max(trouble.retry_after_seconds, RETRY_AFTER_SECONDS_MIN), longest)
        elif trouble.kind is TroubleKind.RATE_LIMIT:  # without a time it may be a monthly cap, which lasts
            wait = longest
        else:
            wait = 0.0
        return Setback(reason=trouble.text, logged_reason=_logged(trouble), wait_at_least=wait)


def _logged(trouble: Trouble) -> str:
    if trouble.status is None or trouble.kind in _OF_THE_ACCOUNT:
        return trouble.text
    return f"the API's side answered {trouble.status}; batchbox status shows its words"
