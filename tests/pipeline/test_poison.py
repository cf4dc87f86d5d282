"""A file whose reading was begun twice without an end is parsed alone, and an innocent one is taken all the same."""

import asyncio
import json
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from batchbox.naming import claim_name

from .bench import INSTANCE, Bench, Crash

LINES = b'{"messages": [{"role": "user", "content": "a question"}]}\n' * 6_000
QUESTION = json.dumps({"messages": [{"role": "user", "content": "x" * 8_000_000}]})
ALONE = "file is parsed alone"
SECONDS_MAX = 20.0
POINTS_MAX = 100


async def claimed(bench: Bench, name: str, content: str | bytes) -> str:
    """Leave a file in processing/ as a process does that died after the claim; return its name there."""
    await bench.start()
    await bench.stop()
    path = bench.drop(name, content)
    claim = claim_name(name, dropped_ms=1, random_bytes=os.urandom(8))
    folder = bench.root / "processing" / INSTANCE / "_"
    folder.mkdir()
    path.rename(folder / claim)
    return claim


def begin_readings(bench: Bench, claim: str, count: int) -> None:
    """Write down that so many processes have ended while they parsed this file."""
    with sqlite3.connect(bench.state / "batchbox.db") as connection:
        connection.execute("INSERT INTO readings VALUES ('_', ?, ?)", (os.fsencode(claim), count))
    connection.close()


def requests(bench: Bench) -> list[tuple[object, ...]]:
    return bench.rows("SELECT custom_id, state FROM requests ORDER BY id")


async def die_while_parsing(bench: Bench) -> None:
    """Let a process die later and later, until one dies between the note that it parses a file and the file's row."""
    before = bench.rows("SELECT begun_count FROM readings")
    for point in range(1, POINTS_MAX):
        bench.points.passed, bench.points.crash_at = 0, point
        with pytest.raises(Crash):
            await bench.step("intake")
        await bench.stop()
        if bench.rows("SELECT begun_count FROM readings") != before:
            break
    bench.points.crash_at = None


async def test_two_processes_that_die_in_the_middle_cost_the_file_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """What is written down before a file is parsed outlives the process, and goes when the file is recorded."""
    claim = await claimed(bench, "a.md", "a question")

    await die_while_parsing(bench)
    once = bench.rows("SELECT claim, begun_count FROM readings")
    await die_while_parsing(bench)
    twice = bench.rows("SELECT claim, begun_count FROM readings")
    was_parsed_alone = ALONE in caplog.text
    await bench.step("intake")

    assert (once, twice) == ([(claim.encode(), 1)], [(claim.encode(), 2)])
    assert not was_parsed_alone
    assert ALONE in caplog.text
    assert requests(bench) == [("a", "waiting")]
    assert bench.rows("SELECT * FROM readings") == []


@pytest.mark.parametrize("count", [1, 2])
async def test_a_file_is_parsed_alone_at_the_third_start_and_not_before(
    bench: Bench, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    claim = await claimed(bench, "a.md", "a question")
    begin_readings(bench, claim, count)

    await bench.step("intake")

    assert requests(bench) == [("a", "waiting")]
    assert (ALONE in caplog.text) == (count == 2)
    assert bench.rows("SELECT * FROM readings") == []
    await bench.settle()
    assert "a.result.json" in bench.outbox()


async def test_a_long_file_that_is_suspected_is_taken_whole(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    claim = await claimed(bench, "a.jsonl", LINES)
    begin_readings(bench, claim, 2)

    await bench.step("intake")

    ids = {custom_id for custom_id, state in requests(bench) if state == "waiting"}
    assert ids == {f"a-{number}" for number in range(1, 6_001)}
    assert ALONE in caplog.text


async def test_what_is_wrong_with_a_suspected_file_is_told_as_ever(bench: Bench) -> None:
    claim = await claimed(bench, "a.json", '{"messages": []}')
    begin_readings(bench, claim, 2)

    await bench.step("intake")

    assert "Reason:        no_messages" in (bench.root / "rejected" / "a.json.error.txt").read_text()


async def test_a_child_that_somebody_killed_costs_the_file_nothing(bench: Bench) -> None:
    """The kernel may take any process when memory runs out: the file is tried again a little later."""
    claim = await claimed(bench, "a.json", QUESTION)
    begin_readings(bench, claim, 2)

    killing = asyncio.create_task(_kill_a_child())
    await bench.step("intake")
    await killing
    after_the_kill = requests(bench)
    bench.advance(31)
    await bench.step("intake")

    assert after_the_kill == []
    assert requests(bench) == [("a", "waiting")]


async def _kill_a_child() -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not (  # noqa: ASYNC110 - a process rings no bell
            found := [pid for pid in _children() if b"alone.child" in _arguments(pid)]
        ):
            await asyncio.sleep(0.002)
    os.kill(found[0], signal.SIGKILL)


def _children() -> list[int]:
    lines = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for line in lines for pid in line.split()]


def _arguments(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
