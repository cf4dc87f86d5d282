"""From a dropped file to recorded requests: settling, ids, double drops, long files, rejections, back-pressure."""

import json
import os
from pathlib import Path

import pytest

from .bench import Bench
from .lines import send

ONE = {"messages": [{"role": "user", "content": "one"}]}
TWO = {"messages": [{"role": "user", "content": "two"}]}


async def take_in(bench: Bench) -> None:
    """Let intake take what lies in the inbox."""
    while bench.inbox_names():
        await bench.step("intake")
        bench.advance(0.5)


def requests(bench: Bench) -> list[tuple[object, ...]]:
    """Return id and state of every request."""
    return bench.rows("SELECT custom_id, state FROM requests ORDER BY id")


def reason(bench: Bench, name: str) -> str:
    """Return the reason in an explanation."""
    lines = (bench.root / "rejected" / f"{name}.error.txt").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Reason:"))


async def test_a_file_is_taken_when_it_has_been_still_for_quiet_and_not_before(bench: Bench) -> None:
    """Still is measured on our own clock, from our own first sight."""
    path = bench.drop("a.md", "first half")
    await bench.step("intake")

    bench.advance(0.9)
    path.write_text("first half, second half")
    bench.dropped["a.md"] = path.read_bytes()
    await bench.step("intake")
    bench.advance(0.9)
    await bench.step("intake")
    while_written = requests(bench)
    bench.advance(1.1)
    await bench.step("intake")

    assert while_written == []
    assert requests(bench) == [("a", "waiting")]
    assert b"second half" in bench.rows("SELECT data FROM body_pieces")[0][0]


async def test_an_old_modification_time_proves_nothing(bench: Bench) -> None:
    """A copy that keeps its times is waited for like any other."""
    path = bench.drop("a.md", "one")
    os.utime(path, (1_000_000_000, 1_000_000_000))

    await bench.step("intake")

    assert requests(bench) == []


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.md", b"", "empty"),
        ("a.docx", b"PK", "unknown_type"),
        ("cut.json", b'{"messages": [{"role": "user", "content": "x"}', "incomplete"),
        ("cut.jsonl", b'{"messages": [{"role": "user", "content": "x"}]}\n{"messages": [', "incomplete"),
        ("nuls.md", b"text\0\0\0\0", "incomplete"),
    ],
)
async def test_what_cannot_be_finished_yet_is_waited_for_and_then_rejected(
    bench: Bench, name: str, content: bytes, expected: str
) -> None:
    """incomplete_after, counted from the last change."""
    bench.drop(name, content)
    for _ in range(8):
        await bench.step("intake")
        bench.advance(0.6)
    within_patience = bench.inbox_names()

    await take_in(bench)
    await bench.step("intake")

    assert within_patience == [name]
    assert reason(bench, name) == expected
    assert (bench.root / "rejected" / name).read_bytes() == content


async def test_json_that_is_finished_after_all_is_taken(bench: Bench) -> None:
    """A writer that pauses longer than quiet in the middle of a document loses nothing."""
    whole = json.dumps(ONE)
    path = bench.drop("slow.json", whole[:20])
    for _ in range(5):
        await bench.step("intake")
        bench.advance(0.6)

    path.write_text(whole)
    bench.dropped["slow.json"] = whole.encode()
    await take_in(bench)

    assert requests(bench) == [("slow", "waiting")]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("bad.json", "{]", "bad_json"),
        ("id.json", json.dumps({"custom_id": "../x", "params": ONE}), "bad_id"),
        ("none.json", json.dumps({"messages": []}), "no_messages"),
        ("stream.json", json.dumps({**ONE, "stream": True}), "not_allowed"),
        ("much.json", json.dumps({**ONE, "max_tokens": 300_001}), "over_limit"),
        ("head.md", "+++\nmodle = 'x'\n+++\ntext", "bad_header"),
        ("latin.txt", b"caf\xe9", "bad_encoding"),
        ("deep.json", json.dumps(ONE)[:-1] + ', "x": ' + "[" * 70 + "]" * 70 + "}", "too_deep"),
    ],
)
async def test_bad_content_is_rejected_with_its_reason(
    bench: Bench, name: str, content: str | bytes, expected: str
) -> None:
    """The file is moved, not deleted, and explained."""
    path = bench.drop(name, content)
    original = path.read_bytes()

    await take_in(bench)
    await bench.step("intake")

    assert reason(bench, name) == expected
    assert (bench.root / "rejected" / name).read_bytes() == original
    assert requests(bench) == []


