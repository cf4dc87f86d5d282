"""Leases: while a program has one on a file, whoever opens that file is told to come again, or waits for minutes."""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def leased(path: Path) -> Iterator[None]:
    """Have a lease on a file while the block lasts, as a file server has for a client that keeps the file open."""
    if sys.platform != "linux":
        pytest.skip("NOT TESTED: only Linux has leases")
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # who opens the file causes one that nobody minds
        _take_lease(descriptor)
        yield
    finally:
        os.close(descriptor)


def _take_lease(descriptor: int) -> None:
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        pytest.skip(f"NOT TESTED: this file system gives no leases ({error.strerror})")
