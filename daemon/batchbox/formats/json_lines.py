"""Reads JSON Lines piece by piece: a request on each line, the file taken whole or not at all.

The memory is bounded by the longest line. Lines are put together from a list of pieces, joined once, so that the time
is linear however small the pieces are. Blank lines are skipped and counted.
"""

import codecs
import re

from batchbox.errors import RejectedError
from batchbox.formats.draft import Draft, Origin, Rules
from batchbox.formats.encoding import UTF16_CODECS, check_utf8, not_unicode, nul_ending
from batchbox.formats.json_requests import draft_of_value
from batchbox.formats.json_syntax import open_ending, parse
from batchbox.formats.problems import ProblemList
from batchbox.formats.request import REQUEST_BYTES_MAX
from batchbox.model import RejectReason

LINE_BYTES_MAX = REQUEST_BYTES_MAX + 1024 * 1024
"""A line may be longer than the request that it holds: by spaces, escapes and what stands beside the parameters."""

_BLANK_LINES = re.compile(rb"(?:[ \t\r\v\f]*+\n)++")


class JsonLinesParser:
    """One file on its way through. Its pieces go in by `feed`, in order; `finish` ends it.

    After a bad line the rest is still read, up to a thousand bad lines, so that they can be named, but nothing is
    returned any more. That an id stands twice is not seen here: who keeps the requests sees it.
    """

    def __init__(self, name: str, rules: Rules) -> None:
        self._name = name
        self._rules = rules
        self._decoder = _Decoder()
        self._problems = ProblemList("line")
        self._line = 1
        self._request_count = 0
        self._pieces: list[bytes] = []
        self._size_bytes = 0

    def feed(self, chunk: bytes) -> list[Draft]:
        """Take the next piece of the file and return the requests that it completes."""
        drafts = self._read(self._decoder.decode(chunk, is_last=False))
        return [] if self._problems else drafts

    def finish(self) -> list[Draft]:
        """End the file and return what its last line holds.

        Raises RejectedError: with every bad line, the first 50 in words; or `empty`.
        """
        drafts = self._read(self._decoder.decode(b"", is_last=True))
        drafts += self._end_line(is_last=True)
        if self._problems:
            raise self._problems.rejection()
        if self._request_count == 0:
            todo = "Write one request on each line and drop the file again."
            raise RejectedError(RejectReason.EMPTY, "the file holds no request", todo)
        return drafts

    def _read(self, data: bytes) -> list[Draft]:
        drafts: list[Draft] = []
        start = self._skip_blank_lines(data, 0)
        while (end := data.find(b"\n", start)) >= 0 and not self._problems.is_full:
            self._keep(data[start:end])
            drafts += self._end_line(is_last=False)
            start = self._skip_blank_lines(data, end + 1)
        self._keep(b"" if self._problems.is_full else data[start:])
        if problem := self._decoder.problem():
            self._problems.add(self._line, problem)
            self._begin_line()
        return drafts

    def _skip_blank_lines(self, data: bytes, start: int) -> int:
        """Return where the next line that is not blank begins: a file may have a thousand million of the others."""
        blank = None if self._size_bytes else _BLANK_LINES.match(data, start)
        if blank is None:
            return start
        self._line += data.count(b"\n", start, blank.end())
        return blank.end()

    def _begin_line(self) -> None:
        self._pieces = []
        self._size_bytes = 0

    def _keep(self, piece: bytes) -> None:
        """Put a piece to the line; of a line that is too long anyway only the end stays."""
        if not piece:
            return
        self._size_bytes += len(piece)
        self._pieces.append(piece)
        if self._size_bytes > LINE_BYTES_MAX:
            self._pieces = [b"".join(self._pieces[-2:])[-2:]]

    def _end_line(self, *, is_last: bool) -> list[Draft]:
        try:
            return self._drafts(is_last=is_last)
        except RejectedError as problem:
            self._problems.add(self._line, problem)
            return []
        finally:
            self._line += 1
            self._begin_line()

    def _drafts(self, *, is_last: bool) -> list[Draft]:
        line = b"".join(self._pieces)
        if is_last:
            self._check_ending(line)
        if self._size_bytes > LINE_BYTES_MAX:
            fact = f"the line has {self._size_bytes:,} bytes, and at most {LINE_BYTES_MAX:,} are possible"
            raise RejectedError(RejectReason.TOO_LARGE, fact, "Make the request smaller, or split it into several.")
        if not line or line.isspace():
            return []
        check_utf8(line)
        self._request_count += 1
        origin = Origin(name=self._name, line=self._line, malformed=RejectReason.BAD_JSON)
        return [draft_of_value(_value(line), origin, self._rules)]

    def _check_ending(self, line: bytes) -> None:
        """Look whether the last line ends early. A line that a line end follows is never incomplete, but broken."""
        is_whole = self._size_bytes <= LINE_BYTES_MAX
        if ending := nul_ending(line, nul_count_min=2) or (is_whole and open_ending(line)):
            raise RejectedError(RejectReason.INCOMPLETE, ending, "Drop the file again when it is complete.")


def _value(line: bytes) -> object:
    try:
        return parse(line, is_line=True)
    except RejectedError as error:
        if error.reason is not RejectReason.INCOMPLETE:
            raise
        todo = "Write each request on a single line, without line ends inside it."
        raise RejectedError(RejectReason.BAD_JSON, error.detail, todo) from None


class _Decoder:
    """Takes the BOM off, and turns UTF-16 into UTF-8. What is UTF-8 already goes through unseen; lines are checked."""

    def __init__(self) -> None:
        self._start: bytes | None = b""
        """The first bytes, until there are enough to tell a BOM; then None."""
        self._utf16: codecs.IncrementalDecoder | None = None
        self._byte_count = 0
        self._problem: RejectedError | None = None
        self._is_broken = False

    def decode(self, chunk: bytes, *, is_last: bool) -> bytes:
        """Return the next bytes in UTF-8, up to a place that is not UTF-16; nothing from there on."""
        if self._start is not None:
            chunk = self._start + chunk
            if len(chunk) < len(codecs.BOM_UTF8) and not is_last:
                self._start = chunk
                return b""
            self._start = None
            chunk = self._without_bom(chunk)
        if self._utf16 is None or self._is_broken:
            return b"" if self._is_broken else chunk
        return self._from_utf16(self._utf16, chunk, is_last=is_last)

    def problem(self) -> RejectedError | None:
        """Return once what made `decode` stop, None for nothing."""
        problem, self._problem = self._problem, None
        return problem

    def _without_bom(self, chunk: bytes) -> bytes:
        codec = UTF16_CODECS.get(chunk[:2])
        if codec is None:
            return chunk.removeprefix(codecs.BOM_UTF8)
        self._utf16 = codecs.getincrementaldecoder(codec)("strict")
        self._byte_count = 2
        return chunk[2:]

    def _from_utf16(self, decoder: codecs.IncrementalDecoder, chunk: bytes, *, is_last: bool) -> bytes:
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, is_last)
        except UnicodeDecodeError as error:
            self._is_broken = True
            self._problem = not_unicode("UTF-16", self._byte_count - pending + error.start)
            text = error.object[: error.start].decode(error.encoding)
        self._byte_count += len(chunk)
        return text.encode("utf-8")
