"""Names: how those of droppers become custom_ids, wire ids, claims and stems, and which names are never requests.

Everything here is a function of its arguments. A file's name is a `str` as `os.fsdecode` makes it: bytes that are not
UTF-8 are kept as lone surrogates, so every name survives the way through a claim and back.
"""

import base64
import hashlib
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable

from slugify import slugify

from batchbox.model import CustomId, Nonce, WireId

CUSTOM_ID_CHARACTERS_MAX = 64
"""The API's documentation: `^[a-zA-Z0-9_-]{1,64}$`."""

WIRE_STEM_CHARACTERS_MAX = 44
"""What of a custom_id stays readable in a wire id: 64 less `__`, the nonce, `-` and nine digits."""

NAME_BYTES_MAX = 255
"""The longest name that Linux file systems take."""

CANCEL_SUFFIX = ".cancel"
"""`<file name>.cancel` or `<custom_id>.cancel` takes back what was dropped under that name."""

MARKER_SUFFIX = ".ready"
"""`<file name>.ready` says that the file beside it is complete."""

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_INSTANCE = re.compile(r"(?:[^\W_]|-){1,48}-[0-9a-f]{8}")
_SPACES_AND_DOTS = re.compile(r"[ .]+")
_OTHER_CHARACTERS = re.compile(r"[^a-zA-Z0-9_-]+")
_WIRE_ID = re.compile(r"[a-zA-Z0-9_-]{1,44}__([a-z2-7]{8})-(0|[1-9][0-9]{0,8})")
_CLAIM_NAME = re.compile(r"([0-9a-f]{12})-[0-9a-f]{16}~(.+)", re.DOTALL)
_MARKER_CLAIM = re.compile(r"\.([0-9a-f]{12}-[0-9a-f]{16}~)(.+)", re.DOTALL)
_MARK_BYTES = len(".0123456789ab-0123456789abcdef~")
"""What the name of a claim, or of a marker's claim, has before the name that it keeps."""
_KEPT_BYTES_MAX = NAME_BYTES_MAX - _MARK_BYTES - max(len(CANCEL_SUFFIX), len(MARKER_SUFFIX))
"""The longest name that a claim keeps whole; that of a sign about it keeps it too, with its suffix."""
_LAST_MOMENT_MS = 253_402_300_799_999
"""The end of the year 9999, the last that a calendar of Python's knows."""
_HASH_CHARACTERS = 6

