"""`batchbox status`: what waits, what is under way, what became of the rest, and what stands in the way."""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchbox.cli.settings import config_option, load_settings

if TYPE_CHECKING:
    from batchbox.cli.neighbours import Neighbourhood
    from batchbox.cli.status.situation import Situation
    from batchbox.config import Settings

REFRESH_SECONDS = 2.0

JSON_SHAPE = """\
The object of --json (moments are ISO 8601 in UTC, or null; later versions may add keys):

\b
  format     1
  at         when it was read
  root       the folder with the inbox
  state      the folder with the database
  running    whether a daemon is at work; null: this user cannot tell
  lanes      a list of {lane, waiting, in_flight, answered, incomplete,
             failed}: requests; the inbox itself is the lane "_"
  files      {reading, open, settled, done, rejecting, rejected}
  batches    those that are not done, a list of {id, lane, state, in_doubt,
             request_count, sealed_at, sent_at, expires_at, results_until,
             lost_reason, held_reason, batch_id, nonce}; batch_id is the
             API's name of it; held_reason why it is not sent, if so;
             lost_reason is unknown_batch or no_results
  holds      what is held up, a list of {name, reason, since_at,
             next_attempt_at}; name is sending, root, disk, credit,
             account or api
  orphans    other instances on the root that left work behind, a list of
             {instance, silent_seconds, files, batches}; the numbers are null
             where its folder cannot be looked at, and the list itself where
             the root cannot be
  cost_usd   what all answers have cost
"""
"""Printed below the options by --help."""


@click.command(epilog=JSON_SHAPE)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one object; its shape is described below.")
@click.option("--watch", is_flag=True, help="Show it anew every two seconds, until Ctrl-C.")
def status(config_file: Path | None, *, as_json: bool, watch: bool) -> None:
    """Show what waits, what is in flight, and what is in the way.

    It only reads, and may be asked beside a running daemon or without one.
    """
    if watch and as_json:
        raise click.UsageError("--watch and --json cannot be combined")
    if watch and not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal; without it, call `batchbox status` as often as you like")
    settings = load_settings(config_file)
    from batchbox.cli.neighbours import Neighbourhood  # noqa: PLC0415 - --help does not need it

    neighbourhood = Neighbourhood(settings.paths.root)
    if watch:
        _watch(settings, neighbourhood)
    elif as_json:
        _print_json(_read(settings, neighbourhood))
    else:
        _print(_read(settings, neighbourhood), settings)


def _read(settings: "Settings", neighbourhood: "Neighbourhood") -> "Situation":
    import anyio  # noqa: PLC0415 - --help does not need it

    from batchbox.cli.status.situation import read_situation  # noqa: PLC0415 - as above

    return anyio.run(read_situation, settings.paths.root, settings.paths.state, datetime.now(UTC), neighbourhood)


def _print_json(situation: "Situation") -> None:
    from batchbox.cli.status.situation import as_json_object  # noqa: PLC0415 - as above

    click.echo(json.dumps(as_json_object(situation)))


def _print(situation: "Situation", settings: "Settings") -> None:
    from batchbox.cli.status.page import page, plain_console  # noqa: PLC0415 - rich takes time that --json does not have

    plain_console().print(page(situation, grace_seconds=settings.api.grace))


def _watch(settings: "Settings", neighbourhood: "Neighbourhood") -> None:
    """Show it until Ctrl-C, which is the ordinary way to leave."""
    from rich.live import Live  # noqa: PLC0415 - as above

    from batchbox.cli.status.page import page, plain_console  # noqa: PLC0415 - as above

    first = page(_read(settings, neighbourhood), grace_seconds=settings.api.grace)
    try:
        with Live(first, console=plain_console(), auto_refresh=False) as live:
            live.refresh()
            while True:
                time.sleep(REFRESH_SECONDS)
                now = page(_read(settings, neighbourhood), grace_seconds=settings.api.grace)
                live.update(now, refresh=True)
    except KeyboardInterrupt:
        return
