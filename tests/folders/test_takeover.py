import errno
import os
from pathlib import Path

import anyio
import pytest

from batchbox.errors import FolderPermissionError, RetiredError
from batchbox.folders.layout import Presence, make_root
from batchbox.folders.manifests import Manifests
from batchbox.folders.root import Root, open_root
from batchbox.folders.takeover import Sought, Takeover, neighbours
from batchbox.model import INBOX_LANE, Instance, Lane, Nonce
from mounting import as_nobody

from .site import INSTANCE, OTHER_INSTANCE, Site, identity_of, names_in

DIGEST = bytes.fromhex("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")  # of b"hello"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="not tried: only root can look at folders as somebody else")


@pytest.fixture
async def other(site: Site) -> Takeover:
    """Return the takeover of a second instance that is at home on the root of the first one."""
    presence = Presence(site.root, OTHER_INSTANCE)
    await presence.establish()
    return Takeover(site.root, OTHER_INSTANCE, presence)


def open_to_all(root: Path, *, but: str = "") -> None:
    """Let everybody do everything, as on a share without modes."""
    for path in [root, *root.parents[: len(root.parents) - 2], *root.rglob("*")]:
        if path.name != but:
            path.chmod(0o777)


def own_folder(site: Site, instance: Instance = OTHER_INSTANCE) -> Path:
    return site.path / "processing" / instance


def put_claim(site: Site, name: str, lane: Lane = INBOX_LANE) -> None:
    folder = own_folder(site, INSTANCE) / lane
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"hello")


async def test_a_taken_instance_is_retired_at_once(site: Site, other: Takeover) -> None:
    """From the rename on, whatever the other daemon confirms before it acts fails."""
    put_claim(site, "claim~a.md")

    await other.begin(INSTANCE)

    with pytest.raises(RetiredError):
        await Presence(site.root, INSTANCE).confirm()
    assert await other.unfinished() == [INSTANCE]
    assert not [*own_folder(site).glob("*/claim~a.md")][1:], "the claim is in one place"


async def test_claims_of_every_lane_come_over(site: Site, other: Takeover) -> None:
    put_claim(site, "claim~a.md")
    put_claim(site, "claim~b.md", Lane("reports"))
    (own_folder(site) / "reports").mkdir()

    await other.begin(INSTANCE)
    await other.take_claims()
    await other.take_claims()
    await other.finish([INSTANCE])

    assert names_in(own_folder(site) / INBOX_LANE) == {"claim~a.md"}
    assert names_in(own_folder(site) / "reports") == {"claim~b.md"}
    assert names_in(site.path / "processing") == {OTHER_INSTANCE}
    assert await other.unfinished() == []


THIRD_INSTANCE = Instance("host-00000003")


def put_taken(site: Site) -> Path:
    """Let the instance have died in its takeover of a third one, whose work lies in its folder; return that."""
    put_claim(site, "claim~a.md")
    taken = own_folder(site, INSTANCE) / f".taken-{THIRD_INSTANCE}"
    (taken / INBOX_LANE).mkdir(parents=True)
    (taken / INBOX_LANE / "claim~b.md").write_bytes(b"hello")
    (taken / ".heartbeat").touch()
    manifests = site.path / ".batchbox" / "batches" / THIRD_INSTANCE
    manifests.mkdir()
    (manifests / "aaaaaaaa.jsonl").touch()
    return taken


async def test_what_the_other_had_taken_comes_over_with_it(site: Site, other: Takeover) -> None:
    put_taken(site)
    (neighbour,) = await other.neighbours()

    await other.begin(INSTANCE)
    taken = await other.unfinished()
    await other.take_claims()
    await other.take_claims()
    await other.finish(taken)

    assert (neighbour.claim_count, neighbour.open_manifest_count, neighbour.is_orphaned) == (2, 1, True)
    assert taken == [INSTANCE, THIRD_INSTANCE]
    assert names_in(own_folder(site)) == {".heartbeat", INBOX_LANE}
    assert names_in(own_folder(site) / INBOX_LANE) == {"claim~a.md", "claim~b.md"}
    assert await other.unfinished() == []


