import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from batchbox.errors import RetiredError, RootOfflineError
from batchbox.folders import outbox as outbox_module
from batchbox.folders import replacing
from batchbox.folders.answers import Replaceable, Sought, hidden
from batchbox.folders.outbox import SYNC_ALONE_UP_TO, NewFile, Outbox, Publication, Published, StemUse
from batchbox.folders.replacing import PUT_AWAY_SECONDS
from batchbox.folders.root import Root
from batchbox.model import INBOX_LANE, CustomId, Lane

from .failing import FailingOs
from .leasing import leased
from .site import INSTANCE, OTHER_INSTANCE, Site, names_in


def outbox(site: Site) -> Outbox:
    """Return the outbox, as this instance uses it."""
    return Outbox(site.root, INSTANCE)


async def write(
    site: Site,
    *files: tuple[str, bytes],
    box: Outbox | None = None,
    lane: Lane = INBOX_LANE,
    use: StemUse = StemUse.OWN,
    wire_ids: Sequence[str] = (),
    former_stem: str | None = None,
    replaces: Replaceable | None = None,
) -> list[Publication]:
    """Write files as parts; return how they are to be published. Markers are known by their names."""
    new = [NewFile(pieces=[content], is_marker=name.endswith(".json")) for name, content in files]
    parts = await (box or outbox(site)).write(lane, new)
    return [
        Publication(
            part=part,
            stem=name.partition(".")[0],
            suffix="." + name.partition(".")[2],
            use=use,
            wire_ids=wire_ids,
            former_stem=former_stem,
            replaces=replaces,
        )
        for part, (name, _) in zip(parts, files, strict=True)
    ]


def old_of(stem: str, *, custom_id: str | None = None, extension: str = "md") -> Replaceable:
    """Return what makes way for an answer that has the stem."""
    return Replaceable(stem=stem, custom_id=CustomId(custom_id or stem), extension=extension)


def document(status: str = "answered", *, custom_id: str = "a", wire_id: str = "a__oooooooo-1") -> bytes:
    """Return what counts of a `.result.json` or `.error.json`."""
    return f'{{\n  "custom_id": "{custom_id}",\n  "status": "{status}",\n  "wire_ids": ["{wire_id}"]\n}}\n'.encode()


def put(site: Site, files: Mapping[str, bytes]) -> None:
    """Put files into the outbox."""
    for name, content in files.items():
        (site.path / "outbox" / name).write_bytes(content)


def contents(site: Site) -> dict[str, bytes]:
    """Return what is visible in the outbox."""
    return {name: (site.path / "outbox" / name).read_bytes() for name in visible(site.path / "outbox")}


async def publish(site: Site, group: Sequence[Publication]) -> Published:
    """Publish in the inbox's own lane."""
    return await outbox(site).publish(INBOX_LANE, group)


def link(path: Path) -> None:
    """Put a link there."""
    path.symlink_to("/etc/passwd")


def visible(folder: Path) -> set[str]:
    """Return the names that people see."""
    return {name for name in names_in(folder) if not name.startswith(".")}


async def test_parts_are_invisible_until_they_are_published(site: Site) -> None:
    group = await write(site, ("a.md", b"text"), ("a.result.json", b"{}"))
    before = visible(site.path / "outbox")

    await publish(site, group)

    assert before == set()
    assert names_in(site.path / "outbox") == {"a.md", "a.result.json"}
    assert (site.path / "outbox" / "a.md").read_bytes() == b"text"


async def test_pieces_are_written_one_after_the_other(site: Site) -> None:
    (part,) = await outbox(site).write(INBOX_LANE, [NewFile(pieces=[b"a", b"", b"bc"], is_marker=False)])

    assert (site.path / "outbox" / part.name).read_bytes() == b"abc"


