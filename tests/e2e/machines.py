"""Machines: each runs a daemon of its own, with a state folder of its own, on a root that they share."""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import tomli_w

from forking import Child, ForkServer

from .site import FAST, KEY, Daemon


class Machine:
    """One machine on a shared root."""

    def __init__(
        self,
        folder: Path,
        *,
        root: Path,
        forks: ForkServer,
        settings: Mapping[str, Mapping[str, object]],
        umask: int | None = None,
    ) -> None:
        folder.mkdir()
        self.state = folder / "state"
        self._folder = folder
        self._forks = forks
        self._umask = umask
        self._log_count = 0
        self._config_file = folder / "config.toml"
        paths: Mapping[str, Mapping[str, object]] = {"paths": {"root": str(root), "state": str(self.state)}}
        layers = [FAST, settings, paths]
        names = sorted({name for layer in layers for name in layer})
        whole = {name: {key: value for layer in layers for key, value in layer.get(name, {}).items()} for name in names}
        self._config_file.write_text(tomli_w.dumps(whole))

    @property
    def instance(self) -> str:
        """The name that the machine's daemon has on the root; it must have run."""
        return (self.state / "instance").read_text().strip()

    @property
    def logs(self) -> str:
        """What all its daemons have written to their standard streams."""
        return "".join(path.read_text(errors="replace") for path in sorted(self._folder.glob("daemon-*.log")))

    def start(self, *options: str) -> Daemon:
        """Start a daemon, which is the caller's to end."""
        log_file = self._folder / f"daemon-{self._log_count:04d}.log"
        self._log_count += 1
        with log_file.open("wb") as log:
            return Daemon(self._spawn(["run", *options], log.fileno()), log_file)

    @asynccontextmanager
    async def daemon(self, *options: str) -> AsyncIterator[Daemon]:
        """Run a daemon while the block lasts; if it still runs then it is killed."""
        daemon = self.start(*options)
        try:
            yield daemon
        finally:
            await daemon.kill()

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run one of the other commands to its end; return the exit code and what it said, in one line."""
        with tempfile.TemporaryFile("w+") as output:
            code = await self._spawn(list(arguments), output.fileno()).ended()
            output.seek(0)
            return code, " ".join(output.read().split())

    def _spawn(self, arguments: list[str], output: int) -> Child:
        return self._forks.spawn(
            [*arguments, "--config", str(self._config_file)],
            environment={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self._folder),
                "LANG": "C.UTF-8",
                "COLUMNS": "1000",
                "ANTHROPIC_API_KEY": KEY,
            },
            cwd=self._folder,
            stdout=output,
            stderr=output,
            umask=self._umask,
        )
