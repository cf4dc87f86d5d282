import os
from collections.abc import Callable
from pathlib import Path

import pytest

from batchbox.folders.layout import Presence
from batchbox.folders.shelves import Move, Original, Rejected, Shelves
from batchbox.model import INBOX_LANE, Lane

from .site import INSTANCE, OTHER_INSTANCE, Site, names_in

WORDS = b"Not processed: a.json\r\n"


def shelves(site: Site) -> Shelves:
    """Return the shelves, as this instance uses them."""
    return Shelves(site.root, INSTANCE)


async def reject(site: Site, *names: str, words: bytes = WORDS) -> list[str]:
    """Explain files of the inbox itself; return the names that they take."""
    files = [Rejected(name=name, explanation=words) for name in names]
    return await shelves(site).take_rejected_names(INBOX_LANE, files)


async def test_an_explanation_takes_the_name_before_the_file_moves(site: Site) -> None:
    claim = site.claimed("a.json", b"{", lane=Lane("reports"))

    (target,) = await shelves(site).take_rejected_names(Lane("reports"), [Rejected(name="a.json", explanation=WORDS)])
    before = names_in(site.path / "rejected" / "reports")
    await shelves(site).put_aside(Lane("reports"), [Move(claim=claim.name, target=target)])

    assert before == {"a.json.error.txt"}
    assert names_in(site.path / "rejected" / "reports") == {"a.json", "a.json.error.txt"}
    assert (site.path / "rejected" / "reports" / "a.json").read_bytes() == b"{"
    assert (site.path / "rejected" / "reports" / "a.json.error.txt").read_bytes() == WORDS
    assert names_in(site.claims_folder(Lane("reports"))) == set()


@pytest.mark.parametrize("taken", ["a.json", "a.json.error.txt"])
async def test_a_name_that_is_taken_stays_as_it_is_and_the_next_one_is_used(site: Site, taken: str) -> None:
    (site.path / "rejected" / taken).write_bytes(b"somebody else's")

    assert await reject(site, "a.json") == ["a__2.json"]

    assert (site.path / "rejected" / taken).read_bytes() == b"somebody else's"
    assert names_in(site.path / "rejected") == {taken, "a__2.json.error.txt"}


async def test_files_of_one_name_in_a_group_take_different_names(site: Site) -> None:
    files = [Rejected(name="a.json", explanation=b"%d" % number) for number in range(3)]

    names = await shelves(site).take_rejected_names(INBOX_LANE, files)

    assert names == ["a.json", "a__2.json", "a__3.json"]


async def test_an_explanation_written_just_before_a_crash_is_found_again(site: Site) -> None:
    """Else every crash would leave an explanation of a file that is not there."""
    first = await reject(site, "a.json")

    second = await reject(site, "a.json")

    assert first == second == ["a.json"]
    assert names_in(site.path / "rejected") == {"a.json.error.txt"}


@pytest.mark.parametrize("words", [WORDS + b"more", b"Not processed: b.json\r\n", WORDS.lower()])
async def test_an_explanation_in_other_words_is_not_ours(site: Site, words: bytes) -> None:
    (site.path / "rejected" / "a.json.error.txt").write_bytes(words)

    assert await reject(site, "a.json") == ["a__2.json"]

    assert (site.path / "rejected" / "a.json.error.txt").read_bytes() == words


@pytest.mark.parametrize("words", [WORDS[:-1], WORDS[:5], b""])
async def test_an_explanation_that_was_being_written_in_a_crash_is_written_to_its_end(site: Site, words: bytes) -> None:
    (site.path / "rejected" / "a.json.error.txt").write_bytes(words)

    assert await reject(site, "a.json") == ["a.json"]

    assert (site.path / "rejected" / "a.json.error.txt").read_bytes() == WORDS


@pytest.mark.parametrize("words", [WORDS[:-1], b""])
async def test_an_explanation_that_another_daemon_may_be_writing_is_left_to_it(site: Site, words: bytes) -> None:
    await Presence(site.root, OTHER_INSTANCE).establish()
    (site.path / "rejected" / "a.json.error.txt").write_bytes(words)

    assert await reject(site, "a.json") == ["a__2.json"]

    assert (site.path / "rejected" / "a.json.error.txt").read_bytes() == words


async def test_our_own_explanation_of_a_file_that_has_arrived_is_another_files(site: Site) -> None:
    """Two files of one name and with the same fault, in the same second, have the same words."""
    (target,) = await reject(site, "a.json")
    claim = site.claimed("a.json")
    await shelves(site).put_aside(INBOX_LANE, [Move(claim=claim.name, target=target)])

    assert await reject(site, "a.json") == ["a__2.json"]


def link(path: Path) -> None:
    """Put a link there."""
    path.symlink_to("/etc/passwd")


