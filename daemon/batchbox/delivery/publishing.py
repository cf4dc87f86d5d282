"""Puts composed groups into the outbox under names that are taken first, and records them after.

If we die               | what is left                             | what the next delivery does
------------------------+-------------------------------------------+-------------------------------------------
while writing parts     | hidden parts                             | removes them at the start, writes them anew
after taking stems      | stems recorded, hidden parts             | writes the same names
between the renames     | some visible, none recorded              | renames the same content over them
after the renames       | all visible, none recorded               | the same
after the commit        | all recorded, notes for other daemons    | skips them, and removes the notes at the start

Here it is chosen which stem to try: a free one, or one that seems to be the request's, or that of an answer that it
replaces. What really lies under it is judged by the outbox, each time anew and when the stem is ours alone.

A request of which a name is refused, or a part vanishes, is not recorded and waits, while the others go on. After
REFUSED_SECONDS it gets the next stem, which is recorded first too; what was shown of it under the former one then goes.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from batchbox.delivery.composing import Composed
from batchbox.folders.answers import Replaceable, Sought
from batchbox.folders.outbox import NewFile, Outbox, Part, Publication, Published, StemUse
from batchbox.logs import shown
from batchbox.model import Lane, Now
from batchbox.naming import stem_for
from batchbox.store.delivery import DeliveryStore, Ended, Undelivered

STEM_CHECKS_MAX = 4
"""In so many of the taken stems it is looked whether they were taken for this very request, the latest first."""
STEM_TRIES_MAX = 20
"""How often stems that somebody else took at the last moment are exchanged before their requests wait."""
REFUSED_SECONDS = 60.0
"""How long a stem is tried of which a name is refused: whoever holds a file open may let go of it."""

log = logging.getLogger(__name__)


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
    use: StemUse
    former: str | None = None
    """The one that it takes the place of, because a name of it was refused for too long."""


class Refusals:
    """Since when requests wait for a name that is refused, by the monotonic clock. One delivery stage writes it."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def note(self, request_id: int, now: Now) -> bool:
        """Write down that a request waits; return whether that is news."""
        is_news = request_id not in self._since
        self._since.setdefault(request_id, now.monotonic)
        return is_news

    def forget(self, request_id: int) -> None:
        """Write down that it does not."""
        self._since.pop(request_id, None)

    def is_over(self, request_id: int, now: Now) -> bool:
        """Say whether it has waited for long enough."""
        return now.monotonic - self._since.get(request_id, now.monotonic) >= REFUSED_SECONDS


