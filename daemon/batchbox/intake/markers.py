"""Which file a marker is about, and which files may be looked at because of that.

`<name>.ready` beside a file says that it is complete, in every lane: whoever makes one means it, so the file is taken
when it has been still for `quiet`, and nothing that looks unfinished about it is waited for. A lane may demand markers;
then a file without one is not there yet, as if its name were one that is never a request.

A marker is never rejected and never left lying: it is deleted with the claim of its file and, if that is not there
(taken before its marker came, or withdrawn by its dropper), after `incomplete_after`, in lanes that do not demand
markers too. What is too large for a marker, or no regular file, is a file of an unknown type instead: somebody may
have meant something by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batchbox.naming import canceled_by, marked_by, visible
from batchbox.settling import Sample

MARKER_BYTES_MAX = 4096
"""A marker holds nothing, or a time or a checksum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A lane's names, with its markers out of the way."""

    names: Sequence[str]
    """Files that may be looked at, and markers that have none."""
    markers: Mapping[str, str] = field(default_factory=dict)
    """By file: its marker."""


def pair(names: Sequence[str], *, is_demanded: bool) -> Paired:
    """Part a lane's names into files that may be looked at and the markers beside them."""
    targets = marked_by(names)
    if not targets and not is_demanded:
        return Paired(names=names)
    by_target = {target: name for name, target in targets.items()}
    files = [name for name in names if name not in targets]
    markers = {name: marker for name in files if (marker := by_target.pop(visible(name), None)) is not None}
    paired = set(markers.values())
    lone = [name for name in targets if name not in paired]
    if is_demanded:
        signs = canceled_by(files)
        files = [name for name in files if name in markers or name in signs]
    return Paired(names=[*files, *lone], markers=markers)


def is_leftover(name: str, sample: Sample) -> bool:
    """Say whether what lies there alone is a marker, of which nothing is lost if it is deleted."""
    return bool(marked_by([name])) and sample.is_regular and sample.size_bytes <= MARKER_BYTES_MAX
