"""The inbox and the claims: list, sample, claim by rename, read.

A rename is the only lock: whoever's rename succeeds owns the file. Names are whatever the file system has; nothing
that is not a regular file is ever opened for its content.
"""

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import TypeVar

from batchbox.folders.layout import INBOX, PROCESSING, claims_folder, lane_folder
from batchbox.folders.reading import READ_BYTES, Claim, Read, ReadRules, read_claim
from batchbox.folders.root import Root, exists, folder, is_about_one_name, is_folder, opened, sync_folder
from batchbox.formats import REQUEST_BYTES_MAX, FileKind, breaks_off
from batchbox.model import INBOX_LANE, Instance, Lane
from batchbox.settling import Sample

T = TypeVar("T")

TAIL_BYTES = 64
LANES_MAX = 1000
READ_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is in the inbox: names, and nothing that would cost a call per file."""

    names: dict[Lane, list[str]]
    ignored_folders: list[str] = field(default_factory=list)
    """Folders that cannot be lanes: a name that is not UTF-8, or one that differs from another's in case alone."""
    closed_folders: list[str] = field(default_factory=list)
    """Lanes whose folder we may not read, or cannot just now."""


class ClaimOutcome(StrEnum):
    """What became of an attempt to claim a file."""

    CLAIMED = "claimed"
    GONE = "gone"
    """Somebody else has it, or it was deleted."""
    CHANGED = "changed"
    """It is not what the last sample saw: it settles again."""
    UNFINISHED = "unfinished"
    """Its content, read whole, breaks off."""
    BUSY = "busy"
    """In use, or not ours to read or to take just now."""
    UNCLEAR = "unclear"
    """The rename failed, and does not say whether it took effect or will: the server may still carry it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A still file that is to be claimed."""

    name: str
    claim_name: str
    sample: Sample
    check: FileKind | None
    """As which kind its content must have an end; None: it is taken as it is."""


class Inbox:
    """The inbox, and this instance's claims."""

    def __init__(self, root: Root, instance: Instance, *, monotonic: Callable[[], float]) -> None:
        self._root = root
        self._instance = instance
        self._monotonic = monotonic

    async def listing(self, is_ignored: Callable[[str], bool]) -> Listing:
        """Return the names in the inbox and in every lane, without those that are never requests."""
        return await self._root.run(lambda root: _list(root, is_ignored))

    async def sample(self, lane: Lane, names: Sequence[str]) -> tuple[dict[str, Sample], float]:
        """Look at the files; those that have gone, or cannot be looked at just now, are not in the answer.

        Returns the monotonic moment of the samples too: when they were taken, not when the step began. Between the
        two a writer may have written for as long as everything else in the step took.
        """
        return await self._root.run(lambda root: (_sample_all(root, lane, names), self._monotonic()))

    async def claim(self, lane: Lane, files: Sequence[Wanted]) -> list[ClaimOutcome]:
        """Make still files ours, durably. Each is looked at once more just before."""
        return await self._root.run(lambda root: self._claim(root, lane, files))

    async def claims(self) -> list[Claim]:
        """Return everything in processing/<instance>/, oldest first."""
        return await self._root.run(self._claims)

    async def read(
        self, claims: Sequence[Claim], parse: Callable[[Claim, bytes], T], rules: ReadRules
    ) -> tuple[list[Read[T]], int]:
        """Read claimed files whole and parse them, in the root's thread, until READ_BYTES are read.

        Returns what was looked at, and how many of the claims that covers; one that has gone is covered alone.
        """
        return await self._root.run(lambda root: self._read_some(root, claims, parse, rules))

    async def read_part(self, claim: Claim, *, offset: int, length: int) -> bytes:
        """Return the next bytes of a long file; empty at its end."""
        return await self._root.run(lambda root: self._read_part(root, claim, offset, length))

    def _claim(self, root: int, lane: Lane, files: Sequence[Wanted]) -> list[ClaimOutcome]:
        with ExitStack() as stack:
            claims = stack.enter_context(claims_folder(root, self._instance, lane, make=True))
            try:
                inbox = stack.enter_context(lane_folder(root, INBOX, lane))
            except OSError:  # the lane was removed, replaced or closed since it was listed
                return [ClaimOutcome.BUSY] * len(files)
            outcomes = [_claim_one(file, inbox=inbox, claims=claims) for file in files]
            if ClaimOutcome.CLAIMED in outcomes:
                sync_folder(claims)  # the new name first: dying between the two leaves two names, never none
                sync_folder(inbox)
        return outcomes

    def _claims(self, root: int) -> list[Claim]:
        with (
            claims_folder(root, self._instance, INBOX_LANE, make=True),
            folder(root, PROCESSING, self._instance) as own,
        ):
            claims = []
            with os.scandir(own) as entries:
                lanes = [entry.name for entry in entries if entry.name[0] != "." and is_folder(entry)]
            for lane in lanes:
                with folder(own, lane) as descriptor:
                    claims += [Claim(lane=Lane(lane), name=name) for name in os.listdir(descriptor)]
        return sorted(claims, key=lambda claim: claim.name)

    def _read_some(
        self, root: int, claims: Sequence[Claim], parse: Callable[[Claim, bytes], T], rules: ReadRules
    ) -> tuple[list[Read[T]], int]:
        reads: list[Read[T]] = []
        count = size_bytes = 0
        for lane, of_lane in groupby(claims, key=lambda claim: claim.lane):
            with claims_folder(root, self._instance, lane) as descriptor:
                for claim in of_lane:
                    count += 1
                    read = read_claim(claim, parse, rules, claims=descriptor)
                    if read is None:
                        continue
                    reads.append(read)
                    size_bytes += 0 if read.is_long else read.facts.size_bytes
                    if size_bytes >= READ_BYTES:
                        return reads, count
        return reads, count

    def _read_part(self, root: int, claim: Claim, offset: int, length: int) -> bytes:
        with (
            claims_folder(root, self._instance, claim.lane) as claims,
            opened(claim.name, parent=claims) as descriptor,
        ):
            return os.pread(descriptor, length, offset)


