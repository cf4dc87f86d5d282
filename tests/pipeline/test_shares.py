"""A share is other people's too: slow servers, lost renames, other daemons, folders and files that are not ours."""

import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from batchbox.errors import RetiredError
from batchbox.folders import shelves
from batchbox.folders.inbox import ClaimOutcome, Inbox, Wanted
from batchbox.folders.listing import Unread
from batchbox.folders.outbox import Outbox, Publication, Published
from batchbox.folders.reading import Claim
from batchbox.folders.root import Root, write_all
from batchbox.model import Lane
from batchbox.naming import claim_name
from folders.leasing import leased

from .bench import INSTANCE, Bench, Crash, Points

T = TypeVar("T")

NOBODY = 65534
REQUEST = {"messages": [{"role": "user", "content": "one"}]}


@dataclass
class Happening(Points):
    """Lets something happen just before the first group of folder operations of that name."""

    before: str = ""
    happen: Callable[[], None] = lambda: None
    has_happened: bool = False

    def pass_by(self, label: str) -> None:
        """Pass a point."""
        super().pass_by(label)
        if not self.has_happened and label.startswith(f"before {self.before}."):
            self.has_happened = True
            self.happen()


def claims(bench: Bench) -> Path:
    """Return the folder of the claims of the inbox itself."""
    return bench.root / "processing" / INSTANCE / "_"


def in_folder(folder: Path) -> set[str]:
    """Return every name in the folder."""
    return {path.name for path in folder.iterdir()}


def holds(bench: Bench) -> list[tuple[object, ...]]:
    """Return what is held."""
    return bench.rows("SELECT name, reason FROM holds")


async def rounds(bench: Bench, count: int, *, seconds: float = 1.1) -> None:
    """Let every stage take so many steps."""
    for _ in range(count):
        await bench.step_all()
        bench.api.end_all()
        bench.advance(seconds)


async def test_a_file_that_is_written_while_a_step_takes_long_is_not_taken_too_early(bench: Bench) -> None:
    """Quiet counts from when a file was looked at, not from when the step began."""
    path = bench.drop("slow.md", "first half")

    def write_for_long() -> None:
        path.write_text("first half, second")
        bench.dropped["slow.md"] = path.read_bytes()
        bench.advance(30.0)

    bench.api.points = Happening(before="Inbox.sample", happen=write_for_long)
    await bench.step("intake")
    bench.advance(0.02)
    await bench.step("intake")
    left = bench.inbox_names()
    path.write_text("first half, second half")
    bench.dropped["slow.md"] = path.read_bytes()
    await bench.settle()

    assert left == ["slow.md"]
    assert (bench.root / "done" / "slow.md").read_text() == "first half, second half"


async def test_bad_files_whose_long_names_are_cut_alike_are_both_kept(bench: Bench) -> None:
    """Same name after the cut, same fault, same second: two explanations, two files."""
    contents = {b'{"messages": [}' + b" " * number for number in range(3)}
    for number, content in enumerate(sorted(contents)):
        bench.drop(f"{'n' * 230}-{number}.json", content)

    await bench.settle()

    paths = list((bench.root / "rejected").iterdir())
    explanations = {path.read_bytes() for path in paths if path.name.endswith(".error.txt")}
    assert {path.read_bytes() for path in paths} - explanations == contents
    assert len(explanations) == 3


async def test_an_explanation_that_was_cut_short_by_death_is_written_to_its_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.drop("bad.json", "{]")

    def die_in_the_middle(descriptor: int, pieces: list[bytes]) -> None:
        write_all(descriptor, [pieces[0][:30]])
        raise Crash("in the middle of an explanation")

    with monkeypatch.context() as patched:
        patched.setattr(shelves, "write_all", die_in_the_middle)
        with pytest.raises(Crash):
            await bench.settle()
    torn = (bench.root / "rejected" / "bad.json.error.txt").read_bytes()
    await bench.restart()
    await bench.settle()

    assert len(torn) == 30
    assert in_folder(bench.root / "rejected") == {"bad.json", "bad.json.error.txt"}
    assert b"Receipt:" in (bench.root / "rejected" / "bad.json.error.txt").read_bytes()


