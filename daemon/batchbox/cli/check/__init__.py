"""`batchbox check`: tells everything that would keep the daemon from working, each with what to do about it."""

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchbox.cli.settings import config_option
from batchbox.environment import drop_environment
from batchbox.errors import ExitCode
from batchbox.logs import shown

if TYPE_CHECKING:
    from batchbox.cli.check.finding import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_SUBJECT_WIDTH = 10
_INDENT = " " * (4 + 2 + _SUBJECT_WIDTH + 2)

JSON_SHAPE = """\
The object of --json (later versions may add keys):

\b
  format     1
  ok         whether nothing failed
  findings   a list of {level, subject, fact, fix}; level is ok, warn or fail,
             subject is settings, root, inbox, state, key, API or model, and fix
             is null where there is nothing to do
"""
"""Printed below the options by --help."""


@click.command(epilog=JSON_SHAPE)
@config_option
@click.option("--offline", is_flag=True, help="Ask the API nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one object; its shape is described below.")
def check(config_file: Path | None, *, offline: bool, as_json: bool) -> None:
    """Check the configuration, the folders, the key and the API.

    All that is wrong is told at once, each with what to do about it. Changes nothing: files that it tries the folders
    with are removed at once. May be run beside a running daemon; run it as the daemon's user. Exit codes: 0 nothing
    failed, 1 something did.
    """
    dropped = drop_environment()  # before anything imports the SDK
    from batchbox.cli.check.everything import look_at_everything  # noqa: PLC0415 - --help does not need it

    findings = look_at_everything(config_file, dropped=dropped, offline=offline)
    failed = [finding for finding in findings if finding.level == "fail"]
    if as_json:
        told = [_as_object(finding) for finding in findings]
        click.echo(json.dumps({"format": 1, "ok": not failed, "findings": told}))
    else:
        _tell(findings)
    sys.exit(ExitCode.FAILED if failed else ExitCode.DONE)


def _as_object(finding: "Finding") -> Mapping[str, str | None]:
    fix = None if finding.fix is None else shown(finding.fix)
    return {"level": finding.level, "subject": finding.subject, "fact": shown(finding.fact), "fix": fix}


def _tell(findings: Sequence["Finding"]) -> None:
    for finding in findings:
        level = click.style(f"{finding.level:4}", fg=_COLOURS[finding.level], bold=finding.level != "ok")
        lines = _wrapped(finding.fact)
        if finding.fix is not None:
            lines += _wrapped(f"-> {finding.fix}")
        click.echo(f"{level}  {finding.subject:{_SUBJECT_WIDTH}}  {lines[0]}")
        for line in lines[1:]:
            click.echo(f"{_INDENT}{line}")
    counts = [(level, sum(finding.level == level for finding in findings)) for level in _COLOURS]
    click.echo("\n" + ", ".join(f"{count} {level}" for level, count in counts))


def _wrapped(text: str) -> list[str]:
    """Break the text for a terminal; in a pipe, where lines are searched, it stays one line."""
    if not sys.stdout.isatty():
        return [shown(text)]
    width = max(20, shutil.get_terminal_size().columns - len(_INDENT))
    return textwrap.wrap(shown(text), width, break_long_words=False, break_on_hyphens=False) or [""]
