import errno
import os
import socket
import tempfile
from pathlib import Path

import pytest

from batchbox.folders import listing as listing_module
from batchbox.folders.layout import make_root
from batchbox.folders.listing import Bounds, Listing, Unread, list_inbox
from batchbox.folders.root import open_root
from batchbox.model import INBOX_LANE, Lane
from batchbox.naming import is_ignored
from mounting import NOBODY, as_nobody, mounted, needs_mounts

from .site import Site

HOSTILE = [b"new\nline.md", b"\x1b[31m.md", b"caf\xe9.md", "\u202egpj.md".encode(), b"-rf", b"a" * 252 + b".md", b" "]


def listed(folder: str) -> object:
    """Return the lanes of a root that are read, and the folders that are not; or the number of the error."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        listing = list_inbox(descriptor, is_ignored)
    except OSError as error:
        return [error.errno]
    return [sorted(listing.folders), listing.unread]


def bind_socket(path: Path) -> None:
    """Make a socket; its path may be longer than bind allows, so it is bound from inside its folder."""
    before = os.getcwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(before)


async def test_an_empty_inbox_has_no_names(site: Site) -> None:
    assert await site.names() == {INBOX_LANE: []}


async def test_names_come_by_lane_and_in_order(site: Site) -> None:
    for name in ("b.md", "a.md"):
        site.drop(name)
        site.drop(name, lane=Lane("reports"))
    (site.path / "inbox" / "empty").mkdir()

    assert await site.names() == {INBOX_LANE: ["a.md", "b.md"], "reports": ["a.md", "b.md"], "empty": []}


async def test_names_of_temporary_files_are_left_out_in_lanes_too(site: Site) -> None:
    for name in (".a.md.swp", "~$a.docx", "_lane.toml", "a.md.part", "a.md"):
        site.drop(name)
        site.drop(name, lane=Lane("reports"))
    (site.path / "inbox" / ".hidden").mkdir()
    (site.path / "inbox" / "_kept").mkdir()

    assert await site.names() == {INBOX_LANE: ["a.md"], "reports": ["a.md"]}


@pytest.mark.parametrize("raw", HOSTILE)
async def test_whatever_a_file_is_called_it_is_listed_sampled_and_claimed(site: Site, raw: bytes) -> None:
    name = os.fsdecode(raw)
    site.drop(name, b"content")

    outcomes = await site.claim(await site.wanted(name))

    assert outcomes == ["claimed"]
    (claim,) = await site.inbox.claims()
    assert (site.claims_folder() / claim.name).read_bytes() == b"content"
    assert await site.names() == {INBOX_LANE: []}


async def test_links_pipes_and_sockets_are_names_like_any_other(site: Site) -> None:
    """They are claimed and rejected, so that nobody waits for them in vain."""
    inbox = site.path / "inbox"
    os.symlink("/etc/passwd", inbox / "link.md")
    os.symlink("/nowhere", inbox / "dangling.md")
    os.symlink("loop.md", inbox / "loop.md")
    os.mkfifo(inbox / "pipe.md")
    bind_socket(inbox / "socket.md")

    assert await site.names() == {INBOX_LANE: ["dangling.md", "link.md", "loop.md", "pipe.md", "socket.md"]}


async def test_a_folder_with_a_files_name_is_a_lane(site: Site) -> None:
    site.drop("b.md", lane=Lane("a.md"))

    assert await site.names() == {INBOX_LANE: [], "a.md": ["b.md"]}


async def test_a_link_to_a_folder_is_no_lane(site: Site) -> None:
    os.symlink("/etc", site.path / "inbox" / "etc")

    assert await site.names() == {INBOX_LANE: ["etc"]}


async def test_folders_inside_a_lane_are_not_read(site: Site) -> None:
    site.drop("a.md", lane=Lane("reports"))
    (site.path / "inbox" / "reports" / "deeper").mkdir()

    listing = await site.inbox.listing(is_ignored)

    assert listing.names[Lane("reports")] == ["a.md"]
    assert listing.unread == {"inbox/reports/deeper": Unread.DEEPER}


async def test_folders_in_a_lane_that_nobody_means_as_such_are_not_told(site: Site) -> None:
    (site.path / "inbox" / "reports" / ".Trash-1000").mkdir(parents=True)
    (site.path / "inbox" / "reports" / "_kept").mkdir()

    assert (await site.inbox.listing(is_ignored)).unread == {}


async def test_a_bundle_is_no_lane(site: Site) -> None:
    """Its files belong together, and are not one request each."""
    site.drop("a.md", lane=Lane("trip.Bundle"))

    listing = await site.inbox.listing(is_ignored)

    assert listing.names == {INBOX_LANE: []}
    assert listing.unread == {"inbox/trip.Bundle": Unread.BUNDLE}


async def test_lanes_whose_names_look_the_same_are_one_too_many(site: Site) -> None:
    """An accent in one character or in two: on some shares that is one folder."""
    for name in ("caf\u00e9", "cafe\u0301"):
        (site.path / "inbox" / name).mkdir()

    listing = await site.inbox.listing(is_ignored)

    assert list(listing.unread.values()) == [Unread.SAME_NAME]
    assert len(listing.names) == 2


async def test_a_folder_is_known_from_another_that_takes_its_place(site: Site) -> None:
    (site.path / "inbox" / "reports").mkdir()
    (site.path / "inbox" / "next").mkdir()
    before = (await site.inbox.listing(is_ignored)).folders
    (site.path / "inbox" / "reports").rename(site.path / "elsewhere")
    (site.path / "inbox" / "next").rename(site.path / "inbox" / "reports")

    after = (await site.inbox.listing(is_ignored)).folders

    assert before.keys() == {INBOX_LANE, "reports", "next"}
    assert after.keys() == {INBOX_LANE, "reports"}
    assert before[Lane("reports")] != after[Lane("reports")] == before[Lane("next")]


@needs_mounts
async def test_a_lane_that_is_a_mount_of_its_own_stops_alone(site: Site) -> None:
    """Even one of the same disk: nothing can be renamed out of it."""
    site.drop("a.md")
    (site.path / "elsewhere").mkdir()
    (site.path / "elsewhere" / "b.md").touch()
    lane = site.path / "inbox" / "reports"
    lane.mkdir()
    with mounted("--bind", site.path / "elsewhere", lane):
        listing = await site.inbox.listing(is_ignored)

    assert listing.names == {INBOX_LANE: ["a.md"]}
    assert listing.unread == {"inbox/reports": Unread.ANOTHER_MOUNT}


@needs_mounts
@pytest.mark.parametrize(
    ("mode", "owner", "why"),
    [
        (0o1777, 0, Unread.STICKY),
        (0o1777, NOBODY, None),
        (0o777, 0, None),
        (0o755, 0, Unread.NOT_WRITABLE),
        (0o700, 0, Unread.CLOSED),
    ],
)
@pytest.mark.parametrize("name", ["inbox", "inbox/reports"])
def test_a_folder_from_which_files_cannot_be_taken_stops_alone(
    name: str, mode: int, owner: int, why: Unread | None
) -> None:
    """Judged as the user whom the service runs as; the other folder goes on."""
    with tempfile.TemporaryDirectory(prefix="batchbox-") as folder:
        Path(folder).chmod(0o755)
        make_root(Path(folder))
        os.mkdir(f"{folder}/inbox/reports")
        for top, _, _ in os.walk(folder):
            Path(top).chmod(0o777)
        os.chown(f"{folder}/{name}", owner, 0)
        Path(folder, name).chmod(mode)

        told = as_nobody(lambda: listed(folder))

    other = {"inbox": "reports", "inbox/reports": "_"}[name]
    if (name, why) == ("inbox", Unread.CLOSED):
        assert told == [13]
    elif why is None:
        assert told == [["_", "reports"], {}]
    else:
        assert told == [[other], {name: why}]


async def test_a_lane_whose_name_differs_in_case_alone_is_told_and_not_read(site: Site) -> None:
    """Their answers would land in one folder on a share that knows no case."""
    site.drop("a.md", lane=Lane("Reports"))
    site.drop("b.md", lane=Lane("reports"))

    listing = await site.inbox.listing(is_ignored)

    assert listing.names == {INBOX_LANE: [], "Reports": ["a.md"]}
    assert listing.unread == {"inbox/reports": Unread.SAME_NAME}


async def test_a_lane_whose_name_is_not_utf8_is_told_and_not_read(site: Site) -> None:
    name = os.fsdecode(b"caf\xe9")
    site.drop("a.md", lane=Lane(name))

    listing = await site.inbox.listing(is_ignored)

    assert listing.names == {INBOX_LANE: []}
    assert listing.unread == {f"inbox/{name}": Unread.NOT_UTF8}


async def test_a_lane_keeps_its_place_before_a_newcomer(site: Site) -> None:
    """Anybody who may drop files can make a folder whose name is another's but for its case."""
    site.drop("a.md", lane=Lane("reports"))
    known = (await site.inbox.listing(is_ignored)).lanes
    site.drop("b.md", lane=Lane("Reports"))

    listing = await site.inbox.listing(is_ignored, known)

    assert listing.names == {INBOX_LANE: [], "reports": ["a.md"]}
    assert listing.unread == {"inbox/Reports": Unread.SAME_NAME}
    assert listing.stuck == {"inbox/Reports"}
    assert listing.lanes == {"reports"}


