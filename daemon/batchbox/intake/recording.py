"""Reads claimed files and records them: the same act after a claim and after a crash.

Small files are read, parsed and recorded by the group, a hop to a thread and a transaction for each of the three; a
long JSON Lines file in parts, which stay invisible until the last one.
"""

import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from batchbox.alone.parent import DeathError
from batchbox.config import LaneSettings
from batchbox.errors import NoRoomError, RejectedError
from batchbox.folders.inbox import Inbox
from batchbox.folders.reading import Claim, Read, ReadRules
from batchbox.folders.shelves import Shelves
from batchbox.formats import Draft, FileKind, kind_of
from batchbox.intake.cancelling import Canceller, Sign
from batchbox.intake.claims import find_claims
from batchbox.intake.parsing import LongParser, Parsing
from batchbox.logs import shown
from batchbox.model import Lane, Now, RejectReason
from batchbox.naming import parse_claim_name
from batchbox.store.intake import Backlog, IntakeStore
from batchbox.store.recording import DuplicateIdError, NewRequest, NewSource, Rejection, duplicate_id, source_of

GROUP_FILES = 256
GROUP_FILES_DOUBTED = 16
"""So many are parsed together if a process has ended with the first of them: all may have to be parsed alone next."""
LONG_FROM_BYTES = 256 * 1024
"""A file of JSON Lines that is shorter is recorded whole: it may hold 15,000 requests."""
ADDED_BYTES_MAX = 4 * 1024 * 1024
"""So much may lanes add to requests that are recorded whole: files of which more may come have a turn of their own."""
PART_BYTES = 1024 * 1024
"""A long file is read in parts, parsed in slices, and recorded when so much is at hand:"""
GATHERED_BYTES = 4 * 1024 * 1024
GATHERED_REQUESTS = 4_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """Bounds of what is read."""

    file_bytes_max: int
    jsonl_bytes_max: int
    reject_hard_links: Callable[[], bool]


