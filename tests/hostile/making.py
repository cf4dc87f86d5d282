"""How hostile files are made: each maker takes the path where the file is to appear, and makes it there."""

import json
import os
import socket
import stat
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from e2e.site import SECRET

CANARY = f"Say hello. {SECRET}"
"""A prompt. Its words must be in no log, no explanation and no listing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What lies around the inbox, and what has to be closed in the end."""

    folder: Path
    """Outside of the root, on the same file system. There is `secret.txt` in it, which nobody may ever see."""
    database: Path
    closing: ExitStack = field(default_factory=ExitStack)


Make = Callable[[Path, World], None]
"""Paths are of names as `os.fsdecode` makes them."""


def content(data: bytes | str) -> Make:
    """Make an ordinary file with this content."""

    def make(path: Path, world: World) -> None:
        hidden = path.with_name(".dropped")
        hidden.write_bytes(data.encode() if isinstance(data, str) else data)
        hidden.rename(path)

    return make


def grown(size_bytes: int, start: bytes = b"x") -> Make:
    """Make a sparse file: it says that it is large, and takes no room."""

    def make(path: Path, world: World) -> None:
        hidden = path.with_name(".dropped")
        hidden.write_bytes(start)
        os.truncate(hidden, size_bytes)
        hidden.rename(path)

    return make


def link(target: str) -> Make:
    """Make a symbolic link; `{secret}` and `{database}` stand for what is worth stealing."""

    def make(path: Path, world: World) -> None:
        secret = world.folder / "secret.txt"
        path.symlink_to(target.format(secret=secret, database=world.database, folder=world.folder, self=path))

    return make


def hard_link(path: Path, world: World) -> None:
    """Give the secret a second name."""
    path.hardlink_to(world.folder / "secret.txt")


def pipe(path: Path, world: World) -> None:
    """Make a FIFO: whoever opens it to read waits until somebody writes."""
    os.mkfifo(path)


def bound_socket(path: Path, world: World) -> None:
    """Make a socket. Its address is short because the kernel's limit is 107 bytes, whatever the folder is called."""
    listener = world.closing.enter_context(socket.socket(socket.AF_UNIX))
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{parent}/{path.name}")
    finally:
        os.close(parent)


def device(kind: int, major: int, minor: int) -> Make:
    """Make a device, which only root can."""

    def make(path: Path, world: World) -> None:
        os.mknod(path, kind | 0o666, os.makedev(major, minor))

    return make


ZERO = device(stat.S_IFCHR, 1, 5)
"""/dev/zero: it has no end."""
TERMINAL = device(stat.S_IFCHR, 5, 0)
LOOP = device(stat.S_IFBLK, 7, 200)


def request(**params: object) -> dict[str, object]:
    """Return bare params with one message."""
    return {"messages": [{"role": "user", "content": CANARY}], **params}


def as_json(value: object) -> Make:
    """Make a file of JSON."""
    return content(json.dumps(value))


def lines(*values: object) -> Make:
    """Make a file of JSON Lines."""
    return content("".join(f"{json.dumps(value)}\n" for value in values))


def toml(header: str) -> Make:
    """Make a prompt with a TOML header."""
    return content(f"+++\n{header}\n+++\n{CANARY}\n")


def yaml(header: str) -> Make:
    """Make a prompt with a YAML header."""
    return content(f"---\n{header}\n---\n{CANARY}\n")


def prompt(words: str = CANARY) -> Make:
    """Make an ordinary prompt."""
    return content(words)