async def test_after_a_start_a_lane_of_which_there_were_claims_has_its_place(site: Site) -> None:
    site.claimed("first.md", lane=Lane("reports"))
    for name in ("Reports", "reports"):
        site.drop("a.md", lane=Lane(name))

    assert (await site.inbox.listing(is_ignored)).unread == {"inbox/Reports": Unread.SAME_NAME}


async def test_a_lane_keeps_its_place_where_there_are_too_many(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "LANES_MAX", 2)
    for name in ("a", "b", "c", "d"):
        (site.path / "inbox" / name).mkdir()
    site.drop("a.md", lane=Lane("b"))

    listing = await site.inbox.listing(is_ignored, {"c", "d"})

    assert listing.lanes == {"c", "d"}
    assert listing.unread == {"inbox/a": Unread.TOO_MANY, "inbox/b": Unread.TOO_MANY}
    assert listing.stuck == {"inbox/b"}, "no file waits in the other"


@pytest.mark.parametrize("name", ["old.bak", "reports~", "notes.save"])
async def test_a_folder_that_is_no_lane_for_its_name_is_told(site: Site, name: str) -> None:
    """Nobody has to guess why nothing becomes of what lies in it."""
    site.drop("a.md", lane=Lane(name))

    listing = await site.inbox.listing(is_ignored)

    assert listing.names == {INBOX_LANE: []}
    assert listing.unread == {f"inbox/{name}": Unread.IGNORED}