class Recorder:
    """Turns claims into rows."""

    def __init__(
        self,
        settings: RecorderSettings,
        *,
        store: IntakeStore,
        inbox: Inbox,
        shelves: Shelves,
        parsing: Parsing,
        canceller: Canceller,
        lane: Callable[[Lane], LaneSettings],
        shortage: Callable[[int], Awaitable[str | None]],
        ring_dispatch: Callable[[], None],
        ring_delivery: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._inbox = inbox
        self._shelves = shelves
        self._parsing = parsing
        self._canceller = canceller
        self._lane = lane
        self._shortage = shortage
        self._ring_dispatch = ring_dispatch
        self._ring_delivery = ring_delivery
        self._claims: deque[Claim] | None = None  # claims without a row; None: processing/ is to be listed
        self._signs: list[Sign] = []  # those among them that take back others: recorded after all of these
        self._unread: set[Claim] = set()  # since that listing; before it:
        self._unread_before: set[Claim] = set()

    @property
    def has_unread(self) -> bool:
        """Whether there are claims that could not be read: they are tried again when processing/ is listed again."""
        return bool(self._unread)

    @property
    def unread(self) -> list[Claim]:
        """Those claims, the oldest first."""
        return sorted(self._unread, key=lambda claim: claim.name)

    def forget(self) -> None:
        """Trust nothing in memory: the next call lists processing/ again."""
        self._claims = None

    def bytes_to_read(self, name: str, size_bytes: int) -> int:
        """Return how much will be read of a file: nothing if it is too large, whatever room it claims to need."""
        return size_bytes if size_bytes <= self._bytes_max(name) else 0

    async def shortage(self, size_bytes: int) -> str | None:
        """Return why a file of this size, or a group of small ones, cannot be recorded just now; None if it can.

        Raises NoRoomError if there is no room for anything.
        """
        shortage = await self._shortage(size_bytes)
        if shortage is not None:
            await self._require_room()
        return shortage

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
                await self._require_room()
            was_asked = False
            group_files = GROUP_FILES_DOUBTED if self._parsing.was_begun(claims[0]) else GROUP_FILES
            group = [claims[index] for index in range(min(group_files, len(claims)))]
            reads, count = await self._inbox.read(group, self._read_rules())
            for together in self._portions([read for read in reads if not self._is_alone(read)]):
                added += await self._record_group(together, now)
            for read in reads:
                if self._is_alone(read):
                    added += await self._record_alone(read, now)
            for _ in range(count):
                claims.popleft()
        self._signs = await self._canceller.record(self._signs, unread=self._unread, now=now)
        return added

    async def _waiting(self, new: Sequence[Claim]) -> deque[Claim]:
        if self._claims is None:
            found = await find_claims(inbox=self._inbox, store=self._store, shelves=self._shelves)
            await self._parsing.learn(found)
            others, self._signs = await self._canceller.sort_out(found)
            self._claims = deque(others)  # the new ones are among them
            self._unread_before, self._unread = self._unread, set()
        else:
            others, signs = await self._canceller.sort_out(new)
            self._claims.extend(others)
            self._signs += signs
        return self._claims

    async def _require_room(self) -> None:
        shortage = await self._shortage(0)
        if shortage is not None:
            raise NoRoomError(shortage)

    def _leave(self, claim: Claim, error: OSError | DeathError | NoRoomError) -> None:
        if claim not in self._unread_before:
            log.warning("claimed file cannot be read", extra={"claim": shown(claim.name), "why": str(error)})
        self._unread.add(claim)

    def _read_rules(self) -> ReadRules:
        return ReadRules(
            bytes_max=self._bytes_max,
            long_from=lambda claim: LONG_FROM_BYTES if kind_of(claim) is FileKind.JSON_LINES else None,
            reject_hard_links=self._settings.reject_hard_links(),
        )

    def _bytes_max(self, name: str) -> int:
        is_json_lines = kind_of(name) is FileKind.JSON_LINES
        return self._settings.jsonl_bytes_max if is_json_lines else self._settings.file_bytes_max

    def _is_alone(self, read: Read) -> bool:
        if _name(read.claim) is None:
            return False
        return self._is_in_parts(read) or (isinstance(read.content, bytes) and self._parsing.is_suspected(read.claim))

    def _is_in_parts(self, read: Read) -> bool:
        """Say whether the file is long, or small and what comes of its lines is not."""
        is_json_lines = kind_of(_name(read.claim) or "") is FileKind.JSON_LINES
        return read.is_long or (is_json_lines and self._weight_of(read) > ADDED_BYTES_MAX)

    def _weight_of(self, read: Read) -> int:
        if not isinstance(read.content, bytes):
            return 0
        return self._parsing.weight_of(read.claim, _name(read.claim) or "", read.content)

    def _portions(self, reads: Sequence[Read]) -> Iterator[Sequence[Read]]:
        portion: list[Read] = []
        weight = 0
        for read in reads:
            own = self._weight_of(read)
            if portion and weight + own > ADDED_BYTES_MAX:
                yield portion
                portion, weight = [], 0
            portion.append(read)
            weight += own
        yield portion

    async def _record_group(self, reads: Sequence[Read], now: Now) -> Backlog:
        files = [
            (read.claim, name, read.content)
            for read in reads
            if isinstance(read.content, bytes) and (name := _name(read.claim)) is not None
        ]
        parsed = await self._parsing.parse_together(files)
        outcomes = {claim: outcome for (claim, _, _), outcome in zip(files, parsed, strict=True)}
        contents: list[tuple[Read, Sequence[Draft] | RejectedError]] = []
        for read in reads:
            if isinstance(read.content, OSError):
                self._leave(read.claim, read.content)
            elif isinstance(read.content, RejectedError):
                contents.append((read, read.content))
            else:
                outcome = outcomes.get(read.claim, _forged())
                if isinstance(outcome, DeathError | OSError):
                    self._leave(read.claim, outcome)
                else:
                    contents.append((read, outcome))
        return await self._record_whole(contents, now)

    async def _record_alone(self, read: Read, now: Now) -> Backlog:
        """Record a file that is long, or suspected."""
        if self._is_in_parts(read) or not isinstance(read.content, bytes):
            return await self._record_long(read, now)
        outcome: Sequence[Draft] | RejectedError
        try:
            outcome = await self._parsing.parse_alone(read.claim, _name(read.claim) or "", read.content)
        except RejectedError as error:
            outcome = error
        except (DeathError, OSError) as error:
            self._leave(read.claim, error)
            return _backlog_of([])
        return await self._record_whole([(read, outcome)], now)

    async def _record_whole(
        self, contents: Sequence[tuple[Read, Sequence[Draft] | RejectedError]], now: Now
    ) -> Backlog:
        if not contents:
            return _backlog_of([])
        files = [(_source(read, now.wall), self._content(read.claim, content)) for read, content in contents]
        rejections = await self._store.record(files, now=now.wall)
        for (source, _), rejection in zip(files, rejections, strict=True):
            _log_file(source, rejection)
        self._ring_dispatch()
        return _backlog_of(
            [request for _, content in files if not isinstance(content, Rejection) for request in content]
        )

    def _content(self, claim: Claim, content: Sequence[Draft] | RejectedError) -> list[NewRequest] | Rejection:
        if isinstance(content, RejectedError):
            return _rejection(content)
        return _requests(content, self._lane(claim.lane))

    async def _record_long(self, read: Read, now: Now) -> Backlog:
        shortage = await self.shortage(read.facts.size_bytes)
        if shortage is not None:
            self._leave(read.claim, NoRoomError(shortage))
            return _backlog_of([])
        source = _source(read, now.wall)
        source_id = await self._store.begin(source)
        parts = _Parts(self._store, source_id, read.claim, self._lane(read.claim.lane), now)
        try:
            async with self._parsing.parse_parts(read.claim, source.name) as parser:
                size_bytes, digest = await self._read_parts(read.claim, parser, parts)
        except RejectedError as error:
            rejection = _rejection(error)
        except DuplicateIdError as error:
            rejection = duplicate_id(error)
        except (DeathError, OSError) as error:  # if it is the root and not the file, the next group says so
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

    async def _read_parts(self, claim: Claim, parser: LongParser, parts: "_Parts") -> tuple[int, bytes]:
        digest = hashlib.sha256()
        offset = 0
        while part := await self._inbox.read_part(claim, offset=offset, length=PART_BYTES):
            offset += len(part)
            digest.update(part)
            for piece in self._parsing.slices(claim, part):
                await parts.gather(await parser.feed(piece))
            if offset > self._settings.jsonl_bytes_max:
                raise RejectedError(
                    RejectReason.TOO_LARGE,
                    f"it grew over {self._settings.jsonl_bytes_max} bytes while it was read",
                    "Drop the file when it is complete, or split it.",
                )
        await parts.gather(await parser.finish())
        await parts.write()
        return offset, digest.digest()


class _Parts:
    """Records the parts of one long file, and counts them."""

    def __init__(self, store: IntakeStore, source_id: int, claim: Claim, lane: LaneSettings, now: Now) -> None:
        self._store = store
        self._source_id = source_id
        self._claim = (claim.lane, claim.name)
        self._lane = lane
        self._now = now
        self._gathered: list[NewRequest] = []
        self._gathered_bytes = 0
        self.added = _backlog_of([])

    async def gather(self, drafts: Sequence[Draft]) -> None:
        """Take the next requests, and record them all if there are many. Raises DuplicateIdError."""
        self._gathered += _requests(drafts, self._lane)
        self._gathered_bytes += sum(len(draft.params) for draft in drafts)
        if len(self._gathered) >= GATHERED_REQUESTS or self._gathered_bytes >= GATHERED_BYTES:
            await self.write()

    async def write(self) -> None:
        """Record what was gathered. Raises DuplicateIdError."""
        requests, self._gathered, self._gathered_bytes = self._gathered, [], 0
        if requests:
            await self._store.add_part(self._source_id, self._claim, requests, now=self._now.wall)
            self.added += _backlog_of(requests)


def _backlog_of(requests: Sequence[NewRequest]) -> Backlog:
    return Backlog(request_count=len(requests), size_bytes=sum(len(request.params) for request in requests))


def _name(claim: Claim) -> str | None:
    """Return the name that the file was dropped under, None for a claim that is none of ours."""
    parsed = parse_claim_name(claim.name)
    return None if parsed is None else parsed[1]


def _forged() -> RejectedError:
    return RejectedError(
        RejectReason.FORGED,
        "it lay in processing/ under a name that batchbox does not give",
        "Drop files into the inbox; processing/ is batchbox's own.",
    )


def _source(read: Read, now: datetime) -> NewSource:
    return source_of(
        read.claim.lane,
        read.claim.name,
        found_at=now,
        owner=read.facts.owner,
        size_bytes=read.facts.size_bytes,
        sha256=read.sha256,
    )


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
