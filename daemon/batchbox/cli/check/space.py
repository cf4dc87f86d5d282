"""Looks at the room on a folder's disk."""

from collections.abc import Iterator
from pathlib import Path

from batchbox.cli.check.finding import Finding, Subject, fail, ok, warn
from batchbox.config import Settings
from batchbox.folders.space import disk_of, lack

GB = 1000**3


def look_at_space(subject: Subject, folder: Path, settings: Settings) -> Iterator[Finding]:
    """Return whether the disk has more room than is kept free."""
    try:
        disk = disk_of(folder)
    except OSError as error:
        yield fail(subject, f"the disk of {folder} cannot be looked at ({error.strerror})")
        return
    complaint = lack(folder, disk, bytes_min=settings.inbox.min_free)
    if complaint is not None:
        fact = f"{complaint}, so that nothing is taken or sent"
        yield warn(subject, fact, fix="make room there, or lower [inbox] min_free")
    elif disk.free_bytes is not None:
        yield ok(subject, f"{disk.free_bytes / GB:.1f} GB are free on its disk")
