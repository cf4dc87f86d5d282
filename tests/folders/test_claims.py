import os
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from batchbox.errors import RetiredError
from batchbox.folders import inbox as inbox_module
from batchbox.folders.inbox import Inbox, Wanted
from batchbox.folders.layout import Presence
from batchbox.folders.reading import Claim
from batchbox.folders.root import sync_folder
from batchbox.formats import FileKind
from batchbox.model import INBOX_LANE, Lane

from .site import INSTANCE, OTHER_INSTANCE, Site, names_in
from .test_inbox_listing import bind_socket

MEBIBYTE = 1024 * 1024


async def test_a_claimed_file_has_left_the_inbox_and_is_ours(site: Site) -> None:
    site.drop("a.md", b"content", lane=Lane("reports"))
    file = await site.wanted("a.md", lane=Lane("reports"))

    outcomes = await site.claim(file, lane=Lane("reports"))

    assert outcomes == ["claimed"]
    assert names_in(site.path / "inbox" / "reports") == set()
    assert await site.inbox.claims() == [Claim(lane=Lane("reports"), name=file.claim_name)]
    assert (site.claims_folder(Lane("reports")) / file.claim_name).read_bytes() == b"content"


async def test_both_folders_are_synced_after_the_rename_and_the_new_name_first(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the other order a power cut between the two could leave the file without any name."""
    site.drop("a.md")
    file = await site.wanted("a.md")
    await site.claim()  # makes the folder, which syncs, too
    synced: list[tuple[str, bool]] = []

    def record(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((path.name, (site.claims_folder() / file.claim_name).exists()))
        sync_folder(descriptor)

    monkeypatch.setattr(inbox_module, "sync_folder", record)
    await site.claim(file)

    assert synced == [("_", True), ("inbox", True)]


async def test_a_group_is_synced_once_however_many_files_it_has(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number}.md" for number in range(50)]
    for name in names:
        site.drop(name)
    files = [await site.wanted(name) for name in names]
    await site.claim()
    count = 0

    def record(descriptor: int) -> None:
        nonlocal count
        count += 1
        sync_folder(descriptor)

    monkeypatch.setattr(inbox_module, "sync_folder", record)
    await site.claim(*files)

    assert count == 2


def delete(path: Path) -> None:
    """Take the file back."""
    path.unlink()


def append(path: Path) -> None:
    """Write on."""
    with path.open("ab") as file:
        file.write(b"more")


def replace_by_copy(path: Path) -> None:
    """Save the file the way editors do."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.rename(path)


def replace_by_link(path: Path) -> None:
    """Swap the file for a link to something else."""
    path.unlink()
    path.symlink_to("/etc/passwd")


def replace_by_folder(path: Path) -> None:
    """Swap the file for a folder."""
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    """Swap the file for a pipe that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "change", [delete, append, replace_by_copy, replace_by_link, replace_by_folder, replace_by_pipe]
)
async def test_a_file_that_is_not_what_was_sampled_is_not_claimed(site: Site, change: object) -> None:
    path = site.drop("a.md")
    file = await site.wanted("a.md")

    assert callable(change)
    change(path)
    outcomes = await site.claim(file)

    assert outcomes in (["changed"], ["gone"])
    assert names_in(site.claims_folder()) == set()
    assert names_in(path.parent) == (set() if change is delete else {"a.md"})


async def test_one_file_that_has_gone_does_not_keep_the_others(site: Site) -> None:
    for name in ("a.md", "b.md", "c.md"):
        site.drop(name)
    files = [await site.wanted(name) for name in ("a.md", "b.md", "c.md")]
    (site.path / "inbox" / "b.md").unlink()

    outcomes = await site.claim(*files)

    assert [outcome == "claimed" for outcome in outcomes] == [True, False, True]
    assert len(await site.inbox.claims()) == 2


async def test_of_two_daemons_that_want_a_file_one_gets_it(site: Site) -> None:
    await Presence(site.root, OTHER_INSTANCE).establish()
    other = Inbox(site.root, OTHER_INSTANCE, monotonic=time.monotonic)
    names = [f"{number}.md" for number in range(40)]
    for name in names:
        site.drop(name)
    ours = [await site.wanted(name) for name in names]
    theirs = [await site.wanted(name) for name in reversed(names)]

    async def claim_all(inbox: Inbox, files: Sequence[Wanted]) -> None:
        for file in files:
            await inbox.claim(INBOX_LANE, [file])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(claim_all, site.inbox, ours)
        tasks.start_soon(claim_all, other, theirs)

    claimed = [claim.name.partition("~")[2] for claim in [*await site.inbox.claims(), *await other.claims()]]
    assert sorted(claimed) == sorted(names)
    assert await site.inbox.claims()
    assert await other.claims()


async def test_what_is_no_file_can_be_claimed_as_the_thing_that_it_is(site: Site) -> None:
    """It is moved out of the way, to be rejected; nothing that a link leads to is touched."""
    inbox = site.path / "inbox"
    secret = site.path.with_name("secret.md")
    secret.write_text("secret")
    os.symlink(secret, inbox / "link.md")
    os.symlink("/nowhere", inbox / "dangling.md")
    os.mkfifo(inbox / "pipe.md")
    bind_socket(inbox / "socket.md")
    files = [await site.wanted(name) for name in ("link.md", "dangling.md", "pipe.md", "socket.md")]

    outcomes = await site.claim(*files)

    assert outcomes == ["claimed"] * 4
    assert names_in(inbox) == set()
    assert (site.claims_folder() / files[0].claim_name).is_symlink()
    assert secret.read_text() == "secret"


async def test_a_retired_daemon_claims_nothing(site: Site) -> None:
    path = site.drop("a.md")
    file = await site.wanted("a.md")
    (site.path / "processing" / INSTANCE).rename(site.path / "processing" / "taken-over")

    with pytest.raises(RetiredError):
        await site.claim(file)

    assert names_in(path.parent) == {"a.md"}


async def test_everything_in_processing_is_a_claim_oldest_first_whatever_its_lane(site: Site) -> None:
    names = ["000000000003-00~c", "000000000001-00~a", "000000000002-00~b"]
    for name, lane in zip(names, [INBOX_LANE, Lane("x"), Lane("y")], strict=True):
        site.claims_folder(lane).mkdir(exist_ok=True)
        (site.claims_folder(lane) / name).touch()
    await Presence(site.root, INSTANCE).beat()

    assert [claim.name[-1] for claim in await site.inbox.claims()] == ["a", "b", "c"]


async def test_a_stray_file_beside_the_lanes_in_processing_does_not_hide_the_claims(site: Site) -> None:
    claim = site.claimed("a.md")
    (site.path / "processing" / INSTANCE / "stray.txt").touch()

    assert claim in await site.inbox.claims()


LONG_TEXT = b'"' + b"x" * (3 * MEBIBYTE) + b'"'


@pytest.mark.parametrize(
    ("kind", "content", "is_whole"),
    [
        (FileKind.JSON, b'{"a": ' + LONG_TEXT + b"}", True),
        (FileKind.JSON, b'{"a": ' + LONG_TEXT, False),
        (FileKind.JSON, b'{"a": ' + LONG_TEXT[:-1], False),
        (FileKind.JSON, b'{"a": [' + LONG_TEXT + b"]}\r\n \n", True),
        (FileKind.JSON_LINES, b'{"a": 1}\n{"b": ' + LONG_TEXT + b"}\n", True),
        (FileKind.JSON_LINES, b'{"a": 1}\n{"b": ' + LONG_TEXT + b"}", True),
        (FileKind.JSON_LINES, b'{"a": 1}\n{"b": ' + LONG_TEXT, False),
        (FileKind.JSON_LINES, b'{"a": 1}\n{"b": ' + LONG_TEXT[:-1], False),
        (FileKind.JSON_LINES, b'{"a": ' + LONG_TEXT[:-1] + b'\n{"b": 1}', True),
        (FileKind.JSON_LINES, b'{"a": ' + LONG_TEXT[:-1], False),
        (FileKind.JSON_LINES, b'{"a": 1}\n{"b"', False),
        (FileKind.JSON_LINES, b'{"a": 1}\n\n\n', True),
    ],
)
async def test_json_that_breaks_off_is_waited_for_however_long_it_is(
    site: Site, kind: FileKind, content: bytes, is_whole: bool
) -> None:
    """What follows a line that a line end ended is judged; a broken line before it is rejected, not waited for."""
    site.drop("a.json", content)
    file = await site.wanted("a.json", check=kind)

    outcomes = await site.claim(file)

    assert outcomes == (["claimed"] if is_whole else ["unfinished"])
    assert names_in(site.path / "inbox") == (set() if is_whole else {"a.json"})


async def test_json_that_is_too_large_to_be_a_request_is_not_read_to_its_end_before_the_claim(site: Site) -> None:
    """That it is too large is said after the claim."""
    path = site.drop("a.json", b"{")
    os.truncate(path, 200 * MEBIBYTE)

    assert await site.claim(await site.wanted("a.json", check=FileKind.JSON)) == ["claimed"]


async def test_a_file_that_nobody_wants_checked_is_taken_as_it_is(site: Site) -> None:
    site.drop("a.json", b"{")

    assert await site.claim(await site.wanted("a.json")) == ["claimed"]


async def test_a_name_that_is_taken_in_processing_counts_as_claimed_if_the_rename_fails(site: Site) -> None:
    """A server may lose its reply to a rename that succeeded; what is there is ours either way."""
    site.drop("a.md")
    file = await site.wanted("a.md")
    (site.claims_folder() / file.claim_name).mkdir(parents=True)

    assert await site.claim(file) == ["claimed"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file: run as another user to test this")
async def test_a_file_that_we_may_not_read_stays_in_the_inbox(site: Site) -> None:
    site.drop("a.md").chmod(0o000)

    assert await site.claim(await site.wanted("a.md")) == ["busy"]
