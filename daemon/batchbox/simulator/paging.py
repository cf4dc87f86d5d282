"""One page of a list, by the API's rules: a limit and at most one cursor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from batchbox.simulator.refusals import Refusal

LIMIT_DEFAULT = 20
LIMIT_MAX = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a caller asks of a list."""

    limit: int = LIMIT_DEFAULT
    after_id: str | None = None
    before_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list, in the list's own order."""

    items: Sequence[T]
    has_more: bool
    """Whether the list goes on beyond the page, in the direction in which it was asked."""


def read_window(query: Mapping[str, str]) -> Window:
    """Read limit, after_id and before_id. Raises Refusal."""
    text = query.get("limit", str(LIMIT_DEFAULT))
    if not text.isdecimal() or not 1 <= int(text) <= LIMIT_MAX:
        raise Refusal("invalid_request_error", f"limit: Input should be a whole number from 1 to {LIMIT_MAX}")
    window = Window(limit=int(text), after_id=query.get("after_id"), before_id=query.get("before_id"))
    if window.after_id is not None and window.before_id is not None:
        raise Refusal("invalid_request_error", "Only one of after_id and before_id may be given")
    return window


def cut(items: Sequence[T], window: Window, *, name: Callable[[T], str]) -> Page[T]:
    """Return the page that the window shows. Raises Refusal for a cursor that is not in the list."""
    names = [name(item) for item in items]
    if window.before_id is not None:
        end = _position(names, window.before_id)
        begin = max(0, end - window.limit)
        return Page(items=items[begin:end], has_more=begin > 0)
    begin = 0 if window.after_id is None else _position(names, window.after_id) + 1
    end = begin + window.limit
    return Page(items=items[begin:end], has_more=end < len(items))


def _position(names: Sequence[str], cursor: str) -> int:
    try:
        return names.index(cursor)
    except ValueError:
        raise Refusal("invalid_request_error", f"No object with the id {cursor} is in this list") from None
