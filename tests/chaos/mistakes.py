"""Mistakes that the chaos must notice: a judge who finds nothing proves nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from suites.mutants import Mutation

from .drops import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A mistake, and what has to happen for it to do harm."""

    mutation: Mutation
    files: Mapping[Kind, int]


MISTAKES = (
    Planted(
        mutation=Mutation(
            name="files are not looked at once more before they are sent",
            file="dispatch/verifying.py",
            before="comparisons, looked_at = await self._inbox.compare(lane, [_known(source) for source in sources])",
            after="comparisons, looked_at = [Comparison.SAME for _ in sources], now.monotonic",
        ),
        files={Kind.STALLING: 24},
    ),
    Planted(
        mutation=Mutation(
            name="what is in doubt is not looked for",
            file="dispatch/reconcile.py",
            before="return batch.counts.total == doubt.request_count and not _is_before(batch, doubt.mark)",
            after="return False",
        ),
        files={Kind.ATOMIC: 200, Kind.AGAIN: 60},
    ),
    Planted(
        mutation=Mutation(
            name="a file that breaks off counts as complete",
            file="folders/inbox.py",
            before="return ClaimOutcome.UNFINISHED",
            after="return None",
        ),
        files={Kind.APPENDING: 24},
    ),
)
