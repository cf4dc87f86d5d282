"""The body of a create call, read from the database piece by piece while it is sent.

A batch may have 250 MB and 100,000 requests; what is in memory at any moment is one page of at most PAGE_BYTES, or
one piece of a request that is larger than that. The length is computed by the database beforehand, because a
content-length that is not exact would leave the outcome of the call unknown.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from batchbox.model import CustomId, Nonce
from batchbox.naming import WIRE_STEM_CHARACTERS_MAX, wire_id
from batchbox.store.columns import PIECES_MAX
from batchbox.store.database import Database, Transaction

PAGE_BYTES = 512 * 1024
PAGE_REQUESTS = 512

_HEAD = b'{"requests":['
_TAIL = b"]}"
_BEFORE_ID = b'{"custom_id":"'
_BEFORE_PARAMS = b'","params":'
_AFTER_PARAMS = b"}"
_FRAME_BYTES = len(_BEFORE_ID) + len(_BEFORE_PARAMS) + len(_AFTER_PARAMS)

REQUEST_OVERHEAD_BYTES = _FRAME_BYTES + 64 + 1
"""What a request takes in the body beside its params, at most: the frame, its wire id, a comma."""


@dataclass(frozen=True, slots=True)
class _Member:
    number: int
    request_id: int
    custom_id: CustomId
    size_bytes: int


class StoredBody:
    """A `batchbox.api.BatchBody`. Each iteration starts from the first byte."""

    def __init__(self, database: Database, *, batch_id: int, nonce: Nonce, request_count: int, size_bytes: int) -> None:
        self._database = database
        self._batch_id = batch_id
        self._nonce = nonce
        self.request_count = request_count
        self.size_bytes = size_bytes
        self.is_handed_out = False
        """Whether the last byte was ever given away: until then nobody can have had the whole."""

    @classmethod
    async def of(cls, database: Database, batch_id: int, nonce: Nonce) -> "StoredBody":
        """Measure the batch and return its body."""
        fixed = _FRAME_BYTES + len(wire_id(CustomId(""), nonce=nonce, number=1)) - 1
        row = await database.one(
            "SELECT count(*), sum(r.size_bytes + min(length(r.custom_id), ?) + length(m.number) + ?) "
            "FROM members AS m JOIN requests AS r ON r.id = m.request_id WHERE m.batch_id = ?",
            (WIRE_STEM_CHARACTERS_MAX, fixed, batch_id),
        )
        count, size = row or (0, 0)
        total = len(_HEAD) + size + (count - 1) + len(_TAIL)
        return cls(database, batch_id=batch_id, nonce=nonce, request_count=count, size_bytes=total)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        yield _HEAD
        number = 0
        while page := await self._page(after=number):
            number = page[-1].number
            if page[0].size_bytes > PAGE_BYTES:
                async for piece in self._large(page[0]):
                    yield piece
            else:
                yield await self._small(page)
        self.is_handed_out = True
        yield _TAIL

    async def _page(self, *, after: int) -> Sequence[_Member]:
        rows = await self._database.all(
            "SELECT m.number, m.request_id, r.custom_id, r.size_bytes FROM members AS m "
            "JOIN requests AS r ON r.id = m.request_id WHERE m.batch_id = ? AND m.number > ? ORDER BY m.number LIMIT ?",
            (self._batch_id, after, PAGE_REQUESTS),
        )
        page: list[_Member] = []
        size = 0
        for row in rows:
            member = _Member(*row)
            size += member.size_bytes
            if page and size > PAGE_BYTES:
                break
            page.append(member)
        return page

    async def _small(self, page: Sequence[_Member]) -> bytes:
        rows = await self._database.all(
            "SELECT m.number, p.data FROM members AS m "
            "JOIN body_pieces AS p ON p.key BETWEEN m.request_id * ?1 AND m.request_id * ?1 + ?1 - 1 "
            "WHERE m.batch_id = ?2 AND m.number BETWEEN ?3 AND ?4 ORDER BY m.number, p.key",
            (PIECES_MAX, self._batch_id, page[0].number, page[-1].number),
        )
        params: dict[int, bytes] = {}
        for number, data in rows:
            params[number] = params.get(number, b"") + data
        return b"".join(part for member in page for part in (self._frame(member), params[member.number], _AFTER_PARAMS))

    async def _large(self, member: _Member) -> AsyncIterator[bytes]:
        yield self._frame(member)
        first = member.request_id * PIECES_MAX
        for key in range(first, first + PIECES_MAX):
            row = await self._database.one("SELECT data FROM body_pieces WHERE key = ?", (key,))
            if row is None:
                break
            yield row[0]
        yield _AFTER_PARAMS

    def _frame(self, member: _Member) -> bytes:
        comma = b"" if member.number == 1 else b","
        wire = wire_id(member.custom_id, nonce=self._nonce, number=member.number)
        return comma + _BEFORE_ID + wire.encode() + _BEFORE_PARAMS


async def remove_params(transaction: Transaction, request_ids: Sequence[int]) -> None:
    """Delete the params of requests that will not be sent any more."""
    await transaction.run_many(
        "DELETE FROM body_pieces WHERE key BETWEEN ?1 * ?2 AND ?1 * ?2 + ?2 - 1",
        [(request_id, PIECES_MAX) for request_id in request_ids],
    )