class Publisher:
    """One lane's way into the outbox, for as long as one batch is delivered."""

    def __init__(
        self, lane: Lane, *, store: DeliveryStore, outbox: Outbox, refusals: Refusals, replaces_old: bool
    ) -> None:
        self._lane = lane
        self._store = store
        self._outbox = outbox
        self._refusals = refusals
        self._replaces_old = replaces_old
        self._is_listed = False  # the next two are read once; stems are case-folded
        self._taken: set[str] = set()  # in the folder, or in use
        self._in_use: set[str] = set()  # by unpublished requests, also those that we chose since
        self.refused: set[int] = set()
        """Requests that were left to wait for a name."""
        self.overtaken: set[int] = set()
        """Requests that were cancelled after it was decided what to write of them: their line is to be read again."""

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
        """Make a group visible, durably and in order, and then record it, without those that are refused a name."""
        visible = [written for written in group if written.files]
        refused: AbstractSet[int] = frozenset()
        noted: AbstractSet[str] = frozenset()
        if visible:
            refused, noted = await self._show(visible, now)
        left = refused | self.overtaken
        done = [written for written in group if written.request.request_id not in left]
        await self._store.record([written.ended for written in done], now=now.wall)
        if noted:
            await self._outbox.release(self._lane, noted)

    async def _show(self, group: Sequence[Written], now: Now) -> tuple[AbstractSet[int], AbstractSet[str]]:
        """Return the requests that were refused a name, and the stems to be released when the others are recorded."""
        stems = {one.request.request_id: await self._stem(one, now) for one in group}
        lost: set[str] = set()
        unlucky: list[Written] = []
        tries_left = STEM_TRIES_MAX
        while True:
            group = await self._take_stems(group, stems)
            published = await self._publish(group, stems)
            if not published.taken:
                break
            lost |= published.taken
            losers = [one for one in group if stems[one.request.request_id].text in published.taken]
            if tries_left == 0:  # from now on each round makes the group smaller
                unlucky += losers
                group = await self._leave_out({one.request.request_id for one in losers}, group)
                continue
            tries_left -= 1
            for one in losers:
                other = await self._next_stem(one, lost)
                stems[one.request.request_id] = replace(other, former=stems[one.request.request_id].former)
        refused = published.refused | {stems[one.request.request_id].text for one in unlucky}
        return self._note_refused([*group, *unlucky], stems, refused, now), published.noted - published.refused

    async def _take_stems(self, group: Sequence[Written], stems: Mapping[int, _Stem]) -> Sequence[Written]:
        """Record the stems that are not; return the group without the requests that were cancelled meanwhile."""
        texts = {one.request.request_id: stems[one.request.request_id].text for one in group}
        unrecorded = [one.request for one in group if one.request.stem != texts[one.request.request_id]]
        if not unrecorded:
            return group
        overtaken = await self._store.take_stems(
            {request.request_id: texts[request.request_id] for request in unrecorded},
            canceled={request.request_id for request in unrecorded if request.is_canceled},
        )
        if not overtaken:
            return group
        self.overtaken |= overtaken
        return await self._leave_out(overtaken, group)

    async def _leave_out(self, request_ids: AbstractSet[int], group: Sequence[Written]) -> Sequence[Written]:
        parts = [file.part for one in group if one.request.request_id in request_ids for file in one.files]
        await self._outbox.discard(self._lane, parts)
        return [one for one in group if one.request.request_id not in request_ids]

    async def _publish(self, group: Sequence[Written], stems: Mapping[int, _Stem]) -> Published:
        publications = [
            Publication(
                part=file.part,
                stem=stem.text,
                suffix=file.suffix,
                use=stem.use,
                wire_ids=[each.wire_id for each in one.request.tries],
                replaces=self._replaceable(one.request),
                former_stem=stem.former,
            )
            for one in group
            for stem in [stems[one.request.request_id]]
            for file in one.files
        ]
        return await self._outbox.publish(self._lane, publications)

    def _note_refused(
        self, group: Sequence[Written], stems: Mapping[int, _Stem], refused_stems: AbstractSet[str], now: Now
    ) -> set[int]:
        refused = set()
        for one in group:
            request_id, stem = one.request.request_id, stems[one.request.request_id].text
            if stem not in refused_stems:
                self._refusals.forget(request_id)
                continue
            refused.add(request_id)
            if self._refusals.note(request_id, now):
                log.warning(
                    "answer waits: a file of it cannot be given its name in the outbox; "
                    "perhaps somebody has it open, takes it away or takes the name",
                    extra={"lane": shown(self._lane), "stem": stem},
                )
        self.refused |= refused
        return refused

    async def _stem(self, written: Written, now: Now) -> _Stem:
        request = written.request
        if request.stem is None:
            return await self._next_stem(written, lost=set())
        if not self._refusals.is_over(request.request_id, now):
            return _Stem(text=request.stem, use=StemUse.OWN)
        self._refusals.forget(request.request_id)  # the next one has its own time
        stem, _ = await self._free_stem(request)
        return _Stem(text=stem, use=StemUse.NEW, former=request.stem)

    async def _next_stem(self, written: Written, lost: Collection[str]) -> _Stem:
        stem, passed = await self._free_stem(written.request)
        passed = [each for each in passed if each not in lost]
        known = await self._known_stem(passed, written) if passed else None
        return _Stem(text=stem, use=StemUse.NEW) if known is None else _Stem(text=known, use=StemUse.OWN)

    async def _free_stem(self, request: Undelivered) -> tuple[str, Sequence[str]]:
        """Take a stem that nobody has, as far as we know; return it, and those that somebody has."""
        taken = await self._taken_stems()
        base = stem_for(request.custom_id)
        stem, passed = base, []
        while stem.casefold() in taken:
            passed.append(stem)
            stem = f"{base}__{len(passed) + 1}"
        self._note_chosen(stem)
        return stem, passed

    async def _known_stem(self, passed: Sequence[str], written: Written) -> str | None:
        """Return the taken stem that is the request's: the database may be older than the outbox, or it is replaced."""
        latest = dict.fromkeys([*reversed(passed[-STEM_CHECKS_MAX:]), passed[0]])
        candidates = [stem for stem in latest if stem.casefold() not in self._in_use]
        sought = Sought(
            wire_ids=[each.wire_id for each in written.request.tries],
            texts={file.suffix: file.part.name for file in written.files if not file.part.is_marker},
            replaces=self._replaceable(written.request),
        )
        known = await self._outbox.known_stem(self._lane, candidates, sought) if candidates else None
        if known is not None:
            self._note_chosen(known)
        return known

    def _replaceable(self, request: Undelivered) -> Replaceable | None:
        """Return what may be replaced: an answer of the same custom_id under its plain name."""
        if not self._replaces_old:
            return None
        return Replaceable(stem=stem_for(request.custom_id), custom_id=request.custom_id, extension=request.extension)

    def _note_chosen(self, stem: str) -> None:
        self._taken.add(stem.casefold())
        self._in_use.add(stem.casefold())

    async def _taken_stems(self) -> AbstractSet[str]:
        if not self._is_listed:
            names = await self._outbox.names(self._lane)
            self._in_use |= await self._store.stems_in_use(self._lane)
            self._taken = {name.partition(".")[0].casefold() for name in names if not name.startswith(".")}
            self._taken |= self._in_use
            self._is_listed = True
        return self._taken
