"""Somebody has a file open, takes it away or takes its name: that one waits, and nothing else does."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import pytest

from batchbox.delivery.publishing import STEM_TRIES_MAX
from batchbox.folders import outbox, replacing, shelves
from folders.failing import FailingOs

from .bench import INSTANCE, Bench, Points
from .lines import send


@contextmanager
def refusing(module: ModuleType, *names: str, number: int = errno.EBUSY) -> Iterator[FailingOs]:
    """Let these names be refused to the module while the block lasts."""
    failing = FailingOs(number, names)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "os", failing)
        yield failing


@dataclass
class Meddling(Points):
    """Lets somebody do something in the outbox just before each group is published, while that is on."""

    meddle: Callable[[], None] = lambda: None
    is_on: bool = True

    def pass_by(self, label: str) -> None:
        """Pass a point."""
        super().pass_by(label)
        if self.is_on and label.startswith("before Outbox.publish."):
            self.meddle()


async def rounds(bench: Bench, seconds: float) -> None:
    """Go on for so long by the bench's clock."""
    until = bench.now.monotonic + seconds
    while bench.now.monotonic < until:
        due = await bench.step_all()
        bench.api.end_all()
        bench.advance(max(0.05, min(due - bench.now.monotonic, until - bench.now.monotonic)))


def drop_three(bench: Bench) -> None:
    for name in ("a.md", "b.md", "c.md"):
        bench.drop(name, f"question {name}")


ALL = {name + end for name in "abc" for end in (".md", ".result.json")}


@pytest.mark.parametrize(
    ("refused", "number"), [("b.md", errno.EACCES), ("b.result.json", errno.EBUSY), ("b.result.json", errno.EPERM)]
)
async def test_an_answer_whose_name_is_refused_waits_alone_and_gets_it_in_the_end(
    bench: Bench, caplog: pytest.LogCaptureFixture, refused: str, number: int
) -> None:
    """The stream of results is read again for it; nothing counts as missing, and one line says why it waits."""
    drop_three(bench)
    with refusing(outbox, refused, number=number):
        await rounds(bench, 40)
        meanwhile = set(bench.outbox())
    await bench.settle()

    assert meanwhile - {"b.md"} == ALL - {"b.md", "b.result.json"}
    assert "b.result.json" not in meanwhile
    assert set(bench.outbox()) == ALL
    assert bench.api.create_count == 1
    assert len([record for record in caplog.records if record.message.startswith("answer waits")]) == 1
    assert not list((bench.root / "outbox").glob(".bb-*"))


@pytest.mark.parametrize("refused", ["b.md", "b.result.json"])
async def test_after_a_minute_it_gets_the_next_name_and_nothing_stays_under_the_first(
    bench: Bench, refused: str
) -> None:
    drop_three(bench)
    with refusing(outbox, refused):
        await rounds(bench, 80)
    await bench.settle()

    assert set(bench.outbox()) == ALL - {"b.md", "b.result.json"} | {"b__2.md", "b__2.result.json"}
    assert bench.document("b__2.result.json")["custom_id"] == "b"
    assert len(bench.api.bought) == 3


async def test_the_minute_is_kept_across_groups_but_not_across_lives(bench: Bench) -> None:
    """A process that has just started may find that the file was let go of."""
    drop_three(bench)
    with refusing(outbox, "b.md"):
        await rounds(bench, 50)
        await bench.restart()
        await rounds(bench, 50)
        after_two_halves = {name for name in bench.outbox() if name.startswith("b")}
        await rounds(bench, 30)
    await bench.settle()

    assert after_two_halves == set()
    assert {name for name in bench.outbox() if name.startswith("b")} == {"b__2.md", "b__2.result.json"}


async def test_an_error_whose_name_is_refused_waits_alone(bench: Bench) -> None:
    """Errors of requests that never came to results are written by another way."""
    drop_three(bench)
    bench.api.refuses = lambda body: b"question b" in body
    with refusing(outbox, "b.error.json"):
        await rounds(bench, 30)
        meanwhile = set(bench.outbox())
        steps = 0
        until = bench.now.monotonic + 10
        while bench.now.monotonic < until:
            due = await bench.step("delivery")
            bench.advance(max(0.0, due - bench.now.monotonic))
            steps += 1
    await bench.settle()

    others = {"a.md", "a.result.json", "c.md", "c.result.json"}
    assert meanwhile == others
    assert steps <= 4, "a hot loop"
    assert set(bench.outbox()) == {*others, "b.error.json"}


