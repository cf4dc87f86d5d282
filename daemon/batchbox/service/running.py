"""Runs the stages: start-up, main loop, shutdown.

Scopes are nested in the order of their lives: the lock outlives the database, the database the client, the client the
stages. Each stage has a drive loop and a bell; only the drive loop waits. When a stop is asked for, stages finish the
step in hand; what takes longer than STOP_SECONDS is cancelled, which is safe at any point, because it is what a crash
does too.
"""

import gc
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import anyio

from batchbox.anthropic_api import open_api
from batchbox.api import BatchesApi
from batchbox.config import Settings
from batchbox.errors import BatchboxError, ExitCode, RootOfflineError
from batchbox.folders.layout import INBOX, Presence
from batchbox.intake import Intake
from batchbox.model import Now
from batchbox.report import Notifier
from batchbox.service.ground import Ground, hash_key, open_ground
from batchbox.service.signs import Bell, Bells, Pulse, read_clocks
from batchbox.service.wiring import wire
from batchbox.store import Store
from batchbox.store.overview import Tally
from batchbox.watch import ring_on_changes

STOP_SECONDS = 4.0
LEAVE_SECONDS = 0.5
STATUS_SECONDS = 10.0
DRAIN_CHECK_SECONDS = 0.1

log = logging.getLogger(__name__)


class Stage(Protocol):
    """What a drive loop needs of a stage."""

    async def step(self, now: Now) -> float:
        """Do what is due; return the monotonic moment of the next step."""


async def run(
    settings: Settings,
    *,
    api_key: str,
    notifier: Notifier,
    stop: anyio.Event,
    drain: bool,
) -> ExitCode:
    """Run the service until it is stopped or, with `drain`, until every file is settled and no request is open.

    Returns FINISHED_WITH_ERRORS after a drain in which something was rejected, failed or stayed incomplete, or that
    leaves work for a person. Raises BatchboxError for what a person must mend first.
    """
    started_at = read_clocks().wall
    client = open_api(
        base_url=settings.api.base_url,
        api_key=api_key,
        timeout_seconds=settings.api.timeout,
        create_timeout_seconds=settings.api.create_timeout,
        workspace_id=settings.api.workspace_id,
        proxy=settings.api.proxy,
        ca_file=settings.api.ca_file,
    )
    async with open_ground(settings) as ground, client as api:
        key_hash = await hash_key(ground.store, api_key, settings.api.workspace_id)
        try:
            await _serve(settings, ground, api, key_hash=key_hash, notifier=notifier, stop=stop, drain=drain)
        except BaseExceptionGroup as group:
            raise _first_cause(group) from None
        return await _verdict(ground.store, started_at) if drain else ExitCode.DONE


async def _serve(
    settings: Settings,
    ground: Ground,
    api: BatchesApi,
    *,
    key_hash: bytes,
    notifier: Notifier,
    stop: anyio.Event,
    drain: bool,
) -> None:
    """Run every stage until stopped; then let each finish its step, within bounds."""
    bells = Bells(intake=Bell(), dispatch=Bell(), polling=Bell(), delivery=Bell())
    delivery_pulse = Pulse(read_clocks)
    stages = wire(
        settings,
        ground,
        api,
        key_hash=key_hash,
        bells=bells,
        keep_going=_progress(delivery_pulse, stop),
        clock=read_clocks,
    )
    driven: Sequence[tuple[Stage, Bell, Pulse]] = [
        (stages.intake, bells.intake, Pulse(read_clocks)),
        (stages.dispatch, bells.dispatch, Pulse(read_clocks)),
        (stages.polling, bells.polling, Pulse(read_clocks)),
        (stages.delivery, bells.delivery, delivery_pulse),
    ]
    gc.collect()
    gc.freeze()  # what was imported lives as long as the process: collecting it again and again stops the loop
    log.info("started", extra={"instance": ground.instance, "root": str(ground.root.path)})
    async with anyio.create_task_group() as helpers:
        try:
            async with anyio.create_task_group() as workers:
                for stage, bell, pulse in driven:
                    workers.start_soon(_drive, stage, bell, pulse, stop)
                if notifier.is_heard:
                    helpers.start_soon(_tell_systemd, notifier, ground, [pulse for *_, pulse in driven])
                if _trusts_events(settings, is_local=ground.is_local):
                    helpers.start_soon(ring_on_changes, settings.paths.root / INBOX, bells.intake.ring, stop)
                if drain:
                    helpers.start_soon(_stop_when_drained, stages.intake, ground.store, stop)
                await stop.wait()
                notifier.stopping()
                bells.ring_all()
                workers.cancel_scope.deadline = anyio.current_time() + STOP_SECONDS
        finally:
            stop.set()  # however they ended: the watcher leaves at once only if it is told
        helpers.cancel_scope.cancel()
    await _leave(ground.presence)
    log.info("stopped")


async def _drive(stage: Stage, bell: Bell, pulse: Pulse, stop: anyio.Event) -> None:
    while not stop.is_set():
        bell.silence()
        pulse.begin()
        due = await stage.step(read_clocks())
        pulse.end()
        if not stop.is_set():
            await bell.wait(due - read_clocks().monotonic)


def _progress(pulse: Pulse, stop: anyio.Event) -> Callable[[], bool]:
    def keep_going() -> bool:
        pulse.begin()
        return not stop.is_set()

    return keep_going


async def _tell_systemd(notifier: Notifier, ground: Ground, pulses: Sequence[Pulse]) -> None:
    """Say READY once, then feed the watchdog while every stage gets on, and say how things are."""
    is_ready = notifier.ready()
    every = min(STATUS_SECONDS, (notifier.watchdog_seconds or 2 * STATUS_SECONDS) / 2)
    while True:
        is_ready = is_ready or notifier.ready()
        if all(pulse.is_fresh(read_clocks()) for pulse in pulses) or ground.root.is_busy:
            notifier.watchdog()
        notifier.status(await _status_line(ground.store))
        await anyio.sleep(every)


async def _status_line(store: Store) -> str:
    backlog = await store.intake.backlog()
    batches = await store.overview.batches()
    held = "".join(f"; {hold.name} holds: {hold.reason}" for hold in await store.holds.all())
    return f"{backlog.request_count} waiting, {len(batches)} batches open{held}"


async def _stop_when_drained(intake: Intake, store: Store, stop: anyio.Event) -> None:
    while not (intake.is_idle and not await store.overview.has_open_work()):  # noqa: ASYNC110 - the database rings no bell
        await anyio.sleep(DRAIN_CHECK_SECONDS)
    stop.set()


async def _leave(presence: Presence) -> None:
    with anyio.move_on_after(LEAVE_SECONDS):
        try:
            await presence.leave()
        except (OSError, RootOfflineError) as error:
            log.warning("heartbeat cannot be removed", extra={"why": str(error)})


async def _verdict(store: Store, started_at: datetime) -> ExitCode:
    lost = await store.overview.lost_batches()
    for batch_id in lost:
        log.error("batch needs a person: the API does not know it", extra={"batch": batch_id})
    tally = await store.overview.tally_since(started_at)
    return ExitCode.FINISHED_WITH_ERRORS if lost or _has_errors(tally) else ExitCode.DONE


def _has_errors(tally: Tally) -> bool:
    return bool(tally.incomplete or tally.failed or tally.rejected_files)


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the sentence for a person, if there is one among the causes, else the first cause of all."""
    meant, _ = group.split(BatchboxError)
    cause: BaseException = meant or group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause


def _trusts_events(settings: Settings, *, is_local: bool) -> bool:
    detection = settings.inbox.detection
    return detection == "events" or (detection == "auto" and is_local)
