"""Two daemons, one outbox: no answer is overwritten, and what a dead one left is understood."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from batchbox.errors import RetiredError
from batchbox.folders import outbox as outbox_module
from batchbox.folders.answers import Replaceable
from batchbox.folders.layout import Presence
from batchbox.folders.outbox import NewFile, Outbox, Publication, Published, StemUse
from batchbox.folders.root import open_root
from batchbox.folders.stems import UNOWNED_SECONDS, note_name
from batchbox.model import INBOX_LANE, CustomId, Instance

from .site import INSTANCE, OTHER_INSTANCE, Site, names_in

WIRE_ID = "a__aaaaaaaa-1"
THEIR_WIRE_ID = "a__bbbbbbbb-1"
VANISHED = Instance("host-00000009")


@pytest.fixture
async def both(site: Site) -> Site:
    """Return a site on which two instances are at home, and alive."""
    for instance in (INSTANCE, OTHER_INSTANCE):
        await Presence(site.root, instance).establish()
        await Presence(site.root, instance).beat()
    return site


def box(site: Site, instance: Instance = INSTANCE) -> Outbox:
    return Outbox(site.root, instance)


async def written(
    site: Site,
    stem: str = "a",
    *,
    instance: Instance = INSTANCE,
    use: StemUse = StemUse.NEW,
    text: bytes = b"text",
    replaces: Replaceable | None = None,
    former_stem: str | None = None,
) -> list[Publication]:
    """Write the parts of one answer."""
    wire_ids = [WIRE_ID if instance == INSTANCE else THEIR_WIRE_ID]
    files = [NewFile(pieces=[text], is_marker=False), NewFile(pieces=[b"{}"], is_marker=True)]
    parts = await box(site, instance).write(INBOX_LANE, files)
    return [
        Publication(
            part=part,
            stem=stem,
            suffix=suffix,
            use=use,
            wire_ids=wire_ids,
            replaces=replaces,
            former_stem=former_stem,
        )
        for part, suffix in zip(parts, (".md", ".result.json"), strict=True)
    ]


async def publish(site: Site, group: Sequence[Publication], instance: Instance = INSTANCE) -> Published:
    return await box(site, instance).publish(INBOX_LANE, group)


def outbox(site: Site) -> Path:
    return site.path / "outbox"


def put_note(site: Site, instance: str, *wire_ids: str, stem: str = "a") -> Path:
    """Put a note there that the instance made."""
    ids = ", ".join(f'"{wire_id}"' for wire_id in wire_ids)
    path = outbox(site) / note_name(stem)
    path.write_text(f'{{\n  "instance": "{instance}",\n  "wire_ids": [{ids}]\n}}\n')
    return path


async def test_a_daemon_that_is_alone_makes_no_notes(site: Site) -> None:
    assert await publish(site, await written(site)) == Published()

    assert names_in(outbox(site)) == {"a.md", "a.result.json"}


async def test_a_note_keeps_the_name_until_it_is_released(both: Site) -> None:
    """The other daemon takes the next stem, and finds the first one taken afterwards too."""
    mine = await publish(both, await written(both))
    theirs = await publish(both, await written(both, instance=OTHER_INSTANCE), OTHER_INSTANCE)
    noted = {path.name for path in outbox(both).glob(".bb-*.name")}
    await box(both).release(INBOX_LANE, mine.noted)
    again = await publish(both, await written(both, instance=OTHER_INSTANCE), OTHER_INSTANCE)

    assert mine == Published(noted={"a"})
    assert theirs == again == Published(taken={"a"})
    assert noted == {note_name("a")}
    assert {path.name for path in outbox(both).glob(".bb-*.name")} == set()


class Interrupted:
    """An `os` that lets something happen just before the first rename."""

    def __init__(self, happen: Callable[[], object]) -> None:
        self._happen = happen
        self._has_happened = False

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        return self._rename if name == "rename" else real

    def _rename(self, source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if not self._has_happened:
            self._has_happened = True
            self._happen()
        os.rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


async def test_a_daemon_that_publishes_between_the_look_and_the_rename_of_another_is_not_overwritten(
    both: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two look at the same moment, and both see that the name is free."""
    mine = await written(both)
    theirs = await written(both, instance=OTHER_INSTANCE, text=b"theirs")
    outcomes = []

    def publish_theirs() -> None:
        with open_root(both.path) as root:
            outcomes.append(box(both, OTHER_INSTANCE)._publish(root, INBOX_LANE, theirs))

    with monkeypatch.context() as patched:
        patched.setattr(outbox_module, "os", Interrupted(publish_theirs))
        await publish(both, mine)

    assert outcomes == [Published(taken={"a"})]
    assert (outbox(both) / "a.md").read_bytes() == b"text"