def dangling_link(path: Path) -> None:
    """Put a link to nothing there."""
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("occupy", [os.mkfifo, link, dangling_link, os.mkdir])
async def test_whatever_stands_where_an_explanation_would_the_next_name_is_taken(
    site: Site, occupy: Callable[[Path], None]
) -> None:
    """Droppers may write in rejected/, and one bad file must not stop all others."""
    occupy(site.path / "rejected" / "a.json.error.txt")

    assert await reject(site, "a.json") == ["a__2.json"]

    assert names_in(site.path / "rejected") == {"a.json.error.txt", "a__2.json.error.txt"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file: run as another user to test this")
async def test_an_explanation_that_we_may_not_read_is_not_ours(site: Site) -> None:
    path = site.path / "rejected" / "a.json.error.txt"
    path.write_bytes(WORDS)
    path.chmod(0o000)

    assert await reject(site, "a.json") == ["a__2.json"]


@pytest.mark.parametrize(
    "raw",
    [b"a" * 252 + b".md", "ü".encode() * 126 + b".md", b"\xff" * 255, b"a" * 255, b"x." + b"e" * 253, b"new\nline"],
)
async def test_a_name_of_any_length_fits_with_its_explanation_and_a_number(site: Site, raw: bytes) -> None:
    name = os.fsdecode(raw)

    first = await reject(site, name, words=b"one")
    second = await reject(site, name, words=b"two")
    claims = [site.claimed("x"), site.claimed("y")]
    moves = [Move(claim=claim.name, target=target) for claim, target in zip(claims, first + second, strict=True)]
    await shelves(site).put_aside(INBOX_LANE, moves)

    assert first != second
    assert len(names_in(site.path / "rejected")) == 4


async def test_moving_again_after_a_crash_leaves_what_has_arrived_alone(site: Site) -> None:
    claim = site.claimed("a.json", b"ours")
    (target,) = await reject(site, "a.json")
    move = Move(claim=claim.name, target=target)
    await shelves(site).put_aside(INBOX_LANE, [move])

    await shelves(site).put_aside(INBOX_LANE, [move])

    assert (site.path / "rejected" / "a.json").read_bytes() == b"ours"


async def test_what_is_moved_to_rejected_is_the_link_and_not_what_it_leads_to(site: Site) -> None:
    secret = site.path.with_name("secret")
    secret.write_text("secret")
    claim = site.claimed("a.md")
    path = site.claims_folder() / claim.name
    path.unlink()
    path.symlink_to(secret)
    (target,) = await reject(site, "a.md")

    await shelves(site).put_aside(INBOX_LANE, [Move(claim=claim.name, target=target)])

    assert (site.path / "rejected" / "a.md").is_symlink()
    assert secret.exists()


async def test_an_original_replaces_its_own_placeholder(site: Site) -> None:
    claim = site.claimed("a.md", b"content")

    (target,) = await shelves(site).take_done_names(INBOX_LANE, [Original(name="a.md", claim=claim.name)])
    before = (site.path / "done" / "a.md").read_bytes()
    await shelves(site).archive(INBOX_LANE, [Move(claim=claim.name, target=target)])

    assert (target, before) == ("a.md", claim.name.encode())
    assert names_in(site.path / "done") == {"a.md"}
    assert (site.path / "done" / "a.md").read_bytes() == b"content"


async def test_originals_of_one_name_are_all_kept(site: Site) -> None:
    first, second, third = (Original(name="a.md", claim=f"claim-{number}~a.md") for number in range(3))
    (site.path / "processing" / OTHER_INSTANCE).mkdir(exist_ok=True)

    names = await shelves(site).take_done_names(INBOX_LANE, [first, second])
    more = await Shelves(site.root, OTHER_INSTANCE).take_done_names(INBOX_LANE, [third])

    assert names + more == ["a.md", "a__2.md", "a__3.md"]


@pytest.mark.parametrize("occupy", [os.mkfifo, link, dangling_link, os.mkdir])
async def test_whatever_stands_where_an_original_would_the_next_name_is_taken(
    site: Site, occupy: Callable[[Path], None]
) -> None:
    occupy(site.path / "done" / "a.md")

    original = Original(name="a.md", claim="claim~a.md")
    assert await shelves(site).take_done_names(INBOX_LANE, [original]) == ["a__2.md"]


async def test_a_placeholder_made_before_a_crash_is_found_again(site: Site) -> None:
    """Whole, or torn while it was written: nothing is left behind under a second name."""
    originals = [Original(name=name, claim=f"claim~{name}") for name in ("a.md", "b.md")]
    before = await shelves(site).take_done_names(INBOX_LANE, originals)
    (site.path / "done" / "b.md").write_bytes(b"")

    after = await shelves(site).take_done_names(INBOX_LANE, originals)

    assert before == after == ["a.md", "b.md"]
    assert names_in(site.path / "done") == {"a.md", "b.md"}


async def test_archiving_again_after_a_crash_does_not_put_an_empty_file_over_the_original(site: Site) -> None:
    claim = site.claimed("a.md", b"content")
    (target,) = await shelves(site).take_done_names(INBOX_LANE, [Original(name="a.md", claim=claim.name)])
    move = Move(claim=claim.name, target=target)
    await shelves(site).archive(INBOX_LANE, [move])

    await shelves(site).archive(INBOX_LANE, [move])

    assert (site.path / "done" / "a.md").read_bytes() == b"content"


async def test_originals_that_nobody_keeps_are_deleted_however_often_it_is_asked_for(site: Site) -> None:
    claims = [site.claimed("a.md"), site.claimed("b.md")]
    kept = site.claimed("c.md")

    for _ in range(2):
        await shelves(site).drop_claims(INBOX_LANE, [claim.name for claim in claims])

    assert await site.inbox.claims() == [kept]


async def test_originals_whose_time_has_come_are_deleted_and_no_others(site: Site) -> None:
    originals = [Original(name=name, claim=f"claim~{name}") for name in ("a.md", "b.md")]
    await shelves(site).take_done_names(Lane("reports"), originals)

    await shelves(site).remove_done(Lane("reports"), ["a.md", "gone.md"])

    assert names_in(site.path / "done" / "reports") == {"b.md"}
