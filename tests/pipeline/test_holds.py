"""What holds is shown for as long as it holds, and not longer, across restarts too."""

import sqlite3

from batchbox.api import Trouble, TroubleKind

from .bench import Bench
from .fake_api import NO_NETWORK


def holds(bench: Bench) -> dict[str, str]:
    """Return what is held and why, as a person would see it."""
    return {str(name): str(reason) for name, reason in bench.rows("SELECT name, reason FROM holds")}


async def send_one(bench: Bench) -> None:
    """Drop a file, and go on until its batch is in progress."""
    bench.drop("a.md", "one")
    while not bench.api.batches:
        await bench.step("intake")
        await bench.step("dispatch")
        bench.advance(1.1)


async def fail_to_poll(bench: Bench) -> None:
    """Let the next poll meet no network."""
    bench.api.troubles.append(NO_NETWORK)
    await bench.step("polling")
    assert holds(bench) == {"api": NO_NETWORK.text}


async def test_a_root_that_came_back_between_two_processes_is_not_shown_as_away_for_ever(bench: Bench) -> None:
    await bench.step("intake")
    away = bench.root.rename(bench.root.with_name("away"))
    assert bench.stages is not None
    bench.advance(100.0)
    await bench.stages.intake.step(bench.now)
    held = set(holds(bench))
    away.rename(bench.root)

    await bench.restart()
    await bench.step("intake")

    assert held == {"root"}
    assert holds(bench) == {}


async def test_polls_that_work_again_after_a_restart_are_not_shown_as_failing_for_ever(bench: Bench) -> None:
    await send_one(bench)
    await fail_to_poll(bench)

    await bench.restart()
    await bench.step("polling")

    assert holds(bench) == {}


async def test_where_nothing_is_left_to_poll_nothing_is_held(bench: Bench) -> None:
    await bench.start()
    with sqlite3.connect(bench.state / "batchbox.db") as connection:
        connection.execute("INSERT INTO holds VALUES ('api', 'an earlier process said so', 0, 0)")
    connection.close()

    await bench.step("polling")

    assert holds(bench) == {}


async def test_an_answer_that_the_batch_is_not_known_is_an_answer(bench: Bench) -> None:
    """The API can be reached again; the batch is another matter, for a person."""
    await send_one(bench)
    await fail_to_poll(bench)
    bench.api.batches[0].is_deleted = True
    bench.advance(10.0)

    await bench.step("polling")

    assert holds(bench) == {}
    assert bench.rows("SELECT state FROM batches") == [("lost",)]


async def test_what_the_server_asks_a_poll_to_wait_is_waited(bench: Bench) -> None:
    await send_one(bench)
    bench.api.troubles.append(Trouble(kind=TroubleKind.RATE_LIMIT, text="429", retry_after_seconds=60.0))

    due = await bench.step("polling")

    assert due >= bench.now.monotonic + 60.0
