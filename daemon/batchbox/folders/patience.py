"""Lets a lane whose folder cannot be worked on wait alone: it may be somebody's own, or no folder at all."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from batchbox.folders.layout import R, by_lane
from batchbox.folders.root import is_about_one_name
from batchbox.logs import shown
from batchbox.model import Lane, Now

RETRY_SECONDS = 60.0
"""How long a lane waits after its folder could not be worked on."""

log = logging.getLogger(__name__)


class Patience:
    """Works on all that is listed, lane by lane.

    Args:
        said: What waits, for people.
        group: How many rows are worked on together.
    """

    def __init__(self, said: str, *, group: int) -> None:
        self._said = said
        self._group = group
        self._retry_at: dict[Lane, float] = {}  # monotonic, of the lanes that wait

    async def work(
        self,
        listed: Callable[[int], Awaitable[Sequence[R]]],
        act: Callable[[Lane, Sequence[R], Now], Awaitable[None]],
        *,
        now: Now,
    ) -> None:
        """Act on everything, except what is of lanes that wait.

        Args:
            listed: Returns so many rows at most, the oldest first. What was acted on is not among them any more.
            act: Acts on a group of one lane's rows. An OSError about one name lets the lane wait; any other flies.
            now: The clocks.
        """
        limit = self._group
        while rows := await listed(limit):
            ready = [row for row in rows if self._retry_at.get(row.lane, 0.0) <= now.monotonic]
            for lane, of_lane in by_lane(ready).items():
                await self._try_lane(lane, of_lane, act, now)
            if not ready:
                if len(rows) < limit:
                    return
                limit *= 2  # all of these wait for their lane: others may be behind them

    async def _try_lane(
        self, lane: Lane, rows: Sequence[R], act: Callable[[Lane, Sequence[R], Now], Awaitable[None]], now: Now
    ) -> None:
        try:
            for start in range(0, len(rows), self._group):
                await act(lane, rows[start : start + self._group], now)
        except OSError as error:
            if not is_about_one_name(error):
                raise
            text = f"{self._said} wait: clear the way there, or let batchbox's user write; they follow by themselves"
            log.warning(text, extra={"lane": shown(lane), "why": str(error)})
            self._retry_at[lane] = now.monotonic + RETRY_SECONDS
        else:
            self._retry_at.pop(lane, None)
