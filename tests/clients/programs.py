"""The clients' programs: which of them this machine has, and one run of one of them."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

PACKAGES: Mapping[str, str] = {
    "cp": "coreutils",
    "dd": "coreutils",
    "fallocate": "util-linux",
    "fusermount3": "fuse3",
    "lowntfs-3g": "ntfs-3g",
    "mkntfs": "ntfs-3g",
    "mv": "coreutils",
    "perl": "perl-base",
    "rsync": "rsync",
    "scp": "openssh-client",
    "sed": "sed",
    "sftp": "openssh-client",
    "smbclient": "smbclient",
    "smbd": "samba",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "sshfs": "sshfs",
    "tee": "coreutils",
    "vim": "vim-tiny",
}
"""In which of Debian's packages each program is."""

INSTEAD: Mapping[str, str] = {"vim": "vim.tiny"}

RUN_SECONDS_MAX = 40.0

_SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def found(program: str) -> str:
    """Return where the program is. Raises AssertionError if it is missing."""
    path = _which(program)
    assert path is not None, f"{program} is missing"
    return path


def needs(*programs: str, root: bool = False) -> pytest.MarkDecorator:
    """Skip a test, loudly, where a program is missing, or where root would be needed to run it."""
    missing = [program for program in programs if _which(program) is None]
    packages = sorted({PACKAGES[program] for program in missing})
    reasons = [
        *([] if sys.platform == "linux" else ["these clients and servers are run as Linux has them"]),
        *([f"missing: {', '.join(missing)} (apt-get install {' '.join(packages)})"] if missing else []),
        *(["only root may run it"] if root and os.geteuid() != 0 else []),
    ]
    return pytest.mark.skipif(bool(reasons), reason=f"NOT TRIED: {'; '.join(reasons)}")


class Run:
    """One run of a client. The whole of it is stopped and goes on, with what it started itself."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def stop(self) -> None:
        """Let it stop where it is, for as long as somebody likes."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on where it was stopped."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a lost connection or a closed laptop would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def feed(self, data: bytes) -> None:
        """Write to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def ends(self, *, code: int | None = 0) -> str:
        """Close its input and wait for its end; return what it wrote. None is any exit code."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        async with asyncio.timeout(RUN_SECONDS_MAX):
            output, _ = await self._process.communicate()
        text = output.decode(errors="replace")
        assert code is None or self._process.returncode == code, f"exit code {self._process.returncode}:\n{text}"
        return text


@asynccontextmanager
async def running(
    program: str, *arguments: str | Path, cwd: Path | None = None, fed: bool = False
) -> AsyncIterator[Run]:
    """Run a client while the block lasts; what still runs then is killed. With `fed=True` it is given its input."""
    process = await asyncio.create_subprocess_exec(
        *_dying_with_us(),
        found(program),
        *map(str, arguments),
        stdin=PIPE if fed else DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    run = Run(process)
    try:
        yield run
    finally:
        run.kill()
        await process.communicate()


async def call(program: str, *arguments: str | Path, cwd: Path | None = None, code: int = 0) -> str:
    """Run a client to its end; return what it wrote."""
    async with running(program, *arguments, cwd=cwd) as run:
        return await run.ends(code=code)


def _dying_with_us() -> list[str]:
    setpriv = _which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _which(program: str) -> str | None:
    return shutil.which(program, path=_SEARCHED) or shutil.which(INSTEAD.get(program, program), path=_SEARCHED)
