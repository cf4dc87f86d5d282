"""What the daemon and the child that parses for it say to each other: frames of bytes, each behind its length.

The daemon begins with an Order and goes on with the pieces of the file, an empty one for its end. The child answers
the order with an empty Told, and each piece with what it has understood so far, or why the file is rejected. Before
that it may ask for models' caps, which the daemon alone knows, as often as it likes; the daemon answers each time.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields

from batchbox.formats import Draft, Rules
from batchbox.model import RejectReason

LENGTH = struct.Struct("!I")
FRAME_BYTES_MAX = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the child is to do."""

    name: bytes
    """The file's."""
    rules: dict[str, object]
    """All of them but `cap`."""
    is_long: bool
    """Whether it is a file of JSON Lines, whose requests are wanted piece by piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a RejectedError says."""

    reason: RejectReason
    detail: str
    what_to_do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the child says. It has one of the three at most."""

    drafts: Sequence[Draft] = ()
    refusal: Refusal | None = None
    asked_model: str | None = None
    """The cap of this model is wanted, and nothing is said about the piece yet."""


def rules_told(rules: Rules) -> dict[str, object]:
    """Return the rules as plain values, without what the daemon alone can answer."""
    return {field.name: getattr(rules, field.name) for field in fields(rules) if field.name != "cap"}


def name_told(name: str) -> bytes:
    """Return a file's name as the bytes that it has."""
    return name.encode("utf-8", "surrogateescape")


def name_heard(name: bytes) -> str:
    """Return a file's name as `name_told` got it."""
    return name.decode("utf-8", "surrogateescape")
