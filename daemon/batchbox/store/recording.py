"""Gathers the rows of claimed files for one transaction, giving every request an id that nobody else has."""

import hashlib
import json
import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from batchbox.model import OPEN_REQUEST_STATES, CustomId, ErrorType, Lane, RejectReason, RequestState, SourceState
from batchbox.naming import CUSTOM_ID_CHARACTERS_MAX, numbered, parse_claim_name, visible
from batchbox.store.columns import PIECES_MAX, from_blob, from_ms, to_blob, to_ms
from batchbox.store.database import Parameters, Transaction

PIECE_BYTES = 256 * 1024
SUFFIXES_MAX = 10_000
"""How many open requests may share one derived id before a further one is refused."""
IS_OPEN = "state IN ('" + "', '".join(OPEN_REQUEST_STATES) + "')"
ASKED_BY_READ_OTHERS = (
    "EXISTS (SELECT 1 FROM attachments AS o JOIN sources AS s ON s.id = o.source_id "
    "WHERE o.request_id = a.request_id AND o.source_id <> a.source_id AND s.state <> 'reading')"
)
"""Of the attachment `a`: another file asks for its request, and has been read to its end.

What only files ask for that are still being read is not to be sent: they may end in a line that rejects them.
"""

_IS_WITHDRAWN = f"error_type IS '{ErrorType.WITHDRAWN}'"

_FOUND = (
    "r.id, r.lane, r.custom_id, r.numbered_from, r.digest, "  # noqa: S608 - our own constants
    "EXISTS (SELECT 1 FROM attachments WHERE request_id = r.id AND source_id = ?2), "
    f"r.canceled_at IS NOT NULL OR r.{_IS_WITHDRAWN}"
)
_IN_RANGE = (
    f"SELECT {_FOUND} "  # noqa: S608 - our own constants
    "FROM json_each(?1) AS wanted CROSS JOIN requests AS r ON r.lane = wanted.value ->> 0 "
    "AND r.custom_id BETWEEN wanted.value ->> 1 AND wanted.value ->> 2 "
    f"AND length(r.custom_id) <= wanted.value ->> 3 AND r.{IS_OPEN}"
)
"""Spelled as in the index requests_open, which is used for nothing else."""
_NUMBERED = (
    f"SELECT {_FOUND} "  # noqa: S608 - our own constants
    "FROM json_each(?1) AS wanted CROSS JOIN requests AS r "
    f"ON r.lane = wanted.value ->> 0 AND r.numbered_from = wanted.value ->> 1 AND r.{IS_OPEN}"
)
"""By the index requests_numbered, which is almost always empty."""
_WHATEVER = b""
"""In place of a digest: whatever the content."""
_RECALLED = (
    f"SELECT r.id, r.custom_id, r.{IS_OPEN}, "  # noqa: S608 - our own constants
    "EXISTS (SELECT 1 FROM attachments WHERE request_id = r.id AND source_id = ?4), "
    "k.custom_id, CASE WHEN r.canceled_at IS NULL THEN k.digest ELSE x'' END "
    "FROM json_each(?1) AS wanted CROSS JOIN recalled AS k "
    "ON k.lane = ?2 AND k.claim = ?3 AND k.custom_id = wanted.value "
    "JOIN requests AS r ON r.id = k.request_id AND r.digest = k.digest AND r.lane = k.lane "
    f"AND coalesce(r.numbered_from, r.custom_id) = k.custom_id AND NOT r.{_IS_WITHDRAWN} ORDER BY r.id"
)
"""The content is compared once more: the id of a request that was forgotten may be another one's by now.

What was cancelled stays so, whatever the file asks for under that id by now.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSource:
    """A claimed file that was read."""

    lane: Lane
    claim: str
    name: str
    owner: str
    size_bytes: int
    sha256: bytes | None
    dropped_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequest:
    """One request of a claimed file, checked and serialised."""

    custom_id: CustomId
    explicit: bool
    line: int | None
    params: bytes
    betas: str
    model: str
    max_tokens: int
    extension: str
    max_attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a file is not taken, as it will be told."""

    reason: RejectReason
    detail: str
    what_to_do: str


class DuplicateIdError(Exception):
    """An explicit custom_id is taken: by the same file, or by an open request of the lane that is another one."""

    def __init__(self, request: NewRequest, *, in_file: bool, is_canceled: bool = False) -> None:
        super().__init__(request.custom_id)
        self.request = request
        self.in_file = in_file
        self.is_canceled = is_canceled
        """Whether it is taken by a request that was cancelled or withdrawn, and has not ended."""


