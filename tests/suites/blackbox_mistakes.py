"""What the kills must bring to light, and where each of these mistakes does harm."""

from collections.abc import Sequence
from dataclasses import dataclass

from .mutants import Mutation

_IN_PLACE = """__import__("shutil").copyfile(
    f"/proc/self/fd/{outbox}/{publication.part.name}", f"/proc/self/fd/{outbox}/{publication.name}"
) and os.unlink(publication.part.name, dir_fd=outbox)"""
WRITE_IN_PLACE = Mutation(
    name="write in place",
    file="folders/outbox.py",
    before="os.rename(publication.part.name, publication.name, src_dir_fd=outbox, dst_dir_fd=outbox)",
    after=_IN_PLACE,
)
_SHOW = "refused, noted = await self._show(visible, now)"
_RECORD = "await self._store.record([written.ended for written in done], now=now.wall)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A mistake, and where it does harm."""

    mutation: Mutation
    where: str
    """The changes that the mistake is about: kills are tried there first."""
    plus: Sequence[int] = (0, 2)
    """How many changes after such a one."""
    is_cheap: bool = False
    """Whether the short form tries it."""


MUTATIONS: Sequence[Planted] = (
    Planted(
        mutation=WRITE_IN_PLACE,
        where=r"sendfile .*\.md$",
        is_cheap=True,
    ),
    Planted(
        mutation=Mutation(
            name="what is in doubt not looked for",
            file="dispatch/reconcile.py",
            before="return batch.counts.total == doubt.request_count and not _is_before(batch, doubt.mark)",
            after="return False",
        ),
        where=r"^renameat .*\.jsonl$",
        plus=(5, 6, 7, 8),
    ),
    Planted(
        mutation=Mutation(
            name="a document visible before its text",
            file="folders/outbox.py",
            before="for is_marker in (False, True):",
            after="for is_marker in (True, False):",
        ),
        where=r"renameat .*/outbox/.*\.result\.json$",
        is_cheap=True,
    ),
    Planted(
        mutation=Mutation(
            name="record before the files are visible",
            file="delivery/publishing.py",
            before=f"""        if visible:
            {_SHOW}
        left = refused | self.overtaken
        done = [written for written in group if written.request.request_id not in left]
        {_RECORD}""",
            after=f"""        done = group
        {_RECORD}
        if visible:
            {_SHOW}""",
        ),
        where=r"renameat .*/outbox/",
        is_cheap=True,
    ),
    Planted(
        mutation=Mutation(
            name="parts of a life before not removed",
            file="delivery/stage.py",
            before="if not self._leftovers_removed:",
            after="if False:",
        ),
        where=r"renameat .*/outbox/",
    ),
    Planted(
        mutation=Mutation(
            name="own explanation not known again",
            file="folders/shelves.py",
            before="if _take(explanation, file.explanation, shelf, is_alone=is_alone, durable=True):",
            after="if _create(explanation, file.explanation, shelf, durable=True):",
        ),
        where=r"fsync .*\.error\.txt$",
    ),
)
