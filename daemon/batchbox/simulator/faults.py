"""The fault menu: what may go wrong, and which call it meets next.

Which calls a fault can meet is fixed by its kind; what each does to the connection is in `wire`, to the lines of
results in `results`, and to the list and the commit in `app`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Call(StrEnum):
    """The calls that a fault can meet."""

    CREATE = "create"
    LIST = "list"
    RETRIEVE = "retrieve"
    RESULTS = "results"
    CANCEL = "cancel"
    DELETE = "delete"
    MODELS = "models"


class FaultKind(StrEnum):
    """What goes wrong. *Done* means that the call has had its effect: a batch was accepted."""

    RESET_BEFORE = "reset_before"
    """Not done: the connection is reset before the body is read."""
    RESET_MID_BODY = "reset_mid_body"
    """Not done: the connection is reset after `at_bytes` of the body."""
    STATUS = "status"
    """Not done: answered with `status`, `error_type`, `message` and `headers`."""
    HTML = "html"
    """Not done: answered with an HTML page and `status`."""
    NOT_FOUND = "not_found"
    """Not done: answered with the API's 404."""
    REDIRECT = "redirect"
    """Not done: answered with a 307 to `location`."""
    LOST_REPLY = "lost_reply"
    """Done, and the connection is closed without an answer."""
    SLOW_REPLY = "slow_reply"
    """Done, and answered after `seconds` of real time."""
    STATUS_AFTER = "status_after"
    """Done, and answered like STATUS."""
    HTML_AFTER = "html_after"
    """Done, and answered like HTML."""
    CUT_JSON = "cut_json"
    """Done, and the answer's JSON breaks off in the middle."""
    WRONG_COUNT = "wrong_count"
    """Done, and the answer counts one request too many. Create only."""
    SLOW_COMMIT = "slow_commit"
    """Done, the answer is lost, and the batch is seen by other calls only after `seconds`. Create only."""
    LIST_LAG = "list_lag"
    """Batches younger than `seconds` are missing from the list. List only."""
    CUT_RESULTS = "cut_results"
    """The stream of results ends after `at_bytes`, or after `line` whole lines; `clean` makes it look complete."""
    MISSING_LINE = "missing_line"
    """The result line number `line` is left out."""
    DUPLICATE_LINE = "duplicate_line"
    """The result line number `line` comes twice."""
    FOREIGN_LINE = "foreign_line"
    """A line of a request that is not in the batch comes before line number `line`."""
    OVERLONG_LINE = "overlong_line"
    """The result line number `line` is drawn out by `at_bytes` spaces; it is still JSON."""


_RESULTS_ONLY = (
    FaultKind.CUT_RESULTS,
    FaultKind.MISSING_LINE,
    FaultKind.DUPLICATE_LINE,
    FaultKind.FOREIGN_LINE,
    FaultKind.OVERLONG_LINE,
)
_ONLY_FOR: Mapping[FaultKind, Call] = MappingProxyType(
    {
        FaultKind.WRONG_COUNT: Call.CREATE,
        FaultKind.SLOW_COMMIT: Call.CREATE,
        FaultKind.LIST_LAG: Call.LIST,
        **dict.fromkeys(_RESULTS_ONLY, Call.RESULTS),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. Only the fields that its kind names have a meaning. Raises ValueError for a call it cannot meet."""

    kind: FaultKind
    call: Call
    times: int | None = 1
    """How many calls it meets; None: every one, until the menu is cleared."""
    skip: int = 0
    """How many calls go by before the first."""
    status: int | None = None
    """Where it is not given, 500 for STATUS and 200 for HTML."""
    error_type: str = "api_error"
    message: str = "Simulated fault"
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """Real ones for SLOW_REPLY, where a client waits; simulated ones otherwise."""
    at_bytes: int = 0
    line: int | None = None
    """Counted from 0 in the order of the stream."""
    clean: bool = False
    location: str = ""

    def __post_init__(self) -> None:
        if _ONLY_FOR.get(self.kind, self.call) is not self.call:
            raise ValueError(f"the fault {self.kind} cannot meet the call {self.call}, only {_ONLY_FOR[self.kind]}")
        if self.kind is FaultKind.CUT_JSON and self.call is Call.RESULTS:
            raise ValueError("the fault cut_json cannot meet the call results: use cut_results")
        if self.times is not None and self.times < 1:
            raise ValueError(f"a fault cannot meet {self.times} calls: times is at least 1, or null for every call")
        for name, value in (("skip", self.skip), ("at_bytes", self.at_bytes), ("line", self.line or 0)):
            if value < 0:
                raise ValueError(f"a fault's {name} cannot be {value}: it is counted from 0")
        if self.kind is FaultKind.REDIRECT and not self.location:
            raise ValueError("the fault redirect needs a location")


@dataclass(slots=True)
class _Waiting:
    """A fault on the menu. Changed by the menu only."""

    fault: Fault
    to_skip: int
    left: int | None


class FaultMenu:
    """The faults that wait for their calls.

    One call meets one fault: the oldest that has a number of `times`, else the oldest standing one.
    """

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []

    def add(self, fault: Fault) -> None:
        """Put a fault on the menu."""
        self._waiting.append(_Waiting(fault, fault.skip, fault.times))

    def clear(self) -> None:
        """Take every fault off the menu."""
        self._waiting.clear()

    @property
    def pending(self) -> Sequence[Fault]:
        """The faults that may still meet a call."""
        return [waiting.fault for waiting in self._waiting]

    def take(self, call: Call) -> Fault | None:
        """Return the fault that this call meets, which uses it up once."""
        ready = []
        for waiting in self._waiting:
            if waiting.fault.call is not call:
                continue
            if waiting.to_skip:
                waiting.to_skip -= 1
            else:
                ready.append(waiting)
        if not ready:
            return None
        chosen = min(ready, key=lambda waiting: waiting.left is None)  # stable: the oldest of each sort
        self._use(chosen)
        return chosen.fault

    def _use(self, waiting: _Waiting) -> None:
        if waiting.left is None:
            return
        waiting.left -= 1
        if not waiting.left:
            self._waiting.remove(waiting)
