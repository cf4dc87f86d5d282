"""Reads claimed files and records them: the same act after a claim and after a crash.

Small files are read, parsed and recorded by the group, one hop to the root's thread and one transaction each; a long
JSON Lines file in parts, which stay invisible until the last one.
"""

import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import anyio.to_thread

from batchbox.config import LaneSettings
from batchbox.errors import NoRoomError, RejectedError
from batchbox.folders.inbox import Inbox
from batchbox.folders.reading import Claim, Read, ReadRules
from batchbox.folders.shelves import Shelves
from batchbox.formats import Draft, FileKind, JsonLinesParser, Rules, kind_of, parse_file
from batchbox.intake.claims import find_claims
from batchbox.logs import shown
from batchbox.model import Lane, Now, RejectReason
from batchbox.naming import parse_claim_name
from batchbox.store.columns import from_ms
from batchbox.store.intake import Backlog, IntakeStore
from batchbox.store.recording import DuplicateIdError, NewRequest, NewSource, Rejection, duplicate_id

GROUP_FILES = 256
LONG_FROM_BYTES = 4 * 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """Bounds of what is read."""

    file_bytes_max: int
    jsonl_bytes_max: int
    reject_hard_links: bool


class Recorder:
    """Turns claims into rows."""

    def __init__(
        self,
        settings: RecorderSettings,
        *,
        store: IntakeStore,
        inbox: Inbox,
        shelves: Shelves,
        lane: Callable[[Lane], LaneSettings],
        rules: Callable[[Lane], Rules],
        shortage: Callable[[int], Awaitable[str | None]],
        ring_dispatch: Callable[[], None],
        ring_delivery: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._inbox = inbox
        self._shelves = shelves
        self._lane = lane
        self._rules = rules
        self._shortage = shortage
        self._ring_dispatch = ring_dispatch
        self._ring_delivery = ring_delivery
        self._claims: deque[Claim] | None = None  # claims without a row; None: processing/ is to be listed
        self._unread: set[Claim] = set()  # since that listing; before it:
        self._unread_before: set[Claim] = set()

    @property
    def has_unread(self) -> bool:
        """Whether there are claims that could not be read: they are tried again when processing/ is listed again."""
        return bool(self._unread)

    def forget(self) -> None:
        """Trust nothing in memory: the next call lists processing/ again."""
        self._claims = None

    async def require_room(self, size_bytes: int) -> None:
        """Make sure that a file of this size can be recorded, or a group of small ones. Raises NoRoomError."""
        shortage = await self._shortage(size_bytes)
        if shortage is not None:
            raise NoRoomError(shortage)

    async def record(self, new: Sequence[Claim], now: Now) -> Backlog:
        """Record the new claims and every older one that no row knows; return what that adds to the backlog.

        Raises NoRoomError when there is too little room to go on, and whatever the folders and the database raise; then
        `forget` has to be called.
        """
        claims = await self._waiting(new)
        added = _backlog_of([])
        was_asked = bool(new)  # before they were claimed
        while claims:
            if not was_asked:
                await self.require_room(0)
            was_asked = False
            group = [claims[index] for index in range(min(GROUP_FILES, len(claims)))]
            reads, count = await self._inbox.read(group, self._parse, self._read_rules())
            for read in reads:
                if isinstance(read.content, OSError):
                    self._leave(read.claim, read.content)
            added += await self._record_group([read for read in reads if _is_at_hand(read)], now)
            for read in reads:
                if read.is_long:
                    added += await self._record_long(read, now)
            for _ in range(count):
                claims.popleft()
        return added

    async def _waiting(self, new: Sequence[Claim]) -> deque[Claim]:
        if self._claims is None:
            found = await find_claims(inbox=self._inbox, store=self._store, shelves=self._shelves)
            self._claims = deque(found)  # the new ones are among them
            self._unread_before, self._unread = self._unread, set()
        else:
            self._claims.extend(new)
        return self._claims

    def _leave(self, claim: Claim, error: OSError) -> None:
        if claim not in self._unread_before:
            log.warning("claimed file cannot be read", extra={"claim": shown(claim.name), "why": str(error)})
        self._unread.add(claim)

    def _read_rules(self) -> ReadRules:
        settings = self._settings

        def is_json_lines(claim: str) -> bool:
            return kind_of(claim) is FileKind.JSON_LINES

        return ReadRules(
            bytes_max=lambda claim: settings.jsonl_bytes_max if is_json_lines(claim) else settings.file_bytes_max,
            long_from=lambda claim: LONG_FROM_BYTES if is_json_lines(claim) else None,
            reject_hard_links=settings.reject_hard_links,
        )

    def _parse(self, claim: Claim, data: bytes) -> list[NewRequest]:
        _, name = _origin(claim)
        drafts = parse_file(name, data, self._rules(claim.lane))
        return _requests(drafts, self._lane(claim.lane))

    async def _record_group(self, reads: Sequence[Read[list[NewRequest]]], now: Now) -> Backlog:
        if not reads:
            return _backlog_of([])
        files = [(_source(read, now.wall), _content(read)) for read in reads]
        rejections = await self._store.record(files, now=now.wall)
        for (source, _), rejection in zip(files, rejections, strict=True):
            _log_file(source, rejection)
        self._ring_dispatch()
        return _backlog_of(
            [request for _, content in files if not isinstance(content, Rejection) for request in content]
        )

    async def _record_long(self, read: Read[list[NewRequest]], now: Now) -> Backlog:
        await self.require_room(read.facts.size_bytes)
        source = _source(read, now.wall)
        source_id = await self._store.begin(source)
        parts = _Parts(self._store, source_id, self._lane(read.claim.lane), now)
        try:
            size_bytes, digest = await self._read_parts(read.claim, parts)
        except RejectedError as error:
            rejection = _rejection(error)
        except DuplicateIdError as error:
            rejection = duplicate_id(error)
        except OSError as error:  # if it is the root and not the file, the next group of operations says so
            await self._store.forget_unfinished()
            self._leave(read.claim, error)
            return _backlog_of([])
        else:
            if await self._store.finish(source_id, sha256=digest, size_bytes=size_bytes):
                self._ring_delivery()
            _log_file(source, None)
            self._ring_dispatch()
            return parts.added
        await self._store.reject(source_id, rejection, now=now.wall)
        _log_file(source, rejection)
        return _backlog_of([])

    async def _read_parts(self, claim: Claim, parts: "_Parts") -> tuple[int, bytes]:
        _, name = _origin(claim)
        parser = JsonLinesParser(name, self._rules(claim.lane))
        digest = hashlib.sha256()
        offset = 0
        while part := await self._inbox.read_part(claim, offset=offset, length=LONG_FROM_BYTES):
            offset += len(part)
            digest.update(part)
            await parts.add(await anyio.to_thread.run_sync(parser.feed, part))
            if offset > self._settings.jsonl_bytes_max:
                raise RejectedError(
                    RejectReason.TOO_LARGE,
                    f"it grew over {self._settings.jsonl_bytes_max} bytes while it was read",
                    "Drop the file when it is complete, or split it.",
                )
        await parts.add(await anyio.to_thread.run_sync(parser.finish))
        return offset, digest.digest()


class _Parts:
    """Records the parts of one long file, and counts them."""

    def __init__(self, store: IntakeStore, source_id: int, lane: LaneSettings, now: Now) -> None:
        self._store = store
        self._source_id = source_id
        self._lane = lane
        self._now = now
        self.added = _backlog_of([])

    async def add(self, drafts: Sequence[Draft]) -> None:
        """Record one part. Raises DuplicateIdError."""
        requests = _requests(drafts, self._lane)
        await self._store.add_part(self._source_id, self._lane.name, requests, now=self._now.wall)
        self.added += _backlog_of(requests)


def _is_at_hand(read: Read[list[NewRequest]]) -> bool:
    return not read.is_long and not isinstance(read.content, OSError)


def _backlog_of(requests: Sequence[NewRequest]) -> Backlog:
    return Backlog(request_count=len(requests), size_bytes=sum(len(request.params) for request in requests))


def _origin(claim: Claim) -> tuple[datetime, str]:
    parsed = parse_claim_name(claim.name)
    if parsed is None:
        raise RejectedError(
            RejectReason.FORGED,
            "it lay in processing/ under a name that batchbox does not give",
            "Drop files into the inbox; processing/ is batchbox's own.",
        )
    dropped_ms, name = parsed
    return from_ms(dropped_ms), name


def _source(read: Read[list[NewRequest]], now: datetime) -> NewSource:
    try:
        dropped_at, name = _origin(read.claim)
    except RejectedError:
        dropped_at, name = now, read.claim.name
    return NewSource(
        lane=read.claim.lane,
        claim=read.claim.name,
        name=name,
        owner=read.facts.owner,
        size_bytes=read.facts.size_bytes,
        sha256=read.sha256,
        dropped_at=dropped_at,
    )


def _content(read: Read[list[NewRequest]]) -> list[NewRequest] | Rejection:
    if isinstance(read.content, RejectedError):
        return _rejection(read.content)
    if read.content is None or isinstance(read.content, OSError):
        raise AssertionError("a file without content is not recorded")
    return read.content


def _rejection(error: RejectedError) -> Rejection:
    return Rejection(reason=error.reason, detail=error.detail, what_to_do=error.what_to_do)


def _requests(drafts: Sequence[Draft], lane: LaneSettings) -> list[NewRequest]:
    return [
        NewRequest(
            custom_id=draft.custom_id,
            explicit=draft.explicit,
            line=draft.line,
            params=draft.params,
            betas=",".join(draft.betas),
            model=draft.model,
            max_tokens=draft.max_tokens,
            extension=lane.output_extension,
            max_attempts=lane.max_attempts,
        )
        for draft in drafts
    ]


def _log_file(source: NewSource, rejection: Rejection | None) -> None:
    facts = {"file": shown(source.name), "lane": shown(source.lane), "owner": source.owner}
    if rejection is None:
        log.info("file taken", extra=facts)
    else:
        log.warning("file rejected", extra={**facts, "reason": rejection.reason.value})
