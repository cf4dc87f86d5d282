"""The inbox and the claims: sample, claim by rename, read.

A rename is the only lock: whoever's rename succeeds owns the file. Names are whatever the file system has; nothing
that is not a regular file is ever opened for its content.
"""

import os
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import TypeVar

from batchbox.folders.comparing import Comparing, Comparison, KnownFile, compare_on
from batchbox.folders.layout import INBOX, PROCESSING, claims_folder, lane_folder
from batchbox.folders.listing import Listing, list_inbox
from batchbox.folders.markers import drop_markers, put_marker_back, settle_markers, take_marker
from batchbox.folders.reading import READ_BYTES, Claim, FileFacts, Read, ReadRules, facts_of, read_claim
from batchbox.folders.root import (
    Root,
    exists,
    folder,
    is_about_one_name,
    is_folder,
    leaving_what_resists,
    opened,
    sync_folder,
)
from batchbox.formats import REQUEST_BYTES_MAX, FileKind, breaks_off
from batchbox.model import INBOX_LANE, Instance, Lane
from batchbox.settling import Sample

T = TypeVar("T")

TAIL_BYTES = 64
READ_PIECE_BYTES = 1024 * 1024


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
    marker: str | None = None
    """The file beside it that says that it is complete, and that goes with it."""