@pytest.mark.parametrize("custom_ids", ["b", "abc"])
async def test_an_answer_of_which_a_part_vanishes_waits_alone_and_comes_in_the_end(
    bench: Bench, caplog: pytest.LogCaptureFixture, custom_ids: str
) -> None:
    """A scanner for viruses on the file server takes it away as often as it is written."""
    marks = [f'"custom_id": "{custom_id}"' for custom_id in custom_ids]

    def scan() -> None:
        for part in (bench.root / "outbox").glob(".bb-*.part"):
            if any(mark in part.read_text() for mark in marks):
                part.unlink()

    drop_three(bench)
    bench.drop("d.md", "question d", lane="other")
    bench.api.points = scanner = Meddling(meddle=scan)
    await rounds(bench, 40)
    meanwhile, of_other_lane = set(bench.outbox()), set(bench.outbox("other"))
    scanner.is_on = False
    await bench.settle()

    assert meanwhile - {"a.md", "b.md", "c.md"} == {f"{one}.result.json" for one in set("abc") - set(custom_ids)}
    assert of_other_lane == {"d.md", "d.result.json"}
    assert set(bench.outbox()) == ALL
    assert len(bench.api.bought) == 4
    said = [record for record in caplog.records if record.message.startswith("answer waits")]
    assert len(said) == len(custom_ids)
    assert not list((bench.root / "outbox").glob(".bb-*"))


async def test_folders_that_bear_the_names_of_answers_are_passed_over(bench: Bench) -> None:
    """Whoever may drop files can make as many as they like."""
    for stem in ("b", *(f"b__{number}" for number in range(2, STEM_TRIES_MAX + 2))):
        (bench.root / "outbox" / f"{stem}.md").mkdir()
    drop_three(bench)

    await bench.settle()

    last = f"b__{STEM_TRIES_MAX + 2}"
    assert set(bench.outbox()) == ALL - {"b.md", "b.result.json"} | {f"{last}.md", f"{last}.result.json"}


async def test_an_answer_whose_names_are_always_taken_at_the_last_moment_waits_alone(bench: Bench) -> None:
    def take() -> None:
        for (stem,) in bench.rows("SELECT stem FROM requests WHERE custom_id = 'b'"):
            (bench.root / "outbox" / f"{stem}.md").mkdir(exist_ok=True)

    drop_three(bench)
    bench.drop("d.md", "question d", lane="other")
    bench.api.points = thief = Meddling(meddle=take)
    await rounds(bench, 10)
    meanwhile, of_other_lane = set(bench.outbox()), set(bench.outbox("other"))
    thief.is_on = False
    await bench.settle()

    others = ALL - {"b.md", "b.result.json"}
    assert (meanwhile, of_other_lane) == (others, {"d.md", "d.result.json"})
    (text, marker) = sorted(set(bench.outbox()) - others)
    assert (text.partition(".")[0], marker.partition(".")[2]) == (marker.partition(".")[0], "result.json")
    assert len(bench.api.bought) == 4
    assert not list((bench.root / "outbox").glob(".bb-*"))


async def test_an_old_answer_that_is_open_is_replaced_when_it_is_closed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    bench = Bench(tmp_path_factory.mktemp("replace"), on_existing="replace")
    bench.drop("a.md", "one")
    await bench.settle()
    before = bench.outbox()
    bench.drop("a.md", "two")
    with refusing(replacing, "a.result.json"):
        await rounds(bench, 40)
        meanwhile = bench.outbox()
    await bench.settle()

    assert meanwhile == before
    assert set(bench.outbox()) == {"a.md", "a.result.json"}
    assert bench.outbox() != before
    await bench.stop()


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES])
async def test_an_original_that_is_open_stays_where_it_is_and_the_others_are_archived(
    bench: Bench, number: int
) -> None:
    drop_three(bench)
    with refusing(shelves, "b.md", number=number):
        await rounds(bench, 20)
        meanwhile = {path.name: path.read_bytes() for path in (bench.root / "done").iterdir()}
    await rounds(bench, 70)
    await bench.settle()

    assert {meanwhile[name] for name in ("a.md", "c.md")} == {b"question a.md", b"question c.md"}
    assert meanwhile["b.md"] != b"question b.md", "only the placeholder"
    assert (bench.root / "done" / "b.md").read_bytes() == b"question b.md"
    assert set(bench.outbox()) == ALL


async def test_a_rejected_file_that_is_open_stays_where_it_is_and_the_others_are_put_aside(bench: Bench) -> None:
    for name in ("a.json", "b.json"):
        bench.drop(name, f"{{] {name}")
    with refusing(shelves, "b.json"):
        await rounds(bench, 20)
        meanwhile = {path.name for path in (bench.root / "rejected").iterdir()}
    await rounds(bench, 70)
    await bench.settle()

    assert meanwhile == {"a.json", "a.json.error.txt", "b.json.error.txt"}
    assert (bench.root / "rejected" / "b.json").read_bytes() == b"{] b.json"


async def test_an_original_that_nobody_keeps_and_somebody_has_open_is_deleted_later(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    bench = Bench(tmp_path_factory.mktemp("none"), done_days=0)
    bench.drop("a.md", "one")
    bench.dropped.clear()
    await send(bench)
    ((claim,),) = bench.rows("SELECT claim FROM sources")
    assert isinstance(claim, bytes)
    with refusing(shelves, claim.decode()):
        await rounds(bench, 20)
        meanwhile = list((bench.root / "processing" / INSTANCE / "_").iterdir())
    await rounds(bench, 70)

    assert [path.name for path in meanwhile] == [claim.decode()]
    assert list((bench.root / "processing" / INSTANCE / "_").iterdir()) == []
    assert set(bench.outbox()) == {"a.md", "a.result.json"}
    await bench.stop()