async def test_a_file_that_comes_into_processing_late_is_found_within_a_heartbeat(bench: Bench) -> None:
    """A server may carry out a rename long after it reported a failure."""
    await bench.step_all()
    path = bench.drop("late.md", "one")
    name = claim_name("late.md", dropped_ms=1, random_bytes=os.urandom(8))

    path.rename(claims(bench) / name)
    await rounds(bench, 2, seconds=31)
    await bench.settle()

    assert set(bench.outbox()) == {"late.md", "late.result.json"}


async def test_a_rename_that_failed_and_took_effect_all_the_same_is_found_with_the_next_step(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.drop("late.md", "one")
    claim = Inbox.claim
    outcomes = []

    async def claim_and_lose_the_reply(self: Inbox, lane: Lane, files: Sequence[Wanted]) -> list[ClaimOutcome]:
        outcomes.extend(await claim(self, lane, files))
        return [ClaimOutcome.UNCLEAR for _ in files]

    monkeypatch.setattr(Inbox, "claim", claim_and_lose_the_reply)
    while not outcomes:
        await bench.step("intake")
        bench.advance(0.5)
    await bench.step("intake")

    assert bench.rows("SELECT custom_id, state FROM requests") == [("late", "waiting")]


@pytest.mark.parametrize(
    ("name", "content", "shelf"),
    [("a.md", "one", "done"), (os.fsdecode(b"caf\xe9.md"), "one", "done"), ("bad.json", "{]", "rejected")],
    ids=["done", "done, no text", "rejected"],
)
@pytest.mark.parametrize("restarts", [False, True])
async def test_a_lost_rename_of_a_file_that_has_ended_is_made_again(
    bench: Bench, name: str, content: str, shelf: str, restarts: bool
) -> None:
    """A server that loses what it had acknowledged does not stop the daemon, nor every later one."""
    bench.drop(name, content)
    await bench.settle()
    ((claim,),) = bench.rows("SELECT claim FROM sources")
    assert isinstance(claim, bytes)

    (bench.root / shelf / name).rename(claims(bench) / os.fsdecode(claim))
    if restarts:
        await bench.restart()
    await rounds(bench, 2, seconds=61)

    assert name in in_folder(bench.root / shelf)
    assert in_folder(claims(bench)) == set()
    assert holds(bench) == []
    assert bench.api.create_count == (1 if shelf == "done" else 0)


async def test_a_lost_deletion_of_a_file_that_nobody_keeps_is_made_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    bench = Bench(tmp_path_factory.mktemp("none"), done_days=0)
    bench.drop("a.md", "one")
    bench.dropped.clear()
    await bench.settle()
    ((claim,),) = bench.rows("SELECT claim FROM sources")
    assert isinstance(claim, bytes)

    (claims(bench) / os.fsdecode(claim)).write_text("one")
    await bench.restart()
    await bench.step("intake")

    assert in_folder(claims(bench)) == set()
    assert bench.rows("SELECT state FROM sources") == [("done",)]
    await bench.stop()


async def test_what_has_taken_the_place_of_a_lost_original_is_not_overwritten(bench: Bench) -> None:
    """The original stays in processing/, a line in the log says so, and everything else goes on."""
    bench.drop("a.md", "one")
    await bench.settle()
    ((claim,),) = bench.rows("SELECT claim FROM sources")
    assert isinstance(claim, bytes)
    (bench.root / "done" / "a.md").rename(claims(bench) / os.fsdecode(claim))
    (bench.root / "done" / "a.md").write_text("another daemon's")

    await bench.restart()
    bench.drop("b.md", "two")
    await rounds(bench, 8)

    assert (bench.root / "done" / "a.md").read_text() == "another daemon's"
    assert in_folder(claims(bench)) == {os.fsdecode(claim)}
    assert "b.result.json" in bench.outbox()


async def test_an_answer_that_another_daemon_brings_at_the_same_moment_is_not_overwritten(bench: Bench) -> None:
    """Both saw that the name was free; the second one takes another."""
    theirs = {"a.md": b"theirs", "a.result.json": b'{"custom_id": "a"}'}

    def bring() -> None:
        for name, content in theirs.items():
            (bench.root / "outbox" / name).write_bytes(content)

    bench.drop("a.md", "one")
    bench.api.points = Happening(before="Outbox.publish", happen=bring)
    await bench.settle()

    outbox = bench.outbox()
    assert set(outbox) == {"a.md", "a.result.json", "a__2.md", "a__2.result.json"}
    assert {name: outbox[name] for name in theirs} == theirs
    assert bench.rows("SELECT stem FROM requests") == [("a__2",)]


async def test_an_old_answer_is_replaced_beside_lanes_whose_names_begin_like_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A lane's folder is no file of the answer."""
    bench = Bench(tmp_path_factory.mktemp("replace"), on_existing="replace")
    bench.drop("hello.md", "one")
    bench.drop("z.md", "in a lane", lane="hello.v2")
    bench.drop("y.md", "in a lane", lane="hello")
    await bench.settle()
    before = bench.outbox()["hello.md"]
    bench.drop("hello.md", "two")

    await bench.settle()

    assert set(bench.outbox()) == {"hello.md", "hello.result.json"}
    assert bench.outbox()["hello.md"] != before
    assert set(bench.outbox("hello.v2")) == {"z.md", "z.result.json"}
    await bench.stop()


async def test_a_lane_does_not_take_the_name_of_an_answer(bench: Bench) -> None:
    bench.drop("z.md", "in a lane", lane="reports")
    await bench.settle()
    bench.drop("reports.md", "one")

    await bench.settle()

    assert set(bench.outbox()) == {"reports.md", "reports.result.json"}


async def test_a_lane_that_has_the_very_name_of_an_answers_file_does_not_stop_it(bench: Bench) -> None:
    bench.drop("z.md", "in a lane", lane="hello.md")
    await bench.settle()
    bench.drop("hello.md.txt", json.dumps(REQUEST))
    bench.drop("hello.json", json.dumps(REQUEST))

    await bench.settle()

    assert {"hello__2.md", "hello__2.result.json"} < set(bench.outbox())


async def test_a_link_where_an_explanation_would_be_stops_nothing(bench: Bench) -> None:
    (bench.root / "rejected" / "bad.json.error.txt").symlink_to("/nowhere")
    bench.drop("bad.json", "{]")
    bench.drop("good.md", "one")

    await bench.settle()

    assert {"bad__2.json", "bad__2.json.error.txt"} < in_folder(bench.root / "rejected")
    assert "good.result.json" in bench.outbox()


async def test_parts_do_not_pile_up_while_the_outbox_is_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt writes them anew, after those of the one before are gone."""
    for number in range(5):
        bench.drop(f"{number}.md", f"question {number}")
    counts = []

    def no_space(self: Outbox, root: int, lane: Lane, group: Sequence[Publication]) -> Published:
        counts.append(len(list((bench.root / "outbox").glob(".bb-*.part"))))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "_publish", no_space)
        await rounds(bench, 25, seconds=2)
    await bench.settle()

    assert len(counts) > 3
    assert set(counts) == {10}
    assert sum(name.endswith(".result.json") for name in bench.outbox()) == 5
    assert not list((bench.root / "outbox").glob(".bb-*"))


async def test_a_daemon_whose_work_was_taken_over_delivers_nothing_more(bench: Bench) -> None:
    bench.drop("a.md", "one")
    while not bench.rows("SELECT 1 FROM sqlite_master WHERE name = 'batches'") or not bench.rows(
        "SELECT 1 FROM batches WHERE state = 'ended'"
    ):
        for stage in ("intake", "dispatch", "polling"):
            await bench.step(stage)
        bench.api.end_all()
        bench.advance(1.0)

    (bench.root / "processing" / INSTANCE).rename(bench.root / "processing" / "taken-over")

    with pytest.raises(RetiredError):
        await bench.step("delivery")
    assert bench.outbox() == {}


async def test_a_lane_with_few_files_has_its_turn_before_one_with_many_is_empty(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What the backlog has room for is shared in turn, not by name."""
    bench = Bench(tmp_path_factory.mktemp("turns"), max_pending=300, max_requests=10_000)
    for number in range(1300):
        bench.drop(f"{number}.md", f"question {number}", lane="a")
    bench.drop("one.md", "question", lane="z")

    await bench.start()
    while not bench.rows("SELECT 1 FROM sources WHERE lane = 'z'"):
        await bench.step("intake")
        await bench.step("dispatch")
        bench.advance(1.1)

    left = bench.inbox_names()
    await bench.stop()
    assert left


async def test_a_long_file_that_cannot_be_read_waits_and_the_others_do_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    padding = "x" * 50_000
    lines = [json.dumps({"messages": [{"role": "user", "content": f"{number} {padding}"}]}) for number in range(90)]
    bench.drop("long.jsonl", "\n".join(lines))
    bench.drop("short.md", "one")

    async def fail(self: Inbox, claim: Claim, *, offset: int, length: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), claim.name)

    with monkeypatch.context() as patched:
        patched.setattr(Inbox, "read_part", fail)
        await rounds(bench, 8)
    delivered, held = set(bench.outbox()), holds(bench)
    was_idle = bench.stages is None or bench.stages.intake.is_idle
    await rounds(bench, 1, seconds=61)
    await bench.settle()

    assert delivered == {"short.md", "short.result.json"}
    assert (held, was_idle) == ([], False)
    assert len(bench.api.bought) == 91


