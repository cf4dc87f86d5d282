import dataclasses
import errno
import os
import time
from pathlib import Path

import pytest

from batchbox.model import INBOX_LANE, Lane

from .site import Site
from .test_inbox_listing import bind_socket


def descriptor_count() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/dev/fd"))


async def test_a_sample_is_what_the_file_system_says_and_the_last_bytes(site: Site) -> None:
    path = site.drop("a.md", bytes(range(256)))

    sample = await site.sample("a.md")

    status = path.stat()
    assert (sample.device, sample.inode, sample.size_bytes) == (status.st_dev, status.st_ino, 256)
    assert (sample.modified_ns, sample.changed_ns) == (status.st_mtime_ns, status.st_ctime_ns)
    assert sample.is_regular
    assert sample.tail == bytes(range(192, 256))


@pytest.mark.parametrize("size_bytes", [0, 1, 63, 64, 65])
async def test_the_tail_is_as_much_of_the_file_as_there_is(site: Site, size_bytes: int) -> None:
    content = os.urandom(size_bytes)
    site.drop("a.md", content)

    assert (await site.sample("a.md")).tail == content[-64:]


async def test_two_samples_of_a_file_that_did_not_change_are_equal(site: Site) -> None:
    site.drop("a.md")

    assert await site.sample("a.md") == await site.sample("a.md")


def append(path: Path) -> None:
    """Write on."""
    with path.open("ab") as file:
        file.write(b"more")


def overwrite_end_and_hide_it(path: Path) -> None:
    """Change the last byte and set the modification time back, as a tool that keeps times does."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    """Put another file of the same content in its place."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize("change", [append, overwrite_end_and_hide_it, replace])
async def test_a_change_is_seen_even_if_times_are_set_back(site: Site, change: object) -> None:
    path = site.drop("a.md")
    before = await site.sample("a.md")

    assert callable(change)
    change(path)

    assert await site.sample("a.md") != before


async def test_a_file_that_went_between_the_listing_and_the_look_is_left_out(site: Site) -> None:
    site.drop("a.md")

    samples = await site.samples("a.md", "gone.md")

    assert list(samples) == ["a.md"]


async def test_a_lane_that_went_between_the_listing_and_the_look_has_no_samples(site: Site) -> None:
    assert await site.samples("a.md", lane=Lane("gone")) == {}


async def test_a_lane_that_was_replaced_by_a_link_has_no_samples(site: Site) -> None:
    """Else a dropper could have a folder read that is not theirs."""
    elsewhere = site.path.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "secret.md").write_text("secret")
    os.symlink(elsewhere, site.path / "inbox" / "reports")

    assert await site.samples("secret.md", lane=Lane("reports")) == {}


async def test_what_is_no_file_is_seen_without_being_opened_or_followed(site: Site) -> None:
    inbox = site.path / "inbox"
    secret = site.path.with_name("secret.md")
    secret.write_text("secret")
    os.symlink(secret, inbox / "link.md")
    os.symlink("/nowhere", inbox / "dangling.md")
    os.symlink("loop.md", inbox / "loop.md")
    os.mkfifo(inbox / "pipe.md")
    bind_socket(inbox / "socket.md")
    (inbox / "folder.md").mkdir()
    names = sorted(path.name for path in inbox.iterdir())
    before = descriptor_count()

    samples = await site.samples(*names)

    assert sorted(samples) == names
    assert not any(sample.is_regular or sample.tail for sample in samples.values())
    assert samples["link.md"].inode == (inbox / "link.md").lstat().st_ino
    assert descriptor_count() == before


async def test_a_pipe_that_somebody_writes_to_is_no_stall(site: Site) -> None:
    pipe = site.path / "inbox" / "pipe.md"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    os.write(writer, b"bait")

    sample = await site.sample("pipe.md")
    os.close(writer)

    assert not sample.is_regular
    assert not sample.tail


async def test_a_sparse_file_of_a_tebibyte_is_sampled_by_its_end_alone(site: Site) -> None:
    path = site.drop("a.md", b"")
    try:
        os.truncate(path, 2**40)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        pytest.skip("this file system has no files of a tebibyte")

    sample = await site.sample("a.md")

    assert (sample.size_bytes, sample.tail) == (2**40, bytes(64))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file: run as another user to test this")
async def test_a_file_that_we_may_not_read_is_seen_all_the_same(site: Site) -> None:
    site.drop("a.md").chmod(0o000)

    assert (await site.sample("a.md")).size_bytes == 5


async def test_samples_come_with_the_moment_at_which_they_were_taken(site: Site) -> None:
    """A step may take long, and in the meantime a writer may have written."""
    site.drop("a.md")
    before = time.monotonic()

    _, moment = await site.inbox.sample(INBOX_LANE, ["a.md"])

    assert before <= moment <= time.monotonic()


async def test_a_known_sample_is_believed_as_long_as_size_and_times_are_the_same(site: Site) -> None:
    """Then the file is not opened: what is made up of its end shows that."""
    path = site.drop("a.md", b"content")
    known = {"a.md": dataclasses.replace(await site.sample("a.md"), tail=b"made up")}

    same, _ = await site.inbox.sample(INBOX_LANE, ["a.md"], known)
    path.write_bytes(b"changed")
    changed, _ = await site.inbox.sample(INBOX_LANE, ["a.md"], known)
    path.unlink()
    gone, _ = await site.inbox.sample(INBOX_LANE, ["a.md"], known)

    assert same == known
    assert changed["a.md"].tail == b"changed"
    assert gone == {}
