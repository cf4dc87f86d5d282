"""Makes the database know again what lies on the root: of a lost instance, or of our own after a backup was restored.

Whatever was sent is in a manifest, and whatever was dropped is a claim or lies in done/ or rejected/. So: the claims
are taken over and recorded by the step that records them after a crash; then each manifest that the database does not
know is entered as a batch in doubt, in which those of its requests are waited for that have not gone on in a later one.
The daemon looks for it as for any doubt. What it does not find is never sent again by itself.

For another instance the rename of its folder comes first: if its daemon lives after all, it is stopped by that. For our
own the lock of the state folder, which is held meanwhile, keeps a daemon away as well.

If we die                      | what is left                        | what `recover`, run again, does
-------------------------------+-------------------------------------+------------------------------------------
before the rename              | everything as it was                | begins
before the manifests are ours  | a taken folder: `run` does not start | goes on with it, and so below
before the claims are ours     | the same, and unknown manifests     | moves the others
before a manifest is entered   | the same                            | records claims that no row knows, enters it
before the end                 | a taken folder                      | finds everything done

If this machine is lost as well, at any of these points, what it had taken lies in its folder. Whoever recovers it gets
that by the same rename, takes each of these steps for all of them, and removes the folders, the inner ones first, only
at the end: until then all lie in a taken folder.
"""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from batchbox.anthropic_api import open_api
from batchbox.config import Settings
from batchbox.errors import BatchboxError, ConfigurationError, FolderPermissionError, RootOfflineError
from batchbox.folders.inbox import Inbox
from batchbox.folders.layout import PROCESSING, confirm_instance
from batchbox.folders.manifests import Manifests
from batchbox.folders.outbox import Outbox
from batchbox.folders.takeover import Neighbour, Sought, Takeover, taken_by
from batchbox.intake import Recorder
from batchbox.logs import shown
from batchbox.model import Instance, Now
from batchbox.service.entering import RecoverSettings, enter_all, head_of, require_same_address
from batchbox.service.ground import Ground, hash_key, hold_ground
from batchbox.service.signs import Bell, Bells, read_clocks
from batchbox.service.wiring import wire
from batchbox.store.meta import Fact

NAMED_MAX = 3
"""So many of the claims that cannot be read are named."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a recovery has brought."""

    instances: Sequence[Instance]
    """Whose folders were taken over."""
    batch_count: int
    """In doubt from now on."""
    request_count: int
    """Waited for in them."""


async def run(settings: Settings, other: Instance | None, find_key: Callable[[], str]) -> Recovered | list[Neighbour]:
    """Recover what there is to recover; return the other instances instead if none is named and nothing is missing.

    Raises BatchboxError, the key's among others, which is asked for only if it is needed.
    """
    async with hold_ground(settings) as ground:
        try:
            if other is None and not await needs_recovery(ground):
                return await neighbours(ground)
            return await _run(settings, ground, other, api_key=find_key())
        except OSError as error:
            raise _stopped(error, settings.paths.root) from error
        finally:
            with suppress(OSError, RootOfflineError):
                await ground.presence.leave()


def _stopped(error: OSError, place: Path) -> BatchboxError:
    """Say what came in the way. What was done up to there stays done, and the next call goes on from it."""
    what = shown(str(place)) + ("" if error.filename is None else f": {shown(os.fsdecode(error.filename))}")
    if isinstance(error, PermissionError):
        return FolderPermissionError(
            f"{what}: the user who runs this may not read or move it ({error.strerror}). Give what lies in processing/ "
            "and in .batchbox/batches/ to that user, then run `batchbox recover` again: it goes on from here."
        )
    return BatchboxError(
        f"{what}: {error.strerror or error}. Look at the disk or the share, then run `batchbox recover` again: it goes "
        "on from here."
    )


async def _run(settings: Settings, ground: Ground, other: Instance | None, *, api_key: str) -> Recovered:
    key_hash = await hash_key(ground.store, api_key, settings.api.workspace_id)
    client = open_api(
        base_url=settings.api.base_url,
        api_key=api_key,
        timeout_seconds=settings.api.timeout,
        create_timeout_seconds=settings.api.create_timeout,
        workspace_id=settings.api.workspace_id,
        proxy=settings.api.proxy,
        ca_file=settings.api.ca_file,
    )
    async with client as api:  # nothing is called; the stages are not made without it
        stages = wire(
            settings,
            ground,
            api,
            key_hash=key_hash,
            bells=Bells(intake=Bell(), dispatch=Bell(), polling=Bell(), delivery=Bell()),
            keep_going=lambda: True,
            clock=read_clocks,
            watch=lambda _: None,
        )
        recovering = RecoverSettings(
            base_url=settings.api.base_url,
            key_hash=key_hash,
            extension=lambda lane: settings.lane(lane).output_extension,
        )
        return await recover(recovering, ground, other, recorder=stages.recorder, now=read_clocks())


async def neighbours(ground: Ground) -> list[Neighbour]:
    """Return the other instances on the root, and whether each is alive."""
    await _settle_in(ground, ground.instance)
    return await _takeover(ground).neighbours()


async def needs_recovery(ground: Ground) -> bool:
    """Say whether there is something of our own that the database does not know, or a recovery that was broken off."""
    owner = await ground.store.meta.get(Fact.INSTANCE)
    if owner not in {None, ground.instance} or await _takeover(ground).unfinished():
        return True
    return bool(await ground.store.recovery.unknown(await _manifests(ground).nonces()))