async def test_links_pipes_and_second_names_are_rejected_and_never_read(bench: Bench, tmp_path: Path) -> None:
    """Their targets' bytes appear nowhere, and other files go on."""
    secret = tmp_path / "secret"
    secret.write_text("canary")
    inbox = bench.root / "inbox"
    (inbox / "link.md").symlink_to(secret)
    (inbox / "dangling.md").symlink_to("/nowhere")
    os.mkfifo(inbox / "pipe.md")
    (inbox / "second.md").hardlink_to(secret)
    bench.drop("good.md", "one")

    await take_in(bench)
    await bench.step("intake")

    names = ["link.md", "dangling.md", "pipe.md", "second.md"]
    assert [reason(bench, name) for name in names] == [*["not_a_regular_file"] * 3, "hard_link"]
    assert requests(bench) == [("good", "waiting")]
    assert not any(b"canary" in path.read_bytes() for path in (bench.root / "rejected").glob("*.error.txt"))


async def test_a_double_drop_is_attached_and_bought_once(bench: Bench) -> None:
    """Same id, same content, while the first is open: both files are settled by one answer."""
    bench.drop("a.md", "one")
    await take_in(bench)
    bench.drop("a.md", "one")
    await take_in(bench)

    await bench.settle()

    assert len(bench.api.bought) == 1
    assert {path.name for path in (bench.root / "done").iterdir()} == {"a.md", "a__2.md"}
    assert set(bench.outbox()) == {"a.md", "a.result.json"}


async def test_the_same_name_with_other_content_gets_a_number(bench: Bench) -> None:
    """A derived id that is taken is not the user's fault."""
    bench.drop("a.md", "one")
    bench.drop("a.txt", "two")

    await bench.settle()

    assert set(bench.outbox()) == {"a.md", "a.result.json", "a-2.md", "a-2.result.json"}


async def test_an_explicit_id_with_other_content_rejects_the_whole_file(bench: Bench) -> None:
    """An id that a person gave is used as it is, or not at all."""
    bench.drop("a.json", json.dumps({"custom_id": "mine", "params": ONE}))
    bench.drop(
        "b.json",
        json.dumps({"requests": [{"custom_id": "other", "params": ONE}, {"custom_id": "mine", "params": TWO}]}),
    )

    await bench.settle()

    assert reason(bench, "b.json") == "duplicate_id"
    assert set(bench.outbox()) == {"mine.md", "mine.result.json"}


async def test_an_id_that_has_ended_may_come_again(bench: Bench) -> None:
    """Nothing in the outbox is overwritten."""
    bench.drop("a.md", "one")
    await bench.settle()
    bench.drop("a.md", "another")

    await bench.settle()

    assert set(bench.outbox()) == {"a.md", "a.result.json", "a__2.md", "a__2.result.json"}
    assert len(bench.api.bought) == 2


async def test_a_long_file_is_taken_in_parts_and_whole(bench: Bench) -> None:
    """More than is read at once; every line becomes a request."""
    padding = "x" * 50_000
    lines = [json.dumps({"messages": [{"role": "user", "content": f"{number} {padding}"}]}) for number in range(200)]
    bench.drop("long.jsonl", "\n".join(lines))

    await bench.settle()

    assert len(bench.api.bought) == len(set(bench.api.bought)) == 200
    assert sum(name.endswith(".md") for name in bench.outbox()) == 200


