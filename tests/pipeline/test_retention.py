"""What is kept and for how long: originals, the bodies of errors, manifests."""

from datetime import timedelta
from pathlib import Path

from batchbox.delivery.tidying import BODIES_KEPT, GROUP_ROWS

from .bench import Bench
from .fake_api import answer, errored
from .lines import succeeded

HOUR = timedelta(hours=1).total_seconds()


def bodies(bench: Bench) -> set[object]:
    """Return the custom_ids whose bodies are in the database."""
    rows = bench.rows("SELECT DISTINCT r.custom_id FROM requests AS r JOIN body_pieces AS p ON p.key / 1024 = r.id")
    return {custom_id for (custom_id,) in rows}


async def test_originals_are_deleted_at_once_where_nobody_keeps_them(tmp_path: Path) -> None:
    """done_days = 0."""
    bench = Bench(tmp_path, done_days=0)
    bench.drop("a.md", "one")
    bench.dropped.clear()

    await bench.settle()

    assert list((bench.root / "done").iterdir()) == []
    assert set(bench.outbox()) == {"a.md", "a.result.json"}
    await bench.stop()


async def test_originals_are_deleted_after_done_days(bench: Bench) -> None:
    """And not before."""
    bench.drop("a.md", "one")
    await bench.settle()

    bench.dropped.clear()
    bench.advance(timedelta(days=29).total_seconds())
    await bench.step("delivery")
    kept = [path.name for path in (bench.root / "done").iterdir()]
    bench.advance(timedelta(days=2).total_seconds())
    await bench.step("delivery")

    assert kept == ["a.md"]
    assert list((bench.root / "done").iterdir()) == []


async def test_the_bodies_of_requests_without_a_whole_answer_are_kept_for_their_time(bench: Bench) -> None:
    """They may be wanted again; what was answered goes at once, and what is open stays for ever."""
    results = {"b": succeeded("max_tokens"), "c": errored("invalid_request_error", "no")}
    bench.api.answerer = lambda id_, params, times: results.get(id_[0]) or answer(id_, params, times)
    for name in ("a.md", "b.md", "c.md"):
        bench.drop(name, name)
    await bench.settle()
    bench.dropped.clear()  # the originals go as well
    bench.drop("d.md", "open")
    while len(bench.api.batches) < 2:
        await bench.step_all()
        bench.advance(0.5)

    bench.advance(BODIES_KEPT.total_seconds() - HOUR)
    await bench.step("delivery")
    before = bodies(bench)
    bench.advance(2 * HOUR)
    await bench.step("delivery")

    assert before == {"b", "c", "d"}
    assert bodies(bench) == {"d"}


async def test_however_many_there_are_they_all_go(tmp_path: Path) -> None:
    """In groups, so that no transaction is long."""
    bench = Bench(tmp_path, max_requests=1000)
    bench.api.answerer = lambda *_: errored("invalid_request_error", "no")
    line = '{"messages": [{"role": "user", "content": "%d"}]}\n'
    bench.drop("list.jsonl", "".join(line % number for number in range(2 * GROUP_ROWS)))
    await bench.settle()
    bench.dropped.clear()

    bench.advance(BODIES_KEPT.total_seconds() + HOUR)
    await bench.step("delivery")

    assert bodies(bench) == set()
    assert bench.rows("SELECT DISTINCT is_body_gone FROM requests") == [(1,)]
    await bench.stop()


async def test_closed_manifests_are_deleted_after_their_time(bench: Bench) -> None:
    """The clock of the bench has to be beyond that of the disk for this."""
    bench.drop("a.md", "one")
    await bench.settle()
    before = len(list((bench.root / ".batchbox" / "batches").rglob("*.closed")))

    bench.dropped.clear()
    bench.advance(timedelta(days=3650).total_seconds())
    await bench.step("delivery")

    assert before == 1
    assert list((bench.root / ".batchbox" / "batches").rglob("*.closed")) == []
