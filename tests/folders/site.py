"""One real root with one instance on it, and what the tests of every folder ask of them."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchbox.folders.inbox import ClaimOutcome, Inbox, Wanted
from batchbox.folders.layout import Presence, make_root
from batchbox.folders.reading import Claim, ReadRules
from batchbox.folders.root import Root, open_root, read_identity
from batchbox.formats import FileKind
from batchbox.model import INBOX_LANE, Instance, Lane
from batchbox.naming import claim_name, is_ignored
from batchbox.settling import Sample

INSTANCE = Instance("host-00000001")
OTHER_INSTANCE = Instance("host-00000002")


def identity_of(path: Path) -> str:
    """Return the identity that the root has."""
    with open_root(path) as descriptor:
        identity = read_identity(descriptor)
    assert identity is not None
    return identity


@dataclass(frozen=True, slots=True)
class Site:
    """A root, as one instance sees it."""

    path: Path
    root: Root
    inbox: Inbox

    @classmethod
    async def make(cls, path: Path) -> "Site":
        """Make the root, and be at home on it."""
        make_root(path)
        root = Root(path, identity=identity_of(path))
        await Presence(root, INSTANCE).establish()
        return cls(path, root, Inbox(root, INSTANCE, monotonic=time.monotonic))

    def drop(self, name: str, content: bytes = b"hello", *, lane: Lane = INBOX_LANE) -> Path:
        """Put a file into the inbox or a lane."""
        folder = self.folder("inbox", lane)
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes(content)
        return path

    def folder(self, top: str, lane: Lane = INBOX_LANE) -> Path:
        """Return a lane's folder in inbox, outbox, rejected or done."""
        return self.path / top if lane == INBOX_LANE else self.path / top / lane

    def claims_folder(self, lane: Lane = INBOX_LANE) -> Path:
        """Return the folder of a lane's claims."""
        return self.path / "processing" / INSTANCE / lane

    def claimed(self, name: str, content: bytes = b"hello", *, lane: Lane = INBOX_LANE) -> Claim:
        """Put a file where claimed files are."""
        made = claim_name(name, dropped_ms=1000, random_bytes=os.urandom(8))
        folder = self.claims_folder(lane)
        folder.mkdir(exist_ok=True)
        (folder / made).write_bytes(content)
        return Claim(lane=lane, name=made)

    async def sample(self, name: str, *, lane: Lane = INBOX_LANE) -> Sample:
        """Look at a file that is there."""
        return (await self.samples(name, lane=lane))[name]

    async def samples(self, *names: str, lane: Lane = INBOX_LANE) -> Mapping[str, Sample]:
        """Look at files that may be there."""
        samples, _ = await self.inbox.sample(lane, names)
        return samples

    async def wanted(self, name: str, *, check: FileKind | None = None, lane: Lane = INBOX_LANE) -> Wanted:
        """Look at a file and want it as it is."""
        made = claim_name(name, dropped_ms=1000, random_bytes=os.urandom(8))
        return Wanted(name=name, claim_name=made, sample=await self.sample(name, lane=lane), check=check)

    async def claim(self, *files: Wanted, lane: Lane = INBOX_LANE) -> list[ClaimOutcome]:
        """Claim files."""
        return await self.inbox.claim(lane, files)

    async def names(self) -> Mapping[Lane, list[str]]:
        """List the inbox as the service does, in order."""
        return {lane: sorted(names) for lane, names in (await self.inbox.listing(is_ignored)).names.items()}


def names_in(folder: Path) -> set[str]:
    """Return every name in the folder, hidden ones too."""
    return {path.name for path in folder.iterdir()}


def read_rules(
    *,
    bytes_max: Callable[[str], int] = lambda _: 1000,
    long_from: Callable[[str], int | None] = lambda _: None,
    reject_hard_links: bool = True,
) -> ReadRules:
    """Return rules for small files."""
    return ReadRules(bytes_max=bytes_max, long_from=long_from, reject_hard_links=reject_hard_links)