def _list(root: int, is_ignored: Callable[[str], bool]) -> Listing:
    names: dict[Lane, list[str]] = {INBOX_LANE: []}
    ignored: list[str] = []
    closed: list[str] = []
    with folder(root, INBOX) as inbox:
        with os.scandir(inbox) as entries:
            found = sorted((entry.name, is_folder(entry)) for entry in entries)
        seen: set[str] = set()
        for name, may_be_lane in found:
            if is_ignored(name):
                continue
            if not may_be_lane:
                names[INBOX_LANE].append(name)
                continue
            if name.casefold() in seen or len(seen) >= LANES_MAX or not _is_utf8(name):
                ignored.append(name)
                continue
            seen.add(name.casefold())
            try:
                names[Lane(name)] = _lane_names(inbox, name, is_ignored)
            except (FileNotFoundError, NotADirectoryError):  # removed or replaced since it was listed
                continue
            except OSError:  # a lane is somebody's folder: it stops alone
                closed.append(name)
    return Listing(names=names, ignored_folders=ignored, closed_folders=closed)


def _lane_names(inbox: int, lane: str, is_ignored: Callable[[str], bool]) -> list[str]:
    with folder(inbox, lane) as descriptor:
        os.stat(".", dir_fd=descriptor)  # a folder that may be read and not searched has names, and nothing more
        with os.scandir(descriptor) as entries:
            return sorted(entry.name for entry in entries if not is_ignored(entry.name) and not is_folder(entry))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sample_all(root: int, lane: Lane, names: Sequence[str]) -> dict[str, Sample]:
    samples = {}
    try:
        with lane_folder(root, INBOX, lane) as inbox:
            for name in names:
                sample = _sample(name, parent=inbox)
                if sample is not None:
                    samples[name] = sample
    except OSError:  # the lane itself has gone, or was closed since it was listed: the next listing says so
        return {}
    return samples


def _sample(name: str, *, parent: int) -> Sample | None:
    try:
        with opened(name, parent=parent) as descriptor:
            facts = os.fstat(descriptor)
            tail = b""
            if stat.S_ISREG(facts.st_mode):
                tail = os.pread(descriptor, TAIL_BYTES, max(0, facts.st_size - TAIL_BYTES))
            return _as_sample(facts, tail)
    except OSError:
        return _sample_unopened(name, parent=parent)


def _sample_unopened(name: str, *, parent: int) -> Sample | None:
    try:
        return _as_sample(os.lstat(name, dir_fd=parent), None)
    except OSError:
        return None


def _as_sample(facts: os.stat_result, tail: bytes | None) -> Sample:
    return Sample(
        device=facts.st_dev,
        inode=facts.st_ino,
        size_bytes=facts.st_size,
        modified_ns=facts.st_mtime_ns,
        changed_ns=facts.st_ctime_ns,
        is_regular=stat.S_ISREG(facts.st_mode),
        tail=tail,
    )


def _claim_one(file: Wanted, *, inbox: int, claims: int) -> ClaimOutcome:
    hindrance = _hindrance(file, inbox)
    if hindrance is not None:
        return hindrance
    try:
        os.rename(file.name, file.claim_name, src_dir_fd=inbox, dst_dir_fd=claims)
    except OSError as error:
        if exists(file.claim_name, parent=claims):  # NFS may have lost the reply to a rename that succeeded
            return ClaimOutcome.CLAIMED
        if isinstance(error, FileNotFoundError):
            return ClaimOutcome.GONE
        return ClaimOutcome.BUSY if is_about_one_name(error) else ClaimOutcome.UNCLEAR
    return ClaimOutcome.CLAIMED


def _hindrance(file: Wanted, inbox: int) -> ClaimOutcome | None:
    """Look at the file once more; return what speaks against taking it."""
    if _sample(file.name, parent=inbox) != file.sample:
        return ClaimOutcome.CHANGED
    if file.sample.is_regular and file.sample.tail is None:
        return ClaimOutcome.BUSY  # it stays where its owner sees it, and can make it readable
    try:
        if file.check is not None and _breaks_off(file, file.check, inbox):
            return ClaimOutcome.UNFINISHED
    except OSError:
        return ClaimOutcome.BUSY
    return None


def _breaks_off(file: Wanted, kind: FileKind, inbox: int) -> bool:
    if kind is FileKind.JSON and file.sample.size_bytes > REQUEST_BYTES_MAX:
        return False  # too large to be read; that is said after the claim
    with opened(file.name, parent=inbox) as descriptor:
        if kind is FileKind.JSON:
            end = _end_of(descriptor, file.sample.size_bytes, is_enough=lambda _: False)
        else:
            end = _end_of(descriptor, file.sample.size_bytes, is_enough=lambda end: b"\n" in end.rstrip())
            end = end.rstrip().rpartition(b"\n")[2]
    return breaks_off(kind, end) is not None


def _end_of(descriptor: int, size_bytes: int, *, is_enough: Callable[[bytes], bool]) -> bytes:
    """Return the end of a file, back to where it is enough, or for REQUEST_BYTES_MAX: more is too large anyway."""
    end = b""
    start = size_bytes
    while start > 0 and len(end) <= REQUEST_BYTES_MAX and not is_enough(end):
        length = min(READ_PIECE_BYTES, start)
        start -= length
        end = os.pread(descriptor, length, start) + end
    return end
