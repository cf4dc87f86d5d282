"""A Samba server whose one share is a folder, and its client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .line import Line, line_to
from .programs import Run, running
from .servers import LOOPBACK, free_port, listens, served

CONFIGURATION = """\
[global]
server role = standalone server
interfaces = {address}
bind interfaces only = yes
smb ports = {port}
disable netbios = yes
disable spoolss = yes
load printers = no
printcap name = /dev/null
rpc start on demand helpers = no
smb2 max write = 65536
passdb backend = tdbsam
private dir = {own}
lock directory = {own}
state directory = {own}
cache directory = {own}
pid directory = {own}
ncalrpc dir = {own}/ncalrpc
log file = {own}/log
map to guest = Bad User
guest account = root

[share]
path = {folder}
read only = no
guest only = yes
"""


class Samba:
    """A running server, at the other end of a line."""

    def __init__(self, configuration: Path, line: Line) -> None:
        self.line = line
        self._configuration = configuration

    @asynccontextmanager
    async def client(self, *commands: str, cwd: Path) -> AsyncIterator[Run]:
        """Run `smbclient` with these commands, one after the other in one session, while the block lasts."""
        options = ("--configfile", self._configuration, "--port", str(self.line.port), "--no-pass")
        share = f"//{LOOPBACK}/share"
        async with running("smbclient", *options, share, "--command", "; ".join(commands), cwd=cwd) as run:
            yield run

    async def does(self, *commands: str, cwd: Path, code: int = 0) -> str:
        """Run `smbclient` to its end; return what it wrote."""
        async with self.client(*commands, cwd=cwd) as run:
            return await run.ends(code=code)


@asynccontextmanager
async def samba_on(folder: Path, *, own: Path) -> AsyncIterator[Samba]:
    """Share the folder on loopback while the block lasts; what the server keeps goes into a folder of its own."""
    port = free_port()
    configuration = _configure(folder, own, port)
    command = ("smbd", "--foreground", "--no-process-group", "--debug-stdout", "--configfile", str(configuration))
    with served(command, log=own / "smbd.log", is_ready=lambda: listens(port)):
        async with line_to(port) as line:
            yield Samba(configuration, line)


def _configure(folder: Path, own: Path, port: int) -> Path:
    own.mkdir()
    configuration = own / "smb.conf"
    configuration.write_text(CONFIGURATION.format(address=LOOPBACK, port=port, own=own, folder=folder))
    return configuration