@pytest.fixture
def nobodys(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return a bench whose service is, in the folders, an ordinary user who owns the root's own ones."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("only root, on Linux, can look at the folders as another user: run as root to test this")
    library = ctypes.CDLL(None)
    run = Root.run

    async def run_as_nobody(self: Root, work: Callable[[int], T]) -> T:
        def work_as_nobody(root: int) -> T:
            library.setfsgid(NOBODY)
            library.setfsuid(NOBODY)  # of this thread alone; what root may do in folders goes with it
            try:
                return work(root)
            finally:
                library.setfsuid(0)
                library.setfsgid(0)

        return await run(self, work_as_nobody)

    for path in [bench.root, *bench.root.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    monkeypatch.setattr(Root, "run", run_as_nobody)
    return bench


def lane_of(bench: Bench, top: str, name: str, *, mode: int) -> Path:
    """Make a lane's folder as somebody who does not think of the daemon."""
    folder = bench.root / top / name
    folder.mkdir(exist_ok=True)
    folder.chmod(mode)
    return folder


async def test_a_file_that_we_may_not_read_stays_in_the_inbox_and_stops_nothing(
    nobodys: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Once its owner lets us read it, it is taken."""
    secret = nobodys.drop("secret.md", "mine")
    secret.chmod(0o600)
    nobodys.drop("good.md", "one")
    await rounds(nobodys, 12)
    left, delivered, held = nobodys.inbox_names(), set(nobodys.outbox()), holds(nobodys)

    secret.chmod(0o644)
    await nobodys.settle()

    assert left == ["secret.md"]
    assert delivered == {"good.md", "good.result.json"}
    assert held == []
    assert len([record for record in caplog.records if record.message.startswith("file cannot be taken")]) == 1
    assert "secret.result.json" in nobodys.outbox()


@pytest.mark.parametrize("mode", [0o700, 0o744, 0o711], ids=["closed", "not to be searched", "not to be listed"])
async def test_a_lane_that_we_may_not_read_stops_alone(
    nobodys: Bench, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    """It is told once, and read as soon as it can be."""
    nobodys.drop("mine.md", "mine", lane="private")
    lane = lane_of(nobodys, "inbox", "private", mode=mode)
    nobodys.drop("good.md", "one")
    await rounds(nobodys, 8)
    delivered, held = set(nobodys.outbox()), holds(nobodys)

    lane.chmod(0o777)
    await nobodys.settle()

    assert delivered == {"good.md", "good.result.json"}
    assert held == []
    told = [vars(record)["folder"] for record in caplog.records if record.message == "folder is not read"]
    assert told == ["inbox/private"]
    assert set(nobodys.outbox("private")) == {"mine.md", "mine.result.json"}


async def test_a_lane_that_we_may_not_write_stops_alone(nobodys: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Its files stay in the inbox, nothing is tried with them, and it is told once; then they are taken."""
    nobodys.drop("mine.md", "mine", lane="private")
    lane = lane_of(nobodys, "inbox", "private", mode=0o755)
    nobodys.drop("good.md", "one")
    await rounds(nobodys, 8)
    left, delivered, held = nobodys.inbox_names(), set(nobodys.outbox()), holds(nobodys)
    assert nobodys.stages is not None
    broken = nobodys.stages.intake.broken_folders

    lane.chmod(0o777)
    await nobodys.settle()

    assert (left, delivered, held) == (["mine.md"], {"good.md", "good.result.json"}, [])
    assert broken == {"inbox/private": Unread.NOT_WRITABLE}
    assert nobodys.stages.intake.broken_folders == {}
    told = [vars(record)["why"] for record in caplog.records if record.message == "folder is not read"]
    assert told == [str(Unread.NOT_WRITABLE)]
    assert not [record for record in caplog.records if record.message.startswith("file cannot be taken")]
    assert set(nobodys.outbox("private")) == {"mine.md", "mine.result.json"}


@pytest.mark.parametrize("is_claimed", [False, True])
async def test_a_sign_waits_for_a_claim_that_we_may_not_read(nobodys: Bench, *, is_claimed: bool) -> None:
    """What it names is a request as soon as it can be read; that it cannot be read yet is no reason to buy it."""
    await nobodys.step_all()
    folder = claims(nobodys)
    path = nobodys.drop("secret.md", "mine")
    claim = path.rename(folder / claim_name("secret.md", dropped_ms=1, random_bytes=os.urandom(8)))
    claim.chmod(0o600)
    sign = nobodys.drop_sign("secret.md.cancel")
    if is_claimed:
        sign = sign.rename(folder / claim_name(sign.name, dropped_ms=2, random_bytes=os.urandom(8)))
    await rounds(nobodys, 3, seconds=61)
    await rounds(nobodys, 12)
    has_waited = sign.exists()

    claim.chmod(0o644)
    await rounds(nobodys, 1, seconds=61)
    await nobodys.settle()

    assert has_waited
    assert nobodys.api.bought == []
    assert set(nobodys.outbox()) == {"secret.error.json"}
    assert not list((nobodys.root / "rejected").iterdir())


async def test_a_claim_that_we_may_not_read_waits_for_the_next_heartbeat_and_the_others_do_not(nobodys: Bench) -> None:
    await nobodys.step_all()
    path = nobodys.drop("secret.md", "mine")
    claim = path.rename(claims(nobodys) / claim_name("secret.md", dropped_ms=1, random_bytes=os.urandom(8)))
    claim.chmod(0o600)
    nobodys.drop("good.md", "one")
    await rounds(nobodys, 3, seconds=61)
    await rounds(nobodys, 5)
    delivered, held = set(nobodys.outbox()), holds(nobodys)
    assert nobodys.stages is not None
    was_idle = nobodys.stages.intake.is_idle

    claim.chmod(0o644)
    await rounds(nobodys, 1, seconds=61)
    await nobodys.settle()

    assert delivered == {"good.md", "good.result.json"}
    assert (held, was_idle) == ([], False)
    assert "secret.result.json" in nobodys.outbox()


async def test_somebodys_own_folder_in_the_outbox_stops_no_delivery(nobodys: Bench) -> None:
    lane_of(nobodys, "outbox", "private", mode=0o700)
    nobodys.drop("good.md", "one")

    await nobodys.settle()

    assert "good.result.json" in nobodys.outbox()


async def test_answers_of_a_lane_whose_outbox_is_closed_wait_and_the_others_do_not(nobodys: Bench) -> None:
    nobodys.drop("mine.md", "mine", lane="private")
    lane_of(nobodys, "inbox", "private", mode=0o777)
    outbox = lane_of(nobodys, "outbox", "private", mode=0o700)
    nobodys.drop("good.md", "one", lane="public")
    lane_of(nobodys, "inbox", "public", mode=0o777)
    await rounds(nobodys, 10)
    delivered = set(nobodys.outbox("public"))

    outbox.chmod(0o777)
    await nobodys.settle()

    assert delivered == {"good.md", "good.result.json"}
    assert set(nobodys.outbox("private")) == {"mine.md", "mine.result.json"}
    assert len(nobodys.api.bought) == 2


async def test_errors_of_a_lane_whose_outbox_is_closed_wait_and_other_answers_do_not(nobodys: Bench) -> None:
    nobodys.drop("mine.md", "poison", lane="private")
    lane_of(nobodys, "inbox", "private", mode=0o777)
    outbox = lane_of(nobodys, "outbox", "private", mode=0o700)
    nobodys.drop("good.md", "one", lane="public")
    lane_of(nobodys, "inbox", "public", mode=0o777)
    nobodys.api.refuses = lambda body: b"poison" in body
    await rounds(nobodys, 10)
    delivered = set(nobodys.outbox("public"))

    outbox.chmod(0o777)
    await nobodys.settle()

    assert delivered == {"good.md", "good.result.json"}
    assert set(nobodys.outbox("private")) == {"mine.error.json"}


async def test_rejected_files_of_a_lane_whose_folder_is_closed_wait_and_the_others_do_not(nobodys: Bench) -> None:
    """However many they are: those of other lanes behind them are put aside all the same."""
    for number in range(300):
        nobodys.drop(f"{number}.json", f"{{] {number}", lane="private")
    lane_of(nobodys, "inbox", "private", mode=0o777)
    closed = lane_of(nobodys, "rejected", "private", mode=0o700)
    await rounds(nobodys, 4)
    nobodys.drop("bad.json", "{]")
    nobodys.drop("good.md", "one")
    await rounds(nobodys, 8)
    rejected, delivered, held = in_folder(nobodys.root / "rejected"), set(nobodys.outbox()), holds(nobodys)

    closed.chmod(0o777)
    await nobodys.settle()

    assert rejected == {"bad.json", "bad.json.error.txt", "private"}
    assert delivered == {"good.md", "good.result.json"}
    assert held == []
    assert len(in_folder(closed)) == 600


async def test_a_lease_on_a_claimed_file_holds_no_sending(bench: Bench) -> None:
    """The program that dropped it has it open; what is asked for elsewhere goes out."""
    bench.drop("kept.md", "kept open")
    bench.drop("a.md", "one", lane="other")
    while bench.inbox_names():
        await bench.step("intake")
        bench.advance(0.5)
    (claim,) = claims(bench).iterdir()
    stages = bench.stages
    assert stages is not None

    with leased(claim):  # the invariants open every file, and would wait until the lease is broken
        for _ in range(5):
            bench.advance(1.1)
            await stages.dispatch.step(bench.now)
        meanwhile = holds(bench), len(bench.api.bought)
    await bench.settle()

    assert meanwhile == ([], 1)
    assert set(bench.outbox()) == {"kept.md", "kept.result.json"}
    assert set(bench.outbox("other")) == {"a.md", "a.result.json"}
