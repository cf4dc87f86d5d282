"""Plays the demo: a folder, a simulator and a service of its own, from the first dropped file to the last answer.

The service is the real one, with settings that wait fractions of a second. Nothing of the user's is read: no
configuration, no key. SIGINT, SIGTERM and SIGHUP stop it in good order; however it ends, the folder goes, unless it is
to be kept.
"""

import asyncio
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import click
import tomli_w

from batchbox.cli.demo.documents import drop_documents
from batchbox.cli.demo.ending import tell_ending
from batchbox.cli.demo.story import Story
from batchbox.config import Settings, parse_settings
from batchbox.errors import BatchboxError
from batchbox.folders.layout import INBOX, OUTBOX, make_root
from batchbox.folders.mounts import is_local_place
from batchbox.logs import shown
from batchbox.report import Notifier
from batchbox.service import running
from batchbox.simulator import SimulatorSettings, serve

SECONDS_MAX = 60.0
"""It takes about three; a machine on which it takes so much longer has a fault that waiting does not cure."""
PROCESSING_SECONDS = 1.0
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KEY = "simulated-key"
LANE = "translations"


def play(*, keep: bool) -> int:
    """Play the demo and tell it on standard output; return the exit code.

    Raises BatchboxError if an answer is missing in the end, OSError if standard output was closed.
    """
    return anyio.run(partial(_play, keep=keep))


async def _play(*, keep: bool) -> int:
    stop = anyio.Event()
    signals: list[int] = []

    def heed(number: int) -> None:
        signals.append(number)
        stop.set()

    with _heeding_signals(heed), _temporary_folder(keep=keep) as folder:
        with anyio.move_on_after(SECONDS_MAX) as scope:
            first_answer_seconds = await _serve(folder, stop)
            if signals:
                click.echo("batchbox demo: interrupted.", err=True)
                return 128 + signals[0]
            tell_ending(folder / "share", first_answer_seconds=first_answer_seconds)
        if scope.cancelled_caught:
            raise BatchboxError(f"the demo was not done after {SECONDS_MAX:.0f} seconds. Is this machine very busy?")
    return 0


@contextmanager
def _heeding_signals(heed: Callable[[int], None]) -> Iterator[None]:
    """Call `heed` instead of letting a signal interrupt whatever runs, the removal of the folder for instance."""
    loop = asyncio.get_running_loop()
    for number in STOPPING_SIGNALS:
        loop.add_signal_handler(number, heed, number)
    try:
        yield
    finally:
        for number in STOPPING_SIGNALS:
            loop.remove_signal_handler(number)


@contextmanager
def _temporary_folder(*, keep: bool) -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="batchbox-demo-")).resolve()
    except OSError as error:
        raise BatchboxError(
            f"no temporary folder can be made ({error.strerror}). Name a local folder that you may write to in TMPDIR."
        ) from error
    try:
        if not is_local_place(folder):
            raise BatchboxError(f"{shown(str(folder))}: the demo needs a local disk. Name a folder on one in TMPDIR.")
        yield folder
    finally:
        if keep:
            click.echo(f"\nKept, until you delete it: {shown(str(folder))}")
        else:
            shutil.rmtree(folder)


async def _serve(folder: Path, stop: anyio.Event) -> float | None:
    """Drop the documents and let the service run until all are settled; return when the first answer was there."""
    root = folder / "share"
    make_root(root)
    story = Story(root / OUTBOX, stop.set)
    for document in drop_documents(root / INBOX):
        story.say("dropped", f"{INBOX}/{document.name}", document.about)
    async with serve(SimulatorSettings(processing_seconds=PROCESSING_SECONDS)) as simulator:
        settings = _settings(folder, base_url=simulator.base_url)
        with _told(story):
            notifier = Notifier({}, process_id=os.getpid())
            await running.run(settings, api_key=KEY, notifier=notifier, stop=stop, drain=True)
    if story.failure is not None:
        raise story.failure
    return story.first_answer_seconds


@contextmanager
def _told(story: Story) -> Iterator[None]:
    """Let the story hear what the service logs."""
    log = logging.getLogger("batchbox")
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(story)
    try:
        yield
    finally:
        log.removeHandler(story)
        log.setLevel(level)


def _settings(folder: Path, *, base_url: str) -> Settings:
    text = tomli_w.dumps(
        {
            "paths": {"root": str(folder / "share"), "state": str(folder / "state")},
            "api": {"base_url": base_url},
            "defaults": {"model": "claude-opus-5-5"},
            "lanes": {LANE: {"model": "claude-sonnet-5", "system": "Translate what you are given into French."}},
            "window": {"max_wait": "300ms"},
            "poll": {"first": "300ms", "max": "1s"},
            "inbox": {"quiet": "300ms", "rescan": "1s", "incomplete_after": "2s"},
        }
    )
    return parse_settings(text, source="the demo's settings")