async def test_a_lane_has_its_own_outbox(site: Site) -> None:
    group = await write(site, ("a.md", b"text"), lane=Lane("reports"))

    await outbox(site).publish(Lane("reports"), group)

    assert names_in(site.path / "outbox" / "reports") == {"a.md"}


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("count", [1, SYNC_ALONE_UP_TO + 1])
async def test_a_group_is_published_whole_on_any_file_system(
    site: Site, is_local: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few parts are flushed one by one, more of them at once where the file system offers that."""
    monkeypatch.setattr(Root, "is_local", is_local)
    box = outbox(site)
    group = await write(site, *((f"{number}.md", b"text") for number in range(count)), box=box)

    await box.publish(INBOX_LANE, group)

    assert visible(site.path / "outbox") == {f"{number}.md" for number in range(count)}


async def test_every_text_is_visible_before_any_marker_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts wait for the marker; here the disk fails at the first one, and the texts are there all the same."""
    files = [("a.result.json", b"{}"), ("a.md", b"a"), ("b.result.json", b"{}"), ("b.md", b"b")]
    group = await write(site, *files)

    with monkeypatch.context() as patched:
        patched.setattr(outbox_module, "os", FailingOs(errno.EIO, {"a.result.json"}))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            await publish(site, group)

    assert visible(site.path / "outbox") == {"a.md", "b.md"}


async def test_no_marker_is_visible_if_a_text_could_not_be_shown(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    group = await write(site, ("a.result.json", b"{}"), ("a.md", b"a"), ("b.md", b"b"), ("b.result.json", b"{}"))

    with monkeypatch.context() as patched:
        patched.setattr(outbox_module, "os", FailingOs(errno.EIO, {"b.md"}))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            await publish(site, group)

    assert not any(name.endswith(".json") for name in visible(site.path / "outbox"))


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES, errno.ETXTBSY, errno.EPERM, errno.ENOENT])
@pytest.mark.parametrize("refused", ["a.md", "a.result.json"])
async def test_a_name_that_is_refused_keeps_no_other_request_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch, refused: str, number: int
) -> None:
    """Its marker is not visible, and its hidden parts are gone, because they are written anew."""
    files = [("a.result.json", b"{}"), ("a.md", b"a"), ("b.md", b"b"), ("b.result.json", b"{}")]
    group = await write(site, *files, use=StemUse.NEW)

    with monkeypatch.context() as patched:
        patched.setattr(outbox_module, "os", FailingOs(number, {refused}))
        published = await publish(site, group)

    assert published == Published(refused={"a"})
    left = {"a.md"} - {refused}
    assert names_in(site.path / "outbox") == {"b.md", "b.result.json", *left}


@pytest.mark.parametrize("instead", [None, link, os.mkdir, os.mkfifo])
@pytest.mark.parametrize("robbed", [0, 1])
async def test_a_part_that_somebody_took_away_keeps_no_other_request_waiting(
    site: Site, robbed: int, instead: Callable[[Path], None] | None
) -> None:
    """Whatever lies in its place is not opened for good, and bears no answer's name."""
    files = [("a.md", b"a"), ("a.result.json", b"{}"), ("b.result.json", b"{}")]
    group = await write(site, *files, use=StemUse.NEW)
    part = site.path / "outbox" / group[robbed].part.name
    part.unlink()
    if instead is not None:
        instead(part)

    published = await publish(site, group)

    assert published == Published(refused={"a"})
    assert visible(site.path / "outbox") == {"b.result.json"}


@pytest.mark.parametrize("is_local", [True, False])
async def test_an_old_answer_stays_while_a_part_of_the_new_one_is_missing(
    site: Site, is_local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Root, "is_local", is_local)
    old = {"a.md": b"old", "a.result.json": document()}
    put(site, old)
    more = [(f"b{number}.md", b"b") for number in range(SYNC_ALONE_UP_TO)]
    group = await write(site, ("a.md", b"new"), ("a.result.json", b"{}"), *more, replaces=old_of("a"))
    (site.path / "outbox" / group[0].part.name).unlink()

    published = await publish(site, group)

    assert published == Published(refused={"a"})
    assert contents(site) == {**old, **dict(more)}


