"""Puts composed groups into the outbox under names that are taken first, and records them after.

If we die               | what is left                             | what the next delivery does
------------------------+-------------------------------------------+-------------------------------------------
while writing parts     | hidden parts                             | removes them at the start, writes them anew
after taking stems      | stems recorded, hidden parts             | writes the same names
between the renames     | some visible, none recorded              | renames the same content over them
after the renames       | all visible, none recorded               | the same
after the commit        | all recorded                             | skips them
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchbox.delivery.composing import Composed
from batchbox.documents import HEAD_BYTES, custom_id_in, wire_ids_in
from batchbox.folders.outbox import NewFile, Outbox, Part, Publication
from batchbox.model import Lane, Now
from batchbox.naming import stem_for
from batchbox.store.delivery import DeliveryStore, Ended, Undelivered

MARKERS = (".result.json", ".error.json")
STEM_CHECKS_MAX = 4
"""In so many of the taken stems it is looked whether they were taken for this very request, the latest first."""
STEM_TRIES_MAX = 100
"""How often a stem that somebody else took at the last moment is exchanged before delivery backs off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenFile:
    """A part in the outbox and what comes after the stem in its name to be."""

    part: Part
    suffix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A request whose files are in the outbox, hidden. Their content is not kept in memory."""

    request: Undelivered
    ended: Ended
    files: Sequence[HiddenFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stem:
    """The stem of a request's files."""

    text: str
    is_new: bool
    """Chosen just now and free: a file that has it all the same is somebody else's."""
    is_replaced: bool
    """Whether what has it goes first: an earlier request's answer."""


class Publisher:
    """One lane's way into the outbox, for as long as one batch is delivered."""

    def __init__(self, lane: Lane, *, store: DeliveryStore, outbox: Outbox, replaces_old: bool) -> None:
        self._lane = lane
        self._store = store
        self._outbox = outbox
        self._replaces_old = replaces_old
        self._taken: set[str] | None = None  # stems in the folder and in the database, case-folded; read once

    async def write(self, composed: Sequence[Composed]) -> list[Written]:
        """Write the files' parts: hidden, and not durable yet."""
        files = [NewFile(pieces=file.pieces, is_marker=file.is_marker) for one in composed for file in one.files]
        parts = iter(await self._outbox.write(self._lane, files) if files else [])
        return [
            Written(
                request=one.request,
                ended=one.ended,
                files=[HiddenFile(part=next(parts), suffix=file.suffix) for file in one.files],
            )
            for one in composed
        ]

    async def publish(self, group: Sequence[Written], now: Now) -> None:
        """Make a group visible, durably and in order, and then record it."""
        visible = [written for written in group if written.files]
        if visible:
            await self._show(visible)
        await self._store.record([written.ended for written in group], now=now.wall)

    async def _show(self, group: Sequence[Written]) -> None:
        stems = {one.request.request_id: await self._stem(one.request) for one in group}
        for _ in range(STEM_TRIES_MAX):
            unrecorded = [one.request.request_id for one in group if one.request.stem is None]
            if unrecorded:
                await self._store.take_stems([(id_, stems[id_].text) for id_ in unrecorded])
            taken = await self._publish(group, stems)
            if not taken:
                return
            for one in group:
                if any(stems[one.request.request_id].text + file.suffix in taken for file in one.files):
                    stems[one.request.request_id] = await self._stem(one.request)
        raise FileExistsError(f"somebody else took a new name {STEM_TRIES_MAX} times just before it was used")

    async def _publish(self, group: Sequence[Written], stems: Mapping[int, _Stem]) -> set[str]:
        publications = [
            Publication(part=file.part, name=stem.text + file.suffix, is_new=stem.is_new)
            for one in group
            for stem in [stems[one.request.request_id]]
            for file in one.files
        ]
        replaced = [stem.text for stem in stems.values() if stem.is_replaced]
        return await self._outbox.publish(self._lane, publications, replaced=replaced)

    async def _stem(self, request: Undelivered) -> _Stem:
        if request.stem is not None:
            return _Stem(text=request.stem, is_new=False, is_replaced=self._replaces_old)
        taken = await self._taken_stems()
        base = stem_for(request.custom_id)
        stem, passed = base, []
        while stem.casefold() in taken:
            passed.append(stem)
            stem = f"{base}__{len(passed) + 1}"
        if passed and (own := await self._own_stem(passed, request)):
            return own
        taken.add(stem.casefold())
        return _Stem(text=stem, is_new=True, is_replaced=False)

    async def _own_stem(self, passed: Sequence[str], request: Undelivered) -> _Stem | None:
        """Return the taken stem that is the request's: the database may be older than the outbox, or it is replaced."""
        latest = [*reversed(passed[-STEM_CHECKS_MAX:]), passed[0]]
        names = [stem + marker for stem in latest for marker in MARKERS]
        heads = dict(zip(names, await self._outbox.heads(self._lane, names, length=HEAD_BYTES), strict=True))
        wire_ids = {each.wire_id for each in request.tries}
        for name, head in heads.items():
            if head is not None and not wire_ids.isdisjoint(wire_ids_in(head)):
                return _Stem(text=name.partition(".")[0], is_new=False, is_replaced=False)
        old = [heads[passed[0] + marker] for marker in MARKERS]
        if self._replaces_old and any(head is not None and custom_id_in(head) == request.custom_id for head in old):
            return _Stem(text=passed[0], is_new=False, is_replaced=True)
        return None

    async def _taken_stems(self) -> set[str]:
        if self._taken is None:
            names = await self._outbox.names(self._lane)
            in_folder = {name.partition(".")[0].casefold() for name in names if not name.startswith(".")}
            self._taken = in_folder | await self._store.stems_in_use(self._lane)
        return self._taken
