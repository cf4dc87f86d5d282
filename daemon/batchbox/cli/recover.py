"""`batchbox recover`: makes the database know again what was sent, here or by an instance that is lost."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchbox import logs
from batchbox.cli.paragraphs import counted, print_paragraph
from batchbox.cli.settings import config_option, find_key, load_settings
from batchbox.environment import drop_environment
from batchbox.logs import shown

if TYPE_CHECKING:
    from batchbox.config import Settings
    from batchbox.folders.takeover import Neighbour
    from batchbox.model import Instance
    from batchbox.service.recovering import Recovered


@click.command()
@config_option
@click.argument("instance", required=False)
def recover(config_file: Path | None, instance: str | None) -> None:
    """Take over what a lost instance left, or what a restored backup forgot.

    The daemon must be stopped. INSTANCE is a name in processing/ on the root; its folder is taken away from it first.
    Its files and all that it had sent become this machine's work. Without a name: our own, if the database is older
    than what was sent; else the other instances on the root are listed.

    Nothing is sent by this command, and what was sent is never sent again by itself: the daemon looks for it at the
    API, and asks a person about what it does not find (`batchbox reconcile`). It may be run again at any time.

    What was cancelled and had no .error.json yet is not known to be cancelled any more: it is sent, or its answer is
    delivered, like any other. Drop its `.cancel` again before `batchbox run`.
    """
    if instance is not None and not instance.strip():
        raise click.UsageError("INSTANCE is a name in processing/ on the root; leave it out to see which there are")
    from batchbox.model import Instance  # noqa: PLC0415 - --help does not need it

    settings = load_settings(config_file)
    drop_environment()
    logs.set_up(level=settings.log.level, json_lines=settings.log.format == "json")
    outcome = _run(settings, None if instance is None else Instance(instance))
    if isinstance(outcome, Sequence):
        _list(outcome, settings)
    else:
        _tell(outcome)


def _run(settings: "Settings", instance: "Instance | None") -> "Recovered | Sequence[Neighbour]":
    import anyio  # noqa: PLC0415 - as above

    from batchbox.service.recovering import run  # noqa: PLC0415 - it imports the SDK, which must come after all that

    return anyio.run(run, settings, instance, lambda: find_key(settings, os.environ))


def _tell(recovered: "Recovered") -> None:
    for instance in recovered.instances:
        print_paragraph(f"The files of {shown(instance)} are this machine's now.")
    if recovered.batch_count == 0:
        print_paragraph("Nothing that was sent is missing in the database.")
    else:
        print_paragraph(
            f"In doubt from now on: {counted(recovered.batch_count, 'batch', 'batches')} with "
            f"{counted(recovered.request_count, 'request')}. `batchbox run` looks for what was sent at the API; "
            "`batchbox reconcile` shows how far it is."
        )
    print_paragraph("Next: `batchbox run`.")


def _list(others: "Sequence[Neighbour]", settings: "Settings") -> None:
    print_paragraph("The database knows everything that this instance has sent: there is nothing to recover here.")
    if not others:
        print_paragraph(f"There is no other instance on {shown(str(settings.paths.root))}.")
        return
    print_paragraph("Other instances on the root:")
    for other in others:
        print_paragraph(f"  {shown(other.instance)}: {_told(other)}")
    orphans = [other for other in others if other.is_orphaned]
    if orphans:
        print_paragraph(
            f"Next: start the daemon of {shown(orphans[0].instance)} again; or, if that machine is lost, "
            f"`batchbox recover {shown(orphans[0].instance)}`."
        )


def _told(other: "Neighbour") -> str:
    if other.unreadable is not None:
        return f"cannot be looked at ({other.unreadable.strerror}): ask as the user whose it is"
    return f"{_sign_of_life(other) if other.has_folder else 'its folder in processing/ has gone'}; {_work(other)}"


def _sign_of_life(other: "Neighbour") -> str:
    if other.silent_seconds is None:
        return "stopped"
    if other.is_alive:
        return f"alive, {other.silent_seconds:.0f} s ago"
    return f"silent for {other.silent_seconds / 60:.0f} min"


def _work(other: "Neighbour") -> str:
    if not other.claim_count and not other.open_manifest_count:
        return "no work left"
    return f"{counted(other.claim_count, 'file')} taken, {counted(other.open_manifest_count, 'batch', 'batches')} open"
