import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from batchbox.errors import RetiredError, RootOfflineError
from batchbox.folders.outbox import SYNC_ALONE_UP_TO, NewFile, Outbox, Publication
from batchbox.model import INBOX_LANE, Lane

from .site import INSTANCE, OTHER_INSTANCE, Site, names_in


def outbox(site: Site, *, is_local: bool = True) -> Outbox:
    """Return the outbox, as this instance uses it."""
    return Outbox(site.root, INSTANCE, is_local=is_local)


async def write(
    site: Site, *files: tuple[str, bytes], box: Outbox | None = None, lane: Lane = INBOX_LANE, is_new: bool = False
) -> list[Publication]:
    """Write files as parts; return how they are to be published. Markers are known by their names."""
    new = [NewFile(pieces=[content], is_marker=name.endswith(".json")) for name, content in files]
    parts = await (box or outbox(site)).write(lane, new)
    return [Publication(part=part, name=name, is_new=is_new) for part, (name, _) in zip(parts, files, strict=True)]


async def publish(site: Site, group: Sequence[Publication], *, replaced: Sequence[str] = ()) -> None:
    """Publish in the inbox's own lane."""
    await outbox(site).publish(INBOX_LANE, group, replaced=replaced)


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

    await outbox(site).publish(Lane("reports"), group, replaced=[])

    assert names_in(site.path / "outbox" / "reports") == {"a.md"}


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("count", [1, SYNC_ALONE_UP_TO + 1])
async def test_a_group_is_published_whole_on_any_file_system(site: Site, is_local: bool, count: int) -> None:
    """A few parts are flushed one by one, more of them at once where the file system offers that."""
    box = outbox(site, is_local=is_local)
    group = await write(site, *((f"{number}.md", b"text") for number in range(count)), box=box)

    await box.publish(INBOX_LANE, group, replaced=[])

    assert visible(site.path / "outbox") == {f"{number}.md" for number in range(count)}


async def test_every_text_is_visible_before_any_marker_is(site: Site) -> None:
    """Scripts wait for the marker; here one cannot be renamed, and the texts are there all the same."""
    files = [("a.result.json", b"{}"), ("a.md", b"a"), ("b.result.json", b"{}"), ("b.md", b"b")]
    group = await write(site, *files)
    (site.path / "outbox" / "a.result.json").mkdir()

    with pytest.raises(OSError, match=r"a\.result\.json"):
        await publish(site, group)

    assert visible(site.path / "outbox") == {"a.result.json", "a.md", "b.md"}


async def test_no_marker_is_visible_if_a_text_could_not_be_shown(site: Site) -> None:
    group = await write(site, ("a.result.json", b"{}"), ("a.md", b"a"), ("b.md", b"b"), ("b.result.json", b"{}"))
    (site.path / "outbox" / "b.md").mkdir()

    with pytest.raises(OSError, match=r"b\.md"):
        await publish(site, group)

    assert not any(name.endswith(".json") for name in visible(site.path / "outbox"))


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
    group = await write(site, ("a.txt", b"new"), ("a.result.json", b"new"))

    await publish(site, group, replaced=["a"])

    assert names_in(site.path / "outbox") == {*others, "a.txt", "a.result.json"}
    assert (site.path / "outbox" / "a.result.json").read_bytes() == b"new"


async def test_a_lane_of_the_name_of_a_replaced_answer_is_left_alone(site: Site) -> None:
    """The outbox of lane `a` lies beside the answer `a` of the inbox itself."""
    await outbox(site).publish(Lane("a"), await write(site, ("b.md", b"text"), lane=Lane("a")), replaced=[])
    group = await write(site, ("a.md", b"new"), ("a.result.json", b"new"))

    await publish(site, group, replaced=["a"])

    assert visible(site.path / "outbox") == {"a", "a.md", "a.result.json"}
    assert visible(site.path / "outbox" / "a") == {"b.md"}


async def test_what_this_instance_left_behind_is_removed_and_nothing_else(site: Site) -> None:
    other = Outbox(site.root, OTHER_INSTANCE, is_local=True)
    (theirs,) = await other.write(INBOX_LANE, [NewFile(pieces=[b"x"], is_marker=False)])
    await write(site, ("a.md", b"text"))
    await write(site, ("a.md", b"text"), lane=Lane("reports"))
    await publish(site, await write(site, ("b.md", b"text")))
    (site.path / "outbox" / f".bb-{INSTANCE}-kept.name").touch()

    await outbox(site).remove_leftovers()

    assert names_in(site.path / "outbox") == {theirs.name, "b.md", "reports", f".bb-{INSTANCE}-kept.name"}
    assert names_in(site.path / "outbox" / "reports") == set()


async def test_links_to_folders_are_not_tidied_in(site: Site) -> None:
    elsewhere = site.path.with_name("elsewhere")
    elsewhere.mkdir()
    bait = elsewhere / f".bb-{INSTANCE}-0000000000000000.part"
    bait.touch()
    (site.path / "outbox" / "link").symlink_to(elsewhere)

    await outbox(site).remove_leftovers()

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
    group = await write(site, ("a.md", b"text"), ("a.result.json", b"{}"), ("b.md", b"text"), is_new=True)
    (site.path / "outbox" / taken).write_bytes(b"somebody else's")

    found = await outbox(site).publish(INBOX_LANE, group, replaced=["a"])

    assert found == {taken}
    assert visible(site.path / "outbox") == {taken}
    assert (site.path / "outbox" / taken).read_bytes() == b"somebody else's"


async def test_names_that_are_free_are_taken(site: Site) -> None:
    group = await write(site, ("a.md", b"text"), ("a.result.json", b"{}"), is_new=True)

    assert await outbox(site).publish(INBOX_LANE, group, replaced=[]) == set()

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