class Inbox:
    """The inbox, and this instance's claims."""

    def __init__(self, root: Root, instance: Instance, *, monotonic: Callable[[], float]) -> None:
        self._root = root
        self._instance = instance
        self._monotonic = monotonic

    async def listing(self, is_ignored: Callable[[str], bool], known: Collection[str] | None = None) -> Listing:
        """Return the names in the inbox and in every lane, without those that are never requests.

        Lanes that are known keep their place before newcomers; None: those are known of which there ever was a claim.
        """
        return await self._root.run(lambda root: self._listing(root, is_ignored, known))

    async def sample(
        self, lane: Lane, names: Sequence[str], known: Mapping[str, Sample] | None = None
    ) -> tuple[dict[str, Sample], float]:
        """Look at the files; those that have gone, or cannot be looked at just now, are not in the answer.

        A known sample is returned again, and the file not opened, if size and times are still what they were: that
        will do for a file that is not to be taken yet.

        Returns the monotonic moment of the samples too: when they were taken, not when the step began. Between the
        two a writer may have written for as long as everything else in the step took.
        """
        return await self._root.run(lambda root: (_sample_all(root, lane, names, known or {}), self._monotonic()))

    async def claim(self, lane: Lane, files: Sequence[Wanted]) -> list[ClaimOutcome]:
        """Make still files ours, durably. Each is looked at once more just before."""
        return await self._root.run(lambda root: self._claim(root, lane, files))

    async def remove(self, lane: Lane, samples: Mapping[str, Sample]) -> set[str]:
        """Delete files from the inbox, those that are still as in their samples; return those that are gone."""
        return await self._root.run(lambda root: _remove(root, lane, samples))

    async def facts(self, claims: Sequence[Claim]) -> list[FileFacts | None]:
        """Return what the file system says of claims; None for one that is no regular file, or has gone."""
        return await self._root.run(lambda root: self._facts(root, claims))

    async def claims(self) -> list[Claim]:
        """Return everything in processing/<instance>/, oldest first.

        A marker that was claimed and whose file was not is put back beside it: we died between the two.
        """
        return await self._root.run(self._claims)

    async def read(self, claims: Sequence[Claim], rules: ReadRules) -> tuple[list[Read], int]:
        """Read claimed files whole, until READ_BYTES are read.

        Returns what was looked at, and how many of the claims that covers; one that has gone is covered alone.
        """
        return await self._root.run(lambda root: self._read_some(root, claims, rules))

    async def read_part(self, claim: Claim, *, offset: int, length: int) -> bytes:
        """Return the next bytes of a long file; empty at its end."""
        return await self._root.run(lambda root: self._read_part(root, claim, offset, length))

    async def sample_claims(self, lane: Lane, names: Sequence[str]) -> tuple[dict[str, Sample], float]:
        """Look at claimed files, as `sample` does at dropped ones."""
        return await self._root.run(lambda root: (self._sample_claims(root, lane, names), self._monotonic()))

    async def compare(self, lane: Lane, files: Sequence[KnownFile]) -> tuple[list[Comparison], float]:
        """Say of each claimed file whether it is still what was read of it, in as many turns as that takes.

        Returns the monotonic moment of the end of that, too. Raises OSError for what is about neither one file nor the
        lane's folder.
        """
        comparings = [Comparing(known) for known in files]
        while any(one.comparison is Comparison.UNFINISHED for one in comparings):
            await self._root.run(lambda root: self._compare(root, lane, comparings))
        return [one.comparison for one in comparings], self._monotonic()

    def _listing(self, root: int, is_ignored: Callable[[str], bool], known: Collection[str] | None) -> Listing:
        if known is None:
            with folder(root, PROCESSING, self._instance) as own:
                known = _lanes_in(own)
        return list_inbox(root, is_ignored, known=known)

    def _claim(self, root: int, lane: Lane, files: Sequence[Wanted]) -> list[ClaimOutcome]:
        with ExitStack() as stack:
            claims = stack.enter_context(claims_folder(root, self._instance, lane))
            try:
                inbox = stack.enter_context(lane_folder(root, INBOX, lane))
            except OSError:  # the lane was removed, replaced or closed since it was listed
                return [ClaimOutcome.BUSY] * len(files)
            outcomes = [_claim_one(file, inbox=inbox, claims=claims) for file in files]
            if ClaimOutcome.CLAIMED in outcomes:
                sync_folder(claims)  # the new name first: dying between the two leaves two names, never none
                sync_folder(inbox)
            taken = [file for file, outcome in zip(files, outcomes, strict=True) if outcome is ClaimOutcome.CLAIMED]
            drop_markers([file.claim_name for file in taken if file.marker is not None], claims=claims)
        return outcomes

    def _facts(self, root: int, claims: Sequence[Claim]) -> list[FileFacts | None]:
        found = []
        for claim in claims:
            with claims_folder(root, self._instance, claim.lane) as descriptor:
                found.append(facts_of(claim.name, claims=descriptor))
        return found

    def _claims(self, root: int) -> list[Claim]:
        with (
            claims_folder(root, self._instance, INBOX_LANE),
            folder(root, PROCESSING, self._instance) as own,
        ):
            claims = []
            for lane in _lanes_in(own):
                with folder(own, lane) as descriptor:
                    names = settle_markers(root, Lane(lane), claims=descriptor)
                    claims += [Claim(lane=Lane(lane), name=name) for name in names]
        return sorted(claims, key=lambda claim: claim.name)

    def _sample_claims(self, root: int, lane: Lane, names: Sequence[str]) -> dict[str, Sample]:
        with claims_folder(root, self._instance, lane) as claims:
            return _samples_in(claims, names)

    def _compare(self, root: int, lane: Lane, files: Sequence[Comparing]) -> None:
        try:
            with claims_folder(root, self._instance, lane) as claims:
                compare_on(files, claims)
        except OSError as error:
            if not is_about_one_name(error):
                raise
            for one in files:  # the lane's folder was closed, or something else has its name
                one.comparison = Comparison.UNREADABLE

    def _read_some(self, root: int, claims: Sequence[Claim], rules: ReadRules) -> tuple[list[Read], int]:
        reads: list[Read] = []
        count = size_bytes = 0
        for lane, of_lane in groupby(claims, key=lambda claim: claim.lane):
            with claims_folder(root, self._instance, lane) as descriptor:
                for claim in of_lane:
                    count += 1
                    read = read_claim(claim, rules, claims=descriptor)
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


def _lanes_in(own: int) -> list[str]:
    with os.scandir(own) as entries:
        return [entry.name for entry in entries if entry.name[0] != "." and is_folder(entry)]


def _sample_all(root: int, lane: Lane, names: Sequence[str], known: Mapping[str, Sample]) -> dict[str, Sample]:
    try:
        with lane_folder(root, INBOX, lane) as inbox:
            same = {name: known[name] for name in names if name in known and _is_same(name, known[name], inbox)}
            return same | _samples_in(inbox, [name for name in names if name not in same])
    except OSError:  # the lane itself has gone, or was closed since it was listed: the next listing says so
        return {}


