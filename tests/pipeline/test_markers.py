"""`<name>.ready` says that a file is complete; a lane may demand it."""

import errno
import json
import os
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batchbox.config.sections import LaneKeys
from batchbox.folders import inbox, markers
from batchbox.folders.layout import claims_folder
from batchbox.folders.markers import take_marker
from batchbox.folders.root import open_root
from batchbox.model import INBOX_LANE
from batchbox.naming import claim_name
from folders.failing import FailingOs

from .bench import INSTANCE, Bench, Crash
from .taking import request
from .test_cancelling import Hooked, made, rejected


def demand_markers(bench: Bench) -> None:
    """Let every lane demand markers."""
    defaults = bench.settings.defaults.model_copy(update={"require_marker": True})
    bench.settings = bench.settings.model_copy(update={"defaults": defaults})


@pytest.fixture
async def demanding(tmp_path: Path) -> AsyncIterator[Bench]:
    """Yield a bench whose lanes demand markers."""
    bench = Bench(tmp_path)
    demand_markers(bench)
    yield bench
    await bench.stop()


async def look_for(bench: Bench, seconds: float) -> None:
    """Let intake look at the inbox for so long."""
    for _ in range(int(seconds / 0.5)):
        await bench.step("intake")
        bench.advance(0.5)


async def test_a_file_waits_for_its_marker_and_is_taken_with_it(demanding: Bench) -> None:
    """However long that takes, and then after `quiet`; the marker is gone with the file."""
    demanding.drop("a.md", "first")
    demanding.drop("b.md", "second")
    await look_for(demanding, 20)
    waited = demanding.inbox_names()

    demanding.drop_sign("a.md.ready")
    await demanding.step("intake")
    demanding.advance(0.5)
    await demanding.step("intake")
    early = sorted(demanding.inbox_names())
    await look_for(demanding, 2)

    assert sorted(waited) == ["a.md", "b.md"]
    assert early == ["a.md", "a.md.ready", "b.md"]
    assert demanding.inbox_names() == ["b.md"]
    assert demanding.rows("SELECT custom_id FROM requests") == [("a",)]
    assert demanding.stages is not None
    assert demanding.stages.intake.is_idle, "a file without its marker is not there yet"


async def test_a_marked_file_that_still_changes_is_waited_for(demanding: Bench) -> None:
    """A program that copies both may bring the marker first."""
    path = demanding.drop("a.md", "fir")
    demanding.drop_sign("a.md.ready")
    for _ in range(6):
        await demanding.step("intake")
        demanding.advance(0.5)
        path.write_text(path.read_text() + "st")
        demanding.dropped["a.md"] = path.read_bytes()

    await demanding.settle()

    assert demanding.rows("SELECT count(*) FROM sources") == [(1,)]
    assert set(demanding.outbox()) == {"a.md", "a.result.json"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("a.json", '{"messages": [', "incomplete"), ("a.md", "", "empty"), ("a.xyz", "what", "unknown_type")],
)
@pytest.mark.parametrize("is_demanded", [True, False])
async def test_a_marked_file_that_looks_unfinished_is_not_waited_for(
    bench: Bench, name: str, content: str, reason: str, *, is_demanded: bool
) -> None:
    """Whoever made the marker says that nothing more will come, in whichever lane."""
    if is_demanded:
        demand_markers(bench)
    bench.drop(name, content)
    bench.drop_sign(f"{name}.ready")

    await look_for(bench, 2)

    assert rejected(bench) == {name: reason}
    assert bench.inbox_names() == []


async def test_markers_are_for_the_lanes_that_demand_them(tmp_path: Path) -> None:
    """The others take files as ever."""
    bench = Bench(tmp_path)
    lanes = {"slow": LaneKeys(require_marker=True)}
    bench.settings = bench.settings.model_copy(update={"lanes": lanes})
    bench.drop("a.md", "first", lane="slow")
    bench.drop("a.md", "first", lane="other")

    await look_for(bench, 3)

    assert bench.rows("SELECT lane FROM requests") == [("other",)]
    await bench.stop()


async def test_a_marker_in_a_lane_that_does_not_demand_it_goes_with_its_file(bench: Bench) -> None:
    """It is no request, and nothing that anybody has to tidy up."""
    bench.drop("a.md", "first")
    bench.drop_sign("a.md.ready")

    await bench.settle()

    assert (rejected(bench), set(bench.outbox())) == ({}, {"a.md", "a.result.json"})