async def test_the_first_to_make_the_note_has_the_stem_before_any_file_of_it_is_visible(both: Site) -> None:
    """Which is what looking for the names alone cannot see."""
    put_note(both, OTHER_INSTANCE, THEIR_WIRE_ID)

    assert await publish(both, await written(both)) == Published(taken={"a"})

    assert [name for name in names_in(outbox(both)) if not name.startswith(".")] == []


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
@pytest.mark.parametrize("present", ["A.md", "A.result.json", "a.txt"])
async def test_stems_are_compared_without_case_and_whatever_follows_them(
    both: Site, present: str, make: Callable[[Path], None]
) -> None:
    """The share may not tell them apart, and its users do not."""
    make(outbox(both) / present)

    assert await publish(both, await written(both)) == Published(taken={"a"})

    assert not (outbox(both) / note_name("a")).exists()
    assert note_name("a") == note_name("A")


async def test_a_note_of_an_earlier_life_is_ours(both: Site) -> None:
    put_note(both, INSTANCE, WIRE_ID)

    assert await publish(both, await written(both, use=StemUse.OWN)) == Published(noted={"a"})


async def test_a_note_of_a_lost_instance_is_ours_if_the_request_is(both: Site) -> None:
    """It was recovered, with what it had sent."""
    put_note(both, VANISHED, WIRE_ID)

    assert await publish(both, await written(both, use=StemUse.OWN)) == Published(noted={"a"})


async def test_a_note_of_ours_is_found_when_we_are_alone_again(site: Site) -> None:
    """And is released, as if the other one were still there."""
    put_note(site, INSTANCE, WIRE_ID)

    published = await publish(site, await written(site, use=StemUse.OWN))
    await box(site).release(INBOX_LANE, published.noted)

    assert names_in(outbox(site)) == {"a.md", "a.result.json"}


@pytest.mark.parametrize("content", [b"", b'{\n  "instance": "host-00000001"', b"\xff", b"[]", b'{"wire_ids": 7}'])
async def test_a_note_that_nobody_can_read_is_somebody_elses(both: Site, content: bytes) -> None:
    """It may be the one that another daemon is writing just now."""
    (outbox(both) / note_name("a")).write_bytes(content)

    assert await publish(both, await written(both)) == Published(taken={"a"})


async def test_a_link_or_a_folder_in_the_place_of_a_note_stops_nothing(both: Site) -> None:
    """Whoever reads answers may be able to write there."""
    (outbox(both) / note_name("a")).symlink_to("/etc/passwd")
    (outbox(both) / note_name("b")).mkdir()
    os.mkfifo(outbox(both) / note_name("c"))
    group = [one for stem in "abcd" for one in await written(both, stem)]

    assert await publish(both, group) == Published(taken={"a", "b", "c"})


async def test_files_of_an_earlier_life_are_known_by_what_they_hold(both: Site) -> None:
    """We were alone when we died between the two renames: there is no note, and a text of ours."""
    (outbox(both) / "a.md").write_bytes(b"text")

    assert await publish(both, await written(both, use=StemUse.OWN)) == Published(noted={"a"})
    assert await publish(both, await written(both, use=StemUse.OWN, text=b"other")) == Published(taken={"a"})
    assert (outbox(both) / "a.md").read_bytes() == b"text"


