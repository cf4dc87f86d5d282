"""`batchbox run`: the daemon."""

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from batchbox import logs
from batchbox.cli.settings import config_option, find_key, load_settings
from batchbox.environment import drop_environment
from batchbox.errors import BatchboxError, ConfigurationError, ExitCode

if TYPE_CHECKING:
    from batchbox.config import Settings

log = logging.getLogger(__name__)


@click.command()
@config_option
@click.option("--drain", is_flag=True, help="Stop when every file is settled and no request is open.")
def run(config_file: Path | None, *, drain: bool) -> None:
    """Run the daemon: send what is dropped, bring the answers.

    It goes on until it is stopped. A drain says in the log, every few minutes at least, what it still waits for: a file
    that is in use or cannot be read is waited for, a folder that somebody has to cure is not.

    Exit codes: 0 stopped, or drained without an error; 1 crashed; 3 drained, and something was rejected, failed,
    stayed incomplete or needs a person; 77 a folder's permissions; 78 the configuration.
    """
    settings = load_settings(config_file)
    dropped = drop_environment()
    key = _require_all(settings)
    logs.set_up(level=settings.log.level, json_lines=settings.log.format == "json")
    _log_start(settings, dropped)
    try:
        code = anyio.run(_serve, settings, key, drain)
    except BatchboxError as error:
        click.echo(f"batchbox: {error}", err=True)
        code = error.exit_code
    _leave(code)


def _require_all(settings: "Settings") -> str:
    """Return the API key, or raise with everything that is missing, the key included."""
    problems = settings.missing_to_run()
    try:
        key = find_key(settings, os.environ)
    except ConfigurationError as error:
        raise ConfigurationError(*problems, *error.problems) from error
    if problems:
        raise ConfigurationError(*problems)
    return key


def _log_start(settings: "Settings", dropped: list[str]) -> None:
    from batchbox.config import warnings  # noqa: PLC0415 - see load_settings

    if dropped:
        log.warning("environment variables are not obeyed", extra={"names": ",".join(dropped)})
    for warning in warnings(settings):
        log.warning(warning)


async def _serve(settings: "Settings", key: str, drain: bool) -> ExitCode:  # noqa: FBT001 - anyio.run takes no keywords
    from batchbox.report import Notifier  # noqa: PLC0415 - see load_settings
    from batchbox.service import running  # noqa: PLC0415 - it imports the SDK, which must come after drop_environment

    stop = anyio.Event()
    notifier = Notifier(os.environ, process_id=os.getpid())
    outcome: ExitCode | BatchboxError
    async with anyio.create_task_group() as group:
        group.start_soon(_heed_signals, stop)
        try:
            outcome = await running.run(settings, api_key=key, notifier=notifier, stop=stop, drain=drain)
        except BatchboxError as error:  # raised again outside, where no group wraps it
            outcome = error
        group.cancel_scope.cancel()
    if isinstance(outcome, BatchboxError):
        raise outcome
    return outcome


async def _heed_signals(stop: anyio.Event) -> None:
    """Stop in good order at the first signal, at once at the second."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if stop.is_set():
                os._exit(ExitCode.FAILED)
            log.info("stopping; a second signal stops at once")
            stop.set()


def _leave(code: ExitCode) -> None:
    """End the process, whatever a thread that was left behind in a dead share is waiting for."""
    logging.shutdown()
    sys.stdout.flush()
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)