@pytest.mark.parametrize(
    ("number", "why"),
    [(errno.EACCES, Unread.CLOSED), (errno.EIO, Unread.UNREACHABLE), (errno.EMFILE, Unread.UNREACHABLE)],
)
async def test_a_passing_trouble_with_a_lane_is_told_from_one_that_somebody_has_to_cure(
    site: Site, monkeypatch: pytest.MonkeyPatch, number: int, why: Unread
) -> None:
    site.drop("a.md", lane=Lane("fax"))

    def fail(descriptor: int, within: tuple[int | None, int]) -> Unread | None:
        raise OSError(number, os.strerror(number))

    def in_turn(descriptor: int, within: tuple[int | None, int]) -> Unread | None:
        return next(calls)(descriptor, within)

    known = await site.inbox.listing(is_ignored)
    calls = iter([listing_module._obstacle, fail])
    with monkeypatch.context() as patched:
        patched.setattr(listing_module, "_obstacle", in_turn)
        listing = await site.inbox.listing(is_ignored)

    assert listing.unread == {"inbox/fax": why}
    assert listing.stuck == ({"inbox/fax"} if why is Unread.CLOSED else set())
    assert listing.lanes == known.lanes == {"fax"}


def listed_within(site: Site, bounds: Bounds, *, known: set[str] | None = None) -> Listing:
    """List the inbox and keep no more than so much."""
    with open_root(site.path) as root:
        return list_inbox(root, is_ignored, known=known or (), bounds=bounds)


async def test_no_more_names_are_kept_than_can_be_borne(site: Site) -> None:
    """Each lane has its part, and the inbox itself."""
    for lane in (INBOX_LANE, Lane("crowded"), Lane("few")):
        for number in range(3 if lane == "few" else 40):
            site.drop(f"{number:02}.md", lane=lane)

    listing = listed_within(site, Bounds(names=30, names_of_lane=2))
    poor = listed_within(site, Bounds(names=3, names_of_lane=2))

    assert {lane: len(names) for lane, names in listing.names.items()} == {INBOX_LANE: 10, "crowded": 10, "few": 3}
    assert {lane: len(names) for lane, names in poor.names.items()} == {INBOX_LANE: 2, "crowded": 2, "few": 2}


@pytest.mark.parametrize("lane", [INBOX_LANE, "crowded"])
@pytest.mark.parametrize("suffix", [".cancel", ".ready", ".READY"])
async def test_a_sign_and_its_file_are_both_kept_in_a_crowd(site: Site, lane: str, suffix: str) -> None:
    """Torn from its file a `.cancel` would be rejected, a marker deleted, and a file that needs one never taken."""
    names = [f"{number:02}.md" for number in range(50)]
    for name in names:
        site.drop(name, lane=Lane(lane))
    cut = set(names) - set(listed_within(site, Bounds(names=8, names_of_lane=4)).names[Lane(lane)])
    signed = sorted(cut)[:4]
    for name in signed:
        site.drop(name + suffix, lane=Lane(lane))

    listed = listed_within(site, Bounds(names=8, names_of_lane=4)).names[Lane(lane)]

    assert {*signed, *(name + suffix for name in signed)} <= set(listed)
    assert len(listed) == len(set(listed)) <= 8 + 4 + 4


async def test_of_very_many_folders_the_lanes_are_kept(site: Site) -> None:
    for number in range(30):
        (site.path / "inbox" / f"{number:02}").mkdir()
    site.drop("a.md", lane=Lane("29"))

    listing = listed_within(site, Bounds(names=10, names_of_lane=1, folders=5), known={"29", "28"})

    assert {"28", "29"} <= listing.lanes
    assert len(listing.lanes) <= 7
    assert listing.names[Lane("29")] == ["a.md"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder: run as another user to test this")
async def test_a_lane_that_we_may_not_read_does_not_stop_the_others(site: Site) -> None:
    """Anybody who may drop files can make such a folder."""
    site.drop("a.md")
    private = site.path / "inbox" / "private"
    private.mkdir(mode=0o000)

    names = await site.names()

    assert names[INBOX_LANE] == ["a.md"]