async def test_a_long_file_with_one_bad_line_is_not_taken_at_all(bench: Bench) -> None:
    """Whole or not at all; the rejection names the line."""
    padding = "x" * 50_000
    lines = [json.dumps({"messages": [{"role": "user", "content": f"{number} {padding}"}]}) for number in range(200)]
    lines[150] = "{]"
    bench.drop("long.jsonl", "\n".join(lines))

    await bench.settle()

    assert requests(bench) == []
    assert bench.rows("SELECT count(*) FROM body_pieces") == [(0,)]
    assert "151" in (bench.root / "rejected" / "long.jsonl.error.txt").read_text()


async def test_two_rejected_files_of_one_name_both_keep_their_explanation(bench: Bench) -> None:
    """The second gets a number before its extension."""
    bench.drop("bad.json", "{]")
    await bench.settle()
    bench.drop("bad.json", "{}}")

    await bench.settle()

    names = {path.name for path in (bench.root / "rejected").iterdir()}
    assert names == {"bad.json", "bad.json.error.txt", "bad__2.json", "bad__2.json.error.txt"}


async def test_lanes_are_mirrored_everywhere(bench: Bench) -> None:
    """A sub-folder of the inbox has its own in the outbox, in done/ and in rejected/."""
    bench.drop("a.md", "one", lane="reports")
    bench.drop("bad.json", "{]", lane="reports")

    await bench.settle()

    assert set(bench.outbox("reports")) == {"a.md", "a.result.json"}
    assert (bench.root / "done" / "reports" / "a.md").exists()
    assert (bench.root / "rejected" / "reports" / "bad.json.error.txt").exists()
    assert bench.document("a.result.json", "reports")["lane"] == "reports"


async def test_a_root_that_goes_away_is_waited_for(bench: Bench) -> None:
    """A share that is not mounted looks like an empty folder; nothing is decided upon it."""
    bench.drop("a.md", "one")
    await bench.step("intake")
    away = bench.root.rename(bench.root.with_name("away"))
    bench.root.mkdir()

    stages = bench.stages
    assert stages is not None
    for _ in range(5):
        await stages.intake.step(bench.now)
        bench.advance(1.0)
    held = bench.rows("SELECT name FROM holds")
    bench.root.rmdir()
    away.rename(bench.root)
    await bench.settle()

    assert held == [("root",)]
    assert set(bench.outbox()) == {"a.md", "a.result.json"}
    assert bench.rows("SELECT name FROM holds") == []


async def test_odd_names_come_through(bench: Bench) -> None:
    """Spaces, newlines, bytes that are not UTF-8, names as long as they get."""
    names = ["a b.md", "line\nbreak.md", os.fsdecode(b"caf\xe9.md"), "ü" * 126 + ".md", "con.md", "-rf.md"]
    for number, name in enumerate(names):
        bench.drop(name, f"question {number}")

    await bench.settle()

    assert sum(name.endswith(".result.json") for name in bench.outbox()) == len(names)
    assert "id-con.md" in bench.outbox()
    assert {path.name for path in (bench.root / "done").iterdir()} >= {"a b.md", "line\nbreak.md", "-rf.md"}


async def test_the_same_file_is_bought_once_even_if_its_id_had_to_be_numbered(bench: Bench) -> None:
    """`a.md` got `a-2`, because another `a.md` was open; that one has ended when the file is dropped again."""
    bench.drop("a.md", "first")
    await send(bench)
    bench.drop("a.md", "second")
    await send(bench, batch_count=2)
    bench.api.end(bench.api.batches[0])
    while "a.result.json" not in bench.outbox():
        await bench.step_all()
        bench.advance(0.5)

    bench.drop("a.md", "second")
    await bench.settle()

    assert len(bench.api.bought) == 2
