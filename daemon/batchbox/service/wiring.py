"""Builds the stages and gives each the pieces of the settings that it needs."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from batchbox.account import Account
from batchbox.api import BatchesApi
from batchbox.config import LaneSettings, Settings
from batchbox.delivery import Delivery, DeliverySettings
from batchbox.dispatch import (
    Choosing,
    Dispatch,
    Orders,
    Reconciler,
    ReconcileSettings,
    Refusals,
    Sender,
    SendingSettings,
    Twins,
)
from batchbox.dispatch.verifying import Verifier
from batchbox.dispatch.windows import Windows
from batchbox.folders.inbox import Inbox
from batchbox.folders.listing import LANES_MAX
from batchbox.folders.manifests import Manifests
from batchbox.folders.outbox import Outbox
from batchbox.folders.root import Root
from batchbox.folders.shelves import Shelves
from batchbox.folders.space import Room
from batchbox.formats import Rules
from batchbox.intake import (
    Canceller,
    Intake,
    IntakeSettings,
    Parsing,
    Recorder,
    RecorderSettings,
    Rejecter,
    SettlingAnew,
)
from batchbox.model import OUTPUT_300K_BETA, Lane, Now
from batchbox.polling import Polling, PollingSettings
from batchbox.pricing import Catalogue
from batchbox.service.ground import Ground
from batchbox.service.signs import Bells
from batchbox.store import Store
from batchbox.store.holds import HoldName, Keeper
from batchbox.timing import PLACE_SECONDS_MAX, Backoff

QUIET_SECONDS = {"local": 2.0, "network": 10.0}
RESCAN_SECONDS = {"local": 30.0, "network": 5.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages, wired."""

    intake: Intake
    dispatch: Dispatch
    polling: Polling
    delivery: Delivery
    orders: Orders
    recorder: Recorder
    """Intake's own: what records claims after a crash records them in a recovery too."""


