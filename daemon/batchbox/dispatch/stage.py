"""From waiting requests to a batch that the API has: seal a window, write the intent down, send it once.

The create call cannot be repeated safely, so everything here is arranged around it: one call at a time; before it a
mark, an intent in the database and a manifest on the root; after it one of four outcomes, of which *unknown* is
followed by `reconcile` and never rounded. A call takes minutes, so what counts from its end (back-off, grace) is
counted from the next step's `now`.

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
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio

from batchbox.api import (
    Accepted,
    ApiTrouble,
    BatchesApi,
    CreateOutcome,
    Refused,
    SurelyNot,
    Trouble,
    TroubleKind,
    Unknown,
)
from batchbox.dispatch.reconcile import Reconciler
from batchbox.dispatch.windows import Windows
from batchbox.documents import manifest_head, manifest_line
from batchbox.errors import RetiredError, RootOfflineError
from batchbox.folders.layout import Presence
from batchbox.folders.manifests import Manifests
from batchbox.logs import shown
from batchbox.model import Instance, Nonce, Now
from batchbox.naming import new_nonce
from batchbox.store.dispatch import DispatchStore, SealedBatch, Sending
from batchbox.store.holds import HoldName, HoldStore, Keeper

MANIFEST_GROUP_REQUESTS = 1000
IDLE_SECONDS = 300.0
RETRY_AFTER_SECONDS_MIN = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings:
    """What a sending says of its circumstances, and how long is waited. Durations are seconds."""

    instance: Instance
    base_url: str
    key_hash: bytes
    retry_longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setback:
    """Why sending holds from the next step on."""

    reason: str
    wait_at_least: float


class Dispatch:
    """The stage that sends batches."""

    def __init__(
        self,
        settings: DispatchSettings,
        *,
        store: DispatchStore,
        holds: HoldStore,
        manifests: Manifests,
        presence: Presence,
        api: BatchesApi,
        windows: Windows,
        reconciler: Reconciler,
        keeper: Keeper,
        ring_polling: Callable[[], None],
        ring_delivery: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._holds = holds
        self._manifests = manifests
        self._presence = presence
        self._api = api
        self._windows = windows
        self._reconciler = reconciler
        self._keeper = keeper
        self._ring_polling = ring_polling
        self._ring_delivery = ring_delivery
        self._setback: _Setback | None = None

    async def step(self, now: Now) -> float:
        """Do one unit of what is due; return the monotonic moment of the next step."""
        look_due = await self._reconcile(now)
        await self._note_setback(now)
        if now.monotonic < self._keeper.until:
            return min(self._keeper.until, look_due)
        batch = await self._next_batch(now)
        if batch is None:
            await self._release_hold()
            return min(await self._window_due(now), look_due)
        try:
            self._setback = await self._send(batch, now)
        except ApiTrouble as error:
            self._setback = self._setback_for(error.trouble)
        except (OSError, RootOfflineError) as error:
            self._setback = _Setback(reason=f"the manifest cannot be written: {error}", wait_at_least=0.0)
        if self._setback is None:
            await self._release_hold()
        return now.monotonic

    async def _reconcile(self, now: Now) -> float:
        try:
            due = await self._reconciler.step(now)
        except (OSError, RootOfflineError) as error:
            log.warning("manifest cannot be closed", extra={"why": str(error)})
            due = now.monotonic + self._settings.retry_longest
        return now.monotonic + IDLE_SECONDS if due is None else due

    async def _note_setback(self, now: Now) -> None:
        """Hold all sending: for what the last step met, or for what delivery found in a result and wrote down."""
        setback, self._setback = self._setback, None
        if setback is None and not self._keeper.is_failing:
            hold = await self._holds.get(HoldName.SENDING)
            setback = None if hold is None else _Setback(reason=hold.reason, wait_at_least=0.0)
        if setback is None:
            return
        next_attempt_at = await self._keeper.fail(setback.reason, now, at_least=setback.wait_at_least)
        log.warning("sending holds", extra={"why": setback.reason, "next_attempt_at": next_attempt_at.isoformat()})

    async def _release_hold(self) -> None:
        if await self._keeper.succeed():
            log.info("sending goes on")

    async def _next_batch(self, now: Now) -> SealedBatch | None:
        """Return the batch to send: one that was sealed before, else the window whose turn it is, sealed now."""
        sealed = await self._store.sealed()
        if not sealed and await self._seal(now):
            sealed = await self._store.sealed()
        return min(sealed, key=lambda batch: (self._windows.turn_of(batch.lane), batch.id), default=None)

    async def _seal(self, now: Now) -> bool:
        windows = await self._store.windows()
        self._windows.see(windows, now)
        window = self._windows.next_of(windows, now)
        if window is None:
            return False
        limits = self._windows.limits(window)
        batch_id = await self._store.seal(
            window, requests_max=limits.max_requests, bytes_max=limits.max_bytes, now=now.wall
        )
        return batch_id is not None

    async def _window_due(self, now: Now) -> float:
        windows = await self._store.windows()
        self._windows.see(windows, now)
        return min((self._windows.due_at(window, now) for window in windows), default=now.monotonic + IDLE_SECONDS)

    async def _send(self, batch: SealedBatch, now: Now) -> _Setback | None:
        """Send a batch once; return what stands in the way of the next one, if anything does."""
        self._windows.serve(batch.lane)
        sending = await self._intend(batch, now)
        facts = {"nonce": sending.nonce, "lane": shown(batch.lane), "request_count": batch.request_count}
        try:
            await self._manifests.write(sending.nonce, self._manifest(batch, sending))
            await self._presence.confirm()
            body = await self._store.body(batch.id, sending.nonce)
        except (OSError, RootOfflineError, RetiredError, anyio.get_cancelled_exc_class()):
            with anyio.CancelScope(shield=True):  # no POST was made: not in doubt, whatever ended this
                await self._store.withdraw(batch.id, sending.nonce)
            with suppress(OSError, RootOfflineError):  # the root may be what failed; an open manifest says "perhaps"
                await self._manifests.close(sending.nonce)
            raise
        log.info("batch goes out", extra={**facts, "size_bytes": body.size_bytes})
        outcome = await self._api.create(body, betas=batch.betas)
        return await self._record(batch, sending.nonce, outcome, now)

    async def _intend(self, batch: SealedBatch, now: Now) -> Sending:
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
        await self._store.intend(sending)
        return sending

    async def _manifest(self, batch: SealedBatch, sending: Sending) -> AsyncIterator[bytes]:
        yield manifest_head(
            nonce=sending.nonce,
            instance=self._settings.instance,
            request_count=batch.request_count,
            mark=sending.mark,
            base_url=sending.base_url,
            replaces=sending.replaces,
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

    async def _record(self, batch: SealedBatch, nonce: Nonce, outcome: CreateOutcome, now: Now) -> _Setback | None:
        facts = {"nonce": nonce, "request_count": batch.request_count}
        match outcome:
            case Accepted(batch=info, request_id=request_id):
                with anyio.CancelScope(shield=True):  # the answer is known: a stop must not make it a doubt
                    await self._store.accept(batch.id, nonce, info, api_request_id=request_id)
                log.info("batch accepted", extra={**facts, "batch": info.id, "request_id": request_id})
                self._ring_polling()
                return None
            case Refused(text=text):
                log.warning("batch refused", extra={**facts, "why": text})
                await self._refuse(batch, nonce, text, now)
                return None
            case SurelyNot(trouble=trouble):
                await self._manifests.close(nonce)
                await self._store.withdraw(batch.id, nonce)
                return self._setback_for(trouble)
            case Unknown(trouble=trouble, candidate_id=candidate_id):
                if candidate_id is not None:
                    await self._store.add_candidates(nonce, [candidate_id])
                self._reconciler.expect(nonce)
                log.warning("batch is in doubt", extra={**facts, "why": trouble.text})
                return self._setback_for(trouble)

    async def _refuse(self, batch: SealedBatch, nonce: Nonce, text: str, now: Now) -> None:
        await self._manifests.close(nonce)
        if batch.request_count > 1:
            await self._store.halve(batch.id, nonce, now=now.wall)
            return
        await self._store.condemn(batch.id, nonce, error_text=text, now=now.wall)
        self._ring_delivery()

    def _setback_for(self, trouble: Trouble) -> _Setback:
        longest = self._settings.retry_longest
        if trouble.retry_after_seconds is not None:
            wait = min(max(trouble.retry_after_seconds, RETRY_AFTER_SECONDS_MIN), longest)
        elif trouble.kind is TroubleKind.RATE_LIMIT:  # without a time it may be a monthly cap, which lasts
            wait = longest
        else:
            wait = 0.0
        return _Setback(reason=trouble.text, wait_at_least=wait)
