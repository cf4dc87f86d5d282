"""Starts the server that has batchbox loaded, and asks it for processes."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

from .server import CODE, LENGTH

SERVER = Path(__file__).with_name("server.py")
START_SECONDS_MAX = 30.0


class Child:
    """A process that was forked for us: it has an id of its own, takes signals, and ends with an exit code."""

    def __init__(self, pid: int, report: int) -> None:
        self.pid = pid
        self._report = report
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative if a signal ended the process; None while it runs."""
        return self._read_report(timeout_seconds=0)

    def wait(self, *, timeout_seconds: float) -> int:
        """Wait for the end; return the exit code, or raise TimeoutError."""
        code = self._read_report(timeout_seconds=timeout_seconds)
        if code is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout_seconds} s")
        return code

    async def ended(self) -> int:
        """Wait for the end without keeping others from running; return the exit code."""
        if self._code is None:
            await anyio.wait_readable(self._report)
        return self.wait(timeout_seconds=0)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)

    def _read_report(self, *, timeout_seconds: float) -> int | None:
        if self._code is None and select.select([self._report], [], [], timeout_seconds)[0]:
            report = os.read(self._report, CODE.size)
            os.close(self._report)
            assert report, "the fork server has died, and its children with it"
            (self._code,) = CODE.unpack(report)
        return self._code


class ForkServer:
    """A process that has imported all of batchbox and waits to be forked.

    A child is a process like any other, but for what lies behind it when the command begins: its modules are loaded,
    the variables that Python and the SDK read as they start were the server's, and /proc shows the server's arguments
    and variables. A test of these names a program, which is executed.
    """

    def __init__(self, *, source: Path | None = None) -> None:
        """Load batchbox as installed, or from a folder that holds the package."""
        self._control, theirs = socket.socketpair()
        self._lock = threading.Lock()
        environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-B", SERVER, str(theirs.fileno())],
                env=environment if source is None else {**environment, "PYTHONPATH": str(source)},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def spawn(
        self,
        arguments: Sequence[str | bytes],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        program: Sequence[str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        umask: int | None = None,
        new_session: bool = False,
    ) -> Child:
        """Run `batchbox` with the arguments and exactly this environment.

        With a program it is that which is executed, as any process is started; without, what the server has loaded.
        Streams are descriptors, which stay the caller's; one that is not given is /dev/null.
        """
        deaf = [name for name in environment if name.startswith("PYTHON")] if program is None else []
        assert not deaf, f"Python reads {deaf} as it starts: name the program"
        request = {
            "program": program,
            "arguments": [os.fsdecode(argument) for argument in arguments],
            "environment": dict(environment),
            "cwd": str(cwd),
            "umask": umask,
            "new_session": new_session,
        }
        report, their_end = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        try:
            streams = [null if stream is None else stream for stream in (stdin, stdout, stderr)]
            pid = self._ask(json.dumps(request).encode(), [*streams, their_end])
        finally:
            os.close(null)
            os.close(their_end)
        return Child(pid, report)

    def _ask(self, request: bytes, descriptors: Sequence[int]) -> int:
        with self._lock, contextlib.suppress(ConnectionError):
            socket.send_fds(self._control, [LENGTH.pack(len(request))], descriptors)
            self._control.sendall(request)
            reply = self._control.recv(CODE.size, socket.MSG_WAITALL)
            if reply:
                (pid,) = CODE.unpack(reply)
                return int(pid)
        raise AssertionError("the fork server has died; its standard error says why")

    def close(self) -> None:
        """End the server and every child that still runs."""
        self._control.close()
        self._process.wait(START_SECONDS_MAX)
