"""`batchbox reconcile`: what is in doubt, lost or held, and the decisions that only a person can make."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchbox.cli.paragraphs import print_paragraph
from batchbox.cli.settings import config_option, load_settings

if TYPE_CHECKING:
    from batchbox.cli.undecided import Undecided
    from batchbox.config import Settings
    from batchbox.store.orders import OrderKind

JSON_SHAPE = """\
The object of --json (moments are ISO 8601 in UTC, or null; later versions may add keys):

\b
  format     1
  at         when it was read
  running    whether a daemon is at work; null: this user cannot tell
  in_doubt   batches of which nobody knows whether the API has them, a list
             of {id, lane, nonce, request_count, sent_at, recovered, closed,
             candidates}; closed: no further candidate can turn up
             candidates: {batch_id, verdict, trouble}; verdict is open,
             foreign or ours; trouble: why only a person can judge it
  lost       what the API had and cannot be had, a list of {id, lane,
             batch_id, request_count, created_at, reason}; reason is
             unknown_batch or no_results
  held       what is not sent before a person says so, a list of {id, lane,
             request_count, sent_at, reason}
  orders     decisions that wait for the daemon, a list of {kind, argument,
             ordered_at}
"""
"""Printed below the options by --help."""


@click.command(epilog=JSON_SHAPE)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one object; its shape is described below.")
@click.option("--ours", metavar="BATCH_ID", help="This candidate, whose results cannot be read, is the batch in doubt.")
@click.option("--for", "number", type=int, metavar="NUMBER", help="With --ours: our number of the batch in doubt.")
@click.option("--not-ours", metavar="BATCH_ID", help="This candidate, whose results cannot be read, is not ours.")
@click.option("--resend", type=int, metavar="NUMBER", help="Send what is left of a held batch again.")
@click.option("--give-up", type=int, metavar="NUMBER", help="End what is left of a lost or held batch as errors.")
def reconcile(
    config_file: Path | None,
    *,
    as_json: bool,
    ours: str | None,
    number: int | None,
    not_ours: str | None,
    resend: int | None,
    give_up: int | None,
) -> None:
    """Show what is in doubt, and decide what only a person can.

    Nearly every doubt is decided without anybody: the daemon looks for the batch at the API, and adopts it or sends it.
    Without a decision this only shows what there is. A decision is an order to the daemon, which obeys it within
    seconds or, if none is at work, at the next start.

    Exit codes: 0 done; 1 the decision is not for a person to make, and why.
    """
    from batchbox.store.orders import OrderKind  # noqa: PLC0415 - --help does not need it

    decisions = [
        (OrderKind.OURS, None if ours is None else f"{ours} {number or ''}".rstrip()),
        (OrderKind.NOT_OURS, not_ours),
        (OrderKind.RESEND, resend),
        (OrderKind.GIVE_UP, give_up),
    ]
    given = [(kind, str(argument)) for kind, argument in decisions if argument is not None]
    if len(given) + as_json > 1:
        raise click.UsageError("give one decision at a time, and --json without any")
    if number is not None and ours is None:
        raise click.UsageError("--for belongs to --ours")
    settings = load_settings(config_file)
    if given:
        _decide(settings, *given[0])
    elif as_json:
        _print_json(_read(settings))
    else:
        _print(_read(settings), settings)


def _read(settings: "Settings") -> "Undecided":
    import anyio  # noqa: PLC0415 - as above

    from batchbox.cli.undecided import read_undecided  # noqa: PLC0415 - as above

    return anyio.run(read_undecided, settings.paths.state)


def _print_json(undecided: "Undecided") -> None:
    from batchbox.cli.undecided import as_json_object  # noqa: PLC0415 - as above

    click.echo(json.dumps(as_json_object(undecided)))


def _print(undecided: "Undecided", settings: "Settings") -> None:
    from batchbox.cli.undecided import sentences  # noqa: PLC0415 - as above

    for sentence in sentences(undecided, grace_seconds=settings.api.grace):
        print_paragraph(sentence)


def _decide(settings: "Settings", kind: "OrderKind", argument: str) -> None:
    import anyio  # noqa: PLC0415 - as above

    from batchbox.cli.ordering import give_order  # noqa: PLC0415 - as above

    click.echo(anyio.run(give_order, settings.paths.state, kind, argument))
