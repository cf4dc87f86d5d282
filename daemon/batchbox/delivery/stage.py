"""From an ended batch to files in the outbox: stream, judge, write, make durable, show, record; then the originals.

Lines come in any order and by the million; what is in memory is a block of them, and their parts are written at once.
A group becomes visible together, in the order that `folders.outbox` keeps. A batch is closed when every member has
been delivered, requeued or condemned; a stream that was cut, even cleanly at a line's end, leaves members undelivered
and is read again, skipping what is done.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from batchbox.api import ApiTrouble, BatchesApi, TroubleKind
from batchbox.delivery.archiving import Archiver
from batchbox.delivery.composing import compose_failing
from batchbox.delivery.losses import Losses
from batchbox.delivery.publishing import Publisher, Refusals
from batchbox.delivery.reading import Reading
from batchbox.delivery.tidying import Tidying
from batchbox.errors import RootOfflineError, StateNotWritableError
from batchbox.folders.layout import by_lane
from batchbox.folders.manifests import Manifests
from batchbox.folders.outbox import Outbox
from batchbox.folders.root import is_about_one_name
from batchbox.folders.shelves import Shelves
from batchbox.logs import shown
from batchbox.model import ErrorType, Lane, Now
from batchbox.pricing import Catalogue
from batchbox.store.delivery import DeliveryStore, EndedBatch
from batchbox.store.holds import HoldStore
from batchbox.store.originals import OriginalStore
from batchbox.timing import Backoff

GROUP_ANSWERS = 256
REFUSED_AGAIN_SECONDS = 5.0
"""After so long an error that was refused a name is tried again."""
SHORT_READS_MAX = 3
"""After so many complete reads without a line, the line is missing."""
IDLE_SECONDS = 300.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """What delivery needs of the settings. Durations are seconds."""

    replaces_old: bool
    """Whether a new answer takes the place of an old one of the same custom_id."""
    done_days: int
    retry_first: float
    retry_longest: float


class Delivery:
    """The stage that brings answers.

    `vouches_for` says whether a 404 can be believed about a batch that was sent with the key of that hash.
    """

    def __init__(
        self,
        settings: DeliverySettings,
        *,
        store: DeliveryStore,
        originals: OriginalStore,
        holds: HoldStore,
        outbox: Outbox,
        shelves: Shelves,
        manifests: Manifests,
        api: BatchesApi,
        catalogue: Catalogue,
        backoff: Backoff,
        chance: Callable[[], float],
        vouches_for: Callable[[bytes], Awaitable[bool]],
        clock: Callable[[], Now],
        keep_going: Callable[[], bool],
        ring_dispatch: Callable[[], None],
        ring_polling: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._holds = holds
        self._outbox = outbox
        self._shelves = shelves
        self._manifests = manifests
        self._api = api
        self._catalogue = catalogue
        self._backoff = backoff
        self._chance = chance
        self._clock = clock
        self._keep_going = keep_going
        self._ring_dispatch = ring_dispatch
        self._batch_backoffs: dict[int, Backoff] = {}
        self._losses = Losses(
            store=store, manifests=manifests, api=api, vouches_for=vouches_for, ring_polling=ring_polling
        )
        self._archiver = Archiver(originals, shelves, is_kept=settings.done_days > 0, ring_dispatch=ring_dispatch)
        self._tidying = Tidying(
            store=store, originals=originals, shelves=shelves, manifests=manifests, done_days=settings.done_days
        )
        self._leftovers_removed = False
        self._refusals = Refusals()
        self._refused_errors: set[int] = set()  # requests whose errors wait for a name,
        self._refused_until = 0.0  # and for how long

    async def step(self, now: Now) -> float:
        """Deliver what has ended; return the monotonic moment of the next step."""
        if now.monotonic < self._backoff.until:
            return self._backoff.until
        try:
            next_due = await self._work(now)
        except (OSError, RootOfflineError) as error:
            self._leftovers_removed = False  # the parts of the group in hand are written anew
            until = self._backoff.fail(now.monotonic, chance=self._chance())
            log.warning("outbox cannot be written", extra={"why": str(error)})
            return until
        except StateNotWritableError:
            self._leftovers_removed = False
            raise
        self._backoff.succeed()
        return next_due

    async def _work(self, now: Now) -> float:
        if not self._leftovers_removed:
            await self._outbox.remove_leftovers(stems_in_use=await self._store.all_stems_in_use())
            self._leftovers_removed = True
        await self._publish_failing(now)
        for batch in await self._store.ended():
            if self._backoff_of(batch).until <= now.monotonic and self._keep_going():
                await self._deliver(batch, now)
        await self._losses.give_up_old(now)
        await self._publish_failing(now)
        await self._tidying.step(now)  # first: what it deletes may be what the originals need room for
        await self._archiver.step(now)
        ended = await self._store.ended()
        self._batch_backoffs = {batch.id: self._backoff_of(batch) for batch in ended}
        waits = [backoff.until for backoff in self._batch_backoffs.values()]
        if self._refused_errors:
            waits.append(self._refused_until)
        return min([now.monotonic + IDLE_SECONDS, *waits])

    def _backoff_of(self, batch: EndedBatch) -> Backoff:
        backoff = self._batch_backoffs.get(batch.id)
        return backoff or Backoff(first=self._settings.retry_first, longest=self._settings.retry_longest)

    async def _publish_failing(self, now: Now) -> None:
        """Write the errors of requests that ended without a line of results."""
        publishers: dict[Lane, Publisher] = {}  # each lists its outbox once, however many groups there are
        closed: set[Lane] = set()
        if now.monotonic >= self._refused_until:
            self._refused_errors = set()
        while failing := await self._store.failing(
            limit=GROUP_ANSWERS, closed_lanes=closed, waiting=self._refused_errors
        ):
            for lane, requests in by_lane(failing).items():
                publisher = publishers.setdefault(lane, self._publisher(lane))
                try:
                    written = await publisher.write([compose_failing(request) for request in requests])
                    await publisher.publish(written, now)
                except OSError as error:
                    self._note_closed_lane(lane, error)
                    closed.add(lane)
                if publisher.refused - self._refused_errors:
                    self._refused_errors |= publisher.refused
                    self._refused_until = now.monotonic + REFUSED_AGAIN_SECONDS

    def _note_closed_lane(self, lane: Lane, error: OSError) -> None:
        """Let a lane's outbox that cannot be written wait alone; any other fault goes on."""
        if not is_about_one_name(error):
            raise error
        self._leftovers_removed = False
        log.warning("lane's outbox cannot be written", extra={"lane": shown(lane), "why": str(error)})

    def _publisher(self, lane: Lane) -> Publisher:
        return Publisher(
            lane,
            store=self._store,
            outbox=self._outbox,
            refusals=self._refusals,
            replaces_old=self._settings.replaces_old,
        )

    async def _deliver(self, batch: EndedBatch, now: Now) -> None:
        backoff = self._batch_backoffs.setdefault(batch.id, self._backoff_of(batch))
        publisher = self._publisher(batch.lane)
        reading = Reading(
            batch,
            store=self._store,
            holds=self._holds,
            api=self._api,
            publisher=publisher,
            catalogue=self._catalogue,
            clock=self._clock,
            keep_going=self._keep_going,
            ring_dispatch=self._ring_dispatch,
        )
        try:
            is_complete = await reading.read()
        except ApiTrouble as error:
            await self._note_trouble(batch, error, backoff, now)
            return
        except OSError as error:
            self._note_closed_lane(batch.lane, error)
            backoff.fail(now.monotonic, chance=self._chance())
            return
        if not is_complete:  # stopping: the rest is delivered after the next start
            return
        if publisher.overtaken:  # cancelled while they were written: another reading writes what is true now
            return
        if publisher.refused:  # a stream that is read again brings them again
            backoff.fail(now.monotonic, chance=self._chance())
            return
        left = await self._store.undelivered_count(batch.id)
        if left and batch.short_reads + 1 < SHORT_READS_MAX:
            await self._store.count_short_read(batch.id)
            backoff.fail(now.monotonic, chance=self._chance())
            log.warning("results are short of lines", extra={"batch": batch.api_id, "missing_count": left})
            return
        if left:
            text = f"The results of {batch.api_id} were read {SHORT_READS_MAX} times and have no line for this request."
            await self._store.condemn_rest(batch.id, ErrorType.RESULT_MISSING, text, now=now.wall)
        await self._manifests.close(batch.nonce)
        log.info("batch delivered", extra={"batch": batch.api_id, "missing_count": left})
        if await self._store.close(batch.id):
            log.info("the account has credit again", extra={"batch": batch.api_id})
            self._ring_dispatch()

    async def _note_trouble(self, batch: EndedBatch, error: ApiTrouble, backoff: Backoff, now: Now) -> None:
        try:
            if error.trouble.kind is TroubleKind.NOT_FOUND and await self._losses.judge(batch, now):
                return
        except ApiTrouble as second:
            error = second
        backoff.fail(now.monotonic, chance=self._chance(), at_least=error.trouble.retry_after_seconds or 0.0)
        log.warning("results cannot be read", extra={"batch": batch.api_id, "why": error.trouble.text})
