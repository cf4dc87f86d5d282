"""Looks for work that another instance has left behind on the root."""

from collections.abc import Iterator

from batchbox.cli.check.finding import Finding, Subject, warn
from batchbox.cli.neighbours import orphans_on
from batchbox.config import Settings
from batchbox.logs import shown
from batchbox.store.state_folder import INSTANCE_FILE


def look_at_neighbours(settings: Settings) -> Iterator[Finding]:
    """Say for `check` who has left work behind; nothing if this user may not know which instance is ours."""
    try:
        own = (settings.paths.state / INSTANCE_FILE).read_text().strip()
    except FileNotFoundError:
        own = None
    except OSError:
        return
    for orphan in orphans_on(settings.paths.root, own):
        yield warn(
            Subject.ROOT,
            f"{shown(orphan.instance)} is not at work and has left {orphan.claim_count} files and "
            f"{orphan.open_manifest_count} open batches in {settings.paths.root}/processing",
            fix=f"start it again; or, if that machine is lost, run `batchbox recover {shown(orphan.instance)}`",
        )