async def recover(
    settings: RecoverSettings, ground: Ground, other: Instance | None, *, recorder: Recorder, now: Now
) -> Recovered:
    """Take over the other instance's work, and enter what the database does not know, there or of our own.

    May be repeated after it was ended at any point. Raises BatchboxError for what a person must mend first.
    """
    owner = Instance(await ground.store.meta.get(Fact.INSTANCE) or ground.instance)
    if other is None and owner != ground.instance:
        other = owner
    await _settle_in(ground, other or ground.instance)
    takeover = _takeover(ground)
    if other not in {None, ground.instance, *await takeover.unfinished()}:
        await _begin(settings, ground, Instance(other or ""))
    taken = await takeover.unfinished()
    for instance in taken:
        if instance != ground.instance:  # what another had taken of us may come back with it
            await _manifests(ground).take_from(instance)
        await Outbox(ground.root, instance).remove_leftovers(stems_in_use=None)
    await takeover.take_claims()
    await _record_claims(recorder, now, folder=ground.root.path / PROCESSING / ground.instance)
    await _place_originals(ground)
    chains = await enter_all(settings, ground, now)
    await _place_originals(ground)  # of the files that were gone
    await ground.store.recovery.adopt(ground.instance)
    await takeover.finish(taken)
    return Recovered(
        instances=taken,
        batch_count=len(chains),
        request_count=sum(len(chain.requests) + len(chain.unknown) for chain in chains),
    )


def _takeover(ground: Ground) -> Takeover:
    return Takeover(ground.root, ground.instance, ground.presence)


def _manifests(ground: Ground) -> Manifests:
    return Manifests(ground.root, ground.instance)


async def _settle_in(ground: Ground, other: Instance) -> None:
    """Be at home on the root: for the first time, or in the place of the instance that the database is of."""
    meta = ground.store.meta
    owner = await meta.get_or_record(Fact.INSTANCE, lambda: ground.instance)
    if owner not in {ground.instance, other}:
        raise ConfigurationError(
            f"the database in the [paths] state folder is that of {owner}. Run `batchbox recover {owner}` first."
        )
    if owner == ground.instance and await meta.get(Fact.ESTABLISHED) is not None:
        await ground.root.run(lambda root: confirm_instance(root, ground.instance))
        return
    await ground.presence.establish()
    await meta.get_or_record(Fact.ESTABLISHED, lambda: "yes")


async def _begin(settings: RecoverSettings, ground: Ground, other: Instance) -> None:
    found = {one.instance: one for one in await _takeover(ground).neighbours()}
    if other not in found:
        others = ", ".join(found) or "none"
        raise BatchboxError(
            f"{shown(other)}: there is no such instance on {ground.root.path}; there are: {shown(others)}. If it was "
            "there, somebody else has taken its work over."
        )
    unreadable = found[other].unreadable
    if unreadable is not None:
        raise _stopped(unreadable, ground.root.path / PROCESSING / other)
    if not found[other].has_folder:
        raise BatchboxError(
            f"{shown(str(ground.root.path / PROCESSING / other))}: this has gone, and nothing is left of that instance "
            "but the manifests of what it had sent. If nobody else is recovering it at this moment, make that folder, "
            "empty, then run this again: what was sent is looked for and delivered."
        )
    if found[other].is_alive:
        raise BatchboxError(
            f"{other} is alive: its heartbeat is {found[other].silent_seconds or 0.0:.0f} s old. Stop its daemon, or, "
            "if it has died just now, wait three minutes; then run this again."
        )
    for instance in [other, *await ground.root.run(lambda root: taken_by(root, other))]:
        await _require_same_address(settings, ground, instance)
    await _takeover(ground).begin(other)
    log.warning("instance is retired: its work is taken over", extra={"instance": other})


async def _require_same_address(settings: RecoverSettings, ground: Ground, other: Instance) -> None:
    theirs = Manifests(ground.root, other)
    for nonce, is_open in (await theirs.nonces()).items():
        if is_open:
            require_same_address(await head_of(theirs, nonce, ground.root.path), settings)


async def _record_claims(recorder: Recorder, now: Now, *, folder: Path) -> None:
    """Record every claim that no row knows. Raises BatchboxError if one cannot be read: it may have been sent."""
    recorder.forget()
    await recorder.record([], now)
    unread = [shown(f"{folder}/{claim.lane}/{claim.name}") for claim in recorder.unread]
    if unread:
        more = "" if len(unread) <= NAMED_MAX else f" and {len(unread) - NAMED_MAX} more"
        raise BatchboxError(
            f"{', '.join(unread[:NAMED_MAX])}{more}: cannot be read, so nobody can tell what of it was sent. Make it "
            "readable for the user who runs this, then run `batchbox recover` again."
        )


async def _place_originals(ground: Ground) -> None:
    """Find the originals that had been put into done/ before the database heard of them."""
    inbox = Inbox(ground.root, ground.instance, monotonic=lambda: 0.0)
    present = {(claim.lane, claim.name) for claim in await inbox.claims()}
    missing = [one for one in await ground.store.recovery.unplaced() if (one.lane, one.claim) not in present]
    sought = [
        Sought(id=one.id, lane=one.lane, name=one.name, sha256=one.sha256) for one in missing if one.sha256 is not None
    ]
    found = await _takeover(ground).find_originals(sought)
    # Where there is none, the name of the claim, which no file in done/ has, keeps a placeholder from being made.
    await ground.store.recovery.place({one.id: found.get(one.id, one.claim) for one in missing})
