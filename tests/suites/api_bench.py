"""The bench as this suite drives it: on a clock that goes from one due step to the next, judged when all is over.

Whatever the process dies of, the next one starts from what is on disk.
"""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from batchbox.config import parse_settings
from batchbox.model import Now
from pipeline.bench import SETTINGS, Bench, Crash
from pipeline.invariants import check

LEAP_SECONDS = 600.0
ROUNDS_MAX = 600
OPEN_BATCHES = "SELECT id FROM batches WHERE state NOT IN ('closed', 'refused')"


class ApiBench(Bench):
    """A bench whose steps are not judged one by one.

    Args:
        folder: Where root and state are made.
        max_requests: How many requests go into a batch.
        instead: What stands in place of some of the bench's settings.
        breath: The shortest step of time. Bells may be late without harm.
    """

    def __init__(self, folder: Path, *, max_requests: int, instead: Mapping[str, str], breath: float) -> None:
        super().__init__(folder, max_requests=max_requests)
        text = SETTINGS
        for old, new in instead.items():
            assert old in text, f"the bench's settings have no {old!r}"
            text = text.replace(old, new)
        self.settings = parse_settings(
            text.format(
                root=self.root,
                state=self.state,
                max_requests=max_requests,
                max_pending=200_000,
                on_existing="suffix",
                done_days=30,
            ),
            source="bench",
        )
        self._breath = breath

    def sending_seconds(self) -> float:
        """Return how long a create call takes."""
        return 0.0

    async def step(self, stage: str) -> float:
        """Let one stage take one step."""
        if self.stages is None:
            await self.start()
        step: Callable[[Now], Awaitable[float]] = getattr(self.stages, stage).step
        return await step(self.now)

    async def live(self) -> None:
        """Bring everything to its end. Raises AssertionError if there is none, or if an invariant does not hold."""
        while self.inbox_names():
            await self.step("intake")
            self.advance(self._breath)
        for _ in range(ROUNDS_MAX):
            due = min(await self._send_all(), await self.step("polling"), await self.step("delivery"))
            if self.is_settled() and not self.rows(OPEN_BATCHES):
                check(self.root, self.rows, self.api, self.dropped, replaces_old=False)
                return
            self.advance(min(max(due - self.now.monotonic, self._breath), LEAP_SECONDS))
        states = self.rows("SELECT state, count(*) FROM batches GROUP BY state")
        raise AssertionError(f"not settled after {ROUNDS_MAX} rounds: {states}")

    async def _send_all(self) -> float:
        """Send what is due, one call after the other; a death is followed by a new life."""
        while True:
            try:
                due = await self.step("dispatch")
            except Crash:
                await self.restart()
                continue
            if due > self.now.monotonic:
                return due
            self.advance(self.sending_seconds())
