import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from batchbox.errors import RejectedError
from batchbox.folders.reading import READ_BYTES, Claim, Read, ReadRules
from batchbox.model import Lane, RejectReason

from .site import Site, read_rules
from .test_inbox_listing import bind_socket


async def read_one(site: Site, claim: Claim, rules: ReadRules | None = None) -> Read:
    """Read one claimed file."""
    (read,), _ = await site.inbox.read([claim], rules or read_rules())
    return read


def reason_of(read: Read) -> RejectReason:
    """Return why the file was rejected."""
    assert isinstance(read.content, RejectedError)
    return read.content.reason


async def test_a_claimed_file_is_read_and_hashed(site: Site) -> None:
    claim = site.claimed("a.md", b"content", lane=Lane("reports"))

    read = await read_one(site, claim)

    assert read.content == b"content"
    assert read.sha256 == hashlib.sha256(b"content").digest()
    assert read.facts.size_bytes == 7
    assert not read.is_long


async def test_a_claim_that_has_gone_is_covered_and_not_read(site: Site) -> None:
    gone, there = site.claimed("a.md"), site.claimed("b.md")
    (site.claims_folder() / gone.name).unlink()

    reads, count = await site.inbox.read([gone, there], read_rules())

    assert count == 2
    assert [read.claim for read in reads] == [there]


def link_to_secret(path: Path) -> None:
    """Make a link to a file that is none of the dropper's business."""
    secret = path.parents[4] / "secret"
    secret.write_text("secret")
    path.symlink_to(secret)


def dangling(path: Path) -> None:
    """Make a link to nothing."""
    path.symlink_to("/nowhere")


@pytest.mark.parametrize("make", [link_to_secret, dangling, os.mkfifo, bind_socket, os.mkdir])
async def test_what_is_no_file_is_rejected_unread(site: Site, make: Callable[[Path], None]) -> None:
    claim = site.claimed("a.md")
    path = site.claims_folder() / claim.name
    path.unlink()
    make(path)

    read = await read_one(site, claim)

    assert reason_of(read) is RejectReason.NOT_A_REGULAR_FILE
    assert read.sha256 is None


async def test_a_hard_link_is_rejected_unless_it_is_allowed(site: Site) -> None:
    claim = site.claimed("a.md", b"content")
    os.link(site.claims_folder() / claim.name, site.path.with_name("second name"))

    assert reason_of(await read_one(site, claim)) is RejectReason.HARD_LINK
    assert (await read_one(site, claim, read_rules(reject_hard_links=False))).content == b"content"


@pytest.mark.parametrize(("size_bytes", "is_taken"), [(999, True), (1000, True), (1001, False)])
async def test_a_file_may_have_as_many_bytes_as_are_allowed(site: Site, size_bytes: int, is_taken: bool) -> None:
    claim = site.claimed("a.md", bytes(size_bytes))

    read = await read_one(site, claim, read_rules(bytes_max=lambda _: 1000))

    assert (read.content == bytes(size_bytes)) is is_taken
    assert is_taken or reason_of(read) is RejectReason.TOO_LARGE


async def test_a_sparse_file_of_a_tebibyte_is_rejected_unread(site: Site) -> None:
    claim = site.claimed("a.md", b"")
    try:
        os.truncate(site.claims_folder() / claim.name, 2**40)
    except OSError:
        pytest.skip("this file system has no files of a tebibyte")

    assert reason_of(await read_one(site, claim)) is RejectReason.TOO_LARGE


async def test_a_file_that_grows_over_the_limit_while_it_is_read_is_rejected(site: Site) -> None:
    """Else a part of it would be sent as if it were the whole."""
    claim = site.claimed("a.md", b"short")

    def grow_just_before_it_is_read(_: str) -> None:
        with (site.claims_folder() / claim.name).open("ab") as file:
            file.write(bytes(3_000_000))

    rules = read_rules(bytes_max=lambda _: 1000, long_from=grow_just_before_it_is_read)
    read = await read_one(site, claim, rules)

    assert isinstance(read.content, RejectedError)


async def test_the_recorded_size_is_that_of_what_was_read(site: Site) -> None:
    """A file may have grown after it was opened; later looks compare its size."""
    claim = site.claimed("a.md", b"short")

    def grow_just_before_it_is_read(_: str) -> None:
        with (site.claims_folder() / claim.name).open("ab") as file:
            file.write(b", and more")

    read = await read_one(site, claim, read_rules(long_from=grow_just_before_it_is_read))

    assert read.content == b"short, and more"
    assert read.facts.size_bytes == 15


async def test_a_long_file_is_left_to_be_read_in_parts(site: Site) -> None:
    content = os.urandom(2500)
    claim = site.claimed("a.jsonl", content)

    read = await read_one(site, claim, read_rules(bytes_max=lambda _: 10_000, long_from=lambda _: 2000))
    parts = [await site.inbox.read_part(claim, offset=offset, length=1000) for offset in (0, 1000, 2000, 3000)]

    assert read.is_long
    assert [len(part) for part in parts] == [1000, 1000, 500, 0]
    assert b"".join(parts) == content


async def test_a_group_ends_when_enough_bytes_are_in_memory(site: Site) -> None:
    """The rest comes with the next group: what is in memory is one group and one file."""
    claims = [site.claimed(f"{number}.md", bytes(READ_BYTES // 2)) for number in range(5)]

    reads, count = await site.inbox.read(claims, read_rules(bytes_max=lambda _: READ_BYTES))

    assert (len(reads), count) == (2, 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file: run as another user to test this")
async def test_a_claim_that_we_may_not_read_does_not_keep_the_others_from_being_read(site: Site) -> None:
    unreadable, readable = site.claimed("a.md"), site.claimed("b.md")
    (site.claims_folder() / unreadable.name).chmod(0o000)

    reads, _ = await site.inbox.read([unreadable, readable], read_rules())

    assert readable in [read.claim for read in reads]
