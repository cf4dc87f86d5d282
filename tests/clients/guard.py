"""Runs a server for as long as somebody holds our standard input open; then ends it and everything that it started.

It is a program of its own, because those who start it may be killed at any moment: their end of the pipe is closed
all the same. What a server leaves to itself becomes our child and ends with it, and then one command more may tidy up.
Arguments: the command to tidy up with (or none), `--`, and the server's.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

ENDING_SECONDS = 2.0
LOOK_SECONDS = 0.02
_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Serve until our standard input is closed."""
    border = sys.argv.index("--")
    after, command = sys.argv[1:border], sys.argv[border + 1 :]
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit(f"cannot become a subreaper: {os.strerror(ctypes.get_errno())}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which then close the pipe
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    sys.stdin.buffer.read()
    server.terminate()
    _wait_for(server)
    _kill_everything()
    if after:
        subprocess.run(after, check=False, stdin=subprocess.DEVNULL)


def _wait_for(server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + ENDING_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _kill_everything() -> None:
    """Kill every child; the children of those become ours, until there are none."""
    while True:
        with open("/proc/thread-self/children") as file:
            for pid in file.read().split():
                os.kill(int(pid), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    main()
