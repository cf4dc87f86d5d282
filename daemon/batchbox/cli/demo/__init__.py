"""`batchbox demo`: the whole thing against the built-in simulator, without a key and without a network."""

import sys

import click

from batchbox.environment import drop_environment
from batchbox.errors import BatchboxError

INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C has ended."""

INTRODUCTION = """\
This is batchbox itself, watching a folder, and a simulator on this machine in
the place of the API: no key, no network, no cost, and no model in the answers.
"""


@click.command()
@click.option("--keep", is_flag=True, help="Keep the demo's folder, to look around in it.")
def demo(*, keep: bool) -> None:
    """Watch files go in and answers come out: no key, no network, in seconds.

    The answers are simulated; everything else is what `run` does. Works in a temporary folder, and removes it.

    Exit codes: 0 every file was answered or rejected as it should be; 1 not so; 130 interrupted.
    """
    try:
        code = _play(keep=keep)
    except KeyboardInterrupt:  # before the demo listens to signals itself: there is no folder yet
        click.echo("batchbox demo: interrupted.", err=True)
        code = INTERRUPTED
    sys.exit(code)


def _play(*, keep: bool) -> int:
    click.echo(INTRODUCTION)  # before the imports, which take a second or two
    drop_environment()
    try:
        from batchbox.cli.demo.playing import play  # noqa: PLC0415 - the SDK must come after drop_environment
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise BatchboxError(
            f"the demo needs the Python package {package}, which is not installed. "
            "Install batchbox again together with what it depends on."
        ) from error
    return play(keep=keep)