@pytest.mark.parametrize("is_demanded", [True, False])
async def test_a_marker_without_a_file_is_deleted_after_a_while(bench: Bench, *, is_demanded: bool) -> None:
    """Its file may still come; and it may have been taken before the marker came."""
    if is_demanded:
        demand_markers(bench)
    bench.drop_sign("a.md.ready")
    await look_for(bench, 4.5)
    early = bench.inbox_names()

    await look_for(bench, 2)

    assert (early, bench.inbox_names(), rejected(bench)) == (["a.md.ready"], [], {})


async def test_what_is_no_marker_is_not_deleted(bench: Bench) -> None:
    """A large file or a link with such a name may be meant otherwise: it is told that nobody knows its type."""
    bench.drop("plan.ready", "word " * 2000)
    os.symlink("elsewhere", bench.root / "inbox" / "link.ready")

    await bench.settle()

    assert rejected(bench) == {"plan.ready": "unknown_type", "link.ready": "not_a_regular_file"}


async def test_a_marker_is_found_however_its_name_is_spelled(demanding: Bench) -> None:
    demanding.drop(unicodedata.normalize("NFC", "é.md"), "first")
    demanding.drop_sign(unicodedata.normalize("NFD", "é.md.ready"))

    await demanding.settle()

    assert len(demanding.outbox()) == 2


async def test_a_sign_needs_no_marker(demanding: Bench) -> None:
    """Neither to take back a file that has one, nor one that waits for it; the marker goes too."""
    demanding.drop("a.md", "first")
    demanding.drop("b.md", "second")
    demanding.drop_sign("b.md.ready")
    demanding.drop_sign("a.md.cancel")
    demanding.drop_sign("b.md.cancel")

    await demanding.settle()

    assert rejected(demanding) == {"a.md": "canceled", "b.md": "canceled"}


async def test_a_marker_stays_where_it_is_when_its_file_goes_away(demanding: Bench) -> None:
    """Its dropper may have put another file there the next moment."""
    demanding.drop("a.md", "first")
    demanding.drop_sign("a.md.ready")
    await look_for(demanding, 1)
    demanding.dropped.clear()
    in_the_way = Hooked("before Inbox.claim.", (demanding.root / "inbox" / "a.md").unlink)
    await demanding.stop()
    demanding.api.points = in_the_way

    await look_for(demanding, 3)

    assert demanding.inbox_names() == ["a.md.ready"]
    assert not [path for path in (demanding.root / "processing").rglob(".*-*") if path.is_file()]


def claims_of(bench: Bench) -> list[str]:
    """Return what lies in processing/."""
    return [path.name for path in (bench.root / "processing").rglob("*") if path.is_file() and "~" in path.name]


async def test_a_marker_that_was_claimed_alone_is_put_back(demanding: Bench) -> None:
    """We died between the marker and its file; the file must not wait for ever."""
    demanding.drop("a.md", "first")
    marker = demanding.drop_sign("a.md.ready")
    await demanding.start()
    claim_alone(demanding, "a.md", "a.md.ready")
    assert not marker.exists()

    await demanding.restart()
    await demanding.settle()

    assert set(demanding.outbox()) == {"a.md", "a.result.json"}
    assert (demanding.inbox_names(), claims_of(demanding)) == ([], [])


async def test_a_claimed_marker_does_not_come_back_for_the_next_file_of_that_name(demanding: Bench) -> None:
    """We died after both were claimed; a file that is dropped meanwhile is written slowly, and waits for its own."""
    demanding.drop("a.md", "first")
    demanding.drop_sign("a.md.ready")
    await demanding.start()
    claim = claim_alone(demanding, "a.md", "a.md.ready")
    (demanding.root / "inbox" / "a.md").rename(demanding.root / "processing" / INSTANCE / "_" / claim)
    demanding.drop("a.md", "half of the sec")

    await demanding.restart()
    await look_for(demanding, 8)

    assert demanding.inbox_names() == ["a.md"]
    assert [name for name in claims_of(demanding) if name.startswith(".")] == []
    assert demanding.rows("SELECT count(*) FROM sources") == [(1,)]


