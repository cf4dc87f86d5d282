"""How large a file's requests can get by what its lane adds to each of them: a long system prompt is in all.

A file of 360 KB holds 20,000 requests, and with a system prompt of 20 KB they are 400 MB. So what is parsed at once is
measured by what may come of it, before it is parsed, and not by what it is.
"""

import re
from collections.abc import Iterator

import msgspec

from batchbox.formats.draft import Rules
from batchbox.formats.json_requests import ITEMS_MAX
from batchbox.formats.kinds import FileKind, kind_of

SLICE_BYTES = 128 * 1024
"""JSON Lines are parsed in slices of these."""
SLICE_ADDED_BYTES = 4 * 1024 * 1024
"""Lanes may add so much to the requests of one slice, or to a single request whatever they want."""


def added_bytes(rules: Rules) -> int:
    """Return how many bytes the lane adds to a request that says nothing itself, apart from short values."""
    return len(msgspec.json.encode([rules.system, rules.thinking]))


def weight_of(name: str, data: bytes, rules: Rules) -> int:
    """Return the most bytes that the lane can add to all requests of a whole file."""
    kind = kind_of(name)
    if kind is FileKind.JSON:
        return added_bytes(rules) * min(data.count(b"{"), ITEMS_MAX)
    if kind is FileKind.JSON_LINES:
        return added_bytes(rules) * (data.count(b"\n") + 1)
    return added_bytes(rules)


def slices(part: bytes, rules: Rules) -> Iterator[bytes]:
    """Cut the next part of a file of JSON Lines into what may be parsed at once. Blank lines hold nothing."""
    line_count_max = max(1, SLICE_ADDED_BYTES // added_bytes(rules))
    some_lines = re.compile(rb"(?:\s*+[^\n]++\n?+){1,%d}+" % line_count_max)
    start = 0
    while start < len(part):
        end = min(start + SLICE_BYTES, len(part))
        lines = some_lines.match(part, start, end)
        end = lines.end() if lines else end
        yield part[start:end]
        start = end
