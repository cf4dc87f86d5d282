"""A database that is older than the outbox: an answer that is there already is this answer, not another one's."""

import shutil
from pathlib import Path

import pytest

from .bench import Bench
from .fake_api import errored
from .lines import always, send


def back_up(bench: Bench) -> Path:
    """Copy the state away; the process must not run."""
    copy = bench.state.with_name("backup")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bench.state, copy)
    return copy


def restore(bench: Bench, copy: Path) -> None:
    """Put the copy in the place of the state."""
    shutil.rmtree(bench.state)
    shutil.copytree(copy, bench.state)


async def deliver_twice(bench: Bench) -> dict[str, bytes]:
    """Deliver, forget it, and deliver again; return what was in the outbox after the first time."""
    await send(bench)
    await bench.stop()
    copy = back_up(bench)
    bench.api.end_all()
    bench.advance(10.0)
    await bench.step("polling")
    await bench.step("delivery")
    first = dict(bench.outbox())
    await bench.stop()
    restore(bench, copy)
    for path in (bench.root / "done").iterdir():  # where the database expects it
        shutil.move(path, next((bench.root / "processing").glob("*/_")) / _claim(bench))
    await bench.settle()
    return first


def _claim(bench: Bench) -> str:
    ((claim,),) = bench.rows("SELECT claim FROM sources ORDER BY id DESC LIMIT 1")
    assert isinstance(claim, bytes)
    return claim.decode()


@pytest.mark.parametrize("on_existing", ["suffix", "replace"])
async def test_what_was_delivered_before_a_restore_is_delivered_under_the_same_name(
    tmp_path: Path, on_existing: str
) -> None:
    """Byte by byte the same, and no `__2` beside it."""
    bench = Bench(tmp_path, on_existing=on_existing)
    bench.drop("a.md", "one")

    first = await deliver_twice(bench)

    assert set(first) == {"a.md", "a.result.json"}
    assert bench.outbox() == first
    await bench.stop()


async def test_an_error_that_was_delivered_before_a_restore_keeps_its_name(bench: Bench) -> None:
    bench.api.answerer = always(errored("invalid_request_error", "no"))
    bench.drop("a.md", "one")

    first = await deliver_twice(bench)

    assert set(first) == {"a.error.json"}
    assert bench.outbox() == first


async def test_a_name_with_a_number_is_found_again(bench: Bench) -> None:
    """Behind an earlier answer of the same custom_id, which stays as it is."""
    bench.drop("a.md", "yesterday's")
    await bench.settle()
    (bench.root / "done" / "a.md").unlink()
    bench.dropped.clear()
    bench.drop("a.md", "today's")
    while len(bench.api.batches) < 2:
        await bench.step_all()
        bench.advance(0.5)

    first = await deliver_twice(bench)

    assert set(first) == {"a.md", "a.result.json", "a__2.md", "a__2.result.json"}
    assert bench.outbox() == first


async def test_another_requests_answer_of_that_name_is_not_taken_for_it(bench: Bench) -> None:
    """Even one that mentions our ids somewhere else."""
    bench.drop("a.md", "one")
    await send(bench)
    ((wire_id,),) = [tuple(batch.requests) for batch in bench.api.batches]
    theirs = f'{{"custom_id": "a",\n "note": "{wire_id}",\n "deep": {{\n    "wire_ids": ["{wire_id}"]}}}}\n'
    (bench.root / "outbox" / "a.result.json").write_text(theirs)

    await bench.settle()

    assert bench.outbox()["a.result.json"] == theirs.encode()
    assert set(bench.outbox()) == {"a.result.json", "a__2.md", "a__2.result.json"}
