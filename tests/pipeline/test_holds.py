"""What holds is shown for as long as it holds, and not longer, across restarts too."""

import sqlite3
from collections.abc import Sequence

from batchbox.api import BatchBody, CreateOutcome, Trouble, TroubleKind
from batchbox.store.holds import HoldName

from .bench import Bench
from .fake_api import NO_NETWORK

NO_CREDIT = "the credit is used up"


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


async def test_a_hold_that_delivery_writes_while_a_batch_is_sent_outlives_that_success(bench: Bench) -> None:
    """The call was made before the account was known to be empty, and its success says nothing of the next one."""
    await bench.start()
    assert bench.stages is not None
    store = bench.stages.dispatch._holds
    create = bench.api.create

    async def create_while_delivery_finds_out(body: BatchBody, *, betas: Sequence[str]) -> CreateOutcome:
        outcome = await create(body, betas=betas)
        await store.put(HoldName.SENDING, NO_CREDIT, now=bench.now.wall, next_attempt_at=None)
        return outcome

    bench.api.create = create_while_delivery_finds_out  # type: ignore[method-assign, assignment] # a call during which things happen
    await send_one(bench)
    held = holds(bench)
    bench.api.create = create  # type: ignore[method-assign] # as before
    await bench.settle()

    assert held == {"sending": NO_CREDIT}
    assert holds(bench) == {}
