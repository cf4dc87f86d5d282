"""Turns a file's bytes into checked UTF-8: with or without BOM, or UTF-16 with BOM; anything else is rejected."""

import codecs

from batchbox.errors import RejectedError
from batchbox.model import RejectReason

UTF16_CODECS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}

NUL = b"\0"

_SAVE_AS_UTF8 = "Save the file as UTF-8 and drop it again."


def to_utf8(data: bytes) -> bytes:
    """Return the content as UTF-8 without BOM and without NUL.

    Raises RejectedError: `bad_encoding` with the offset of the byte, or `incomplete` for a file that ends in NULs.
    """
    codec = UTF16_CODECS.get(data[:2])
    if ending := nul_ending(data, nul_count_min=4 if codec else 2):
        fact = f"{ending}, from byte {len(data.rstrip(NUL))} on"
        raise RejectedError(RejectReason.INCOMPLETE, fact, "Drop the file again when it is complete.")
    if codec:
        return _from_utf16(data, codec)
    body = data.removeprefix(codecs.BOM_UTF8)
    check_utf8(body, offset=len(data) - len(body))
    return body


def check_utf8(data: bytes, *, offset: int = 0) -> None:
    """Make sure that the bytes are UTF-8 without NUL. `offset` is where they stand in what the detail counts from.

    Raises RejectedError, `bad_encoding`.
    """
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_unicode("UTF-8", error.start + offset) from None
    if (position := data.find(b"\0")) >= 0:
        raise _nul(position + offset)


def nul_ending(data: bytes, *, nul_count_min: int) -> str | None:
    """Say so if the bytes end in at least so many NULs: room that a program made before it fills it."""
    if not data.endswith(b"\0" * nul_count_min):
        return None
    return "it ends in NUL bytes, like a file that is still being written"


def not_unicode(encoding: str, position: int) -> RejectedError:
    """Return the rejection for a byte that cannot stand where it stands."""
    return RejectedError(RejectReason.BAD_ENCODING, f"byte {position} is not valid {encoding}", _SAVE_AS_UTF8)


def _nul(position: int) -> RejectedError:
    return RejectedError(RejectReason.BAD_ENCODING, f"byte {position} is NUL", _SAVE_AS_UTF8)


def _from_utf16(data: bytes, codec: str) -> bytes:
    try:
        text = data[2:].decode(codec)
    except UnicodeDecodeError as error:
        raise not_unicode("UTF-16", error.start + 2) from None
    before, nul, _ = text.partition("\0")
    if nul:
        raise _nul(len(before.encode(codec)) + 2)
    return text.encode("utf-8")
