import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from batchbox.folders.comparing import COMPARED_BYTES, Comparing, Comparison, KnownFile, compare_on
from batchbox.folders.reading import Claim
from batchbox.folders.root import folder, open_root
from batchbox.model import INBOX_LANE, Lane

from .leasing import leased
from .site import INSTANCE, Site
from .test_inbox_listing import bind_socket
from .test_reading import dangling


def known(claim: Claim, content: bytes) -> KnownFile:
    """Return what is known of a file that was read."""
    return KnownFile(claim=claim.name, size_bytes=len(content), sha256=hashlib.sha256(content).digest())


async def compare(site: Site, *files: KnownFile, lane: Lane = INBOX_LANE) -> list[Comparison]:
    """Compare claimed files."""
    comparisons, _ = await site.inbox.compare(lane, files)
    return comparisons


async def test_each_file_is_judged_by_itself(site: Site) -> None:
    same, other, longer, shorter, gone = (site.claimed(f"{number}.md", b"content") for number in range(5))
    (site.claims_folder() / other.name).write_bytes(b"CONTENT")
    (site.claims_folder() / longer.name).write_bytes(b"content, and more")
    (site.claims_folder() / shorter.name).write_bytes(b"cont")
    (site.claims_folder() / gone.name).unlink()

    found = await compare(site, *(known(claim, b"content") for claim in (same, other, longer, shorter, gone)))

    changed = Comparison.CHANGED
    assert found == [Comparison.SAME, changed, changed, changed, Comparison.GONE]


@pytest.mark.parametrize("make", [dangling, os.mkfifo, bind_socket, os.mkdir])
async def test_what_is_no_file_any_more_has_changed(site: Site, make: Callable[[Path], None]) -> None:
    claim = site.claimed("a.md", b"content")
    path = site.claims_folder() / claim.name
    path.unlink()
    make(path)

    assert await compare(site, known(claim, b"content")) == [Comparison.CHANGED]


async def test_what_a_file_was_blown_up_to_is_not_read(site: Site) -> None:
    """To read a tebibyte of nothing takes minutes."""
    claim = site.claimed("a.md", b"x")
    try:
        os.truncate(site.claims_folder() / claim.name, 2**40)
    except OSError:
        pytest.skip("this file system has no files of a tebibyte")

    assert await compare(site, known(claim, b"x")) == [Comparison.CHANGED]


@pytest.mark.parametrize(("changed", "comparison"), [(b"", Comparison.SAME), (b"!", Comparison.CHANGED)])
async def test_a_file_is_read_in_pieces_of_any_length(site: Site, changed: bytes, comparison: Comparison) -> None:
    content = os.urandom(24) + b"?"
    claim = site.claimed("a.md", content[: 25 - len(changed)] + changed)
    one = Comparing(known(claim, content))

    with open_root(site.path) as root, folder(root, "processing", INSTANCE, INBOX_LANE) as claims:
        read = [one.go_on(claims, bytes_max=10) for _ in range(2)]
        before = one.comparison
        read.append(one.go_on(claims, bytes_max=10))

    assert (read, before, one.comparison) == ([10, 10, 5], Comparison.UNFINISHED, comparison)


async def test_a_turn_ends_when_so_much_was_read(site: Site) -> None:
    """Whoever else needs the root comes in between."""
    claims = [site.claimed(f"{number}.jsonl", b"") for number in range(2)]
    size_bytes = COMPARED_BYTES // 2 + 1
    for claim in claims:
        os.truncate(site.claims_folder() / claim.name, size_bytes)
    files = [Comparing(known(claim, bytes(size_bytes))) for claim in claims]

    turns = []
    with open_root(site.path) as root, folder(root, "processing", INSTANCE, INBOX_LANE) as parent:
        for _ in range(2):
            compare_on(files, parent)
            turns.append([one.comparison for one in files])

    assert turns == [[Comparison.SAME, Comparison.UNFINISHED], [Comparison.SAME, Comparison.SAME]]


async def test_a_lane_whose_folder_cannot_be_opened_says_nothing_of_its_files(site: Site) -> None:
    claim = site.claimed("a.md", b"content", lane=Lane("reports"))
    site.claims_folder(claim.lane).rename(site.path / "elsewhere")
    site.claims_folder(claim.lane).touch()

    assert await compare(site, known(claim, b"content"), lane=claim.lane) == [Comparison.UNREADABLE]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file: run as another user to test this")
async def test_a_file_that_we_may_not_read_has_not_changed(site: Site) -> None:
    claim = site.claimed("a.md", b"content")
    (site.claims_folder() / claim.name).chmod(0o000)

    assert await compare(site, known(claim, b"content")) == [Comparison.UNREADABLE]


async def test_a_file_that_somebody_has_a_lease_on_says_nothing_and_keeps_no_other_waiting(site: Site) -> None:
    """Whoever dropped it may take one after the claim, and again whenever it was broken."""
    kept, other = (site.claimed(f"{number}.md", b"content") for number in range(2))
    files = [known(claim, b"content") for claim in (kept, other)]

    with leased(site.claims_folder() / kept.name):
        meanwhile = await compare(site, *files)

    assert meanwhile == [Comparison.UNREADABLE, Comparison.SAME]
    assert await compare(site, *files) == [Comparison.SAME, Comparison.SAME]
