"""`run --drain`: stops when nothing is left that would move by itself, says meanwhile what is waited for, and judges.

A file that is in use, or that nobody lets us read, keeps a drain waiting: it may be taken at any moment, and whoever
asked for the drain wants it answered. A folder that somebody has to cure does not: its files would wait for ever.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

import anyio

from batchbox.errors import ExitCode
from batchbox.intake import Intake
from batchbox.logs import shown
from batchbox.store import Store
from batchbox.store.overview import Tally
from batchbox.timing import backoff_seconds

CHECK_SECONDS = 0.1
TELL_SECONDS_FIRST = 5.0
TELL_SECONDS_MAX = 300.0
"""When it is said for the first time what is waited for, and how often at least from then on."""

log = logging.getLogger(__name__)


async def stop_when_drained(
    intake: Intake, store: Store, stop: anyio.Event, *, status: Callable[[], Awaitable[str]]
) -> None:
    """Ask for the stop as soon as every file is settled and no request open."""
    times_told = 0
    tell_at = anyio.current_time() + TELL_SECONDS_FIRST
    while not (intake.is_idle and not await store.overview.has_open_work()):
        if anyio.current_time() >= tell_at:
            await _tell(intake, status)
            times_told += 1
            wait = backoff_seconds(times_told, first=2 * TELL_SECONDS_FIRST, longest=TELL_SECONDS_MAX)
            tell_at = anyio.current_time() + wait
        await anyio.sleep(CHECK_SECONDS)
    stop.set()


async def _tell(intake: Intake, status: Callable[[], Awaitable[str]]) -> None:
    told: dict[str, object] = {"files_in_inbox": intake.left_count}
    refused = intake.refused()
    if refused:
        told["cannot_be_taken"] = ", ".join(shown(name) for name in refused)
    log.info("drain waits", extra={**told, "status": await status()})


async def verdict(intake: Intake, store: Store, started_at: datetime) -> ExitCode:
    """Tell what needs a person, and return how the drain has ended."""
    lost = await store.overview.lost_batches()
    for batch_id in lost:
        log.error("batch needs a person: the API does not know it", extra={"batch": batch_id})
    undecided = await store.overview.for_a_person()
    for number in undecided:
        log.error("batch needs a person: see `batchbox reconcile`", extra={"batch": number})
    broken = intake.broken_folders
    for name, why in broken.items():
        log.error("folder needs a person: its files were not taken", extra={"folder": shown(name), "why": str(why)})
    tally = await store.overview.tally_since(started_at)
    has_failed = bool(lost or undecided or broken) or _has_errors(tally)
    return ExitCode.FINISHED_WITH_ERRORS if has_failed else ExitCode.DONE


def _has_errors(tally: Tally) -> bool:
    return bool(tally.incomplete or tally.failed or tally.rejected_files)
