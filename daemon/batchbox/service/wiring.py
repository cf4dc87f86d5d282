"""Builds the stages and gives each the pieces of the settings that it needs."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from batchbox.api import BatchesApi
from batchbox.config import LaneSettings, Settings
from batchbox.delivery import Delivery, DeliverySettings
from batchbox.dispatch import Dispatch, DispatchSettings
from batchbox.dispatch.reconcile import Reconciler, ReconcileSettings
from batchbox.dispatch.windows import Windows
from batchbox.folders.inbox import LANES_MAX, Inbox
from batchbox.folders.manifests import Manifests
from batchbox.folders.outbox import Outbox
from batchbox.folders.shelves import Shelves
from batchbox.formats import Rules
from batchbox.intake import Intake, IntakeSettings, Recorder, RecorderSettings, Rejecter
from batchbox.model import Now
from batchbox.polling import Polling, PollingSettings
from batchbox.service.ground import Ground
from batchbox.service.signs import Bells
from batchbox.store.holds import HoldName, Keeper
from batchbox.timing import Backoff

QUIET_SECONDS = {"local": 2.0, "network": 10.0}
RESCAN_SECONDS = {"local": 30.0, "network": 5.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages, wired."""

    intake: Intake
    dispatch: Dispatch
    polling: Polling
    delivery: Delivery


def wire(
    settings: Settings,
    ground: Ground,
    api: BatchesApi,
    *,
    key_hash: bytes,
    bells: Bells,
    keep_going: Callable[[], bool],
    clock: Callable[[], Now],
) -> Stages:
    """Build the stages. Steps are told the time; `clock` is for what must know when exactly it did something."""
    store = ground.store
    inbox = Inbox(ground.root, ground.instance, monotonic=lambda: clock().monotonic)
    manifests = Manifests(ground.root, ground.instance)
    shelves = Shelves(ground.root, ground.instance)
    catalogue = settings.catalogue()
    lane_of = lru_cache(maxsize=LANES_MAX)(settings.lane)  # asked for every file; what it says never changes
    rules_of = lru_cache(maxsize=LANES_MAX)(lambda lane: _rules(settings, lane_of(lane), catalogue.cap))

    def backoff() -> Backoff:
        return Backoff(first=settings.retry.first, longest=settings.retry.max)

    def keeper(name: HoldName) -> Keeper:
        return Keeper(name, holds=store.holds, backoff=backoff(), chance=random.random)

    return Stages(
        intake=Intake(
            _intake_settings(settings, is_local=ground.is_local),
            store=store.intake,
            inbox=inbox,
            presence=ground.presence,
            recorder=Recorder(
                RecorderSettings(
                    file_bytes_max=settings.inbox.max_file_bytes,
                    jsonl_bytes_max=settings.inbox.max_jsonl_bytes,
                    reject_hard_links=settings.inbox.hard_links == "reject" and ground.is_local,
                ),
                store=store.intake,
                inbox=inbox,
                shelves=shelves,
                lane=lane_of,
                rules=rules_of,
                ring_dispatch=bells.dispatch.ring,
                ring_delivery=bells.delivery.ring,
            ),
            rejecter=Rejecter(store=store.intake, shelves=shelves),
            keeper=keeper(HoldName.ROOT),
        ),
        dispatch=Dispatch(
            DispatchSettings(
                instance=ground.instance,
                base_url=settings.api.base_url,
                key_hash=key_hash,
                retry_longest=settings.retry.max,
            ),
            store=store.dispatch,
            holds=store.holds,
            manifests=manifests,
            presence=ground.presence,
            api=api,
            windows=Windows(lambda lane: lane_of(lane).window),
            reconciler=Reconciler(
                ReconcileSettings(
                    grace=settings.api.grace,
                    poll_first=settings.poll.first,
                    poll_factor=settings.poll.factor,
                    poll_longest=settings.poll.max,
                ),
                store=store.dispatch,
                manifests=manifests,
                api=api,
                backoff=backoff(),
                chance=random.random,
                ring_polling=bells.polling.ring,
            ),
            keeper=keeper(HoldName.SENDING),
            ring_polling=bells.polling.ring,
            ring_delivery=bells.delivery.ring,
        ),
        polling=Polling(
            PollingSettings(first=settings.poll.first, factor=settings.poll.factor, longest=settings.poll.max),
            store=store.polling,
            keeper=keeper(HoldName.API),
            api=api,
            chance=random.random,
            ring_delivery=bells.delivery.ring,
        ),
        delivery=Delivery(
            DeliverySettings(
                replaces_old=settings.outbox.on_existing == "replace",
                done_days=settings.retention.done_days,
                retry_first=settings.retry.first,
                retry_longest=settings.retry.max,
            ),
            store=store.delivery,
            holds=store.holds,
            outbox=Outbox(ground.root, ground.instance, is_local=ground.is_local),
            shelves=shelves,
            manifests=manifests,
            api=api,
            catalogue=catalogue,
            backoff=backoff(),
            chance=random.random,
            clock=clock,
            keep_going=keep_going,
            ring_dispatch=bells.dispatch.ring,
        ),
    )


def _intake_settings(settings: Settings, *, is_local: bool) -> IntakeSettings:
    inbox = settings.inbox
    place = "local" if is_local else "network"
    return IntakeSettings(
        quiet=inbox.quiet if inbox.quiet is not None else QUIET_SECONDS[place],
        rescan=inbox.rescan if inbox.rescan is not None else RESCAN_SECONDS[place],
        incomplete_after=inbox.incomplete_after,
        pending_max=inbox.max_pending,
        pending_bytes_max=inbox.max_pending_bytes,
    )


def _rules(settings: Settings, lane: LaneSettings, cap: Callable[[str], int | None]) -> Rules:
    return Rules(
        model=lane.model,
        max_tokens=lane.max_tokens,
        temperature=lane.temperature,
        effort=lane.effort,
        thinking=lane.thinking,
        system=lane.system,
        betas=lane.betas,
        header=lane.header,
        allow=frozenset(settings.limits.allow),
        models=settings.limits.models,
        max_tokens_limit=settings.limits.max_tokens,
        cap=cap,
    )