async def test_a_name_that_is_refused_and_given_already_is_well(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second delivery finds the answer of the first one open in an editor."""
    files = [("a.md", b"text"), ("a.result.json", b"{}")]
    await publish(site, await write(site, *files))

    with monkeypatch.context() as patched:
        patched.setattr(outbox_module, "os", FailingOs(errno.EBUSY, {"a.md", "a.result.json"}))
        published = await publish(site, await write(site, *files))

    assert published == Published()
    assert names_in(site.path / "outbox") == {"a.md", "a.result.json"}


@pytest.mark.parametrize("refused", ["a.md", "a.result.json"])
async def test_an_old_answer_that_somebody_has_open_waits_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Whichever of its files it is: it goes with both, or both stay."""
    old = {"a.md": b"old", "a.result.json": document()}
    put(site, old)
    group = await write(site, ("a.md", b"new"), ("a.result.json", b"{}"), replaces=old_of("a"))

    with monkeypatch.context() as patched:
        patched.setattr(replacing, "os", FailingOs(errno.EBUSY, {refused}))
        published = await publish(site, group)

    assert published == Published(refused={"a"})
    assert contents(site) == old
    assert names_in(site.path / "outbox") == {"a.md", "a.result.json"}


async def test_what_was_shown_under_a_stem_that_was_given_up_goes(site: Site) -> None:
    """But what looks otherwise is somebody else's by now."""
    put(site, {"a.md": b"text", "b.md": b"somebody else's"})
    files = [(f"{stem}__2{suffix}", b"text") for stem in "ab" for suffix in (".md", ".result.json")]
    group = [one for file in files for one in await write(site, file, use=StemUse.NEW, former_stem=file[0][0])]

    await publish(site, group)

    assert names_in(site.path / "outbox") == {"b.md", *(name for name, _ in files)}


async def test_publishing_a_second_time_after_a_crash_writes_the_same_files(site: Site) -> None:
    files = [("a.md", b"text"), ("a.result.json", b"{}")]
    await publish(site, await write(site, *files))

    await publish(site, await write(site, *files))

    assert names_in(site.path / "outbox") == {"a.md", "a.result.json"}


@pytest.mark.parametrize(
    ("status", "marker", "text"),
    [
        ("answered", "a.result.json", "a.md"),
        ("incomplete", "a.result.json", "a.incomplete.md"),
        ("error", "a.error.json", None),
    ],
)
async def test_an_old_answer_goes_with_all_its_files_and_no_other_does(
    site: Site, status: str, marker: str, text: str | None
) -> None:
    """What people keep under the same stem is theirs."""
    others = ["a.docx", "a.txt", "a.json", "a.summary.json", "a.old.md", "ab.md", "a-2.md", "A.md", "a__2.md", ".a.md"]
    put(site, {marker: document(status), **dict.fromkeys(others, b"theirs")})
    put(site, {} if text is None else {text: b"old"})
    group = await write(site, ("a.new", b"new"), ("a.result.json", b"{}"), replaces=old_of("a"))

    assert await publish(site, group) == Published()

    assert names_in(site.path / "outbox") == {*others, "a.new", "a.result.json"}
    assert (site.path / "outbox" / "a.result.json").read_bytes() == b"{}"


@pytest.mark.parametrize(
    ("present", "kept"),
    [
        ({"a.md": b"theirs"}, "no document says that it is an answer"),
        ({"a.md": b"theirs", "a.result.json": document(custom_id="b")}, "another custom_id has the stem"),
        ({"a.md": b"theirs", "a.error.json": document("error")}, "an error has no text"),
        ({"a.md": b"theirs", "a.result.json": document("incomplete")}, "the old answer has another text"),
        ({"a.md": b"theirs", "a.result.json": b'{"custom_id": "a"}'}, "nothing says that it has a text"),
        ({"a.error.json": b"theirs", "a.result.json": document()}, "one of two documents is not the answer's"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_not_the_old_answers_is_never_replaced(
    site: Site, present: Mapping[str, bytes], kept: str
) -> None:
    put(site, present)
    group = await write(site, ("a.md", b"new"), ("a.result.json", b"{}"), replaces=old_of("a"))

    assert await publish(site, group) == Published(taken={"a"}), kept

    assert contents(site) == present


async def test_only_the_plain_name_is_replaced(site: Site) -> None:
    """An answer with a number stands beside one that was not to be replaced."""
    plain = {"a.md": b"old", "a.result.json": document()}
    present = {"a__2.md": b"theirs", "a__2.result.json": document(), **plain}
    put(site, present)
    files = [("a__2.md", b"new"), ("a__2.result.json", b"{}")]
    first = await publish(site, await write(site, *files, replaces=old_of("a")))
    before = contents(site)
    for name, _ in files:
        (site.path / "outbox" / name).unlink()
    second = await publish(site, await write(site, *files, replaces=old_of("a")))

    assert (first, second) == (Published(taken={"a__2"}), Published())
    assert before == present
    assert contents(site) == {**plain, **dict(files)}


async def test_a_second_delivery_does_not_replace_the_first(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same answer: whoever reads it does not see it vanish, and nothing of it can resist."""
    put(site, {"a.md": b"text", "a.result.json": document(wire_id="a__aaaaaaaa-1")})
    files = [("a.md", b"text"), ("a.result.json", document(wire_id="a__aaaaaaaa-1"))]
    group = await write(site, *files, wire_ids=["a__aaaaaaaa-1"], replaces=old_of("a"))

    with monkeypatch.context() as patched:
        patched.setattr(replacing, "os", FailingOs(errno.EIO, {"a.md", "a.result.json"}))
        assert await publish(site, group) == Published()

    assert contents(site) == dict(files)


class Death(BaseException):
    """The process ends here."""


class DyingOs:
    """An `os` with which the process dies just before its n-th change."""

    def __init__(self, left: int) -> None:
        self._left = left

    def __getattr__(self, name: str) -> object:
        if name in {"rename", "unlink"}:
            self._left -= 1
            if self._left == 0:
                raise Death
        return getattr(os, name)


@pytest.mark.parametrize("left", [1, 2, 3])
async def test_whenever_a_replacement_dies_the_next_one_comes_to_its_end(
    site: Site, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """Without the document in sight, the text of the old answer is still known to be its."""
    put(site, {"a.incomplete.md": b"old", "a.result.json": document("incomplete"), "a.docx": b"theirs"})
    files = [("a.md", b"new"), ("a.result.json", b"{}")]
    with monkeypatch.context() as patched:
        patched.setattr(replacing, "os", DyingOs(left))
        with pytest.raises(Death):
            await publish(site, await write(site, *files, replaces=old_of("a")))
    await outbox(site).remove_leftovers(stems_in_use=["a"])

    assert await publish(site, await write(site, *files, replaces=old_of("a"))) == Published()

    assert names_in(site.path / "outbox") == {"a.md", "a.result.json", "a.docx"}


async def test_what_a_person_saves_when_the_old_text_has_gone_is_no_old_text(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We died before the document that had been put away could go too."""
    put(site, {"a.incomplete.md": b"old", "a.result.json": document("incomplete")})
    files = [("a.md", b"new"), ("a.result.json", b"{}")]
    with monkeypatch.context() as patched:
        patched.setattr(replacing, "os", DyingOs(3))
        with pytest.raises(Death):
            await publish(site, await write(site, *files, replaces=old_of("a")))
    save_later_than(site.path / "outbox" / hidden("a.result.json"), site.path / "outbox" / "a.incomplete.md")

    await publish(site, await write(site, *files, replaces=old_of("a")))

    assert contents(site) == {**dict(files), "a.incomplete.md": b"theirs"}


def save_later_than(before: Path, path: Path) -> None:
    """Write a file until the clock of the file system says that it came later."""
    for _ in range(1_000_000):
        path.write_bytes(b"theirs")
        if path.stat().st_ctime_ns > before.stat().st_ctime_ns:
            return
    raise AssertionError("the file system's clock stands still")


async def test_a_document_that_was_put_away_and_forgotten_goes_after_a_day(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not while a request may still need it, or another daemon does."""
    names = {stem: hidden(f"{stem}.result.json") for stem in ("open", "ended")}
    put(site, dict.fromkeys(names.values(), document()))
    (site.path / "processing" / INSTANCE / ".heartbeat").touch()
    await outbox(site).remove_leftovers(stems_in_use=[])
    after_no_time = names_in(site.path / "outbox")
    later = (site.path / "outbox" / names["open"]).stat().st_ctime + PUT_AWAY_SECONDS + 10
    os.utime(site.path / "processing" / INSTANCE / ".heartbeat", (later, later))

    await outbox(site).remove_leftovers(stems_in_use=["open"])

    assert after_no_time == set(names.values())
    assert names_in(site.path / "outbox") == {names["open"]}


async def test_a_lane_of_the_name_of_a_replaced_answer_is_left_alone(site: Site) -> None:
    """The outbox of lane `a` lies beside the answer `a` of the inbox itself."""
    await outbox(site).publish(Lane("a"), await write(site, ("b.md", b"text"), lane=Lane("a")))
    put(site, {"a.md": b"old", "a.result.json": document()})
    group = await write(site, ("a.md", b"new"), ("a.result.json", b"new"), replaces=old_of("a"))

    await publish(site, group)

    assert visible(site.path / "outbox") == {"a", "a.md", "a.result.json"}
    assert (site.path / "outbox" / "a.md").read_bytes() == b"new"
    assert visible(site.path / "outbox" / "a") == {"b.md"}


async def test_what_this_instance_left_behind_is_removed_and_nothing_else(site: Site) -> None:
    other = Outbox(site.root, OTHER_INSTANCE)
    (theirs,) = await other.write(INBOX_LANE, [NewFile(pieces=[b"x"], is_marker=False)])
    await write(site, ("a.md", b"text"))
    await write(site, ("a.md", b"text"), lane=Lane("reports"))
    await publish(site, await write(site, ("b.md", b"text")))
    (site.path / "outbox" / f".bb-{INSTANCE}-kept.name").touch()

    await outbox(site).remove_leftovers(stems_in_use=[])

    assert names_in(site.path / "outbox") == {theirs.name, "b.md", "reports", f".bb-{INSTANCE}-kept.name"}
    assert names_in(site.path / "outbox" / "reports") == set()


async def test_after_the_first_time_only_the_lanes_that_were_written_to_are_tidied(site: Site) -> None:
    """Whoever may drop files can make folders in outbox/ without end, and every failure leads here again."""
    box = outbox(site)
    other = site.path / "outbox" / "other"
    other.mkdir()
    part = other / f".bb-{INSTANCE}-0000000000000000.part"
    seen = []
    for _ in range(2):
        part.touch()
        await write(site, ("a.md", b"text"), box=box)
        await write(site, ("b.md", b"text"), lane=Lane("reports"), box=box)
        await box.remove_leftovers(stems_in_use=[])
        seen.append(names_in(other))

    assert seen == [set(), {part.name}]
    assert names_in(site.path / "outbox") == {"other", "reports"}
    assert names_in(site.path / "outbox" / "reports") == set()


async def test_what_somebody_else_removes_while_it_is_tidied_is_no_trouble(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = outbox(site)
    await box.remove_leftovers(stems_in_use=[])
    await write(site, ("b.md", b"text"), lane=Lane("reports"), box=box)
    shutil.rmtree(site.path / "outbox" / "reports")
    gone, _ = [one.part.name for one in await write(site, ("a.md", b"text"), ("a.result.json", b"{}"), box=box)]

    with monkeypatch.context() as patched:
        patched.setattr(outbox_module, "os", FailingOs(errno.ENOENT, {gone}))
        await box.remove_leftovers(stems_in_use=[])

    assert names_in(site.path / "outbox") == {gone}


async def test_links_to_folders_are_not_tidied_in(site: Site) -> None:
    elsewhere = site.path.with_name("elsewhere")
    elsewhere.mkdir()
    bait = elsewhere / f".bb-{INSTANCE}-0000000000000000.part"
    bait.touch()
    (site.path / "outbox" / "link").symlink_to(elsewhere)

    await outbox(site).remove_leftovers(stems_in_use=[])

    assert bait.exists()


async def test_all_that_an_answer_cannot_be_called_is_told(site: Site) -> None:
    """Hidden files and other people's too; but an answer may have the name of a lane, whose folder is beside it."""
    (site.path / "outbox" / "mine.txt").touch()
    (site.path / "outbox" / "plain").touch()
    (site.path / "outbox" / "reports").mkdir()
    (site.path / "outbox" / "letter.md").mkdir()
    group = await write(site, ("a.md", b"text"))

    names = set(await outbox(site).names(INBOX_LANE))

    assert names == {"mine.txt", "plain", "letter.md", group[0].part.name}


@pytest.mark.parametrize("taken", ["a.md", "a.result.json"])
async def test_a_new_name_that_somebody_else_has_is_told_and_nothing_is_done(site: Site, taken: str) -> None:
    """Nothing is ever overwritten, even if it came after the names were listed."""
    files = [("a.md", b"text"), ("a.result.json", b"{}"), ("b.md", b"text")]
    group = await write(site, *files, use=StemUse.NEW)
    (site.path / "outbox" / taken).write_bytes(b"somebody else's")

    published = await publish(site, group)

    assert published == Published(taken={"a"})
    assert visible(site.path / "outbox") == {taken}
    assert (site.path / "outbox" / taken).read_bytes() == b"somebody else's"


@pytest.mark.parametrize("taken", ["a.md", "a.result.json", "a.error.json"])
async def test_an_own_stem_that_somebody_else_has_taken_since_is_told(site: Site, taken: str) -> None:
    """We died before the first rename, and another daemon, which could not know, has published under it."""
    group = await write(site, ("a.md", b"text"), ("a.result.json", b"{}"), wire_ids=["a__aaaaaaaa-1"])
    (site.path / "outbox" / taken).write_bytes(b"somebody else's")

    assert await publish(site, group) == Published(taken={"a"})

    assert (site.path / "outbox" / taken).read_bytes() == b"somebody else's"


async def test_a_document_that_names_the_request_is_its_own_however_it_is_told(site: Site) -> None:
    """The second telling may know more, like that it was recovered."""
    document = b'{\n  "wire_ids": ["a__aaaaaaaa-1"]\n}\n'
    await publish(site, await write(site, ("a.md", b"text"), ("a.result.json", document)))
    files = [("a.md", b"text"), ("a.result.json", document + b"\n")]

    published = await publish(site, await write(site, *files, wire_ids=["a__bbbbbbbb-1", "a__aaaaaaaa-1"]))

    assert published == Published()
    assert (site.path / "outbox" / "a.result.json").read_bytes() == document + b"\n"


async def test_names_that_are_free_are_taken(site: Site) -> None:
    group = await write(site, ("a.md", b"text"), ("a.result.json", b"{}"), use=StemUse.NEW)

    assert await publish(site, group) == Published()

    assert names_in(site.path / "outbox") == {"a.md", "a.result.json"}


async def test_a_retired_daemon_publishes_nothing(site: Site) -> None:
    """Whoever took its work over delivers."""
    group = await write(site, ("a.md", b"text"))
    (site.path / "processing" / INSTANCE).rename(site.path / "processing" / "taken-over")

    with pytest.raises(RetiredError):
        await publish(site, group)

    assert visible(site.path / "outbox") == set()


async def known(site: Site, *stems: str, replaces: Replaceable | None = None, text: bytes = b"text") -> str | None:
    """Return which stem is known to be that of a request of one wire id, with this text."""
    (part,) = await outbox(site).write(INBOX_LANE, [NewFile(pieces=[text], is_marker=False)])
    sought = Sought(wire_ids=["a__aaaaaaaa-1"], texts={".md": part.name}, replaces=replaces)
    return await outbox(site).known_stem(INBOX_LANE, stems, sought)


async def test_a_stem_is_known_by_its_document_and_else_by_its_text(site: Site) -> None:
    """A text alone is what a life left that was alone on the root, and died before its marker."""
    put(site, {"a.md": b"text", "a__2.error.json": document("error", wire_id="a__aaaaaaaa-1"), "a__3.md": b"text"})
    put(site, {"a__4.md": b"other", "a__5.md": b"text", "a__5.result.json": document()})

    assert await known(site, "a__4", "a__3", "a__2", "a") == "a__2"
    assert await known(site, "a__5", "a__4", "a__3", "a") == "a__3"
    assert await known(site, "a__5", "a__4") is None
    assert await known(site, "a__3", "a__5", replaces=old_of("a__5", custom_id="a")) == "a__5"


@pytest.mark.parametrize("occupy", [link, os.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", ["a.result.json", "a.md"])
async def test_what_is_no_file_is_nobodys(site: Site, occupy: Callable[[Path], None], name: str) -> None:
    """Droppers may write in outbox/, and a strange thing there must not stop every delivery."""
    occupy(site.path / "outbox" / name)

    assert await known(site, "a", replaces=old_of("a")) is None


async def test_what_somebody_has_a_lease_on_is_nobodys(site: Site) -> None:
    put(site, {"a.result.json": b"theirs", "a.md": b"text"})
    group = await write(site, ("a.md", b"text"), ("a.result.json", b"{}"))

    with leased(site.path / "outbox" / "a.result.json"), leased(site.path / "outbox" / "a.md"):
        known_stem, published = await known(site, "a"), await publish(site, group)

    assert (known_stem, published) == (None, Published(taken={"a"}))
    assert contents(site) == {"a.result.json": b"theirs", "a.md": b"text"}


async def test_nothing_is_written_while_the_root_is_away(site: Site) -> None:
    group = await write(site, ("a.md", b"text"))
    away = site.path.with_name("away")
    site.path.rename(away)
    os.mkdir(site.path)

    with pytest.raises(RootOfflineError):
        await publish(site, group)

    assert names_in(site.path) == set()
    assert visible(away / "outbox") == set()


async def test_what_is_published_can_be_read_by_everybody_whom_the_umask_lets(site: Site) -> None:
    before = os.umask(0o022)
    group = await write(site, ("a.md", b"text"))
    os.umask(before)

    await publish(site, group)

    assert (site.path / "outbox" / "a.md").stat().st_mode & 0o777 == 0o644
