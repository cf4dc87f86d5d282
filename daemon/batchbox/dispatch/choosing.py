"""Which batch is sent next: one that was sealed before, else the window whose turn it is, sealed now.

Three things change that order. A batch whose upload was ended BREAKS_MAX times, although other calls work, is halved,
and alone it waits between its tries while others go on; so does one that was refused for nothing that is in it, and
one with a file that cannot be looked at once more. While the account has no credit, one request goes alone, the
*probe*, and everything else waits until that has ended. One that must wait is no probe any more: another one is.
"""

from collections.abc import Sequence

from batchbox.dispatch.windows import Windows
from batchbox.model import Now
from batchbox.settling import LOOK_AGAIN_SECONDS
from batchbox.store.dispatch import DispatchStore, SealedBatch, Window
from batchbox.store.regrouping import RegroupingStore
from batchbox.timing import PLACE_SECONDS_MAX, Backoff

BREAKS_MAX = 3


class Choosing:
    """Knows what may be sent, and remembers what waits between its tries."""

    def __init__(
        self,
        *,
        store: DispatchStore,
        regrouping: RegroupingStore,
        windows: Windows,
        retry_first: float,
        retry_longest: float,
    ) -> None:
        self._store = store
        self._regrouping = regrouping
        self._windows = windows
        self._retry_first = retry_first
        self._retry_longest = retry_longest
        self._waits: dict[int, Backoff] = {}

    async def next_batch(self, now: Now) -> SealedBatch | None:
        """Return the batch to send, None if nothing is due."""
        batch = await self._next_sealed(now)
        if batch is None and await self._seal(now):
            batch = await self._next_sealed(now)
        return batch

    async def next_probe(self, now: Now) -> SealedBatch | None:
        """Return one request to send alone; None if one is on its way already, or nothing waits."""
        if await self._store.has_open_probe():
            return None
        probe = await self._sealed_probe()
        if probe is None:
            await self._part_probe(now)
            probe = await self._sealed_probe()
        return probe

    async def due_at(self, now: Now, *, at_latest: float) -> float:
        """Return the monotonic moment at which the next batch may be due."""
        windows = await self._store.windows()
        self._windows.see(windows, now)
        held = [wait.until for wait in self._waits.values()]
        return min([at_latest, *held, *(self._windows.due_at(window, now) for window in windows)])

    async def probe_due_at(self, now: Now, *, at_latest: float) -> float:
        """Return the monotonic moment at which a request that waits may be the probe."""
        return min([at_latest, *(wait.until for wait in self._waits.values() if wait.until > now.monotonic)])

    def serve(self, batch: SealedBatch) -> None:
        """Note that the batch has had its turn."""
        self._windows.serve(batch.lane)

    async def put_off(self, batch: SealedBatch, now: Now, *, chance: float) -> None:
        """Note that a batch that is held was tried in vain: it waits longer every time, and others go on."""
        if batch.held_reason is None:
            return
        self._wait_of(batch).fail(now.monotonic, chance=chance)
        await self._let_another_probe(batch)

    async def postpone(self, batch: SealedBatch, now: Now, *, chance: float) -> None:
        """Note that a file of the batch could not be looked at: others go on."""
        self._wait_of(batch).fail(now.monotonic, chance=chance, at_least=LOOK_AGAIN_SECONDS, at_most=PLACE_SECONDS_MAX)
        await self._let_another_probe(batch)

    async def note(self, batch: SealedBatch, file_trouble: str | None) -> None:
        """Write down for people which file of the batch could not be looked at; None: all could."""
        if file_trouble != batch.file_trouble:
            await self._store.note_file_trouble(batch.id, file_trouble)

    async def _let_another_probe(self, batch: SealedBatch) -> None:
        if batch.is_probe:
            await self._store.unmark_probe(batch.id)

    def _wait_of(self, batch: SealedBatch) -> Backoff:
        return self._waits.setdefault(batch.id, Backoff(first=self._retry_first, longest=self._retry_longest))

    async def _next_sealed(self, now: Now) -> SealedBatch | None:
        sealed = await self._store.sealed()
        if broken := [batch for batch in sealed if batch.break_count >= BREAKS_MAX and batch.held_reason is None]:
            await self._ease(broken, now)
            sealed = await self._store.sealed()
        due = self._due_of(sealed, now)
        return min(due, key=lambda batch: (self._windows.turn_of(batch.lane), batch.id), default=None)

    def _due_of(self, sealed: Sequence[SealedBatch], now: Now) -> list[SealedBatch]:
        """Return those that do not wait; `sealed` are all that there are."""
        self._waits = {batch.id: self._waits[batch.id] for batch in sealed if batch.id in self._waits}
        return [
            batch for batch in sealed if batch.id not in self._waits or self._waits[batch.id].until <= now.monotonic
        ]

    async def _ease(self, broken: Sequence[SealedBatch], now: Now) -> None:
        for batch in broken:
            if batch.request_count > 1:
                await self._regrouping.halve(batch.id, now=now.wall)
            else:
                await self._store.hold(batch.id, f"its upload was ended {batch.break_count} times; others go on")

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

    async def _sealed_probe(self) -> SealedBatch | None:
        return next((batch for batch in await self._store.sealed() if batch.is_probe), None)

    async def _part_probe(self, now: Now) -> None:
        """Make a batch of the request that has waited longest, sealed before or not.

        Those that had to wait come last, however many they are: else they could keep all others from being tried.
        """
        due = self._due_of(await self._store.sealed(), now)
        untried = [batch for batch in due if batch.id not in self._waits]
        windows: Sequence[Window] = [] if untried else await self._store.windows()
        if windows:
            oldest = min(windows, key=lambda window: window.oldest_at)
            limit = self._windows.limits(oldest).max_bytes
            await self._store.seal(oldest, requests_max=1, bytes_max=limit, now=now.wall, is_probe=True)
        elif due:
            await self._regrouping.part_probe((untried or due)[0].id, now=now.wall)
