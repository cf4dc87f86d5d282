"""Compares claimed files with what was read of them, a piece at a time: a large one must not keep the root busy.

A file of another size is not read at all, and none further than it was read: its writer may still have it open, and
write faster than we read, or have made it as large as a file can be.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from batchbox.folders.reading import READ_PIECE_BYTES
from batchbox.folders.root import NOT_A_FILE, is_about_one_name, opened

COMPARED_BYTES = 64 * 1024 * 1024
"""So much is read in one turn of the root."""


class Comparison(StrEnum):
    """What a look at a claimed file says."""

    SAME = "same"
    CHANGED = "changed"
    GONE = "gone"
    UNREADABLE = "unreadable"
    """Just now it cannot be told what it is."""
    UNFINISHED = "unfinished"
    """It is not read to its end yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFile:
    """What was read of a claimed file."""

    claim: str
    size_bytes: int
    sha256: bytes


class Comparing:
    """One file that is compared with what was read of it."""

    def __init__(self, known: KnownFile) -> None:
        self.comparison = Comparison.UNFINISHED
        self._known = known
        self._digest = hashlib.sha256()
        self._offset = 0

    def go_on(self, claims: int, *, bytes_max: int) -> int:
        """Read on; return how many bytes were read. Raises OSError for what is not about this file."""
        start = self._offset
        try:
            with opened(self._known.claim, parent=claims) as descriptor:
                self.comparison = self._read(descriptor, bytes_max)
        except FileNotFoundError:
            self.comparison = Comparison.GONE
        except OSError as error:
            if not is_about_one_name(error):
                raise
            self.comparison = Comparison.CHANGED if error.errno in NOT_A_FILE else Comparison.UNREADABLE
        return self._offset - start

    def _read(self, descriptor: int, bytes_max: int) -> Comparison:
        size_bytes = self._known.size_bytes
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != size_bytes:
            return Comparison.CHANGED
        end = min(size_bytes, self._offset + bytes_max)
        while self._offset < end:
            piece = os.pread(descriptor, min(READ_PIECE_BYTES, end - self._offset), self._offset)
            if not piece:
                return Comparison.CHANGED
            self._digest.update(piece)
            self._offset += len(piece)
        if self._offset < size_bytes:
            return Comparison.UNFINISHED
        is_longer = bool(os.pread(descriptor, 1, size_bytes))
        is_same = not is_longer and self._digest.digest() == self._known.sha256
        return Comparison.SAME if is_same else Comparison.CHANGED


def compare_on(files: Sequence[Comparing], claims: int) -> None:
    """Go on with those that are unfinished, until COMPARED_BYTES are read."""
    bytes_left = COMPARED_BYTES
    for one in files:
        if bytes_left > 0 and one.comparison is Comparison.UNFINISHED:
            bytes_left -= one.go_on(claims, bytes_max=bytes_left)
