"""Enters the manifests that the database does not know, each as a batch in doubt.

The sendings of one batch are put together, and a request is waited for in the latest batch that holds it.

A closed manifest is entered too if a request of it would be sent again otherwise: it says that its batch was delivered
or surely not sent, and does not say which.
"""

import logging
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from batchbox.documents import ManifestEntry, ManifestHead, read_manifest_head, read_manifest_line
from batchbox.errors import ConfigurationError
from batchbox.folders.manifests import Manifests
from batchbox.logs import shown
from batchbox.model import INBOX_LANE, Lane, Nonce, Now
from batchbox.service.ground import Ground
from batchbox.store.recovery import RecoveredBatch, RecoveryStore, mark_of

GROUP_LINES = 1000
PART_BYTES = 1024 * 1024
LINE_BYTES_MAX = 64 * 1024

NOT_FOUND = "recovered, and not found with the API: it was probably never sent"
NOT_FOUND_CLOSED = "recovered, and not found with the API: it was never sent, or is delivered: look for its answers"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverSettings:
    """What the sendings of the manifests are compared with, and what they do not say."""

    base_url: str
    key_hash: bytes
    """They do not say under which key they were made; whoever runs `recover` vouches for this one."""
    extension: Callable[[Lane], str]


@dataclass(slots=True)
class Chain:
    """A batch as its manifests describe it, the later sendings replacing the earlier. Filled while they are read."""

    heads: list[ManifestHead]
    is_open: bool
    lane: Lane = INBOX_LANE
    requests: dict[int, int] = field(default_factory=dict)
    unknown: list[ManifestEntry] = field(default_factory=list)


async def enter_all(settings: RecoverSettings, ground: Ground, now: Now) -> list[Chain]:
    """Enter every manifest that the database does not know; return those in which requests are waited for."""
    manifests, store = Manifests(ground.root, ground.instance), ground.store.recovery
    found = await manifests.nonces()
    unknown = await store.unknown(found.keys())
    heads = [await head_of(manifests, nonce, ground.root.path) for nonce in unknown]
    chains = _chains(heads, open_nonces={nonce for nonce in unknown if found[nonce]})
    latest: dict[Hashable, int] = {}
    for index, chain in enumerate(chains):
        await _read(chain, index, latest, manifests=manifests, store=store, path=ground.root.path)
    entered = []
    for index, chain in enumerate(chains):
        _keep_latest(chain, index, latest)
        if chain.requests or chain.unknown:
            require_same_address(chain.heads[-1], settings)
            await store.enter(_recovered(chain, settings), now=now.wall)
            entered.append(chain)
            log.warning(
                "batch is in doubt: recovered", extra={"nonce": chain.heads[-1].nonce, "lane": shown(chain.lane)}
            )
        else:
            await store.settle([head.nonce for head in chain.heads])
    for nonce in await store.over([nonce for nonce, is_open in found.items() if is_open]):
        await manifests.close(nonce)
    return entered


def _chains(heads: Sequence[ManifestHead], *, open_nonces: set[Nonce]) -> list[Chain]:
    """Put the sendings of one batch together, and the batches in the order in which they were last sent."""
    by_last: dict[Nonce, list[ManifestHead]] = {}
    for head in sorted(heads, key=_by_time):
        chain = by_last.pop(head.replaces, []) if head.replaces is not None else []
        by_last[head.nonce] = [*chain, head]
    return [
        Chain(heads=chain, is_open=nonce in open_nonces)
        for nonce, chain in sorted(by_last.items(), key=lambda item: _by_time(item[1][-1]))
    ]


def _by_time(head: ManifestHead) -> tuple[datetime, Nonce]:
    return head.intended_at, head.nonce


async def _read(
    chain: Chain,
    index: int,
    latest: dict[Hashable, int],
    *,
    manifests: Manifests,
    store: RecoveryStore,
    path: Path,
) -> None:
    """Learn which requests the batch holds, and note for each that this is the latest that holds it so far."""
    async for entries in _entries(manifests, chain.heads[-1].nonce, path):
        chain.lane = entries[0].lane
        known = await store.open_requests(entries)
        chain.requests |= known
        latest.update(dict.fromkeys(known.values(), index))
        if chain.is_open:  # what a closed one held and nobody waits for has ended
            unknown = [entry for entry in entries if entry.number not in known]
            chain.unknown += unknown
            latest.update((_key(entry), index) for entry in unknown)


def _keep_latest(chain: Chain, index: int, latest: dict[Hashable, int]) -> None:
    chain.requests = {number: id_ for number, id_ in chain.requests.items() if latest[id_] == index}
    chain.unknown = [entry for entry in chain.unknown if latest[_key(entry)] == index]


def _key(entry: ManifestEntry) -> Hashable:
    return (entry.lane, mark_of(entry), entry.custom_id)


def _recovered(chain: Chain, settings: RecoverSettings) -> RecoveredBatch:
    return RecoveredBatch(
        heads=chain.heads,
        lane=chain.lane,
        requests=chain.requests,
        unknown=chain.unknown,
        extension=settings.extension(chain.lane),
        key_hash=settings.key_hash,
        held_reason=NOT_FOUND if chain.is_open else NOT_FOUND_CLOSED,
    )


def require_same_address(head: ManifestHead, settings: RecoverSettings) -> None:
    """Raise ConfigurationError if the sending went to another address, where alone its batch can be found."""
    if head.base_url != settings.base_url:
        raise ConfigurationError(
            f"batch {head.nonce} was sent to {head.base_url}, and [api] base_url is {settings.base_url}: it would not "
            "be found there. Set base_url to the former, and run `batchbox recover` again."
        )


async def head_of(manifests: Manifests, nonce: Nonce, path: Path) -> ManifestHead:
    """Return what a manifest says of its sending. Raises ConfigurationError, with the root's path, if it is broken."""
    start = await manifests.read_part(nonce, offset=0, length=LINE_BYTES_MAX)
    try:
        head = read_manifest_head(start.partition(b"\n")[0])
    except ValueError as error:
        raise _unreadable(nonce, path, str(error)) from error
    if head.nonce != nonce:
        raise _unreadable(nonce, path, f"it is about {shown(head.nonce)}")
    return head


async def _entries(manifests: Manifests, nonce: Nonce, path: Path) -> AsyncIterator[list[ManifestEntry]]:
    """Yield what a manifest says of its requests, in groups."""
    entries: list[ManifestEntry] = []
    async for line in _lines(manifests, nonce, path):
        try:
            entries.append(read_manifest_line(line))
        except ValueError as error:
            raise _unreadable(nonce, path, str(error)) from error
        if len(entries) == GROUP_LINES:
            yield entries
            entries = []
    if entries:
        yield entries


async def _lines(manifests: Manifests, nonce: Nonce, path: Path) -> AsyncIterator[bytes]:
    """Yield a manifest's lines after the first."""
    offset, rest, is_head = 0, b"", True
    while part := await manifests.read_part(nonce, offset=offset, length=PART_BYTES):
        offset += len(part)
        *lines, rest = (rest + part).split(b"\n")
        for line in lines[1:] if is_head else lines:
            yield line
        is_head = is_head and not lines
    if rest or is_head:
        raise _unreadable(nonce, path, "its last line breaks off")


def _unreadable(nonce: Nonce, path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the manifest of batch {nonce} in {path}/.batchbox/batches cannot be understood ({shown(why)}), and without "
        "it nobody can tell what was sent. Restore it from a backup of the share, then run `batchbox recover` again."
    )
