"""Batches with a file that cannot be looked at once more: what it asks for waits, and nothing else does."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from .bench import INSTANCE, Bench
from .fake_api import Reply
from .taking import dispatch_for, drop_requests, send, take_in
from .test_recalling import named
from .test_verifying import asked, hidden, writer


@contextmanager
def all_hidden(bench: Bench, *names: str) -> Iterator[None]:
    """Let the share lose sight of several claimed files."""
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(hidden(bench, name))
        yield


def sealed(bench: Bench) -> list[tuple[object, ...]]:
    """Return how many requests are in each batch that is to be sent."""
    return bench.rows("SELECT request_count FROM batches WHERE state = 'sealed' ORDER BY id")


async def test_the_neighbours_of_a_file_that_cannot_be_found_go_at_once(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.drop(f"{name}.md", f"question {name}")
    await take_in(bench)

    with hidden(bench, "b.md"):
        await send(bench)
        await bench.step("dispatch")
        assert sorted(asked(bench)) == ["question a", "question c"]

    await bench.settle()
    assert sorted(asked(bench)) == ["question a", "question b", "question c"]


@asynccontextmanager
async def stuck(bench: Bench) -> AsyncIterator[None]:
    """Take in a file that changes while a cancelled part of it is with the API: it waits until that has ended.

    That may take a day. What is dropped already is taken in beside it.
    """
    bench.drop("one.jsonl", named("x"))
    await take_in(bench)
    await send(bench)
    with writer(bench, "two.jsonl", "\n".join([named("x"), named("y")])) as file:
        bench.drop("neighbour.md", "neighbour")
        bench.drop("late.md", "late")
        await take_in(bench)
        bench.drop_sign("x.cancel")
        await bench.step("intake")
        file.write("\n" + named("z"))
        bench.advance(1.1)
        yield
        await bench.settle()
    assert sorted(asked(bench)) == ["late", "neighbour", "x", "y", "z"]


async def test_neighbours_do_not_wait_for_the_end_of_what_a_changed_file_has_with_the_api(bench: Bench) -> None:
    async with stuck(bench):
        await dispatch_for(bench, 600, every=60)

        assert sorted(asked(bench)) == ["late", "neighbour", "x"]
        assert sealed(bench) == [(1,)]
        ((trouble,),) = bench.rows("SELECT file_trouble FROM batches WHERE state = 'sealed'")
        assert "two.jsonl has changed" in str(trouble)


async def test_a_file_that_can_be_found_again_waits_no_longer_for_the_others(bench: Bench) -> None:
    async with stuck(bench):
        with hidden(bench, "late.md"):
            await dispatch_for(bench, 4)
            assert (asked(bench), sealed(bench)) == (["x", "neighbour"], [(2,)])

        await dispatch_for(bench, 60)
        assert (asked(bench), sealed(bench)) == (["x", "neighbour", "late"], [(1,)])


async def test_a_crash_after_the_parting_leaves_both_parts(bench: Bench) -> None:
    bench.drop("a.md", "question a")
    bench.drop("b.md", "question b")
    await take_in(bench)

    with hidden(bench, "a.md"):
        await send(bench)
        await bench.restart()
        assert sealed(bench) == [(1,), (1,)]
        await bench.step("dispatch")
        assert asked(bench) == ["question b"]

    await bench.settle(restart_each_step=True)
    assert asked(bench) == ["question b", "question a"]


async def test_all_that_waits_makes_one_batch_which_is_not_parted_again(tmp_path: Path) -> None:
    """However many requests are gone through, and a file is looked at once for all of its own."""
    bench = Bench(tmp_path, max_requests=1000)
    many = [f"question {number}" for number in range(300)]
    bench.drop("a.md", "waits")
    bench.drop("b.md", "neighbour")
    await take_in(bench)
    drop_requests(bench, *many)
    await take_in(bench)

    with all_hidden(bench, "many.jsonl", "a.md"):
        bench.points.labels.clear()
        await send(bench)
        looks = sum(label.startswith("before Inbox.compare") for label in bench.points.labels)
        await dispatch_for(bench, 4)
        assert asked(bench) == ["neighbour"]
        assert sealed(bench) == [(301,)]
        assert bench.rows("SELECT count(*) FROM batches") == [(3,)]

    await bench.settle()
    assert sorted(asked(bench)) == sorted([*many, "waits", "neighbour"])
    assert bench.rows("SELECT count(*) FROM batches") == [(3,)]
    assert looks == 1
    await bench.stop()


async def test_what_two_files_ask_for_goes_for_the_one_that_is_as_it_was_read(bench: Bench) -> None:
    """The other one waits with what it alone asks for, and nothing is asked for twice when it can be found again."""
    bench.drop("one.jsonl", named("x"))
    bench.drop("two.jsonl", "\n".join([named("x"), named("y")]))
    await take_in(bench)

    with hidden(bench, "two.jsonl"):
        await send(bench)
        await dispatch_for(bench, 3)
        assert asked(bench) == ["x"]

    await bench.settle()
    assert asked(bench) == ["x", "y"]
    assert sorted(os.listdir(bench.root / "done")) == ["one.jsonl", "two.jsonl"]


async def test_a_double_of_what_was_sent_once_keeps_it_from_nothing(bench: Bench) -> None:
    """Its batch is not parted: a first sending that turns up late is still that of all of it."""
    bench.drop("one.jsonl", "\n".join([named("x"), named("z")]))
    await take_in(bench)
    bench.api.replies.append(Reply.SURELY_NOT)
    await send(bench)
    assert not bench.api.bought
    bench.drop("two.jsonl", named("x"))
    await take_in(bench)

    with hidden(bench, "two.jsonl"):
        await dispatch_for(bench, 4)
        assert asked(bench) == ["x", "z"]
        assert bench.rows("SELECT count(*) FROM batches") == [(1,)]

    await bench.settle()
    assert asked(bench) == ["x", "z"]


async def test_a_file_that_both_shares_a_request_and_changes_is_asked_for_what_is_new(bench: Bench) -> None:
    bench.drop("one.jsonl", named("x"))
    with writer(bench, "two.jsonl", "\n".join([named("x"), named("y")])) as file:
        await take_in(bench)
        with hidden(bench, "two.jsonl"):
            await send(bench)
            await dispatch_for(bench, 3)
        file.write("\n" + named("z"))
        await bench.settle()

    assert sorted(asked(bench)) == ["x", "y", "z"]
    assert sorted(os.listdir(bench.root / "processing" / INSTANCE / "_")) == []
