"""Another daemon is at home on the root: whenever we die while we publish, nothing is overwritten or lost."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchbox.folders import outbox, replacing, stems
from batchbox.folders.outbox import NewFile, Outbox, Publication, StemUse
from batchbox.folders.root import Root, open_root, read_identity
from batchbox.model import INBOX_LANE, Instance

from .bench import Bench, Crash
from .lines import send

OTHER = Instance("bench-00000009")
CALLS = {"open", "fsync", "rename", "unlink"}
STEMS = ("a", "a__2", "a__3")
THEIRS = b"the other one's"


class DyingOs:
    """The `os` of the modules that publish, in which the process dies just before its n-th change."""

    def __init__(self, crash_at: int) -> None:
        self._left = crash_at

    def __getattr__(self, name: str) -> object:
        if name in CALLS:
            self._left -= 1
            if self._left == 0:
                raise Crash(name)
        return getattr(os, name)


@contextmanager
def dying(crash_at: int) -> Iterator[DyingOs]:
    with pytest.MonkeyPatch.context() as patched:
        dying_os = DyingOs(crash_at)
        for module in (outbox, replacing, stems):
            patched.setattr(module, "os", dying_os)
        yield dying_os


def with_other(folder: Path) -> Bench:
    """Return a bench on whose root another daemon is at home, with a file that was asked for."""
    bench = Bench(folder)
    (bench.root / "processing" / OTHER).mkdir()
    bench.drop("a.md", "question")
    return bench


async def dies(bench: Bench, crash_at: int) -> bool:
    """Go on until everything is settled or the process has died; return which."""
    with dying(crash_at):
        try:
            await bench.settle()
        except Crash:
            return True
    return False


async def publish_theirs(bench: Bench) -> None:
    """Let the other one publish an answer of the same custom_id under the first name that it can have."""
    with open_root(bench.root) as root:
        identity = read_identity(root)
    assert identity is not None
    box = Outbox(Root(bench.root, identity=identity), OTHER)
    (bench.root / "processing" / OTHER / ".heartbeat").touch()
    for stem in STEMS:
        files = [NewFile(pieces=[THEIRS], is_marker=False), NewFile(pieces=[b'{"custom_id": "a"}'], is_marker=True)]
        parts = await box.write(INBOX_LANE, files)
        published = await box.publish(
            INBOX_LANE,
            [
                Publication(part=part, stem=stem, suffix=suffix, use=StemUse.NEW, wire_ids=["a__zzzzzzzz-1"])
                for part, suffix in zip(parts, (".md", ".result.json"), strict=True)
            ],
        )
        await box.remove_leftovers(stems_in_use=[])
        if not published.taken:
            return
    raise AssertionError("the other one found no name")


@pytest.mark.parametrize(
    ("is_met", "stride"), [(False, 3), (True, 1)], ids=["alone meanwhile", "another one publishes meanwhile"]
)
async def test_whenever_we_die_every_answer_is_there_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, is_met: bool, stride: int
) -> None:
    crash_at, has_died = 0, True
    while has_died:
        crash_at += stride
        bench = with_other(tmp_path_factory.mktemp("crash"))
        has_died = await dies(bench, crash_at)
        await bench.stop()

        if is_met:
            await publish_theirs(bench)
        await bench.settle()

        found = bench.outbox()
        texts = {name: text for name, text in found.items() if name.endswith(".md")}
        assert set(found) == {name.removesuffix(".md") + end for name in texts for end in (".md", ".result.json")}
        assert len(texts) == 1 + is_met, f"point {crash_at}: {sorted(found)}"
        assert list(texts.values()).count(THEIRS) == is_met
        assert is_met or set(texts) == {"a.md"}
        assert not list((bench.root / "outbox").glob(".bb-*")), f"point {crash_at}"
        assert len(bench.api.bought) == 1
        await bench.stop()

    assert crash_at > 8


@pytest.mark.slow
@pytest.mark.parametrize("has_other", [False, True], ids=["alone", "not alone"])
async def test_whenever_we_die_the_old_answer_is_replaced_whole_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, has_other: bool
) -> None:
    """And what a person keeps beside it is not touched."""
    crash_at, has_died = 0, True
    while has_died:
        crash_at += 1
        bench = Bench(tmp_path_factory.mktemp("crash"), on_existing="replace")
        if has_other:
            (bench.root / "processing" / OTHER).mkdir()
        bench.drop("a.md", "one")
        await bench.settle()
        old = bench.outbox()["a.md"]
        (bench.root / "outbox" / "a.docx").write_bytes(THEIRS)
        bench.drop("a.md", "two")
        has_died = await dies(bench, crash_at)
        await bench.restart()
        await bench.settle()

        found = bench.outbox()
        assert set(found) == {"a.md", "a.result.json", "a.docx"}, f"point {crash_at}"
        assert found["a.docx"] == THEIRS
        assert found["a.md"] != old
        assert not list((bench.root / "outbox").glob(".bb-*")), f"point {crash_at}"
        await bench.stop()

    assert crash_at > 8


async def test_a_note_that_we_died_in_the_middle_of_costs_a_number_and_goes_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell it from one that another daemon is writing just now."""
    bench = with_other(tmp_path)

    def die(descriptor: int, pieces: list[bytes]) -> None:
        os.write(descriptor, pieces[0][:7])
        raise Crash("in the middle of a note")

    with monkeypatch.context() as patched:
        patched.setattr(stems, "write_all", die)
        with pytest.raises(Crash):
            await bench.settle()
    await bench.restart()
    await bench.settle()
    notes = [path.name for path in (bench.root / "outbox").glob(".bb-*")]
    long_ago = (bench.root / "outbox" / stems.note_name("a")).stat().st_mtime - stems.UNOWNED_SECONDS - 100
    os.utime(bench.root / "outbox" / stems.note_name("a"), (long_ago, long_ago))
    await bench.restart()
    await bench.step_all()

    assert set(bench.outbox()) == {"a__2.md", "a__2.result.json"}
    assert notes == [stems.note_name("a")]
    assert not list((bench.root / "outbox").glob(".bb-*"))
    await bench.stop()


@pytest.mark.parametrize(
    ("has_note", "text"),
    [(True, "answer to {digest}"), (False, "answer to {digest}"), (False, "somebody else's")],
    ids=["a note", "the text", "neither"],
)
async def test_what_a_lost_instance_had_half_published_is_found_again_by_its_note_or_its_text(
    tmp_path: Path, has_note: bool, text: str
) -> None:
    """Its database is gone, and with it the stem that it had recorded; the note names the request.

    One that was alone on the root made no note, and what it showed is just what is to be shown.
    """
    bench = with_other(tmp_path)
    await send(bench)
    ((wire_id, params),) = bench.api.batches[0].requests.items()
    (bench.root / "outbox" / "a.md").write_text(text.format(digest=hashlib.sha256(params).hexdigest()))
    if has_note:
        note = f'{{\n  "instance": "lost-00000001",\n  "wire_ids": [\n    "{wire_id}"\n  ]\n}}\n'
        (bench.root / "outbox" / stems.note_name("a")).write_text(note)
    await bench.settle()

    second = {"a__2.md", "a__2.result.json"} if text == "somebody else's" else {"a.result.json"}
    assert set(bench.outbox()) == {"a.md", *second}
    assert bench.outbox()["a.md"].startswith(text[:9].encode())
    assert not list((bench.root / "outbox").glob(".bb-*"))
    await bench.stop()
