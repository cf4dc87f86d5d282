"""Planted mistakes: a copy of the source with one place changed, which a suite must notice.

A suite that lets a known mistake live proves nothing. A mutation names the exact text that it replaces, and planting
one whose text is not there exactly once fails, so that a list of mutations cannot rot in silence.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "daemon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One mistake that somebody could make."""

    name: str
    """What the mistake is, in a few words."""
    file: str
    """Below `daemon/batchbox/`."""
    before: str
    after: str


def plant(mutation: Mutation | None, folder: Path) -> Path:
    """Copy the source into a folder with the mistake in it, or without any; return what belongs on PYTHONPATH."""
    target = folder / "daemon"
    shutil.copytree(SOURCE, target)  # with what Python has compiled: it is good for as long as a file has its old time
    if mutation is not None:
        path = target / "batchbox" / mutation.file
        text = path.read_text()
        assert text.count(mutation.before) == 1, f"{mutation.name}: {mutation.file} does not have its text exactly once"
        path.unlink()
        path.write_text(text.replace(mutation.before, mutation.after))
    return target
