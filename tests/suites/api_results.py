"""The results, cut at every kind of byte and spelt in every way, and what may come in their place: over real HTTP."""

import gzip
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path

import httpx2

from .api_verdict import Verdict
from .api_wire import open_wire

PIECE_BYTES = 50
EVERY_BYTE_GROUP = 100
EVERY_BYTE_MAX = 1200
"""Longer than the results of a batch here."""
TIMES = 2
"""So often in a row: after a third complete reading without it a line is missing."""
PAGE_TIMES = 8
"""What says nothing about the requests may come as often as it will."""

NOTHING = "nothing"
JSON_LINES = {"content-type": "application/x-jsonl"}
GZIP = {**JSON_LINES, "content-encoding": "gzip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How the results come."""

    encode: Callable[[bytes], bytes]
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_LINES)


SPELLINGS: Mapping[str, Spelling] = {
    "plain": Spelling(encode=bytes),
    "crlf": Spelling(encode=lambda raw: raw.replace(b"\n", b"\r\n")),
    "unended": Spelling(encode=lambda raw: raw.rstrip(b"\n")),
    "gzip": Spelling(encode=gzip.compress, headers=GZIP),
}

CUTS: Mapping[str, Callable[[bytes], int]] = {
    "before-all": lambda _: 0,
    "first-byte": lambda _: 1,
    "in-an-id": lambda raw: raw.index(b"__") + 4,
    "in-a-key": lambda raw: raw.index(b'"result"') + 4,
    "in-two-bytes": lambda raw: raw.index("ü".encode()) + 1,
    "in-three-bytes": lambda raw: raw.index("€".encode()) + 1,
    "in-four-bytes": lambda raw: raw.index("😀".encode()) + 2,
    "in-an-escape": lambda raw: raw.index(b"\\") + 1,
    "before-a-line-end": methodcaller("index", b"\n"),
    "after-a-line-end": lambda raw: raw.index(b"\n") + 1,
    "in-the-last-line": lambda raw: len(raw) - 40,
    "before-the-last-byte": lambda raw: len(raw) - 1,
    "after-all": len,
}
"""Where the stream is cut, in the bytes as they are spelt. What is not in them (because they are packed) is halfway."""

PAGES: Mapping[str, tuple[int, Mapping[str, str], bytes]] = {
    "page": (200, {"content-type": "text/html"}, b"<html>please log in</html>\n"),
    "page-as-lines": (200, JSON_LINES, b"<html>\n<body>please log in</body>\n</html>\n"),
    "error-as-lines": (200, JSON_LINES, b'{"type":"error","error":{"type":"api_error","message":"later"}}\n'),
    "others": (200, JSON_LINES, b'{"custom_id":"theirs","result":{"type":"expired"}}\n'),
    NOTHING: (200, JSON_LINES, b""),
    "not-packed": (200, GZIP, b'{"custom_id":"theirs","result":{"type":"expired"}}\n'),
    "redirect": (307, {"location": "/v1/messages/batches"}, b""),
    "404": (404, {}, b'{"type":"error","error":{"type":"not_found_error","message":"no results"}}'),
    "404-page": (404, {}, b"<html>not here</html>"),
    "408": (408, {}, b'{"type":"error","error":{"type":"timeout_error","message":"late"}}'),
    "410": (410, {}, b'{"type":"error","error":{"type":"invalid_request_error","message":"gone"}}'),
    "429": (429, {"retry-after": "3"}, b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}'),
    "500": (500, {}, b'{"type":"error","error":{"type":"api_error","message":"broken"}}'),
    "502-page": (502, {}, b"<html>bad gateway</html>"),
    "529": (529, {}, b'{"type":"error","error":{"type":"overloaded_error","message":"full"}}'),
}
"""What comes instead: status, headers, body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoilt:
    """What one reading gets."""

    spelling: Spelling
    cut: Callable[[bytes], int]
    is_clean: bool
    """Whether the end looks like one."""

    def answer(self, raw: bytes) -> httpx2.Response:
        """Return the results as they arrive."""
        spelt = self.spelling.encode(raw)
        try:
            at = self.cut(spelt)
        except ValueError:
            at = len(spelt) // 2
        stream = _Stream(spelt[:at], is_clean=self.is_clean)
        return httpx2.Response(200, headers=dict(self.spelling.headers), stream=stream)


class _Stream(httpx2.AsyncByteStream):
    """Bytes as the network brings them, to their end or to where it breaks off."""

    def __init__(self, content: bytes, *, is_clean: bool) -> None:
        self._content = content
        self._is_clean = is_clean

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), PIECE_BYTES):
            yield self._content[start : start + PIECE_BYTES]
        if not self._is_clean:
            raise httpx2.RemoteProtocolError("peer closed connection without sending complete message body")


class Tampering(httpx2.AsyncBaseTransport):
    """The network, with somebody in it who gets hold of the next readings of results."""

    def __init__(self, spoil: Sequence[Callable[[bytes], httpx2.Response]]) -> None:
        self._network = httpx2.AsyncHTTPTransport(verify=False)
        self.left = [*spoil]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Pass a request on, and spoil the answer if it is the results."""
        response = await self._network.handle_async_request(request)
        if not (request.url.path.endswith("/results") and self.left):
            return response
        raw = await response.aread()
        await response.aclose()
        return self.left.pop(0)(raw)

    async def aclose(self) -> None:
        """Close the network."""
        await self._network.aclose()


def every_result() -> list[str]:
    """Return the names of all trials."""
    cuts = [f"results:{spelling}:{cut}:{end}" for spelling in SPELLINGS for cut in CUTS for end in ("clean", "broken")]
    pages = [f"results:instead:{page}:{TIMES if page == NOTHING else PAGE_TIMES}" for page in PAGES]
    starts = range(0, EVERY_BYTE_MAX, EVERY_BYTE_GROUP)
    return [*cuts, *pages, *(f"results:bytes:{start}:{start + EVERY_BYTE_GROUP}" for start in starts)]


async def try_results(name: str, folder: Path) -> Verdict:
    """Make one trial."""
    spoil = _spoil(name)
    network = Tampering(spoil)
    violations: list[str] = []
    async with open_wire(folder, network=network) as (bench, _):
        try:
            await bench.live()
        except AssertionError as error:
            violations.append(str(error))
        violations += bench.judge()
        violations += [f"{len(network.left)} spoilt readings were not made"] if network.left else []
        tried = {"creates": bench.api.create_count, "readings spoilt": len(spoil)}
    return Verdict(tried=tried, violations=violations)


def _spoil(name: str) -> list[Callable[[bytes], httpx2.Response]]:
    _, how, what, rest = name.split(":")
    if how == "bytes":
        return [_cut_at(at) for at in range(int(what), int(rest))]
    if how == "instead":
        return [lambda _: _page(what)] * int(rest)
    spoilt = Spoilt(spelling=SPELLINGS[how], cut=CUTS[what], is_clean=rest == "clean")
    return [spoilt.answer] * TIMES


def _cut_at(at: int) -> Callable[[bytes], httpx2.Response]:
    return Spoilt(spelling=SPELLINGS["plain"], cut=lambda _: at, is_clean=False).answer


def _page(name: str) -> httpx2.Response:
    status, headers, body = PAGES[name]
    return httpx2.Response(status, headers=dict(headers), stream=_Stream(body, is_clean=True))