@dataclass(frozen=True, slots=True)
class _Open:
    """An open request, as a new one of its id meets it."""

    id: int
    custom_id: CustomId
    digest: bytes
    is_attached: bool
    """The long file that is being read has asked for it in an earlier part."""
    is_canceled: bool = False
    """Or withdrawn: it ends as an error, and who drops the same again wants an answer, and gets another request."""


@dataclass(frozen=True, slots=True)
class _Recalled:
    """What a file that is read again has asked for before."""

    id: int
    custom_id: CustomId
    is_open: bool
    is_attached: bool
    """In an earlier part of the file."""


@dataclass(frozen=True, slots=True)
class _Resolved:
    """What becomes of one request of a file."""

    request: NewRequest
    custom_id: CustomId
    digest: bytes
    attach_to: int | None
    """The open request that it is a double drop of, or the one that the file has asked for before."""
    has_ended: bool = False


class RowWriter:
    """Gathers the rows of one transaction, resolving ids against what is open, and writes them table by table."""

    def __init__(self, transaction: Transaction, *, now: datetime, source_id: int | None = None) -> None:
        self._transaction = transaction
        self._now_ms = to_ms(now)
        self._source_id = source_id  # of the long file whose next part this is
        self._open: dict[tuple[Lane, CustomId], _Open] = {}
        self._numbered: dict[tuple[Lane, CustomId, bytes], _Open] = {}  # by the id that was taken, and by content
        self._known: set[tuple[Lane, CustomId]] = set()  # ids of which every number that is open was looked up
        self._first_numbers: dict[tuple[Lane, CustomId], int] = {}  # of these: every lower number is open
        self._recalled: dict[tuple[str, CustomId, bytes], list[_Recalled]] = {}  # by claim, id as asked for, digest
        self._next_ids: dict[str, int] = {}
        self._sources: list[Parameters] = []
        self._requests: list[Parameters] = []
        self._attachments: list[Parameters] = []
        self._pieces: list[Parameters] = []

    async def look_up(self, wanted: Sequence[tuple[Lane, NewRequest]]) -> None:
        """Learn which of the ids are open and, where a derived one is, which of its numbers are.

        What a derived id was numbered to is looked for even if the id itself is free again.
        """
        await self._look_up_ranges(
            [(lane, request.custom_id, request.custom_id, CUSTOM_ID_CHARACTERS_MAX) for lane, request in wanted]
        )
        derived = {(lane, request.custom_id) for lane, request in wanted if not request.explicit}
        await self._look_up_numbers(derived & self._open.keys())
        await self._learn(_NUMBERED, list(derived))

    async def remember(self, files: Sequence[tuple[Lane, str, Sequence[NewRequest]]]) -> None:
        """Learn which of these requests their files, by lane and claim, have asked for before they were recalled."""
        rows = await self._transaction.all(
            "SELECT DISTINCT k.lane, k.claim FROM (VALUES "  # noqa: S608 - nothing but question marks
            f"{', '.join(['(?, ?)'] * len(files))}) AS wanted "
            "CROSS JOIN recalled AS k ON k.lane = wanted.column1 AND k.claim = wanted.column2",
            [value for lane, claim, _ in files for value in (lane, to_blob(claim))],
        )
        recalled = {(lane, from_blob(claim)) for lane, claim in rows}
        for lane, claim, requests in files:
            if (lane, claim) not in recalled:
                continue
            ids = json.dumps([request.custom_id for request in requests])
            rows = await self._transaction.all(_RECALLED, (ids, lane, to_blob(claim), self._source_id))
            for id_, custom_id, is_open, is_attached, asked_for, digest in rows:
                one = _Recalled(id_, custom_id, bool(is_open), bool(is_attached))
                self._recalled.setdefault((claim, asked_for, digest), []).append(one)

    async def _look_up_numbers(self, ids: AbstractSet[tuple[Lane, CustomId]]) -> None:
        unknown = ids - self._known
        if unknown:
            await self._look_up_ranges([(lane, *_numbers_of(custom_id)) for lane, custom_id in unknown])
            self._known |= unknown

    async def _look_up_ranges(self, ranges: Sequence[tuple[Lane, str, str, int]]) -> None:
        await self._learn(_IN_RANGE, ranges)

    async def _learn(self, sql: str, wanted: Sequence[tuple[Lane, *tuple[str | int, ...]]]) -> None:
        rows = await self._transaction.all(sql, (json.dumps(wanted), self._source_id))
        for id_, lane, custom_id, numbered_from, digest, is_attached, is_canceled in rows:
            self._add_open(lane, _Open(id_, custom_id, digest, bool(is_attached), bool(is_canceled)), numbered_from)

    def _add_open(self, lane: Lane, one: _Open, numbered_from: CustomId | None) -> None:
        self._open[lane, one.custom_id] = one
        if numbered_from is not None and not one.is_canceled:
            self._numbered[lane, numbered_from, one.digest] = one

    async def add_file(self, source: NewSource, requests: Sequence[NewRequest] | Rejection) -> Rejection | None:
        """Add a file with its requests, or with the rejection that it came with or that its ids bring."""
        if isinstance(requests, Rejection):
            await self.add_source(source, state=SourceState.REJECTING, rejection=requests)
            return requests
        try:
            resolved = await self._resolve(source.lane, source.claim, requests)
        except DuplicateIdError as error:
            rejection = duplicate_id(error)
            await self.add_source(source, state=SourceState.REJECTING, rejection=rejection)
            return rejection
        open_count = sum(1 for one in resolved if not one.has_ended)
        state = SourceState.OPEN if open_count else SourceState.SETTLED
        source_id = await self.add_source(source, state=state, open_count=open_count)
        await self._add_resolved(source_id, source.lane, resolved, state=RequestState.WAITING)
        return None

    async def add_requests(self, source_id: int, claim: tuple[Lane, str], requests: Sequence[NewRequest]) -> None:
        """Add the next part of a long file. Raises DuplicateIdError."""
        resolved = await self._resolve(*claim, requests)
        await self._add_resolved(source_id, claim[0], resolved, state=RequestState.INCOMING)

    async def add_source(
        self, source: NewSource, *, state: SourceState, open_count: int = 0, rejection: Rejection | None = None
    ) -> int:
        """Add the file's own row; return its id."""
        id_ = await self._new_id("sources")
        told = (rejection.reason, rejection.detail, rejection.what_to_do, self._now_ms) if rejection else (None,) * 4
        self._sources.append(
            (
                id_, state, source.lane, to_blob(source.claim), to_blob(source.name), source.owner,
                source.size_bytes, source.sha256, to_ms(source.dropped_at), open_count, *told, _visible(source.name),
            )
        )  # fmt: skip
        return id_

    async def write(self) -> None:
        """Write what was gathered."""
        await self._transaction.run_many(
            "INSERT INTO sources (id, state, lane, claim, name, owner, size_bytes, sha256, dropped_at, open_count, "
            "reason, detail, what_to_do, rejected_at, visible_name) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._sources,
        )
        await self._transaction.run_many(
            "INSERT INTO requests (id, state, lane, custom_id, numbered_from, digest, betas, model, max_tokens, "
            "extension, max_attempts, size_bytes, accepted_at, waiting_since) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._requests,
        )
        await self._transaction.run_many(
            "INSERT INTO attachments (request_id, source_id, line) VALUES (?, ?, ?)", self._attachments
        )
        await self._transaction.run_many("INSERT INTO body_pieces (key, data) VALUES (?, ?)", self._pieces)

    async def _resolve(self, lane: Lane, claim: str, requests: Sequence[NewRequest]) -> list[_Resolved]:
        here: set[CustomId] = set()
        resolved = []
        for request in requests:
            one = self._asked_before(claim, request, here) or await self._resolve_one(lane, request, here)
            here.add(one.custom_id)
            resolved.append(one)
        return resolved

    def _asked_before(self, claim: str, request: NewRequest, here: set[CustomId]) -> _Resolved | None:
        if not self._recalled:
            return None
        digest = _digest(request)
        recalled, asked_for = self._recalled, request.custom_id
        known = recalled.get((claim, asked_for, digest)) or recalled.get((claim, asked_for, _WHATEVER), [])
        for one in known:
            if not one.is_attached and one.custom_id not in here:
                return _Resolved(request, one.custom_id, digest, attach_to=one.id, has_ended=not one.is_open)
        if known and request.explicit:
            raise DuplicateIdError(request, in_file=True)
        return None

    async def _resolve_one(self, lane: Lane, request: NewRequest, here: set[CustomId]) -> _Resolved:
        digest = _digest(request)
        same_id = self._open.get((lane, request.custom_id))
        numbered_one = None if request.explicit else self._numbered.get((lane, request.custom_id, digest))
        for same in (same_id, numbered_one):
            is_same = same is not None and same.digest == digest and not same.is_canceled
            if same is not None and is_same and not self._is_in_file(same, here):
                return _Resolved(request, same.custom_id, digest, attach_to=same.id)
        if same_id is None and request.custom_id not in here:
            return _Resolved(request, request.custom_id, digest, attach_to=None)
        if request.explicit:
            in_file = same_id is None or self._is_in_file(same_id, here)
            is_canceled = same_id is not None and same_id.is_canceled
            raise DuplicateIdError(request, in_file=in_file, is_canceled=is_canceled)
        return _Resolved(request, await self._number(lane, request, here), digest, attach_to=None)

    async def _number(self, lane: Lane, request: NewRequest, here: set[CustomId]) -> CustomId:
        """Return the first numbered form of the id that is free. No number is tried twice: none becomes free again."""
        key = (lane, request.custom_id)
        await self._look_up_numbers({key})
        first = self._first_numbers.get(key, 2)
        while first < SUFFIXES_MAX and (lane, numbered(request.custom_id, first)) in self._open:
            first += 1
        self._first_numbers[key] = first
        for number in range(first, SUFFIXES_MAX):
            custom_id = numbered(request.custom_id, number)
            if (lane, custom_id) not in self._open and custom_id not in here:
                return custom_id
        raise DuplicateIdError(request, in_file=False)

    @staticmethod
    def _is_in_file(one: _Open, here: set[CustomId]) -> bool:
        return one.is_attached or one.custom_id in here

    async def _add_resolved(
        self, source_id: int, lane: Lane, resolved: Sequence[_Resolved], *, state: RequestState
    ) -> None:
        for one in resolved:
            request_id = one.attach_to
            if request_id is None:
                request_id = await self._add_request(lane, one, state=state)
            self._attachments.append((request_id, source_id, one.request.line))

    async def _add_request(self, lane: Lane, one: _Resolved, *, state: RequestState) -> int:
        id_ = await self._new_id("requests")
        new = one.request
        numbered_from = new.custom_id if one.custom_id != new.custom_id else None
        self._requests.append(
            (
                id_, state, lane, one.custom_id, numbered_from, one.digest, new.betas, new.model, new.max_tokens,
                new.extension, new.max_attempts, len(new.params), self._now_ms, self._now_ms,
            )
        )  # fmt: skip
        for piece, start in enumerate(range(0, len(new.params), PIECE_BYTES)):
            self._pieces.append((id_ * PIECES_MAX + piece, new.params[start : start + PIECE_BYTES]))
        self._add_open(lane, _Open(id_, one.custom_id, one.digest, is_attached=False), numbered_from)
        return id_

    async def _new_id(self, table: Literal["sources", "requests"]) -> int:
        if table not in self._next_ids:
            rows = await self._transaction.all(f"SELECT coalesce(max(id), 0) FROM {table}")  # noqa: S608 - two constants
            self._next_ids[table] = int(rows[0][0])
        self._next_ids[table] += 1
        return self._next_ids[table]


