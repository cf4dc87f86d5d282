"""Runs the stages: start-up, main loop, shutdown.

Scopes are nested in the order of their lives: the lock outlives the database, the database the client, the client the
stages. Each stage has a drive loop and a bell; only the drive loop waits. When a stop is asked for, stages finish the
step in hand; what takes longer than STOP_SECONDS is cancelled, which is safe at any point, because it is what a crash
does too.
"""

import gc
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import anyio

from batchbox.anthropic_api import open_api
from batchbox.api import BatchesApi
from batchbox.config import Settings
from batchbox.errors import BatchboxError, ExitCode, RootOfflineError, StateNotWritableError
from batchbox.folders.layout import INBOX, Presence
from batchbox.folders.root import Root
from batchbox.intake import Intake
from batchbox.model import INBOX_LANE, Lane
from batchbox.report import Notifier
from batchbox.service.draining import stop_when_drained, verdict
from batchbox.service.driving import Patient, Stage, drive
from batchbox.service.ground import Ground, hash_key, open_ground
from batchbox.service.signs import Bell, Bells, Pulse, read_clocks
from batchbox.service.wiring import Stages, wire
from batchbox.store import Store
from batchbox.watch import Watcher

STOP_SECONDS = 4.0
LEAVE_SECONDS = 0.5
STATUS_SECONDS = 10.0
START_SECONDS = 15.0
"""How long is waited before a start without room on the state's disk is tried again."""

_Driven = tuple[Patient, Bell, Pulse]

log = logging.getLogger(__name__)


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
    leaves work for a person. Raises BatchboxError for what a person must mend first; only for room on the state's
    disk is waited at the start as it is later.
    """
    while True:
        try:
            return await _run(settings, api_key=api_key, notifier=notifier, stop=stop, drain=drain)
        except StateNotWritableError as error:
            if stop.is_set():
                raise
            log.warning("cannot start yet", extra={"why": str(error)})
            notifier.status(str(error))
        with anyio.move_on_after(START_SECONDS):
            await stop.wait()


async def _run(settings: Settings, *, api_key: str, notifier: Notifier, stop: anyio.Event, drain: bool) -> ExitCode:
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
            intake = await _serve(settings, ground, api, key_hash=key_hash, notifier=notifier, stop=stop, drain=drain)
        except BaseExceptionGroup as group:
            raise _first_cause(group) from None
        return await verdict(intake, ground.store, started_at) if drain else ExitCode.DONE


async def _serve(
    settings: Settings,
    ground: Ground,
    api: BatchesApi,
    *,
    key_hash: bytes,
    notifier: Notifier,
    stop: anyio.Event,
    drain: bool,
) -> Intake:
    """Run every stage until stopped; then let each finish its step, within bounds. Return intake as it was left."""
    bells = Bells(intake=Bell(), dispatch=Bell(), polling=Bell(), delivery=Bell())
    delivery_pulse = Pulse(read_clocks)
    watcher = Watcher(bells.intake.ring)
    stages = wire(
        settings,
        ground,
        api,
        key_hash=key_hash,
        bells=bells,
        keep_going=_progress(delivery_pulse, stop),
        clock=read_clocks,
        watch=_watching(settings, ground.root, watcher),
    )
    driven = _driven(stages, bells, delivery_pulse)
    gc.collect()
    gc.freeze()  # what was imported lives as long as the process: collecting it again and again stops the loop
    log.info("started", extra={"instance": ground.instance, "root": str(ground.root.path)})
    async with anyio.create_task_group() as helpers:
        try:
            async with anyio.create_task_group() as workers:
                for stage, bell, pulse in driven:
                    workers.start_soon(partial(drive, stage, bell, pulse, clock=read_clocks, stop=stop))
                if notifier.is_heard:
                    helpers.start_soon(_tell_systemd, notifier, ground, driven)
                helpers.start_soon(watcher.run, stop)
                if drain:
                    status = partial(_status_line, ground.store, [stage for stage, *_ in driven])
                    helpers.start_soon(partial(stop_when_drained, stages.intake, ground.store, stop, status=status))
                await stop.wait()
                notifier.stopping()
                bells.ring_all()
                workers.cancel_scope.deadline = anyio.current_time() + STOP_SECONDS
        finally:
            stop.set()  # however they ended: the watcher leaves at once only if it is told
        helpers.cancel_scope.cancel()
    await _leave(ground.presence)
    log.info("stopped")
    return stages.intake


def _driven(stages: Stages, bells: Bells, delivery_pulse: Pulse) -> Sequence[_Driven]:
    return [
        (_patient("intake", stages.intake), bells.intake, Pulse(read_clocks)),
        (_patient("dispatch", stages.dispatch), bells.dispatch, Pulse(read_clocks)),
        (_patient("polling", stages.polling), bells.polling, Pulse(read_clocks)),
        (_patient("delivery", stages.delivery), bells.delivery, delivery_pulse),
        (_patient("orders", stages.orders), bells.orders, Pulse(read_clocks)),
    ]


def _patient(name: str, stage: Stage) -> Patient:
    return Patient(name, stage, chance=random.random)


def _progress(pulse: Pulse, stop: anyio.Event) -> Callable[[], bool]:
    def keep_going() -> bool:
        pulse.begin()
        return not stop.is_set()

    return keep_going


async def _tell_systemd(notifier: Notifier, ground: Ground, driven: Sequence[_Driven]) -> None:
    """Say READY once, then feed the watchdog while every stage gets on, and say how things are."""
    is_ready = notifier.ready()
    every = min(STATUS_SECONDS, (notifier.watchdog_seconds or 2 * STATUS_SECONDS) / 2)
    while True:
        is_ready = is_ready or notifier.ready()
        if all(pulse.is_fresh(read_clocks()) for _, _, pulse in driven) or ground.root.is_busy:
            notifier.watchdog()
        notifier.status(await _status_line(ground.store, [stage for stage, *_ in driven]))
        await anyio.sleep(every)


async def _status_line(store: Store, stages: Sequence[Patient]) -> str:
    backlog = await store.intake.backlog()
    batches = await store.overview.batches()
    held = "".join(f"; {hold.name} holds: {hold.reason}" for hold in await store.holds.all())
    unrecorded = "".join(f"; {trouble}" for trouble in dict.fromkeys(stage.trouble for stage in stages) if trouble)
    return f"{backlog.request_count} waiting, {len(batches)} batches open{held}{unrecorded}"


async def _leave(presence: Presence) -> None:
    with anyio.move_on_after(LEAVE_SECONDS):
        try:
            await presence.leave()
        except (OSError, RootOfflineError) as error:
            log.warning("heartbeat cannot be removed", extra={"why": str(error)})


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the sentence for a person, if there is one among the causes, else the first cause of all."""
    meant, _ = group.split(BatchboxError)
    cause: BaseException = meant or group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause


def _watching(settings: Settings, root: Root, watcher: Watcher) -> Callable[[Mapping[Lane, tuple[int, int]]], None]:
    """Return what tells the watcher which folders there are, while events can be expected from them."""
    inbox, detection = settings.paths.root / INBOX, settings.inbox.detection

    def watch(folders: Mapping[Lane, tuple[int, int]]) -> None:
        trusts_events = detection == "events" or (detection == "auto" and root.is_local)
        paths = {inbox if lane == INBOX_LANE else inbox / lane: found for lane, found in folders.items()}
        watcher.watch(paths if trusts_events else {})

    return watch
