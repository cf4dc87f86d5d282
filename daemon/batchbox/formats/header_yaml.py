"""Reads the small part of YAML that a header needs: mappings, lists and plain values, from PyYAML's stream of events.

No aliases, which make a few lines grow without end; no tags, which name types of the program; no key twice, about which
PyYAML keeps silent. The events are consumed as they come, so that a header nested too deep ends early.
"""

import yaml
from yaml.events import (
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from batchbox.formats.problems import quoted
from batchbox.logs import shown

NESTING_MAX = 16
EVENTS_MAX = 2_000
"""A value is one, a list or a mapping two; PyYAML takes a while for each."""
NUMBER_CHARACTERS_MAX = 40
"""A double needs 25; YAML knows numbers of base 60, and long ones are slow."""

_TYPE = "tag:yaml.org,2002:"
_NUMBERS = (f"{_TYPE}int", f"{_TYPE}float")
_PLAIN_TYPES = (*_NUMBERS, f"{_TYPE}str", f"{_TYPE}bool", f"{_TYPE}null")


def read_yaml(block: str, *, first_line: int) -> tuple[dict[str, object], dict[str, int]]:
    """Return the values of a mapping and the lines of its keys, counted from `first_line`.

    Raises ValueError, saying what is wrong and in which line.
    """
    try:
        return _Reader(block, first_line).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + first_line if error.problem_mark else first_line
        raise ValueError(f"{shown(error.problem or 'something is wrong')}, in line {line}") from None
    except yaml.YAMLError:
        raise ValueError("there is a control character in it") from None


class _WrongError(ValueError):
    """What we do not take, in words of ours."""


class _Reader:
    """One pass over the events of one document. `_line` is that of the event taken last."""

    def __init__(self, block: str, first_line: int) -> None:
        self._loader = yaml.SafeLoader(block)
        self._first_line = first_line
        self._line = first_line
        self._event_count = 0

    def document(self) -> tuple[dict[str, object], dict[str, int]]:
        try:
            return self._document()
        except _WrongError:
            raise
        except (ValueError, OverflowError):  # PyYAML does not ask whether chr() and int() can take what stands there
            line = self._first_line + self._loader.line
            raise _WrongError(f"an escape or a number is beyond all that there are, in line {line}") from None

    def _document(self) -> tuple[dict[str, object], dict[str, int]]:
        self._expect(StreamStartEvent)
        self._expect(DocumentStartEvent)
        self._expect(MappingStartEvent)
        lines: dict[str, int] = {}
        values = self._mapping(1, lines)
        self._expect(DocumentEndEvent)
        self._expect(StreamEndEvent)
        return values, lines

    def _next(self) -> Event:
        event: Event = self._loader.get_event()  # type: ignore[no-untyped-call]  # its stub has no types
        self._line = self._first_line + (event.start_mark.line if event.start_mark else 0)
        self._event_count += 1
        if self._event_count > EVENTS_MAX:
            raise self._wrong(f"there are more than {EVENTS_MAX:,} values")
        return event

    def _expect(self, kind: type[Event]) -> None:
        if not isinstance(self._next(), kind):
            raise self._wrong("there is more, or less, than one list of keys with values")

    def _wrong(self, fact: str) -> _WrongError:
        return _WrongError(f"{fact}, in line {self._line}")

    def _mapping(self, depth: int, lines: dict[str, int]) -> dict[str, object]:
        values: dict[str, object] = {}
        while not self._loader.check_event(MappingEndEvent):
            key = self._value(depth)
            if not isinstance(key, str):
                raise self._wrong("a key is not text")
            if key in values:
                raise self._wrong(f"key {quoted(key)} stands twice")
            lines[key] = self._line
            values[key] = self._value(depth)
        self._next()
        return values

    def _list(self, depth: int) -> list[object]:
        values = []
        while not self._loader.check_event(SequenceEndEvent):
            values.append(self._value(depth))
        self._next()
        return values

    def _value(self, depth: int) -> object:
        event = self._next()
        if not isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent) or event.anchor is not None:
            raise self._wrong("there is an anchor or an alias (& or *)")
        if event.tag is not None:
            raise self._wrong("there is a tag (!)")
        if isinstance(event, ScalarEvent):
            return self._with_whole_characters(self._scalar(event))
        if depth > NESTING_MAX:
            raise self._wrong("values are nested too deep")
        if isinstance(event, SequenceStartEvent):
            return self._list(depth + 1)
        return self._mapping(depth + 1, {})

    def _scalar(self, event: ScalarEvent) -> object:
        tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]  # as above
        if tag not in _PLAIN_TYPES:
            raise self._wrong("there is a date or another special value, which needs quotes to be text")
        if tag in _NUMBERS and len(event.value) > NUMBER_CHARACTERS_MAX:
            raise self._wrong("a number is too long")
        node = yaml.ScalarNode(tag, event.value)
        try:
            return self._loader.construct_object(node)
        except (ValueError, OverflowError):  # such as 0x_, which looks like a number and is none
            raise self._wrong("a number cannot be read") from None

    def _with_whole_characters(self, value: object) -> object:
        """Join the halves of characters that were escaped one by one, as JSON does."""
        if not isinstance(value, str) or value.isascii():
            return value
        try:
            return value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            fact = "an escape stands for half of a character (a surrogate), and the other half is missing"
            raise self._wrong(fact) from None
