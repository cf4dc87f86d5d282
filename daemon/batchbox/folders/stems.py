"""Stems between daemons: while others are at home on the root, whoever made a stem's note may use the stem.

A rename replaces whatever has the name, so looking first is not enough where two daemons publish at once. The note,
`.bb-<16 hex>.name` in the folder of the answers, is made with O_EXCL before the look and removed after the answer is
recorded. Its name is made of the stem without case, because the share may not tell `A` from `a`.

Who is alone makes none: an answer would cost a third more. Whether we are is asked for each group, after its parts are
durable and just before its names are looked for. So what is promised ends where a daemon that was alone is suspended
between that look and its last rename, while another one starts on the root for the first time and answers a request of
the same stem: the first overwrites the other's files when it wakes. Nothing that a share offers makes a rename
exclusive.

If we die                | what is left                    | what happens to it
-------------------------+---------------------------------+--------------------------------------------------------
before the note          | a recorded stem                 | the next delivery makes the note, and looks before
while it is written      | a note that nobody can read     | counts as somebody's; goes after a day
before all is visible    | our note, some files            | both are known again by the instance or a wire id
after the commit         | our note                        | goes at the next start
and never come back      | our note                        | keeps the name for us; if our folder goes, for a day more
"""

import hashlib
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from batchbox.documents import HEAD_BYTES, StemNote, read_stem_note, stem_note
from batchbox.folders.layout import HEARTBEAT, PROCESSING, other_instances
from batchbox.folders.root import exists, folder, is_about_one_name, leaving_what_resists, opened, write_all
from batchbox.model import Instance

PREFIX = ".bb-"
SUFFIX = ".name"
UNOWNED_SECONDS = 24 * 3600.0
"""For so long a note that no instance answers for keeps its name; `recover` may need it until then."""

_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A stem, and the wire ids of the request that is to have it."""

    stem: str
    wire_ids: Collection[str]


def note_name(stem: str) -> str:
    """Return the name of a stem's note."""
    return f"{PREFIX}{hashlib.sha256(stem.casefold().encode()).hexdigest()[:16]}{SUFFIX}"


def take(wanted: Wanted, instance: Instance, *, outbox: int) -> bool:
    """Make the stem's note; return False if it is somebody else's."""
    name = note_name(wanted.stem)
    try:
        descriptor = os.open(name, _NEW_FLAGS, 0o666, dir_fd=outbox)
    except FileExistsError:
        return _is_ours(name, wanted, instance, outbox=outbox)
    try:
        write_all(descriptor, [stem_note(instance, wanted.wire_ids)])
    except OSError:
        with leaving_what_resists():
            os.unlink(name, dir_fd=outbox)  # what nobody can read would keep the name from ourselves too
        raise
    finally:
        os.close(descriptor)
    return True


def release(stems: Collection[str], *, outbox: int) -> None:
    """Remove the notes that `take` gave us of these stems; one that resists goes at a later start."""
    for stem in stems:
        with leaving_what_resists(), suppress(FileNotFoundError):
            os.unlink(note_name(stem), dir_fd=outbox)


def is_free(wanted: Wanted, instance: Instance, *, outbox: int) -> bool:
    """Say whether no other daemon has a note of the stem."""
    name = note_name(wanted.stem)
    return not exists(name, parent=outbox) or _is_ours(name, wanted, instance, outbox=outbox)


def is_note(name: str) -> bool:
    """Say whether a file of this name is a note."""
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def remove_old(
    names: Collection[str], root: int, instance: Instance, *, outbox: int, stems_in_use: Collection[str]
) -> None:
    """Remove our notes of stems that no unpublished request has, and those that nobody has answered for for a day."""
    kept = {note_name(stem) for stem in stems_in_use}
    others = other_instances(root, instance)
    now = now_there(root, instance)
    for name in names:
        with leaving_what_resists(), suppress(FileNotFoundError):
            note = _read(name, outbox)
            if note is not None and note.instance in others:
                continue
            if note is not None and note.instance == instance:
                is_over = name not in kept
            else:
                is_over = now - os.lstat(name, dir_fd=outbox).st_mtime > UNOWNED_SECONDS
            if is_over:
                os.unlink(name, dir_fd=outbox)


def _is_ours(name: str, wanted: Wanted, instance: Instance, *, outbox: int) -> bool:
    """Say whether we made the note in an earlier life, or an instance did whose request this was."""
    try:
        note = _read(name, outbox)
    except FileNotFoundError:  # its owner has just removed it, and with it goes what is listed by now
        return False
    return note is not None and (note.instance == instance or not set(wanted.wire_ids).isdisjoint(note.wire_ids))


def _read(name: str, outbox: int) -> StemNote | None:
    """Read a note; None for what is none, or not a whole one. Raises FileNotFoundError."""
    try:
        with opened(name, parent=outbox) as descriptor:
            return read_stem_note(os.read(descriptor, HEAD_BYTES))
    except ValueError:
        return None
    except OSError as error:
        if is_about_one_name(error):
            return None
        raise


def now_there(root: int, instance: Instance) -> float:
    """Return the time by the clock of the disk or its server, as our own heartbeat has it; long ago if it has none."""
    try:
        with folder(root, PROCESSING, instance) as own:
            return os.lstat(HEARTBEAT, dir_fd=own).st_mtime
    except FileNotFoundError:
        return 0.0
