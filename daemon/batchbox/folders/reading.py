"""Reads claimed files: each once, whole, within bounds; nothing but a regular file is ever opened for its content."""

import hashlib
import os
import pwd
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from batchbox.errors import RejectedError
from batchbox.folders.root import NOT_A_FILE, opened
from batchbox.model import Lane, RejectReason

READ_PIECE_BYTES = 1024 * 1024
READ_BYTES = 4 * 1024 * 1024
"""A group of files is read until it has this many bytes: what is in memory is that and one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A file that is ours, by its name in processing/<instance>/<lane>/."""

    lane: Lane
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What the file system says of a claimed file."""

    owner: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A claimed file that was looked at: its content, or why there is none."""

    claim: Claim
    facts: FileFacts
    sha256: bytes | None
    content: bytes | RejectedError | OSError | None
    """None: the file is long, and to be read in parts. OSError: it cannot be read just now."""

    @property
    def is_long(self) -> bool:
        """Whether the file is to be read in parts."""
        return self.content is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRules:
    """How claimed files are read."""

    bytes_max: Callable[[str], int]
    """The most bytes that a file of this claim name may have."""
    long_from: Callable[[str], int | None]
    """From how many bytes on a file of this name is read in parts; None: never."""
    reject_hard_links: bool


def facts_of(claim: str, *, claims: int) -> FileFacts | None:
    """Return what the file system says of a claim; None if it is no regular file, or has gone."""
    try:
        status = os.lstat(claim, dir_fd=claims)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileFacts(owner=user_name(status.st_uid), size_bytes=status.st_size)


def read_claim(claim: Claim, rules: ReadRules, *, claims: int) -> Read | None:
    """Read a claim in the open folder, or say why it can never be taken; None: it has gone."""
    facts = FileFacts(owner="", size_bytes=0)
    try:
        with opened(claim.name, parent=claims) as descriptor:
            status = os.fstat(descriptor)
            facts = FileFacts(owner=user_name(status.st_uid), size_bytes=status.st_size)
            _require_acceptable(status, claim, rules)
            long_from = rules.long_from(claim.name)
            if long_from is not None and status.st_size >= long_from:
                return Read(claim=claim, facts=facts, sha256=None, content=None)
            data = _read_whole(descriptor, status.st_size, bytes_max=rules.bytes_max(claim.name))
            _require_size(len(data), claim, rules)  # it may have grown since
            facts = replace(facts, size_bytes=len(data))
        return Read(claim=claim, facts=facts, sha256=hashlib.sha256(data).digest(), content=data)
    except RejectedError as error:
        return Read(claim=claim, facts=facts, sha256=None, content=error)
    except FileNotFoundError:
        return None
    except OSError as error:
        content = _not_a_regular_file() if error.errno in NOT_A_FILE else error
        return Read(claim=claim, facts=facts, sha256=None, content=content)


def _require_acceptable(status: os.stat_result, claim: Claim, rules: ReadRules) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _not_a_regular_file()
    if rules.reject_hard_links and status.st_nlink > 1:
        raise RejectedError(
            RejectReason.HARD_LINK,
            f"the file has {status.st_nlink} names, so it may be somebody else's",
            'Drop a copy instead of a link, or have [inbox] hard_links set to "allow".',
        )
    _require_size(status.st_size, claim, rules)


def _require_size(size_bytes: int, claim: Claim, rules: ReadRules) -> None:
    bytes_max = rules.bytes_max(claim.name)
    if size_bytes > bytes_max:
        raise RejectedError(
            RejectReason.TOO_LARGE,
            f"{size_bytes} bytes; at most {bytes_max} are read",
            "Split the file, or have the limit in [inbox] raised.",
        )


def _not_a_regular_file() -> RejectedError:
    return RejectedError(
        RejectReason.NOT_A_REGULAR_FILE,
        "it is a link, a folder, a pipe or a device",
        "Drop the file itself.",
    )


def _read_whole(descriptor: int, size_bytes: int, *, bytes_max: int) -> bytes:
    """Read what there is, in one call if the file is as large as it says: a single piece is not copied."""
    pieces = []
    left = bytes_max
    length = size_bytes
    while left >= 0 and (piece := os.read(descriptor, max(length, 1))):
        pieces.append(piece)
        left -= len(piece)
        length = READ_PIECE_BYTES
    return b"".join(pieces)


@lru_cache(maxsize=1024)
def user_name(user_id: int) -> str:
    """Return what a user is called on this machine: the number, if not otherwise."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
