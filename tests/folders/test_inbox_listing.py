import os
import socket
from pathlib import Path

import pytest

from batchbox.model import INBOX_LANE, Lane
from batchbox.naming import is_ignored

from .site import Site

HOSTILE = [b"new\nline.md", b"\x1b[31m.md", b"caf\xe9.md", "\u202egpj.md".encode(), b"-rf", b"a" * 252 + b".md", b" "]


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

    assert (await site.names())[Lane("reports")] == ["a.md"]


async def test_a_lane_whose_name_differs_in_case_alone_is_told_and_not_read(site: Site) -> None:
    """Their answers would land in one folder on a share that knows no case."""
    site.drop("a.md", lane=Lane("Reports"))
    site.drop("b.md", lane=Lane("reports"))

    listing = await site.inbox.listing(is_ignored)

    assert listing.names == {INBOX_LANE: [], "Reports": ["a.md"]}
    assert listing.ignored_folders == ["reports"]


async def test_a_lane_whose_name_is_not_utf8_is_told_and_not_read(site: Site) -> None:
    name = os.fsdecode(b"caf\xe9")
    site.drop("a.md", lane=Lane(name))

    listing = await site.inbox.listing(is_ignored)

    assert listing.names == {INBOX_LANE: []}
    assert listing.ignored_folders == [name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder: run as another user to test this")
async def test_a_lane_that_we_may_not_read_does_not_stop_the_others(site: Site) -> None:
    """Anybody who may drop files can make such a folder."""
    site.drop("a.md")
    private = site.path / "inbox" / "private"
    private.mkdir(mode=0o000)

    names = await site.names()

    assert names[INBOX_LANE] == ["a.md"]