_RESERVED_ON_WINDOWS = frozenset(
    {"con", "prn", "aux", "nul", "clock$", "conin$", "conout$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
)


def is_custom_id(text: str) -> bool:
    """Tell whether the API would take the text as a custom_id."""
    return _CUSTOM_ID.fullmatch(text) is not None


def is_instance(text: str) -> bool:
    """Tell whether the text is a name that an instance is given: its host's, and eight hex digits."""
    return _INSTANCE.fullmatch(text) is not None


def custom_id_from(stem: str) -> CustomId:
    """Derive a custom_id from a file's name without its extension.

    Runs of spaces and dots become `-`. Other characters are transliterated; when anything was transliterated, lost or
    cut, a short hash of the original is added, the same for every spelling of the same visible name.
    """
    plain = _SPACES_AND_DOTS.sub("-", stem)
    if is_custom_id(plain):
        return CustomId(plain)
    visible = unicodedata.normalize("NFC", stem)
    plain = _SPACES_AND_DOTS.sub("-", visible)
    readable = _OTHER_CHARACTERS.sub(_transliterated, plain)
    readable = re.sub("-{2,}", "-", readable).strip("-") or "file"
    return CustomId(_cut_with_hash(readable, original=visible, room=CUSTOM_ID_CHARACTERS_MAX))


def custom_id_of_file(name: str) -> CustomId:
    """Derive a custom_id from a file's name, whose extension does not count."""
    return custom_id_from(_split_extension(name)[0])


def numbered(custom_id: CustomId, n: int) -> CustomId:
    """Return `<custom_id>-<n>`; where that would be too long the id is cut and marked by a hash, never the number."""
    room = CUSTOM_ID_CHARACTERS_MAX - len(str(n)) - 1
    if len(custom_id) <= room:
        return CustomId(f"{custom_id}-{n}")
    return CustomId(f"{_cut_with_hash(custom_id, original=custom_id, room=room)}-{n}")


def wire_id(custom_id: CustomId, *, nonce: Nonce, number: int) -> WireId:
    """Return the name that the API gets: readable, and unique for ever."""
    return WireId(f"{custom_id[:WIRE_STEM_CHARACTERS_MAX]}__{nonce}-{number}")


def parse_wire_id(text: str) -> tuple[Nonce, int] | None:
    """Return the nonce and the number of a wire id, None for a name that is not one of ours."""
    match = _WIRE_ID.fullmatch(text)
    return (Nonce(match[1]), int(match[2])) if match else None


def new_nonce(random_bytes: bytes) -> Nonce:
    """Spell five random bytes as a nonce."""
    return Nonce(base64.b32encode(random_bytes).decode("ascii").lower())


def stem_for(custom_id: CustomId) -> str:
    """Return the stem of the answer's files: the custom_id, out of the way of the names that Windows reserves."""
    reserved = custom_id.partition(".")[0].lower() in _RESERVED_ON_WINDOWS
    return f"id-{custom_id}" if reserved else custom_id


def with_suffix_number(name: str, n: int) -> str:
    """Return the n-th choice for a name: itself, then with `__2`, `__3` … before the extension, within 255 bytes."""
    return name if n == 1 else with_suffix(name, str(n))


def with_suffix(name: str, text: str) -> str:
    """Return the name with `__` and a text before the extension, within 255 bytes."""
    suffix = f"__{text}"
    stem, extension = _split_extension(cut_to_bytes(name, NAME_BYTES_MAX - len(suffix)))
    return f"{stem}{suffix}{extension}"


def cut_to_bytes(name: str, limit: int = NAME_BYTES_MAX) -> str:
    """Shorten the name to so many bytes, before its extension, without cutting through a character."""
    if _size_bytes(name) <= limit:
        return name
    stem, extension = _split_extension(name)
    if _size_bytes(extension) >= limit:
        return _start(name, limit)
    return _start(stem, limit - _size_bytes(extension)) + extension


def claim_name(original: str, *, dropped_ms: int, random_bytes: bytes) -> str:
    """Return the name of a claimed file in processing/. Claims sort by the time of the drop.

    Args:
        original: The name it was dropped under; of a long one the claim keeps what `kept` says.
        dropped_ms: Milliseconds since 1970; a clock that stands before it counts as 1970.
        random_bytes: Eight, which make the claim unique.
    """
    mark = f"{max(dropped_ms, 0):012x}-{random_bytes.hex()}~"
    return mark + kept(original)


def parse_claim_name(name: str) -> tuple[int, str] | None:
    """Return when the file was dropped, in milliseconds, and what is kept of its name; None for what is no claim."""
    match = _CLAIM_NAME.fullmatch(name)
    if match is None or (dropped_ms := int(match[1], 16)) > _LAST_MOMENT_MS:
        return None
    return dropped_ms, match[2]


def visible(name: str) -> str:
    """Return the name as people see it: the same for every way to spell its characters, and for what a claim keeps.

    A long one is cut before its extension and marked by a hash of the whole: two that begin alike stay two.
    """
    if name.isascii() and len(name) <= _KEPT_BYTES_MAX:
        return name
    seen = unicodedata.normalize("NFC", name)
    if _size_bytes(seen) <= _KEPT_BYTES_MAX:
        return seen
    mark = f"-{_short_hash(seen)}"
    stem, extension = _split_extension(cut_to_bytes(seen, _KEPT_BYTES_MAX - len(mark)))
    return f"{stem}{mark}{extension}"


def kept(name: str) -> str:
    """Return what a claim keeps of a name: all of it if there is room, else its visible form.

    Of a sign the same is kept of the name that it is about, and its suffix, so that the two still find each other.
    """
    for suffix in (CANCEL_SUFFIX, MARKER_SUFFIX):
        if _has_suffix(name, suffix):
            return _kept(name[: -len(suffix)]) + name[-len(suffix) :]
    return _kept(name)


def canceled_by(names: Iterable[str]) -> dict[str, str]:
    """Return, for every `.cancel` file among the names, the name that it takes back, as people see it."""
    return _without_suffix(names, CANCEL_SUFFIX)


def marked_by(names: Iterable[str]) -> dict[str, str]:
    """Return, for every marker among the names, the name of the file that it is about, as people see it."""
    return _without_suffix(names, MARKER_SUFFIX)


def marker_claim_name(claim: str, marker: str) -> str:
    """Return the name of a marker in processing/, from that of its file's claim: hidden, and no claim itself."""
    return f".{claim.partition('~')[0]}~{kept(marker)}"


def parse_marker_claim(name: str) -> tuple[str, str] | None:
    """Return how the claim of a marker's file begins, and what is kept of the marker's name; None for other names."""
    match = _MARKER_CLAIM.fullmatch(name)
    return (match[1], match[2]) if match else None


def _without_suffix(names: Iterable[str], suffix: str) -> dict[str, str]:
    return {name: visible(name[: -len(suffix)]) for name in names if _has_suffix(name, suffix)}


def _kept(name: str) -> str:
    is_short = max(_size_bytes(name), _size_bytes(unicodedata.normalize("NFC", name))) <= _KEPT_BYTES_MAX
    return name if is_short else visible(name)


def _has_suffix(name: str, suffix: str) -> bool:
    size = len(suffix)
    return name[-size : 1 - size] == "." and name[-size:].lower() == suffix and len(name) > size


def _transliterated(run: re.Match[str]) -> str:
    return slugify(run[0], lowercase=False, entities=False, decimal=False, hexadecimal=False) or "-"


def _cut_with_hash(text: str, *, original: str, room: int) -> str:
    return f"{text[: room - _HASH_CHARACTERS - 1]}-{_short_hash(original)}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARACTERS]


def _split_extension(name: str) -> tuple[str, str]:
    """Part the name before its last dot; dots that it begins with make no extension."""
    stem, dot, extension = name.rpartition(".")
    return (stem, dot + extension) if stem.strip(".") else (name, "")


def _size_bytes(name: str) -> int:
    return len(name.encode("utf-8", "surrogateescape"))


def _start(text: str, limit: int) -> str:
    """Return the longest start of the text that fits; its characters are whole because they are never taken apart."""
    if text.isascii():
        return text[:limit]
    fitting = bisect_right(range(len(text) + 1), limit, key=lambda count: _size_bytes(text[:count]))
    return text[: fitting - 1]


# Names that are never requests. One table in parts, by the way a name is recognised; all are compared without
# case. A pattern stands here only if a known program makes such names for files that are not finished, not documents,
# or not the file that somebody meant to drop: a name that is ignored gets no answer and no explanation.

_IGNORED_STARTS = (
    ".",  # hidden: .DS_Store, ._x (macOS), .x.swp (Vim), .#x (Emacs), .~lock.x# (LibreOffice), .x.a1B2c3 (rsync),
    #       .goutputstream-x (GNOME), .nfs000 (NFS), .fuse_hidden000 (FUSE), .smbdelete (Samba), .in.x. (lftp, ProFTPD),
    #       .pureftpd-upload.x (Pure-FTPd), .syncthing.x.tmp, .dropbox.cache, .sync_x.db (Nextcloud), .x.icloud
    "~",  # ~$x.docx, ~WRL0001.tmp (Office), ~syncthing~x.tmp (Syncthing), ~x.idlk (InDesign)
    "_",  # lanes' own files and other things that are kept beside requests
    ":2e",  # netatalk: .DS_Store and other hidden files of a Mac, as it spells the dot
)

_IGNORED_NAMES = frozenset(
    {
        "4913",  # Vim tries whether it may write a folder; taken, it adds 123
        "5036",
        "5159",
        "5282",
        "thumbs.db",  # Windows Explorer
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "$recycle.bin",  # Windows
        "system volume information",
        "icon\r",  # macOS Finder, a folder's own icon
        "network trash folder",  # netatalk
        "temporary items",
        "thevolumesettingsfolder",
        "lost+found",  # ext4
        "@eadir",  # Synology
        "#recycle",
        "#snapshot",
        "@tmp",
        "@sharebin",
        "@recycle",  # QNAP
        "@recently-snapshot",
    }
)

_IGNORED_ENDS = (
    "~",  # Emacs, Vim, Kate, gedit, joe, rsync --backup: the version before
    ".bak",  # UltraEdit, Notepad++, EmEditor and others: the same
    ".save",  # nano, when it is killed
    ".tmp",  # Office, LibreOffice, browsers and many others
    ".temp",
    ".swp",  # Vim, where its swap files are not hidden
    ".swo",
    ".swn",
    ".swx",  # Vim, a moment at the start
    ".crdownload",  # Chrome, Edge, Brave, Vivaldi
    ".crswap",  # Chrome, a page that writes files
    ".part",  # Firefox, KDE, yt-dlp
    ".partial",  # Internet Explorer, rclone
    ".download",  # Safari
    ".opdownload",  # Opera
    ".filepart",  # WinSCP
    ".aria2",  # aria2
    ".gstmp",  # gsutil
    ".!sync",  # Resilio Sync
    ".fdmdownload",  # Free Download Manager
    ".!ut",  # µTorrent, qBittorrent and BitComet
    ".!qb",
    ".bc!",
    ".lck",  # Xerox scanners while they scan into a folder, and FrameMaker
    ".laccdb",  # Access
    "zone.identifier",  # where a download came from, on shares that cannot keep it beside the file (Windows, WSL)
    ":encryptable",  # Thumbs.db:encryptable, the same
    ":afp_afpinfo",  # what a Mac notes of a file, on shares that cannot keep it beside the file
    ":afp_resource",
    "___jb_tmp___",  # JetBrains editors
    "___jb_old___",
    "___jb_bak___",
)

_IGNORED_TAILS = frozenset(end[-2:] for end in _IGNORED_ENDS)
_ORDINARY_TAILS = frozenset({".md", "txt", "son", "onl", "pdf"})
"""No name that is ignored for its end, or as a whole, ends so."""
_ODD_BEGINNINGS = frozenset(start[0] for start in _IGNORED_STARTS)

_AUTO_SAVE = re.compile(r"#.*#", re.DOTALL)  # Emacs

_SAFE_SAVE = re.compile(r"\.sb-[0-9a-f]{8}-[a-z0-9]{6}\Z")  # macOS, while an editor saves

_CONFLICT_COPY = re.compile(
    r"""
      \.sync-conflict-[0-9]{8}-[0-9]{6}(-[a-z0-9]{7})?(\.|\Z)  # Syncthing
    | \([^()]*conflicted\ copy[^()]*\)                         # Dropbox, Nextcloud, ownCloud, Box
    | \((in\ konflikt\ stehende\ kopie|copie\ en\ conflit|copia\ en\ conflicto|copia\ in\ conflitto)[^()]*\)  # Dropbox
    | \((case|whitespace|selective\ sync|unicode\ encoding)\ conflict(\ [0-9]+)?\)  # Dropbox; Nextcloud the first
    | \ \[conflicted(\ [0-9]+)?\](\.|\Z)                       # pCloud
    | _[a-z]{3}-[0-9]{2}-[0-9]{4,6}-[0-9]{4}_(case)?conflict(\.|\Z)  # Synology Drive
    | \(sfconflict\ [^()]*\)                                   # Seafile
    | _conflict-[0-9]{8}-[0-9]{6}(\.|\Z)                       # Nextcloud and ownCloud, earlier versions
    """,
    re.VERBOSE,
)


def is_ignored(name: str) -> bool:
    """Tell whether the name is one of a temporary, lock, conflict or system file: such are never requests.

    Asked of every name in every scan, so an ordinary name is known by four cheap looks, and what costs more is asked
    only where something cheap speaks for it.
    """
    folded = name.lower()
    if folded[-3:] in _ORDINARY_TAILS and folded[0] not in _ODD_BEGINNINGS and "onfli" not in folded:
        return False
    return (
        folded.startswith(_IGNORED_STARTS)
        or (folded[-2:] in _IGNORED_TAILS and folded.endswith(_IGNORED_ENDS))
        or folded[-1:] == "~"
        or folded in _IGNORED_NAMES
        or (folded[:1] == "#" and _AUTO_SAVE.fullmatch(folded) is not None)
        or (".sb-" in folded and _SAFE_SAVE.search(folded) is not None)
        or (("confli" in folded or "konflikt" in folded) and _CONFLICT_COPY.search(folded) is not None)
    )
