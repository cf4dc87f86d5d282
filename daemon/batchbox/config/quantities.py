"""Durations and sizes as people write them: read into seconds and bytes, and written back.

What `duration_text` and `size_text` return is read back as the same number, to the last bit.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

DURATION_UNITS: Mapping[str, Decimal] = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86_400),
}

SIZE_UNITS: Mapping[str, Decimal] = {
    "B": Decimal(1),
    "KB": Decimal(1000),
    "MB": Decimal(1000**2),
    "GB": Decimal(1000**3),
    "TB": Decimal(1000**4),
    "KiB": Decimal(1024),
    "MiB": Decimal(1024**2),
    "GiB": Decimal(1024**3),
    "TiB": Decimal(1024**4),
}

DURATION_MAX_SECONDS = 366 * 86_400
SIZE_MAX_BYTES = 1000**5
"""Far over anything of use, and far under what a database's integer or a date can hold."""

_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?([A-Za-z]+)")


def read_duration(value: object) -> float:
    """Return the seconds that "90s", "5m", "500ms" or a bare number stand for. Raises ValueError with a sentence."""
    seconds = _amount(value, DURATION_UNITS)
    if seconds is None:
        raise ValueError('is not a duration; write it like "90s", "5m", "24h" or "500ms", or as a number of seconds')
    if not 0 <= seconds <= DURATION_MAX_SECONDS:
        raise ValueError("is out of range; choose a duration from 0 to 366 days")
    return float(seconds)


def read_size(value: object) -> int:
    """Return the bytes that "200MB", "32MiB" or a bare number stand for. Raises ValueError with a sentence."""
    size = _amount(value, SIZE_UNITS)
    if size is None or size != size.to_integral_value():
        raise ValueError('is not a size; write it like "200MB" or "32MiB", or as a whole number of bytes')
    if not 0 <= size <= SIZE_MAX_BYTES:
        raise ValueError("is out of range; choose a size from 0 to 1000TB")
    return int(size)


def duration_text(seconds: float) -> str | float:
    """Write the duration in the largest unit that it is a whole number of; failing that, as a bare number."""
    return _text(Decimal(repr(seconds)), DURATION_UNITS) or seconds


def size_text(size_bytes: int) -> str | int:
    """Write the size in the largest unit that it is a whole number of."""
    return _text(Decimal(size_bytes), SIZE_UNITS) or size_bytes


def exact_number(value: object) -> Decimal | None:
    """Return the number as it was written, 0.05 as 0.05; None if it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return number if number.is_finite() else None


def _amount(value: object, units: Mapping[str, Decimal]) -> Decimal | None:
    """Return the amount in the base unit; None if this is no quantity at all."""
    if not isinstance(value, str):
        return exact_number(value)
    match = _QUANTITY.fullmatch(value)
    if match is None or match[2] not in units:
        return None
    return Decimal(match[1]) * units[match[2]]


def _text(amount: Decimal, units: Mapping[str, Decimal]) -> str | None:
    for unit, factor in sorted(units.items(), key=lambda item: -item[1]):
        count = amount / factor
        if count >= 1 and count == count.to_integral_value():
            return f"{int(count)}{unit}"
    return None


def _more_than_zero(value: float) -> float:
    if value <= 0:
        raise ValueError("must be more than 0")
    return value


Wait = Annotated[float, BeforeValidator(read_duration), PlainSerializer(duration_text, when_used="json")]
"""Seconds; 0 is allowed."""

Duration = Annotated[Wait, AfterValidator(_more_than_zero)]
"""Seconds, more than 0."""

Reserve = Annotated[int, BeforeValidator(read_size), PlainSerializer(size_text, when_used="json")]
"""Bytes; 0 is allowed."""

Size = Annotated[Reserve, AfterValidator(_more_than_zero)]
"""Bytes, more than 0."""