def _samples_in(parent: int, names: Sequence[str]) -> dict[str, Sample]:
    samples = ((name, _sample(name, parent=parent)) for name in names)
    return {name: sample for name, sample in samples if sample is not None}


def _sample(name: str, *, parent: int) -> Sample | None:
    try:
        with opened(name, parent=parent) as descriptor:
            facts = os.fstat(descriptor)
            tail = b""
            if stat.S_ISREG(facts.st_mode):
                tail = os.pread(descriptor, TAIL_BYTES, max(0, facts.st_size - TAIL_BYTES))
            return _as_sample(facts, tail)
    except FileNotFoundError:  # whatever a share's cache has of it
        return None
    except OSError:
        return _sample_unopened(name, parent=parent)


def _is_same(name: str, before: Sample, parent: int) -> bool:
    try:
        facts = os.lstat(name, dir_fd=parent)
    except OSError:
        return False
    return (
        facts.st_ctime_ns == before.changed_ns
        and facts.st_mtime_ns == before.modified_ns
        and facts.st_size == before.size_bytes
        and facts.st_ino == before.inode
        and facts.st_dev == before.device
    )


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


def _remove(root: int, lane: Lane, samples: Mapping[str, Sample]) -> set[str]:
    removed: set[str] = set()
    with ExitStack() as stack:
        try:
            inbox = stack.enter_context(lane_folder(root, INBOX, lane))
        except OSError:  # the lane was removed, replaced or closed since it was listed
            return removed
        for name, sample in samples.items():
            if _sample(name, parent=inbox) == sample:
                with leaving_what_resists():
                    _unlink(name, inbox)
                    removed.add(name)
    return removed


def _unlink(name: str, inbox: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=inbox)


def _claim_one(file: Wanted, *, inbox: int, claims: int) -> ClaimOutcome:
    """Claim a file, or say why not: whatever happens to it, those before it have been claimed, and are made durable."""
    try:
        return _hindrance(file, inbox) or _take(file, inbox=inbox, claims=claims)
    except OSError as error:  # about its marker, or about what became of the rename
        return ClaimOutcome.BUSY if is_about_one_name(error) else ClaimOutcome.UNCLEAR


def _take(file: Wanted, *, inbox: int, claims: int) -> ClaimOutcome:
    if file.marker is not None and not take_marker(file.marker, file.claim_name, inbox=inbox, claims=claims):
        return ClaimOutcome.CHANGED
    try:
        os.rename(file.name, file.claim_name, src_dir_fd=inbox, dst_dir_fd=claims)
    except OSError as error:
        if exists(file.claim_name, parent=claims):  # NFS may have lost the reply to a rename that succeeded
            return ClaimOutcome.CLAIMED
        if file.marker is not None:
            put_marker_back(file.marker, file.claim_name, inbox=inbox, claims=claims)
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
    with opened(file.name, parent=inbox) as descriptor:
        size_bytes = file.sample.size_bytes
        start, end = (0, size_bytes) if kind is FileKind.JSON else _last_line(descriptor, size_bytes)
        if end - start > REQUEST_BYTES_MAX:
            return False  # too large to be read; that is said after the claim
        return breaks_off(kind, os.pread(descriptor, end - start, start)) is not None


def _last_line(descriptor: int, size_bytes: int) -> tuple[int, int]:
    """Return where a file's last line that is not blank begins and ends.

    No more than REQUEST_BYTES_MAX are looked through: a longer line is too large anyway.
    """
    start, end = size_bytes, 0
    while start > 0 and size_bytes - start <= REQUEST_BYTES_MAX:
        length = min(READ_PIECE_BYTES, start)
        start -= length
        piece = os.pread(descriptor, length, start)
        if not end:
            piece = piece.rstrip()
            end = start + len(piece) if piece else 0
        if end and b"\n" in piece:
            return start + piece.rindex(b"\n") + 1, end
    return start, max(start, end)
