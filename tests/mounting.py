"""Mounts for tests: of memory, of a folder in another place, of a small disk in an image, of a share that may hang.

And other people's eyes on them: what root may do says nothing about a service.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DISK_BYTES = 64 * 1024 * 1024
NOBODY = 65534
MOUNT_SECONDS_MAX = 10.0
SFTP_SERVERS = (Path("/usr/lib/openssh/sftp-server"), Path("/usr/libexec/openssh/sftp-server"))

needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/proc/self/mountinfo"),
    reason="not tried: mounts and other users need root on Linux",
)


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    """Have something mounted while the block lasts; the last argument says where."""
    mount(*arguments)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", arguments[-1]], capture_output=True, check=False)


def mount(*arguments: str | Path) -> None:
    """Mount something, or skip the test on a machine that lets nobody mount."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"not tried: this machine lets nobody mount ({done.stderr.strip()})")


def unmount(place: Path) -> None:
    """Unmount what nobody has anything open of; fail if somebody has."""
    subprocess.run(["umount", place], check=True, capture_output=True)


def make_disk(image: Path) -> Path:
    """Make a file with a small empty file system in it, for `mount -o loop`."""
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True, capture_output=True)
    return image


class Share:
    """A mount behind which a process answers, or does not.

    That process is stopped before it has read a call: a call that it has read keeps the caller from dying, too.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def hang(self) -> None:
        """Answer nothing from now on."""
        self._process.send_signal(signal.SIGSTOP)
        while any(" T " not in stat.read_text() for stat in Path(f"/proc/{self._process.pid}/task").glob("*/stat")):
            time.sleep(0.001)  # each of its threads stops when it is its turn

    def answer(self) -> None:
        """Answer everything that was asked meanwhile, and what comes."""
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def shared(folder: Path, *, at: Path) -> Iterator[Share]:
    """Have a folder mounted through a server while the block lasts: sshfs, without a network between the two."""
    program = next((path for path in SFTP_SERVERS if path.exists()), None)
    if shutil.which("sshfs") is None or program is None or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("not tried: a share that hangs needs /dev/fuse, sshfs and openssh-sftp-server")
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen([str(program)], stdin=theirs.fileno(), stdout=theirs.fileno()) as process:
        client = ["sshfs", "-f", "-o", "passive", f":{folder}", str(at)]
        with subprocess.Popen(client, stdin=ours.fileno(), stdout=ours.fileno(), stderr=subprocess.DEVNULL) as mounting:
            try:
                _wait_for_mount(at, mounting)
                yield Share(mounting)
            finally:
                mounting.send_signal(signal.SIGCONT)
                process.kill()
                subprocess.run(["umount", "-l", at], capture_output=True, check=False)
                mounting.kill()


def _wait_for_mount(place: Path, mounting: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + MOUNT_SECONDS_MAX
    while not place.is_mount():
        if mounting.poll() is not None or time.monotonic() > deadline:
            pytest.skip("not tried: sshfs does not mount here")
        time.sleep(0.01)


def as_nobody(ask: Callable[[], object]) -> object:
    """Return what somebody else is answered, in a process that is that somebody; JSON carries it."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.write(writing, json.dumps(ask()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(process, 0)
    return json.loads(text)
