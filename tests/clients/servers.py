"""Servers on loopback that end with the test that wanted them, however that ends."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .programs import found

LOOPBACK = "127.0.0.1"
GUARD = Path(__file__).with_name("guard.py")
START_SECONDS_MAX = 20.0
END_SECONDS_MAX = 20.0
LOOK_SECONDS = 0.02


@contextmanager
def served(
    command: Sequence[str], *, log: Path, is_ready: Callable[[], bool], after: Sequence[str] = ()
) -> Iterator[None]:
    """Run a server while the block lasts; tidy up after it with one command more. The log says what went wrong."""
    program, *arguments = command
    guarded = [sys.executable, "-S", str(GUARD), *after, "--", found(program), *arguments]
    with log.open("wb") as output:
        guard = subprocess.Popen(
            guarded, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_until_ready(is_ready, log)
        yield
    except BaseException:
        sys.stderr.write(f"\n{program} said:\n{log.read_text(errors='replace')}\n")  # where the test is told as failed
        raise
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(END_SECONDS_MAX)


def free_port() -> int:
    """Return a port on which nobody listens now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Say whether somebody listens on the port."""
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def is_mounted(folder: Path) -> bool:
    """Say whether a file system is mounted on the folder."""
    return os.path.ismount(folder)


def _wait_until_ready(is_ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not is_ready():
        assert time.monotonic() < deadline, f"not ready within {START_SECONDS_MAX} s: {log}"
        time.sleep(LOOK_SECONDS)