@pytest.mark.parametrize("name", ["長" * 82 + ".md", "x" * 246 + ".md"], ids=["wide", "plain"])
async def test_a_marker_with_a_long_name_finds_its_file_after_a_crash(demanding: Bench, name: str) -> None:
    """Its claim has no room for all of its name; it is put back under a shorter one that is about the same file."""
    demanding.drop(name, "first")
    demanding.dropped.clear()  # in done/ its name is shorter
    demanding.drop_sign(f"{name}.ready")
    await demanding.start()
    claim_alone(demanding, name, f"{name}.ready")

    await demanding.restart()
    await demanding.settle()

    assert (demanding.inbox_names(), claims_of(demanding)) == ([], [])
    assert len(demanding.outbox()) == 2


async def test_a_newer_marker_stays_when_an_older_one_would_be_put_back(demanding: Bench) -> None:
    demanding.drop("a.md", "first")
    demanding.drop_sign("a.md.ready")
    await demanding.start()
    claim_alone(demanding, "a.md", "a.md.ready")
    newer = demanding.drop_sign("a.md.ready")
    newer.write_text("newer")

    await demanding.restart()
    await demanding.step("intake")
    kept = newer.read_text()
    await demanding.settle()

    assert kept == "newer"
    assert (demanding.inbox_names(), claims_of(demanding)) == ([], [])
    assert set(demanding.outbox()) == {"a.md", "a.result.json"}


def claim_alone(bench: Bench, name: str, marker: str) -> str:
    """Claim the marker of a file, and die; return the name that the file's claim would have had."""
    claim = claim_name(name, dropped_ms=0, random_bytes=bytes(8))
    with (
        open_root(bench.root) as root,
        claims_folder(root, INSTANCE, INBOX_LANE) as claims,
    ):
        folder = os.open("inbox", os.O_RDONLY, dir_fd=root)
        try:
            assert take_marker(marker, claim, inbox=folder, claims=claims)
        finally:
            os.close(folder)
    return claim


async def test_a_marker_that_cannot_be_taken_is_told_and_its_file_waits_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has it open; both are taken together when he has closed it."""
    bench.drop("a.md", "first")
    bench.drop("b.md", "second")
    bench.drop_sign("a.md.ready")
    with monkeypatch.context() as patched:
        patched.setattr(markers, "os", FailingOs(errno.EBUSY, {"a.md.ready"}))
        await look_for(bench, 10)
    assert bench.stages is not None
    refused, left = bench.stages.intake.refused(), sorted(bench.inbox_names())
    await bench.settle()

    assert (refused, left) == (["a.md"], ["a.md", "a.md.ready"])
    assert [record.message for record in caplog.records].count("file cannot be taken: in use, or not ours") == 1
    assert set(bench.outbox()) == {"a.md", "a.result.json", "b.md", "b.result.json"}


async def test_a_marker_without_a_file_that_cannot_be_deleted_is_told_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bench.drop_sign("a.md.ready")
    with monkeypatch.context() as patched:
        patched.setattr(inbox, "os", FailingOs(errno.EACCES, {"a.md.ready"}))
        await look_for(bench, 20)
    assert bench.stages is not None
    refused, left_count = bench.stages.intake.refused(), bench.stages.intake.left_count
    told = [record.message for record in caplog.records if "marker" in record.message]
    await look_for(bench, 40)

    assert (refused, left_count) == (["a.md.ready"], 1)
    assert told == ["marker without a file cannot be deleted"]
    assert bench.inbox_names() == []


async def test_a_crash_loses_neither_a_file_nor_its_marker(tmp_path: Path) -> None:
    """Before and after each thing that is done until the file is recorded."""
    for point in range(8, 26, 3):
        bench = Bench(made(tmp_path, str(point)))
        demand_markers(bench)
        bench.drop("a.json", json.dumps(request("one")))
        bench.drop_sign("a.json.ready")
        bench.points.crash_at = point
        try:
            while bench.inbox_names():
                await bench.step("intake")
                bench.advance(0.5)
        except Crash:
            pass
        bench.points.crash_at = None
        await bench.restart()
        await bench.settle()
        assert set(bench.outbox()) == {"a.md", "a.result.json"}
        assert (bench.inbox_names(), claims_of(bench)) == ([], [])
        await bench.stop()