async def test_what_the_other_takes_at_the_last_moment_is_not_put_away(site: Site, other: Takeover) -> None:
    """Its daemon may have lived, with its folder open when that was taken: nothing is finished before all is taken."""
    put_claim(site, "claim~a.md")
    await other.begin(INSTANCE)
    taken = await other.unfinished()
    await other.take_claims()
    (own_folder(site) / f".taken-{INSTANCE}" / f".taken-{THIRD_INSTANCE}").mkdir()

    with pytest.raises(OSError, match="another instance's folder") as raised:
        await other.finish(taken)

    assert raised.value.filename == THIRD_INSTANCE
    assert await other.unfinished() == [INSTANCE, THIRD_INSTANCE]


async def test_one_that_is_not_there_cannot_be_taken(other: Takeover) -> None:
    with pytest.raises(FileNotFoundError):
        await other.begin(Instance("nobody-00000000"))


async def test_what_was_no_claim_is_kept(site: Site, other: Takeover) -> None:
    """Nothing is deleted that nobody knows, even if it happens to the same instance again."""
    for text in ("mine", "mine too"):
        own_folder(site, INSTANCE).mkdir(exist_ok=True)
        (own_folder(site, INSTANCE) / "note.txt").write_text(text)

        await other.begin(INSTANCE)
        await other.take_claims()
        await other.finish([INSTANCE])

    assert {path.read_text() for path in own_folder(site).rglob("note.txt")} == {"mine", "mine too"}
    assert await other.unfinished() == []


async def test_manifests_come_over_and_parts_go(site: Site, other: Takeover) -> None:
    folder = site.path / ".batchbox" / "batches"
    for name in ("aaaaaaaa.jsonl", "bbbbbbbb.jsonl.closed", "cccccccc.part"):
        (folder / INSTANCE / name).write_bytes(name.encode())
    manifests = Manifests(site.root, OTHER_INSTANCE)

    await manifests.take_from(INSTANCE)
    await manifests.take_from(INSTANCE)

    assert names_in(folder) == {OTHER_INSTANCE}
    assert await manifests.nonces() == {"aaaaaaaa": True, "bbbbbbbb": False}
    assert await manifests.read_part(Nonce("bbbbbbbb"), offset=4, length=5) == b"bbbb."


async def test_who_is_taken_over_meanwhile_takes_no_manifests(site: Site, other: Takeover) -> None:
    """They would be missed where the claims are now, and what they tell of would be sent again."""
    manifest = site.path / ".batchbox" / "batches" / INSTANCE / "aaaaaaaa.jsonl"
    manifest.touch()
    own_folder(site).rename(site.path / "processing" / "elsewhere")

    with pytest.raises(RetiredError):
        await Manifests(site.root, OTHER_INSTANCE).take_from(INSTANCE)

    assert manifest.exists()


async def test_neighbours_that_have_left_work_are_orphaned(site: Site, other: Takeover) -> None:
    """A stopped one without work is none; a silent one counts as dead after three minutes."""
    (idle,) = await other.neighbours()
    put_claim(site, "claim~a.md")
    (stopped,) = await other.neighbours()
    await Presence(site.root, INSTANCE).beat()
    (alive,) = await other.neighbours()
    heartbeat = own_folder(site, INSTANCE) / ".heartbeat"
    touched = heartbeat.stat().st_mtime - 200
    os.utime(heartbeat, (touched, touched))
    (silent,) = await other.neighbours()

    assert [one.is_orphaned for one in (idle, stopped, alive, silent)] == [False, True, False, True]
    assert (stopped.silent_seconds, alive.is_alive) == (None, True)
    assert silent.silent_seconds is not None
    assert 195 < silent.silent_seconds < 260


async def test_one_of_which_only_manifests_are_left_is_told(site: Site, other: Takeover) -> None:
    """Unless its folder is in somebody's hands, whose affair they are, or all of them are closed."""
    batches = site.path / ".batchbox" / "batches"
    (batches / INSTANCE / "aaaaaaaa.jsonl").touch()
    (batches / INSTANCE / "bbbbbbbb.jsonl.closed").touch()
    home = own_folder(site, INSTANCE)

    home.rename(site.path / "away")
    (lost,) = await other.neighbours()
    (site.path / "away").rename(own_folder(site) / f".taken-{INSTANCE}")
    in_our_hands = await other.neighbours()
    seen_by_a_third = await site.root.run(lambda root: neighbours(root, None))
    (own_folder(site) / f".taken-{INSTANCE}").rmdir()
    (batches / INSTANCE / "aaaaaaaa.jsonl").unlink()
    closed = await other.neighbours()

    assert (lost.instance, lost.has_folder, lost.is_orphaned) == (INSTANCE, False, True)
    assert (lost.claim_count, lost.open_manifest_count) == (0, 1)
    assert in_our_hands == []
    assert [(one.instance, one.open_manifest_count) for one in seen_by_a_third] == [(OTHER_INSTANCE, 1)]
    assert closed == []