async def test_an_old_answer_is_not_replaced_by_two_at_once(both: Site) -> None:
    """The second one waits until the first has gone."""
    old = Replaceable(stem="a", custom_id=CustomId("a"), extension="md")
    (outbox(both) / "a.result.json").write_bytes(b'{\n  "custom_id": "a"\n}\n')
    note = put_note(both, OTHER_INSTANCE, THEIR_WIRE_ID)
    waiting = await publish(both, await written(both, use=StemUse.OWN, replaces=old))
    note.unlink()
    published = await publish(both, await written(both, use=StemUse.OWN, replaces=old))

    assert waiting == Published(refused={"a"})
    assert published == Published(noted={"a"})


@pytest.mark.parametrize("has_note", [True, False])
async def test_what_another_daemon_has_under_a_stem_that_was_given_up_stays(both: Site, has_note: bool) -> None:
    """Its note, and a text that says just what ours says."""
    (outbox(both) / "a.md").write_bytes(b"text")
    if has_note:
        put_note(both, OTHER_INSTANCE, THEIR_WIRE_ID)
    else:
        (outbox(both) / "a.result.json").write_bytes(b"theirs")
    before = names_in(outbox(both))

    published = await publish(both, await written(both, "a__2", former_stem="a"))

    assert published == Published(noted={"a__2"})
    assert names_in(outbox(both)) == {*before, "a__2.md", "a__2.result.json", note_name("a__2")}


async def test_what_we_had_under_a_stem_that_was_given_up_goes(both: Site) -> None:
    (outbox(both) / "a.md").write_bytes(b"text")
    put_note(both, INSTANCE, WIRE_ID)

    await publish(both, await written(both, "a__2", former_stem="a"))

    assert names_in(outbox(both)) == {"a__2.md", "a__2.result.json", note_name("a__2")}


async def test_a_retired_daemon_releases_nothing(both: Site) -> None:
    """Whoever took its work over may be about to publish under the very note."""
    note = put_note(both, INSTANCE, WIRE_ID)
    (both.path / "processing" / INSTANCE).rename(both.path / "processing" / "taken-over")

    with pytest.raises(RetiredError):
        await box(both).release(INBOX_LANE, {"a"})

    assert note.exists()


async def test_notes_go_when_nobody_needs_them(both: Site) -> None:
    """Ours without an unpublished request at the start; those that nobody answers for after a day."""
    lane = outbox(both) / "reports"
    lane.mkdir()
    notes = {stem: put_note(both, INSTANCE, WIRE_ID, stem=stem) for stem in ("ended", "open")}
    notes["theirs"] = put_note(both, OTHER_INSTANCE, stem="theirs")
    notes["vanished"] = put_note(both, VANISHED, stem="vanished")
    notes["fresh"] = put_note(both, VANISHED, stem="fresh")
    notes["torn"] = outbox(both) / note_name("torn")
    notes["torn"].touch()
    notes["in a lane"] = put_note(both, INSTANCE, stem="lane").rename(lane / note_name("lane"))
    long_ago = (both.path / "processing" / INSTANCE / ".heartbeat").stat().st_mtime - UNOWNED_SECONDS - 10
    for stem in ("theirs", "vanished", "torn"):
        os.utime(notes[stem], (long_ago, long_ago))

    await box(both).remove_leftovers(stems_in_use=["open"])

    assert {stem for stem, note in notes.items() if note.exists()} == {"open", "theirs", "fresh"}


async def test_all_notes_stay_while_nobody_knows_which_stems_are_in_use(both: Site) -> None:
    """A recovery removes a lost instance's parts, and needs its notes."""
    note = put_note(both, OTHER_INSTANCE, WIRE_ID)
    await written(both, instance=OTHER_INSTANCE)

    await box(both, OTHER_INSTANCE).remove_leftovers(stems_in_use=None)

    assert names_in(outbox(both)) == {note.name}
