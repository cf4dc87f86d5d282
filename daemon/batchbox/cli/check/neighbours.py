"""Looks for work that another instance has left behind on the root."""

from collections.abc import Iterator

from batchbox.cli.check.finding import Finding, Subject, warn
from batchbox.cli.neighbours import orphans_on
from batchbox.cli.paragraphs import counted
from batchbox.config import Settings
from batchbox.errors import ConfigurationError
from batchbox.folders.layout import PROCESSING
from batchbox.folders.takeover import Neighbour
from batchbox.logs import shown
from batchbox.store.state_folder import known_instance


def look_at_neighbours(settings: Settings) -> Iterator[Finding]:
    """Say for `check` who has left work behind; nothing if this user may not know which instance is ours."""
    try:
        own = known_instance(settings.paths.state)
    except (OSError, ConfigurationError):  # told of the state folder
        return
    for orphan in orphans_on(settings.paths.root, own) or ():
        yield _unreadable(orphan, settings) if orphan.unreadable is not None else _orphan(orphan, settings)


def _orphan(orphan: Neighbour, settings: Settings) -> Finding:
    return warn(
        Subject.ROOT,
        f"{shown(orphan.instance)} is not at work and has left {counted(orphan.claim_count, 'file')} and "
        f"{counted(orphan.open_manifest_count, 'open batch', 'open batches')} in {settings.paths.root / PROCESSING}",
        fix=f"start it again; or, if that machine is lost, run `batchbox recover {shown(orphan.instance)}`",
    )


def _unreadable(neighbour: Neighbour, settings: Settings) -> Finding:
    path = settings.paths.root / PROCESSING / neighbour.instance
    why = "" if neighbour.unreadable is None else f" ({neighbour.unreadable.strerror})"
    return warn(
        Subject.ROOT,
        f"{path} cannot be looked at{why}, so that whether another instance has left work behind is not known",
        fix="run the check as the user whose it is; to take its work over, give it to the daemon's user",
    )
