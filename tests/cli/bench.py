"""What tests of the commands do over and over: call one, make a root, and put work into a real database."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from batchbox.api import BatchInfo, RequestCounts
from batchbox.folders.layout import make_root
from batchbox.lifecycle import RequestEvent
from batchbox.model import ApiBatchId, CustomId, Lane, Nonce, RejectReason
from batchbox.store import Store
from batchbox.store.charges import Charge
from batchbox.store.delivery import Ended
from batchbox.store.dispatch import Sending
from batchbox.store.recording import NewRequest, NewSource, Rejection
from forking import ForkServer

NOW = datetime.now(UTC)

COMMAND = [sys.executable, "-m", "batchbox"]
SECONDS_MAX = 50

WITHOUT_POWERS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
"""What turns root into somebody to whom modes apply."""


def obeys_modes() -> bool:
    """Say whether a command can be run to which the modes of files apply."""
    if os.geteuid() != 0:
        return True
    has_tool = shutil.which(WITHOUT_POWERS[0]) is not None
    return has_tool and subprocess.run([*WITHOUT_POWERS, "true"], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """An empty machine, as far as batchbox can tell: a home folder, and a place for the rest."""

    path: Path
    forks: ForkServer

    @property
    def root(self) -> Path:
        """Where the folders go."""
        return self.path / "root"

    @property
    def state(self) -> Path:
        """Where the database goes."""
        return self.path / "state"

    @property
    def config(self) -> Path:
        """Where the settings go."""
        return self.path / "config.toml"

    def environment(self, **more: str) -> Mapping[str, str]:
        """Return the variables of a process that knows nothing but this home."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path / "home"),
            "XDG_STATE_HOME": str(self.path / "home" / "states"),
            "XDG_CONFIG_HOME": str(self.path / "home" / "configs"),
            "COLUMNS": "80",
            **more,
        }

    def call(
        self, *arguments: str | bytes, as_root: bool = True, anew: bool = False, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, in a process of its own, away from a terminal.

        With `anew=True` it is started as anybody starts it, not forked with everything loaded. With `as_root=False`
        it does not have root's power to ignore the modes of files, even if the tests have it.
        """
        powers = [] if as_root or os.geteuid() != 0 else WITHOUT_POWERS
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            child = self.forks.spawn(
                arguments,
                program=[*powers, *COMMAND] if anew or powers else None,
                environment=self.environment(**variables),
                cwd=self.path,
                stdout=output.fileno(),
                stderr=errors.fileno(),
            )
            try:
                code = child.wait(timeout_seconds=SECONDS_MAX)
            finally:
                child.kill()
            for stream in (output, errors):
                stream.seek(0)
            return subprocess.CompletedProcess(arguments, code, output.read(), errors.read())

    def write_config(self, more: str = '[defaults]\nmodel = "claude-opus-5-5"\n') -> None:
        """Write settings for this home's root and state."""
        self.config.write_text(f'[paths]\nroot = "{self.root}"\nstate = "{self.state}"\n{more}')

    def make(self, more: str = '[defaults]\nmodel = "claude-opus-5-5"\n') -> None:
        """Make everything that a first start needs."""
        make_root(self.root)
        self.state.mkdir(mode=0o700)
        self.write_config(more)


@contextmanager
def started(home: Home, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a command that goes on by itself; it does not outlive the block."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=home.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


async def drop(store: Store, name: str, *, lane: str = "_", count: int = 1) -> None:
    """Record a file with so many requests."""
    requests = [_request(f"{name}-{number}") for number in range(count)]
    await store.intake.record([(_source(name, lane), requests)], now=NOW)


async def drop_bad(store: Store, name: str, *, lane: str = "_") -> None:
    """Record a file that is rejected."""
    rejection = Rejection(reason=RejectReason.BAD_JSON, detail="line 1", what_to_do="Mend it.")
    await store.intake.record([(_source(name, lane), rejection)], now=NOW)


async def seal(store: Store, lane: str) -> int:
    """Seal everything that waits in the lane."""
    window = next(window for window in await store.dispatch.windows() if window.lane == lane)
    batch_id = await store.dispatch.seal(window, requests_max=1000, bytes_max=10**6, now=NOW)
    assert batch_id is not None
    return batch_id


async def intend(store: Store, batch_id: int, nonce: str, *, minutes_ago: float) -> None:
    """Write down that the batch is about to be sent."""
    sending = Sending(
        nonce=Nonce(nonce),
        batch_id=batch_id,
        mark=None,
        base_url="https://api.anthropic.com",
        key_hash=b"",
        replaces=None,
        intended_at=NOW - timedelta(minutes=minutes_ago),
    )
    await store.dispatch.intend(sending)


async def send(store: Store, lane: str, nonce: str, *, count: int, minutes_ago: float = 5) -> int:
    """Seal what waits in the lane, and let the API accept it."""
    batch_id = await seal(store, lane)
    await intend(store, batch_id, nonce, minutes_ago=minutes_ago)
    await store.dispatch.accept(batch_id, Nonce(nonce), _batch(nonce, count), api_request_id=None, now=NOW)
    return batch_id


async def end(store: Store, batch_id: int, nonce: str, *, events: Sequence[RequestEvent]) -> None:
    """Let the batch end, and its requests one by one as the events say, each for 1 cent."""
    await store.polling.end(batch_id, _batch(nonce, len(events)))
    members = await store.delivery.undelivered(batch_id, [*range(1, len(events) + 1)])
    outcomes = [
        Ended(request_id=members[number].request_id, event=event, charge=_charge(members[number].request_id))
        for number, event in enumerate(events, start=1)
    ]
    await store.delivery.record(outcomes, now=NOW)


def _charge(request_id: int) -> Charge:
    return Charge(
        wire_id=f"wire-{request_id}",  # type: ignore[arg-type]  # a wire id of the test's own
        request_id=request_id,
        model="claude-opus-5-5",
        input_tokens=10,
        output_tokens=10,
        cost_nanousd=10_000_000,
        sent_at=NOW,
    )


def _batch(nonce: str, count: int) -> BatchInfo:
    return BatchInfo(
        id=ApiBatchId(f"msgbatch_01{nonce:0<22}"),
        status="in_progress",
        counts=RequestCounts(processing=count, succeeded=0, errored=0, canceled=0, expired=0),
        created_at=NOW,
        expires_at=NOW + timedelta(hours=24),
        ended_at=None,
    )


def _source(name: str, lane: str) -> NewSource:
    return NewSource(
        lane=Lane(lane),
        claim=f"claim~{name}",
        name=name,
        owner="me",
        size_bytes=2,
        sha256=b"",
        dropped_at=NOW,
    )


def _request(custom_id: str) -> NewRequest:
    return NewRequest(
        custom_id=CustomId(custom_id),
        explicit=False,
        line=None,
        params=b"{}",
        betas="output-300k-2026-03-24",
        model="claude-opus-5-5",
        max_tokens=1000,
        extension="md",
        max_attempts=3,
    )
