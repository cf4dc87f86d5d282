"""How Python's values are kept in columns, and back."""

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal

PIECES_MAX = 1024
"""The key of a body's piece is request id * PIECES_MAX + number: 32 MB in pieces of 256 KiB are 123 of them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_NANODOLLAR = Decimal("1e-9")


def to_ms(moment: datetime) -> int:
    """Return whole milliseconds since 1970."""
    return (moment - _EPOCH) // _MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    """Return the aware moment, in UTC."""
    return _EPOCH + milliseconds * _MILLISECOND


def optional_ms(moment: datetime | None) -> int | None:
    """Return milliseconds, or None for None."""
    return None if moment is None else to_ms(moment)


def optional_moment(milliseconds: int | None) -> datetime | None:
    """Return the moment, or None for None."""
    return None if milliseconds is None else from_ms(milliseconds)


def to_blob(name: str) -> bytes:
    """Return a file's name as the bytes that the file system has."""
    return os.fsencode(name)


def from_blob(name: bytes) -> str:
    """Return a file's name as Python gives it to system calls."""
    return os.fsdecode(name)


def to_nanodollars(usd: Decimal) -> int:
    """Return whole nano-dollars: one token of the cheapest cache read costs several of them."""
    return int((usd / _NANODOLLAR).to_integral_value())


def from_nanodollars(nanodollars: int) -> Decimal:
    """Return dollars."""
    return nanodollars * _NANODOLLAR