async def test_an_instance_that_never_started_here_sees_everybody(site: Site) -> None:
    found = await site.root.run(lambda root: neighbours(root, None))

    assert [one.instance for one in found] == [INSTANCE]


def test_a_folder_in_a_claims_place_is_not_counted(tmp_path: Path) -> None:
    make_root(tmp_path)
    (tmp_path / "processing" / INSTANCE / "_" / "folder").mkdir(parents=True)
    (tmp_path / "processing" / INSTANCE / "_" / "claim~a.md").touch()

    with open_root(tmp_path) as root:
        (found,) = neighbours(root, None)

    assert found.claim_count == 1


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o704, 0o701], ids=["closed", "not to be entered", "not to be listed"])
def test_one_that_cannot_be_looked_at_is_told_alone_and_never_as_stopped(tmp_path: Path, mode: int) -> None:
    """Its daemon may live: its work is not to be taken from it."""
    make_root(tmp_path)
    for instance in (INSTANCE, OTHER_INSTANCE):
        (tmp_path / "processing" / instance).mkdir()
        (tmp_path / "processing" / instance / ".heartbeat").touch()
    (tmp_path / "processing" / INSTANCE).chmod(mode)
    open_to_all(tmp_path, but=INSTANCE)

    def look() -> list[tuple[str, bool, int | None]]:
        with open_root(tmp_path) as root:
            found = neighbours(root, None)
        return [(one.instance, one.is_alive, one.unreadable.errno if one.unreadable else None) for one in found]

    assert as_nobody(look) == [[INSTANCE, False, errno.EACCES], [OTHER_INSTANCE, True, None]]


@needs_root
@pytest.mark.parametrize(
    "name",
    [
        f"processing/{INSTANCE}",
        f"processing/{INSTANCE}/_",
        f".batchbox/batches/{INSTANCE}",
        f"processing/{INSTANCE}/.taken-{THIRD_INSTANCE}",
        f"processing/{INSTANCE}/.taken-{THIRD_INSTANCE}/_",
        f".batchbox/batches/{THIRD_INSTANCE}",
    ],
)
def test_what_is_not_ours_to_move_is_named_before_anything_is_touched(tmp_path: Path, name: str) -> None:
    make_root(tmp_path)
    (tmp_path / "processing" / OTHER_INSTANCE).mkdir()
    (tmp_path / "processing" / INSTANCE / "_").mkdir(parents=True)
    (tmp_path / "processing" / INSTANCE / f".taken-{THIRD_INSTANCE}" / "_").mkdir(parents=True)
    for instance in (INSTANCE, THIRD_INSTANCE):
        (tmp_path / ".batchbox" / "batches" / instance).mkdir(parents=True)
    open_to_all(tmp_path)
    (tmp_path / name).chmod(0o755)

    def begin() -> str:
        root = Root(tmp_path, identity=identity_of(tmp_path))
        takeover = Takeover(root, OTHER_INSTANCE, Presence(root, OTHER_INSTANCE))
        try:
            anyio.run(takeover.begin, INSTANCE)
        except FolderPermissionError as error:
            return str(error)
        return "begun"

    said = str(as_nobody(begin))
    (tmp_path / name).chmod(0o777)
    again = as_nobody(begin)

    assert f"{tmp_path / name}: this belongs to the user root, and nobody, who runs batchbox, may not" in said
    assert f"`chown -R nobody {tmp_path / name}`" in said
    assert again == "begun"


@pytest.mark.parametrize(
    ("present", "found"),
    [
        ({"a.md": b"hello"}, "a.md"),
        ({"a.md": b"other", "a__2.md": b"hello"}, "a__2.md"),
        ({"a__3.md": b"hello"}, "a__3.md"),
        ({"a.md": b"other"}, None),
        ({"b.md": b"hello"}, None),
        ({}, None),
    ],
)
async def test_an_original_is_found_by_name_and_content(
    site: Site, other: Takeover, present: dict[str, bytes], found: str | None
) -> None:
    for name, content in present.items():
        (site.path / "done" / name).write_bytes(content)
    os.mkfifo(site.path / "done" / "a__4.md")

    originals = await other.find_originals([Sought(id=7, lane=INBOX_LANE, name="a.md", sha256=DIGEST)])

    assert originals == ({} if found is None else {7: found})