def wire(
    settings: Settings,
    ground: Ground,
    api: BatchesApi,
    *,
    key_hash: bytes,
    bells: Bells,
    keep_going: Callable[[], bool],
    clock: Callable[[], Now],
    watch: Callable[[Mapping[Lane, tuple[int, int]]], None],
) -> Stages:
    """Build the stages. Steps are told the time; `clock` is for what must know when exactly it did something.

    `watch` is told, after each listing of the inbox, which folders there are.
    """
    parts = _Parts(
        settings=settings,
        ground=ground,
        account=Account(
            api,
            store=ground.store.account,
            holds=ground.store.holds,
            base_url=settings.api.base_url,
            key_hash=key_hash,
            clock=clock,
        ),
        bells=bells,
        clock=clock,
        watch=watch,
        inbox=Inbox(ground.root, ground.instance, monotonic=lambda: clock().monotonic),
        manifests=Manifests(ground.root, ground.instance),
        shelves=Shelves(ground.root, ground.instance),
        catalogue=settings.catalogue(),
        lane_of=lru_cache(maxsize=LANES_MAX)(settings.lane),  # asked for every file; what it says never changes
    )
    canceller = _canceller(parts)
    recorder = _recorder(parts, canceller)
    return Stages(
        recorder=recorder,
        intake=_intake(parts, recorder, canceller),
        dispatch=_dispatch(parts, key_hash),
        polling=_polling(parts),
        delivery=_delivery(parts, keep_going),
        orders=_orders(parts),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What more than one stage is made of."""

    settings: Settings
    ground: Ground
    account: Account
    bells: Bells
    clock: Callable[[], Now]
    watch: Callable[[Mapping[Lane, tuple[int, int]]], None]
    inbox: Inbox
    manifests: Manifests
    shelves: Shelves
    catalogue: Catalogue
    lane_of: Callable[[Lane], LaneSettings]

    @property
    def store(self) -> Store:
        return self.ground.store

    @property
    def api(self) -> BatchesApi:
        return self.account

    def backoff(self, *, longest: float | None = None) -> Backoff:
        retry = self.settings.retry
        return Backoff(first=retry.first, longest=retry.max if longest is None else min(longest, retry.max))

    def keeper(self, name: HoldName, *, longest: float | None = None) -> Keeper:
        return Keeper(name, holds=self.store.holds, backoff=self.backoff(longest=longest), chance=random.random)

    def room(self) -> Room:
        return Room(
            self.ground.root,
            self.settings.paths.state,
            bytes_min=self.settings.inbox.min_free,
            reusable=self.store.intake.reusable_bytes,
        )


def _intake(parts: _Parts, recorder: Recorder, canceller: Canceller) -> Intake:
    store = parts.store.intake
    settings = _intake_settings(parts.settings, parts.ground.root)
    return Intake(
        settings,
        store=store,
        inbox=parts.inbox,
        presence=parts.ground.presence,
        recorder=recorder,
        rejecter=Rejecter(store=store, shelves=parts.shelves),
        canceller=canceller,
        demands_markers=lambda lane: parts.lane_of(lane).require_marker,
        settling_anew=SettlingAnew(
            parts.store.verifying, parts.inbox, forget_unfinished=store.forget_unfinished, quiet=settings.quiet
        ),
        root_keeper=parts.keeper(HoldName.ROOT, longest=PLACE_SECONDS_MAX),
        disk_keeper=parts.keeper(HoldName.DISK, longest=PLACE_SECONDS_MAX),
        watch=parts.watch,
    )


def _canceller(parts: _Parts) -> Canceller:
    return Canceller(
        parts.store.cancelling,
        inbox=parts.inbox,
        shelves=parts.shelves,
        ring_dispatch=parts.bells.dispatch.ring,
        ring_polling=parts.bells.polling.ring,
    )


def _recorder(parts: _Parts, canceller: Canceller) -> Recorder:
    inbox = parts.settings.inbox
    return Recorder(
        RecorderSettings(
            file_bytes_max=inbox.max_file_bytes,
            jsonl_bytes_max=inbox.max_jsonl_bytes,
            reject_hard_links=lambda: inbox.hard_links == "reject" and parts.ground.root.is_local,
        ),
        store=parts.store.intake,
        inbox=parts.inbox,
        shelves=parts.shelves,
        parsing=Parsing(
            parts.store.readings,
            rules=lru_cache(maxsize=LANES_MAX)(
                lambda lane: _rules(parts.settings, parts.lane_of(lane), parts.catalogue.cap)
            ),
        ),
        canceller=canceller,
        lane=parts.lane_of,
        shortage=parts.room().shortage,
        ring_dispatch=parts.bells.dispatch.ring,
        ring_delivery=parts.bells.delivery.ring,
    )


def _dispatch(parts: _Parts, key_hash: bytes) -> Dispatch:
    settings, store, retry = parts.settings, parts.store, parts.settings.retry
    own_betas = {OUTPUT_300K_BETA, *settings.api.betas}
    twins = _twins(parts)
    reconciler = _reconciler(parts, twins)
    return Dispatch(
        choosing=Choosing(
            store=store.dispatch,
            regrouping=store.regrouping,
            windows=Windows(lambda lane: parts.lane_of(lane).window),
            retry_first=retry.first,
            retry_longest=retry.max,
        ),
        verifier=Verifier(
            store.verifying,
            parts.inbox,
            ring_intake=parts.bells.intake.ring,
            ring_delivery=parts.bells.delivery.ring,
        ),
        sender=Sender(
            SendingSettings(
                instance=parts.ground.instance,
                base_url=settings.api.base_url,
                key_hash=key_hash,
                own_betas=own_betas,
                retry_longest=retry.max,
            ),
            store=store.dispatch,
            manifests=parts.manifests,
            presence=parts.ground.presence,
            api=parts.api,
            expect=reconciler.expect,
            ring_polling=parts.bells.polling.ring,
        ),
        refusals=Refusals(store.regrouping, own_betas=own_betas, ring_delivery=parts.bells.delivery.ring),
        cancelling=store.cancelling,
        reconciler=reconciler,
        twins=twins,
        holds=store.holds,
        sending_keeper=parts.keeper(HoldName.SENDING),
        credit_keeper=parts.keeper(HoldName.CREDIT),
        shortage=parts.room().shortage_to_send,
        ring_delivery=parts.bells.delivery.ring,
    )


def _twins(parts: _Parts) -> Twins:
    return Twins(
        parts.store.twins,
        api=parts.api,
        catalogue=parts.catalogue,
        vouches_for=parts.account.vouches_for,
        ring_polling=parts.bells.polling.ring,
        poll_seconds=parts.settings.poll.max,
    )


def _orders(parts: _Parts) -> Orders:
    store = parts.store
    return Orders(
        store.orders,
        decisions=store.decisions,
        dispatch=store.dispatch,
        manifests=parts.manifests,
        api=parts.api,
        ring_polling=parts.bells.polling.ring,
        ring_delivery=parts.bells.delivery.ring,
    )


def _reconciler(parts: _Parts, twins: Twins) -> Reconciler:
    poll = parts.settings.poll
    return Reconciler(
        ReconcileSettings(
            grace=parts.settings.api.grace, poll_first=poll.first, poll_factor=poll.factor, poll_longest=poll.max
        ),
        store=parts.store.dispatch,
        twins=twins,
        manifests=parts.manifests,
        api=parts.api,
        vouches_for=parts.account.vouches_for,
        backoff=parts.backoff(),
        chance=random.random,
        ring_polling=parts.bells.polling.ring,
    )


def _polling(parts: _Parts) -> Polling:
    poll = parts.settings.poll
    return Polling(
        PollingSettings(first=poll.first, factor=poll.factor, longest=poll.max),
        store=parts.store.polling,
        keeper=parts.keeper(HoldName.API),
        api=parts.api,
        chance=random.random,
        vouches_for=parts.account.vouches_for,
        ring_delivery=parts.bells.delivery.ring,
    )


def _delivery(parts: _Parts, keep_going: Callable[[], bool]) -> Delivery:
    settings, ground = parts.settings, parts.ground
    return Delivery(
        DeliverySettings(
            replaces_old=settings.outbox.on_existing == "replace",
            done_days=settings.retention.done_days,
            retry_first=settings.retry.first,
            retry_longest=settings.retry.max,
        ),
        store=parts.store.delivery,
        originals=parts.store.originals,
        holds=parts.store.holds,
        outbox=Outbox(ground.root, ground.instance),
        shelves=parts.shelves,
        manifests=parts.manifests,
        api=parts.api,
        catalogue=parts.catalogue,
        backoff=parts.backoff(longest=PLACE_SECONDS_MAX),
        chance=random.random,
        clock=parts.clock,
        vouches_for=parts.account.vouches_for,
        keep_going=keep_going,
        ring_dispatch=parts.bells.dispatch.ring,
        ring_polling=parts.bells.polling.ring,
    )


def _intake_settings(settings: Settings, root: Root) -> IntakeSettings:
    inbox = settings.inbox

    def by_place(given: float | None, usual: Mapping[str, float]) -> float:
        return given if given is not None else usual["local" if root.is_local else "network"]

    return IntakeSettings(
        quiet=lambda: by_place(inbox.quiet, QUIET_SECONDS),
        rescan=lambda: by_place(inbox.rescan, RESCAN_SECONDS),
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
