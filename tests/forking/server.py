"""Loads batchbox once, and forks a process per request, which then runs one command as its own.

It is a program of its own, started by `client.py`, because only a process without threads and without a past can be
forked safely. Requests come over a socket: the length of a JSON object, with four descriptors (the three standard
streams and a pipe for the exit code), and the object. The reply is the child's process id. When the socket is closed,
every child that still runs is killed, and the server ends.
"""

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import selectors
import signal
import socket
import struct
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

LENGTH = struct.Struct("!I")
CODE = struct.Struct("!i")
"""A process id, or an exit code: negative if a signal ended the process."""

SCRIPT = str(Path(sys.executable).with_name("batchbox"))
"""What the children take themselves for: the installed script."""

LOADED_LATE = (
    "anthropic.resources.messages.batches",
    "anthropic.types.messages",
    "anyio._backends._asyncio",
    "asyncio.base_events",
    "encodings.idna",
    "httpx2",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
"""What commands import only as they run, beside batchbox's own modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the process that was forked for it is to be."""

    program: list[str] | None
    """What to execute for real; None: the command line that is loaded already."""
    arguments: list[str]
    environment: dict[str, str]
    cwd: str
    umask: int | None
    new_session: bool
    streams: list[int]


class Server:
    """The loop that forks and reaps."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._reports: dict[int, int] = {}
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)

    def serve(self) -> Request | None:
        """Return twice and more: the request in each child, and None in the server when nobody asks any more."""
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which then close the socket
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._woken in ready:
                    os.read(self._woken, 4096)
                    self._reap()
                if self._control in ready:
                    received = self._receive()
                    if received is None:
                        self._end_all()
                        return None
                    if self._fork(*received):
                        return received[0]

    def _receive(self) -> tuple[Request, int] | None:
        """Return the next request and where its exit code is to go; None if there will not be one."""
        head, descriptors, _, _ = socket.recv_fds(self._control, LENGTH.size, 4, socket.MSG_WAITALL)
        if not head:
            return None
        (length,) = LENGTH.unpack(head)
        body = self._control.recv(length, socket.MSG_WAITALL)
        *streams, report = descriptors
        return Request(streams=streams, **json.loads(body)), report

    def _fork(self, request: Request, report: int) -> bool:
        """Fork; return whether this is the child."""
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for descriptor in (report, self._woken, self._wake, *self._reports.values()):
                os.close(descriptor)
            self._control.close()
            return True
        self._reports[pid] = report
        for stream in request.streams:
            os.close(stream)
        self._control.sendall(CODE.pack(pid))
        return False

    def _reap(self) -> None:
        while self._reports:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            report = self._reports.pop(pid)
            os.write(report, CODE.pack(os.waitstatus_to_exitcode(status)))
            os.close(report)

    def _end_all(self) -> None:
        for pid in self._reports:
            os.kill(pid, signal.SIGKILL)
        for pid in self._reports:
            os.waitpid(pid, 0)


def become(request: Request) -> None:
    """Make of this process what an interpreter that was started as the request says would be."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if request.program is not None:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is executed would inherit that
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request.new_session:
        os.setsid()
    if request.umask is not None:
        os.umask(request.umask)
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout = _output(1, sys.stdout)
    sys.stderr = _output(2, sys.stderr, buffering=1)
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv[:] = [SCRIPT, *request.arguments]


def _output(number: int, like: TextIO, *, buffering: int = -1) -> io.TextIOWrapper:
    """Open a standard stream as Python does, which looks whether it is a terminal and whether it can be sought in."""
    return open(number, "w", buffering=buffering, encoding=like.encoding, errors=like.errors, closefd=False)


def load_everything() -> Any:  # noqa: ANN401 - a module
    """Import what any command may import; return the module of the command line."""
    package = importlib.import_module("batchbox")
    for module in pkgutil.walk_packages(package.__path__, "batchbox."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in LOADED_LATE:
        importlib.import_module(name)
    assert tempfile.tempdir is None, "TMPDIR was read while modules were imported: no child could have its own"
    gc.collect()
    gc.freeze()  # what is loaded stays shared between the processes
    return importlib.import_module("batchbox.cli")


def end(code: str | int | None) -> None:
    """End as Python ends, short of taking the loaded modules apart, which takes longer than most commands."""
    if isinstance(code, str):
        sys.exit(code)
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def main() -> None:
    """Serve; in a child, run its command."""
    control = socket.socket(fileno=int(sys.argv[1]))
    command_line = load_everything()
    request = Server(control).serve()
    if request is None:
        return
    become(request)
    if request.program is not None:
        command = [*request.program, *request.arguments]
        os.execvpe(command[0], command, request.environment)  # noqa: S606 - no shell is what a test wants
    try:
        command_line.main()
    except SystemExit as exit_:
        end(exit_.code)


if __name__ == "__main__":
    main()
