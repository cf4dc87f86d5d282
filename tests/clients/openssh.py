"""An OpenSSH server that lets whoever runs the tests in, and the clients that talk to it."""

import getpass
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from .line import Line, line_to
from .programs import found
from .servers import LOOPBACK, free_port, is_mounted, listens, served

SERVER = """\
Port {port}
ListenAddress {address}
HostKey {own}/host_key
AuthorizedKeysFile {own}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
Subsystem sftp internal-sftp
"""
CLIENT = """\
Host *
    Port {port}
    User {user}
    IdentityFile {own}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {own}/known_hosts
    StrictHostKeyChecking no
    LogLevel ERROR
    BatchMode yes
"""
PRIVILEGE_SEPARATION = Path("/run/sshd")
"""Debian's sshd, run by root, wants this empty folder; the package's service makes it when it starts."""


class OpenSsh:
    """A running server at the other end of a line, and how its clients are called."""

    def __init__(self, own: Path, port: int, line: Line) -> None:
        self.line = line
        self._own = own
        self._configuration = self._write_configuration("through_the_line", line.port)
        self._direct_configuration = self._write_configuration("direct", port)
        self._mount_count = 0
        self._mount_count = 0

    @property
    def host(self) -> str:
        """How clients name the server."""
        return LOOPBACK

    def at(self, path: Path) -> str:
        """Return how clients name a path on the server."""
        return f"{LOOPBACK}:{path}"

    def options(self) -> list[str]:
        """Return what `scp`, `sftp` and `ssh` are to be told first."""
        return ["-F", str(self._configuration)]

    def remote_shell(self) -> str:
        """Return what `rsync -e` is to be told."""
        return f"{found('ssh')} -F {self._configuration}"

    def script(self, *commands: str) -> Path:
        """Write commands down for `sftp -b`; it stops at the first that fails."""
        path = self._own / f"script-{len(list(self._own.glob('script-*')))}"
        path.write_text("".join(f"{command}\n" for command in commands))
        return path

    @contextmanager
    def mounted(self, folder: Path, *, on: Path, options: str) -> Iterator[None]:
        """Mount one of the server's folders on another while the block lasts, by sshfs.

        It does not go through the line: whoever waits for a file on the mount would keep the line waiting too.
        """
        self._mount_count += 1
        command = ("sshfs", "-f", "-F", str(self._direct_configuration), "-o", options, self.at(folder), str(on))
        log = self._own / f"sshfs-{self._mount_count}.log"
        after = (found("fusermount3"), "-u", "-z", "-q", str(on))
        with served(command, log=log, is_ready=lambda: is_mounted(on), after=after):
            yield

    def _write_configuration(self, name: str, port: int) -> Path:
        path = self._own / name
        path.write_text(CLIENT.format(port=port, user=getpass.getuser(), own=self._own))
        return path


@asynccontextmanager
async def openssh_in(own: Path) -> AsyncIterator[OpenSsh]:
    """Run a server on loopback while the block lasts; its keys are in a folder of its own."""
    port = free_port()
    configuration = _configure(own, port)
    with served(("sshd", "-D", "-e", "-f", str(configuration)), log=own / "sshd.log", is_ready=lambda: listens(port)):
        async with line_to(port) as line:
            yield OpenSsh(own, port, line)


def _configure(own: Path, port: int) -> Path:
    """Make the server's keys and write its configuration; return where that is."""
    own.mkdir()
    for name in ("host_key", "user_key"):
        make = (found("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(own / name))
        subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    configuration = own / "sshd_config"
    configuration.write_text(SERVER.format(port=port, address=LOOPBACK, own=own))
    return configuration
