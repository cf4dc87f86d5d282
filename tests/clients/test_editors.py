"""Files that are edited in the inbox itself.

Vim, sed and perl are run; of the others, which need a screen, what they do to the folder is done in their place, call
by call.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from .programs import call, needs
from .share import Drop, Lane, Share

pytestmark = pytest.mark.asyncio(loop_scope="module")

Saver = Callable[[Path, Drop], Iterator[None]]
"""Saves the second version of a file in a folder, and stops once when what it has beside it is there."""

VIM_OPTIONS = {
    "as by default": "",
    "with a backup of another name": "set backup backupcopy=no | set backupdir=.",
    "over the file itself": "set nowritebackup nobackup backupcopy=yes",
    "with a swap file and an undo file": "set swapfile directory=. undofile undodir=.",
}


@needs("vim")
async def test_vim_saves_twice(share: Share) -> None:
    """What is saved last is sent; what is beside it, as long as it is edited, never is."""

    async def edit(lane: Lane, options: str) -> None:
        draft, note = lane.text("note.md", line_count=30), lane.text("note.md", line_count=40)
        draft.write(lane.desk, name="draft")
        note.write(lane.desk, name="note")
        script = lane.desk / "script.vim"
        steps = [options, "edit note.md", f"0read {lane.desk}/draft", "$delete", "write"]
        steps += [f"silent %!cat {lane.desk}/note", "write", "quit"]
        script.write_text("".join(f"{step}\n" for step in steps if step))
        await call("vim", "-N", "-u", "NONE", "-i", "NONE", "-es", "-S", script, cwd=lane.inbox)
        left = [name for name in os.listdir(lane.inbox) if name.startswith(".") or name.endswith("~")]
        await lane.receives(note, perhaps=[draft], left=left)

    await share.at_once("vim", {name: partial(edit, options=options) for name, options in VIM_OPTIONS.items()})


@needs("perl", "sed")
async def test_an_edit_in_place(share: Share) -> None:
    """GNU sed writes beside the file and renames, perl removes it and writes it anew."""

    async def edit(lane: Lane, command: str) -> None:
        right = lane.text("list.txt")
        wrong = right.with_prompt(right.prompt.replace("version", "versoin"))
        program, *options = command.split()
        wrong.write(lane.inbox)
        await call(program, *options, "s/versoin/version/", right.name, cwd=lane.inbox)
        await lane.receives(right, perhaps=[wrong], left=["list.txt.bak~"])

    commands = ("sed -i", "sed -i.bak~", "perl -pi -e")
    await share.at_once("edit", {command: partial(edit, command=command) for command in commands})


def emacs(folder: Path, second: Drop) -> Iterator[None]:
    """Make a lock that is a dangling link, an auto-save and a backup, write beside, rename, remove the first two."""
    (folder / f".#{second.name}").symlink_to("somebody@host.4711:1795334406")
    second.write(folder, name=f"#{second.name}#")
    (folder / f"{second.name}~").write_text("the version before")
    yield
    second.write(folder, name=f".{second.name}.new").replace(folder / second.name)
    (folder / f"#{second.name}#").unlink()
    (folder / f".#{second.name}").unlink()


def gedit(folder: Path, second: Drop) -> Iterator[None]:
    """Write a hidden file and rename it over the old one: GLib's way."""
    hidden = second.write(folder, name=".goutputstream-K3J2Z1")
    yield
    hidden.replace(folder / second.name)


def kate(folder: Path, second: Drop) -> Iterator[None]:
    """Write under a name with six random letters at its end, rename it over the file: Qt's way."""
    yield
    second.write(folder, name=f"{second.name}.hXbQzt").replace(folder / second.name)


def nano(folder: Path, second: Drop) -> Iterator[None]:
    """Empty the file and write it again, under a lock that looks like Vim's."""
    lock = folder / f".{second.name}.swp"
    lock.write_bytes(b"b0nano 7.2" + bytes(1000))
    yield
    second.write(folder)
    lock.unlink()


def jetbrains(folder: Path, second: Drop) -> Iterator[None]:
    """Keep the new content, and for a moment the old, under names with marks of their own."""
    new, old = (folder / f"{second.name}___jb_{word}___" for word in ("tmp", "old"))
    second.write(folder, name=new.name)
    old.write_text("the version before")
    yield
    new.replace(folder / second.name)
    old.unlink()


def textedit(folder: Path, second: Drop) -> Iterator[None]:
    """Rename over the file, as macOS does on a share, and leave beside it what a share has no room for."""
    beside = folder / f"{second.name}.sb-1a2b3c4d-Xy12Zz"
    second.write(folder, name=beside.name)
    (folder / f"._{second.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
    yield
    beside.replace(folder / second.name)


def libreoffice(folder: Path, second: Drop) -> Iterator[None]:
    """Make a lock beside the file, write under a temporary name, rename that over the file."""
    lock = folder / f".~lock.{second.name}#"
    lock.write_text(",somebody,host,22.11.2026 07:41,file:///home/somebody;")
    new = second.write(folder, name="lu47111abcd.tmp")
    yield
    new.replace(folder / second.name)
    lock.unlink()


def word(folder: Path, second: Drop) -> Iterator[None]:
    """Let the old and the new change places; the owner's file stays as long as the document is open."""
    (folder / f"~${second.name[2:]}").write_bytes(b"\x08Somebody".ljust(162))
    new, old = second.write(folder, name="1A2B3C4D.tmp"), folder / "5E6F7A8B.tmp"
    old.write_text("the version before")
    yield
    new.replace(folder / second.name)
    old.unlink()


SAVERS: tuple[Saver, ...] = (emacs, gedit, kate, nano, jetbrains, textedit, libreoffice, word)


async def test_a_file_is_saved_again_at_once(share: Share) -> None:
    """Before the first version was still: it is sent once, as it is in the end."""

    async def save_again(lane: Lane, save: Saver) -> None:
        first, second = lane.text("note.md", line_count=300), lane.text("note.md", line_count=20)
        first.write(lane.inbox)
        list(save(lane.inbox, second))
        await lane.receives(second, perhaps=[first], left=set(os.listdir(lane.inbox)) - {"note.md"})

    await share.at_once("at once", {save.__name__: partial(save_again, save=save) for save in SAVERS})


async def test_a_file_is_saved_again_later(impatient: Share) -> None:
    """The first version has been taken, the document is still open: nothing that lies beside it ever is."""

    async def save_later(lane: Lane, save: Saver) -> None:
        first, second = lane.text("note.md", line_count=300), lane.text("note.md", line_count=20)
        first.write(lane.inbox)
        saving = save(lane.inbox, second)
        next(saving)
        await impatient.outlast()
        await lane.receives(first, left=set(os.listdir(lane.inbox)) - {"note.md"})
        list(saving)
        await impatient.outlast()
        await lane.receives(first, second, left=set(os.listdir(lane.inbox)) - {"note.md"})

    await impatient.at_once("later", {save.__name__: partial(save_later, save=save) for save in SAVERS})
