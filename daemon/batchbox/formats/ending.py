"""Tells a file that is still being written from a finished one, by its end alone."""

from batchbox.formats.encoding import UTF16_CODECS, nul_ending
from batchbox.formats.json_syntax import open_ending
from batchbox.formats.kinds import FileKind


def breaks_off(kind: FileKind, tail: bytes) -> str | None:
    """Say where the file ends early; None if it looks finished. Nothing else is checked.

    Args:
        kind: What the file is.
        tail: Of a JSON document all bytes; of JSON Lines what follows the last line end; of a text the last 64 bytes.
    """
    has_wide_characters = b"\0" in tail.rstrip(b"\0")
    if ending := nul_ending(tail, nul_count_min=4 if has_wide_characters else 2):
        return ending
    if kind is FileKind.TEXT or (kind is FileKind.JSON_LINES and tail.endswith(b"\n")):
        return None
    return open_ending(_narrow(tail) if has_wide_characters else tail)


def _narrow(data: bytes) -> bytes:
    codec = UTF16_CODECS.get(data[:2], "utf-8")  # without a BOM it is no UTF-16, whatever it is
    return data.removeprefix(data[:2] if codec != "utf-8" else b"").decode(codec, "replace").encode("utf-8")
