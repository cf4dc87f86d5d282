"""Whose the files in the outbox are: what their names and their content say. Looked at, never touched."""

import os
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from batchbox.documents import HEAD_BYTES, custom_id_in, status_in, wire_ids_in
from batchbox.folders import stems
from batchbox.folders.root import exists, is_about_one_name, opened
from batchbox.model import CustomId

MARKERS = (".result.json", ".error.json")
"""What the names of those files end with that scripts wait for: every request has one in the end."""

PUT_AWAY_PREFIX = ".bb-"
PUT_AWAY_SUFFIX = ".old"

COMPARED_BYTES = 1024 * 1024
_TEXT_SUFFIXES = {"answered": "", "incomplete": ".incomplete"}
"""What comes before the extension of the text, by the status that the document gives; an error has no text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaceable:
    """What an earlier answer must be, to make way for a new one: it has this stem and this custom_id."""

    stem: str
    custom_id: CustomId
    extension: str
    """Of its text: that of a file with another one is not known to be a text of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldAnswer:
    """The files of an earlier answer that makes way."""

    documents: Sequence[str]
    """By the names that people see."""
    put_away: Sequence[str]
    """By the same names: they are out of sight since a replacement that did not come to its end."""
    texts: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """An answer that may be in the outbox already."""

    wire_ids: Collection[str]
    texts: Mapping[str, str]
    """By what comes after the stem, the parts with the content that it would have."""
    replaces: Replaceable | None


def hidden(document: str) -> str:
    """Return the name under which an old document is put away."""
    return PUT_AWAY_PREFIX + document + PUT_AWAY_SUFFIX


def is_put_away(name: str) -> bool:
    """Say whether a file of this name is a document that was put away."""
    return name.startswith(PUT_AWAY_PREFIX) and name.endswith(tuple(marker + PUT_AWAY_SUFFIX for marker in MARKERS))


def old_answer(wanted: Replaceable, wire_ids: Collection[str], *, outbox: int) -> OldAnswer | None:
    """Return the answer that makes way for that of the request with these wire ids; None if there is none.

    What belongs to it is what we wrote of it: its document, and its text if the document says that it had one.
    """
    documents: list[str] = []
    put_away: list[str] = []
    texts: set[str] = set()
    for name in (wanted.stem + marker for marker in MARKERS):
        for seen, names in ((name, documents), (hidden(name), put_away)):
            head = head_of(seen, outbox=outbox)
            if head is None or custom_id_in(head) != wanted.custom_id or _names_any(head, wire_ids):
                continue
            names.append(name)
            before_extension = _TEXT_SUFFIXES.get(status_in(head) or "")
            text = f"{wanted.stem}{before_extension}.{wanted.extension}"
            if before_extension is not None and _is_of(text, seen, outbox):
                texts.add(text)
    if not documents and not put_away:
        return None
    return OldAnswer(documents=documents, put_away=put_away, texts=sorted(texts))


def find_stem(stems_there: Sequence[str], sought: Sought, *, outbox: int) -> str | None:
    """Return the stem that an earlier life of the request had, or whose answer it replaces; None if that is none.

    An earlier life that was alone on the root, and died before its marker, is known by its text alone.
    """
    for is_it in (_names_request, _makes_way, _has_same_text):
        for stem in stems_there:
            if is_it(stem, sought, outbox):
                return stem
    return None


def is_own(name: str, part: str | None, wire_ids: Collection[str], *, outbox: int) -> bool:
    """Say whether a visible file is the request's: it names a wire id of it, or is just what it is going to be."""
    head = head_of(name, outbox=outbox) if name.endswith(MARKERS) else None
    if head is not None and _names_any(head, wire_ids):
        return True
    return part is not None and is_same(part, name, outbox=outbox)


def is_same(one: str, other: str, *, outbox: int) -> bool:
    """Say whether two files have the same content; False if the second is not there, or is no file."""
    try:
        with opened(one, parent=outbox) as left, opened(other, parent=outbox) as right:
            if not stat.S_ISREG(os.fstat(right).st_mode) or os.fstat(left).st_size != os.fstat(right).st_size:
                return False
            while piece := os.read(left, COMPARED_BYTES):
                if piece != os.read(right, COMPARED_BYTES):
                    return False
    except OSError as error:
        if isinstance(error, FileNotFoundError) or is_about_one_name(error):
            return False
        raise
    return True


def head_of(name: str, *, outbox: int) -> bytes | None:
    """Return the first bytes of a file, None for one that cannot be read, or is no file."""
    try:
        with opened(name, parent=outbox) as descriptor:
            return os.read(descriptor, HEAD_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except OSError as error:
        if isinstance(error, FileNotFoundError) or is_about_one_name(error):
            return None
        raise


def _is_of(text: str, document: str, outbox: int) -> bool:
    """Say whether there is such a text, and since before its document went out of sight, if that has."""
    try:
        text_since = os.lstat(text, dir_fd=outbox).st_ctime_ns
    except FileNotFoundError:
        return False
    return not is_put_away(document) or text_since <= os.lstat(document, dir_fd=outbox).st_ctime_ns


def _names_request(stem: str, sought: Sought, outbox: int) -> bool:
    names = (*(stem + marker for marker in MARKERS), stems.note_name(stem))
    heads = [head_of(name, outbox=outbox) for name in names]
    return any(head is not None and _names_any(head, sought.wire_ids) for head in heads)


def _makes_way(stem: str, sought: Sought, outbox: int) -> bool:
    wanted = sought.replaces
    return wanted is not None and wanted.stem == stem and old_answer(wanted, sought.wire_ids, outbox=outbox) is not None


def _has_same_text(stem: str, sought: Sought, outbox: int) -> bool:
    if any(exists(stem + marker, parent=outbox) for marker in MARKERS):
        return False
    return any(is_same(part, stem + suffix, outbox=outbox) for suffix, part in sought.texts.items())


def _names_any(head: bytes, wire_ids: Collection[str]) -> bool:
    return not set(wire_ids).isdisjoint(wire_ids_in(head))
