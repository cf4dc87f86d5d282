"""A file whose reading was begun twice without an end is parsed alone, and an innocent one is taken all the same."""

import asyncio
import json
import logging
import os
import signal
import sqlite3
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from batchbox.alone import parent
from batchbox.formats import Draft, JsonLinesParser, Rules, parse_file
from batchbox.intake import parsing
from batchbox.naming import claim_name
from formats.bench import RULES
from suites.mutants import Mutation, plant

from .bench import INSTANCE, Bench, Crash

LINES = b'{"messages": [{"role": "user", "content": "a question"}]}\n' * 6_000
QUESTION = json.dumps({"messages": [{"role": "user", "content": "x" * 8_000_000}]})
ALONE = "file is parsed alone"
SECONDS_MAX = 20.0
POINTS_MAX = 100


STUMBLE = Mutation(
    name="a parser that stumbles over a word",
    file="formats/text.py",
    before='    text = to_utf8(data).decode("utf-8")\n',
    after="""    text = to_utf8(data).decode("utf-8")
    if text == "xyzzy":
        raise KeyError(text)
""",
)


def stumble(name: str, data: bytes, rules: Rules) -> Sequence[Draft]:
    """Parse as ever, but for what nobody has thought of."""
    if data in (b"xyzzy", b"xyzzy here"):
        raise KeyError(data)
    return parse_file(name, data, rules)


class StumblingParser(JsonLinesParser):
    """Nobody has thought of any file of lines."""

    def feed(self, chunk: bytes) -> list[Draft]:
        """Stumble."""
        raise KeyError(chunk)


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


async def test_a_file_over_which_the_parser_stumbles_harms_nobody_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """It is parsed alone at once, and rejected if nothing comes of that; its words are in no log."""
    monkeypatch.setattr(parsing, "parse_file", stumble)
    monkeypatch.setitem(parent.ENVIRONMENT, "PYTHONPATH", str(plant(STUMBLE, tmp_path / "planted")))
    caplog.set_level(logging.DEBUG, logger="batchbox")
    contents = {"a": "before", "b": "xyzzy", "c": "xyzzy here", "d": "behind"}
    for name, content in contents.items():
        bench.drop(f"{name}.md", content)

    await bench.settle()

    assert {name for name in "abcd" if f"{name}.result.json" in bench.outbox()} == {"a", "c", "d"}
    explanation = (bench.root / "rejected" / "b.md.error.txt").read_text()
    assert "Reason:        bad_document" in explanation
    assert "a process that did nothing but read it did not get to an end" in explanation
    told = [record for record in caplog.records if record.message == "parser stumbled over a file"]
    assert {(vars(record)["file"], vars(record)["exception"]) for record in told} == {
        ("b.md", "KeyError"),
        ("c.md", "KeyError"),
    }
    assert not any("xyzzy" in str(vars(record)) for record in caplog.records)


async def test_a_long_file_over_which_the_parser_stumbles_is_parsed_alone_the_next_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parsing, "JsonLinesParser", StumblingParser)
    bench.drop("a.jsonl", '{"messages": [{"role": "user", "content": "' + "x" * 300_000 + '"}]}\n')
    bench.drop("b.md", "a question")

    await bench.settle()

    (told,) = [vars(record)["why"] for record in caplog.records if record.message == "claimed file cannot be read"]
    assert told == "the parser stumbled over it (KeyError)"
    assert {"a-1.result.json", "b.result.json"} <= bench.outbox().keys()


async def test_what_a_lane_adds_to_many_files_is_not_in_memory_at_once(bench: Bench) -> None:
    """Its system prompt is in the request of every file."""
    defaults = bench.settings.defaults.model_copy(update={"system": "s" * 1_000_000})
    bench.settings = bench.settings.model_copy(update={"defaults": defaults})
    await bench.start()
    for number in range(40):
        bench.drop(f"{number}.md", f"question {number}")
    await bench.step("intake")
    bench.advance(2)

    tracemalloc.start()
    assert bench.stages is not None
    await bench.stages.intake.step(bench.now)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(requests(bench)) == 40
    assert peak_bytes < 20_000_000


class StuckParser(JsonLinesParser):
    """It takes its time with every piece."""

    def __init__(self, released: threading.Event) -> None:
        super().__init__("a.jsonl", RULES)
        self._released = released

    def feed(self, chunk: bytes) -> list[Draft]:
        """Wait."""
        self._released.wait(SECONDS_MAX)
        return super().feed(chunk)


async def test_a_stop_does_not_wait_for_a_parser() -> None:
    """Its thread is left to itself, and ends with the process."""
    released = threading.Event()
    bound = threading.Timer(2.0, released.set)
    bound.start()

    with anyio.move_on_after(0.05):
        await parsing._ParserInThread(StuckParser(released)).feed(b"1")
    was_released = released.is_set()
    bound.cancel()
    released.set()

    assert not was_released


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
