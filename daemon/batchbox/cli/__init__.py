"""The command line. Commands import what they need when they run, so that each starts as fast as it can."""

import sys
from collections.abc import Sequence

import click

from batchbox import __version__
from batchbox.cli.check import check
from batchbox.cli.config import config
from batchbox.cli.demo import demo
from batchbox.cli.init import init
from batchbox.cli.reconcile import reconcile
from batchbox.cli.recover import recover
from batchbox.cli.run import run
from batchbox.cli.simulate import simulate
from batchbox.cli.status import status
from batchbox.errors import BatchboxError


class _InOrder(click.Group):
    """Lists commands in the order in which they were added: click offers this as a method alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names as they were added."""
        del ctx
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batchbox")
def commands() -> None:
    """Drop a file into a folder, find Claude's answer in another, at half price."""


COMMANDS: Sequence[click.Command] = (demo, init, check, run, status, reconcile, recover, config, simulate)
"""In the order in which a newcomer meets them."""

for _command in COMMANDS:
    commands.add_command(_command)


def main() -> None:
    """Run a command; an error that a person can mend becomes a sentence and an exit code, never a traceback."""
    try:
        commands()
    except BatchboxError as error:
        click.echo(f"batchbox: {error}", err=True)
        sys.exit(error.exit_code)