def source_of(
    lane: Lane, claim: str, *, found_at: datetime, owner: str = "", size_bytes: int = 0, sha256: bytes | None = None
) -> NewSource:
    """Return the source that a claim is; a claim under a name that is none of ours was dropped when it was found."""
    parsed = parse_claim_name(claim)
    dropped_at, name = (found_at, claim) if parsed is None else (from_ms(parsed[0]), parsed[1])
    return NewSource(
        lane=lane,
        claim=claim,
        name=name,
        owner=owner,
        size_bytes=size_bytes,
        sha256=sha256,
        dropped_at=dropped_at,
    )


def duplicate_id(error: DuplicateIdError) -> Rejection:
    """Tell a person which id is taken, and by what."""
    request = error.request
    where = "" if request.line is None else f"line {request.line}: "
    taken = "is in this file twice" if error.in_file else f"belongs to a request that has not ended, {_other(error)}"
    return Rejection(
        reason=RejectReason.DUPLICATE_ID,
        detail=f'{where}custom_id "{request.custom_id}" {taken}',
        what_to_do="Give the request another custom_id, or wait until the other one has its answer, and drop it again.",
    )


def _other(error: DuplicateIdError) -> str:
    return "though it was taken back" if error.is_canceled else "with other content"


def _visible(name: str) -> bytes | None:
    """Return the name as people see it, None where that is how it is spelled."""
    seen = visible(name)
    return None if seen == name else to_blob(seen)


def _numbers_of(custom_id: CustomId) -> tuple[str, str, int]:
    """Return a range of ids that has every numbered form of this one, and how long those are at most."""
    forms = [numbered(custom_id, number) for number in (2, 10, 100, SUFFIXES_MAX - 1)]  # one of every length
    beginning = os.path.commonprefix(forms)  # noqa: RUF071 - of strings, not of paths
    return beginning, f"{beginning}~", len(forms[-1])  # `~` sorts behind whatever an id may have


def _digest(request: NewRequest) -> bytes:
    return hashlib.sha256(request.betas.encode() + b"\0" + request.params).digest()
