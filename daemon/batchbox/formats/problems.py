"""Gathers what is wrong with a file, so that its sender reads everything at once.

A problem is a RejectedError that has not been raised yet. Several of them become one, with the first one's reason.
"""

from collections.abc import Iterable, Sequence

from batchbox.errors import RejectedError
from batchbox.logs import shown

PROBLEMS_LISTED_MAX = 50
PROBLEMS_COUNTED_MAX = 1000
"""Reading on would cost time for ever and tell nobody anything."""

NAMES_LISTED_MAX = 10
QUOTED_CHARACTERS_MAX = 80


def quoted(name: str) -> str:
    """Return a field's name, an id or a model's name from a file as it may be shown: escaped, short, in quotes."""
    cut = name if len(name) <= QUOTED_CHARACTERS_MAX else name[:QUOTED_CHARACTERS_MAX] + "…"
    return f'"{shown(cut)}"'


def quoted_list(names: Iterable[str]) -> str:
    """Return the names in order as they may be shown, the first few of many."""
    ordered = sorted(names)
    more = f" and {len(ordered) - NAMES_LISTED_MAX} more" if len(ordered) > NAMES_LISTED_MAX else ""
    return ", ".join(quoted(name) for name in ordered[:NAMES_LISTED_MAX]) + more


def together(problems: Sequence[RejectedError]) -> RejectedError:
    """Make one rejection of the problems of one request; there is at least one."""
    if len(problems) == 1:
        return problems[0]
    listed = problems[:PROBLEMS_LISTED_MAX]
    detail = "; ".join(problem.detail for problem in listed)
    return RejectedError(problems[0].reason, detail + _more(len(problems) - len(listed)), _advice(listed))


class ProblemList:
    """The problems of a file that holds many requests: the first 50 in words, the number of the others up to a bound.

    Args:
        place: What is counted in this file, `line` or `item`.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._listed: list[tuple[int, RejectedError]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether enough is known to stop reading."""
        return self._count >= PROBLEMS_COUNTED_MAX

    def add(self, number: int, problem: RejectedError) -> None:
        """Note what is wrong at this place.

        The words are copied: the error itself holds on to the frames that it came through, and so to the request.
        """
        self._count += 1
        if len(self._listed) < PROBLEMS_LISTED_MAX:
            self._listed.append((number, RejectedError(problem.reason, problem.detail, problem.what_to_do)))

    def rejection(self) -> RejectedError:
        """Return the one rejection that names them all; there is at least one."""
        lines = [f"{self._place} {number}: {problem.detail}" for number, problem in self._listed]
        problems = [problem for _, problem in self._listed]
        stopped = ", where reading stopped" if self.is_full else ""
        detail = "\n".join(lines) + _more(self._count - len(lines)) + stopped
        return RejectedError(problems[0].reason, detail, _advice(problems))


def _more(count: int) -> str:
    return f"\nand {count} more" if count else ""


def _advice(problems: Sequence[RejectedError]) -> str:
    return " ".join(dict.fromkeys(problem.what_to_do for problem in problems))
