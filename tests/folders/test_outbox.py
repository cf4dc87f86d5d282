import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from batchbox.errors import RetiredError, RootOfflineError
from batchbox.folders import outbox as outbox_module
from batchbox.folders.outbox import SYNC_ALONE_UP_TO, NewFile, Outbox, Publication, Published, StemUse
from batchbox.folders.root import Root
from batchbox.model import INBOX_LANE, Lane

from .failing import FailingOs
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
        )
        for part, (name, _) in zip(parts, files, strict=True)
    ]


async def publish(site: Site, group: Sequence[Publication]) -> Published:
    """Publish in the inbox's own lane."""
    return await outbox(site).publish(INBOX_LANE, group)


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


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES, errno.ETXTBSY, errno.EPERM])
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


async def test_a_name_that_is_refused_and_given_already_is_well(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second delivery finds the answer of the first one open in an editor."""
    files = [("a.md", b"text"), ("a.result.json", b"{}")]
    await publish(site, await write(site, *files))

    with monkeypatch.context() as patched:
        patched.setattr(outbox_module, "os", FailingOs(errno.EBUSY, {"a.md", "a.result.json"}))
        published = await publish(site, await write(site, *files))

    assert published == Published()
    assert names_in(site.path / "outbox") == {"a.md", "a.result.json"}


async def test_an_old_answer_that_somebody_has_open_waits_whole(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What scripts wait for goes first, so that it goes or everything stays."""
    for name in ("a.md", "a.result.json"):
        (site.path / "outbox" / name).write_bytes(b"old")
    group = await write(site, ("a.md", b"new"), ("a.result.json", b"new"), use=StemUse.REPLACED)

    with monkeypatch.context() as patched:
        patched.setattr(outbox_module, "os", FailingOs(errno.EBUSY, {"a.result.json"}))
        published = await publish(site, group)

    assert published == Published(refused={"a"})
    assert {path.read_bytes() for path in (site.path / "outbox").iterdir()} == {b"old"}
    assert names_in(site.path / "outbox") == {"a.md", "a.result.json"}


async def test_what_was_shown_under_a_stem_that_was_given_up_goes(site: Site) -> None:
    """But what looks otherwise is somebody else's by now."""
    (site.path / "outbox" / "a.md").write_bytes(b"text")
    (site.path / "outbox" / "a.result.json").write_bytes(b"somebody else's")
    files = [("a__2.md", b"text"), ("a__2.result.json", b"{}")]

    await publish(site, await write(site, *files, use=StemUse.NEW, former_stem="a"))

    assert names_in(site.path / "outbox") == {"a.result.json", "a__2.md", "a__2.result.json"}


async def test_publishing_a_second_time_after_a_crash_writes_the_same_files(site: Site) -> None:
    files = [("a.md", b"text"), ("a.result.json", b"{}")]
    await publish(site, await write(site, *files))

    await publish(site, await write(site, *files))

    assert names_in(site.path / "outbox") == {"a.md", "a.result.json"}


async def test_an_old_answer_goes_with_all_its_files_and_no_other_does(site: Site) -> None:
    """A text that is shorter by a part, or has another extension, must not stand beside the new answer."""
    old = ["a.md", "a.incomplete.md", "a.result.json", "a.error.json", "a.summary.json"]
    others = ["ab.md", "a-2.md", "A.md", "a__2.md", ".a.md"]
    for name in old + others:
        (site.path / "outbox" / name).write_bytes(b"old")
    group = await write(site, ("a.txt", b"new"), ("a.result.json", b"new"), use=StemUse.REPLACED)

    await publish(site, group)

    assert names_in(site.path / "outbox") == {*others, "a.txt", "a.result.json"}
    assert (site.path / "outbox" / "a.result.json").read_bytes() == b"new"


async def test_a_lane_of_the_name_of_a_replaced_answer_is_left_alone(site: Site) -> None:
    """The outbox of lane `a` lies beside the answer `a` of the inbox itself."""
    await outbox(site).publish(Lane("a"), await write(site, ("b.md", b"text"), lane=Lane("a")))
    group = await write(site, ("a.md", b"new"), ("a.result.json", b"new"), use=StemUse.REPLACED)

    await publish(site, group)

    assert visible(site.path / "outbox") == {"a", "a.md", "a.result.json"}
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


async def test_links_to_folders_are_not_tidied_in(site: Site) -> None:
    elsewhere = site.path.with_name("elsewhere")
    elsewhere.mkdir()
    bait = elsewhere / f".bb-{INSTANCE}-0000000000000000.part"
    bait.touch()
    (site.path / "outbox" / "link").symlink_to(elsewhere)

    await outbox(site).remove_leftovers(stems_in_use=[])

    assert bait.exists()


async def test_all_files_are_told_hidden_ones_and_other_peoples_too_and_no_folders(site: Site) -> None:
    """An answer may have the name of a lane, whose outbox is a folder beside it."""
    (site.path / "outbox" / "mine.txt").touch()
    (site.path / "outbox" / "reports").mkdir()
    group = await write(site, ("a.md", b"text"))

    assert set(await outbox(site).names(INBOX_LANE)) == {"mine.txt", group[0].part.name}


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


async def test_the_head_of_a_file_is_its_first_bytes_or_nothing_if_there_is_none(site: Site) -> None:
    (site.path / "outbox" / "a.result.json").write_bytes(b"0123456789")

    names = ["b.result.json", "a.result.json"]
    assert await outbox(site).heads(INBOX_LANE, names, length=4) == [None, b"0123"]
    assert await outbox(site).heads(INBOX_LANE, names, length=99) == [None, b"0123456789"]


def link(path: Path) -> None:
    """Put a link there."""
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("occupy", [link, os.mkdir])
async def test_what_is_no_file_has_no_head(site: Site, occupy: Callable[[Path], None]) -> None:
    """Droppers may write in outbox/, and a strange thing there must not stop every delivery."""
    occupy(site.path / "outbox" / "a.result.json")

    assert await outbox(site).heads(INBOX_LANE, ["a.result.json"], length=4) in ([None], [b""])


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
