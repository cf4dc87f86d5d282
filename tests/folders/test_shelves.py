import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from batchbox.folders import shelves as module
from batchbox.folders.layout import Presence
from batchbox.folders.shelves import NUMBERED_MAX, Move, Original, Rejected, Shelves
from batchbox.model import INBOX_LANE, Lane
from batchbox.naming import with_suffix_number

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


async def test_where_nothing_is_to_be_moved_a_folder_that_is_none_is_no_fault(site: Site) -> None:
    """A lane's originals must not wait for its folder in rejected/."""
    (site.path / "rejected" / "reports").write_text("no folder")

    assert await shelves(site).put_aside(Lane("reports"), []) == []


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


def take_all_numbers(folder: Path, *, content: bytes = b"somebody else's") -> set[str]:
    """Put a file under every name that is numbered; return the names."""
    taken = {with_suffix_number("a.json", number) for number in range(1, NUMBERED_MAX + 1)}
    for name in taken:
        (folder / name).write_bytes(content)
    return taken


async def test_beyond_the_numbers_each_file_has_a_name_of_its_own_at_once(site: Site) -> None:
    """However many there are, nothing is looked for among them, and asking again gives the same name."""
    taken = take_all_numbers(site.path / "rejected")

    names = [await reject(site, "a.json", words=words) for words in (b"one", b"two", b"one")]

    (first,), (second,), (again,) = names
    assert first == again != second
    assert all(re.fullmatch(r"a__[0-9a-f]{16}\.json", name) for name in (first, second))
    assert names_in(site.path / "rejected") == {*taken, f"{first}.error.txt", f"{second}.error.txt"}


async def test_beyond_the_numbers_an_explanation_cut_short_is_ours_whoever_else_is_at_home(site: Site) -> None:
    """Nobody else's has that name."""
    take_all_numbers(site.path / "rejected")
    await Presence(site.root, OTHER_INSTANCE).establish()
    (target,) = await reject(site, "a.json")
    explanation = site.path / "rejected" / f"{target}.error.txt"
    explanation.write_bytes(WORDS[:5])

    assert await reject(site, "a.json") == [target]

    assert explanation.read_bytes() == WORDS


@pytest.mark.parametrize("top", ["rejected", "done"])
async def test_what_stands_under_the_name_of_its_own_stays_and_the_file_waits_alone(site: Site, top: str) -> None:
    """Somebody put it there on purpose: the others go on."""
    take_all_numbers(site.path / top)
    claim, other = site.claimed("a.json", b"ours"), site.claimed("b.json", b"another")
    both = [claim, other]

    async def take() -> list[str]:
        if top == "done":
            originals = [Original(name=one.name.partition("~")[2], claim=one.name) for one in both]
            return await shelves(site).take_done_names(INBOX_LANE, originals)
        return await reject(site, "a.json", "b.json")

    target, _ = await take()
    (site.path / top / target).unlink(missing_ok=True)
    (site.path / top / target).write_bytes(b"put there")
    targets = await take()
    moves = [Move(claim=one.name, target=name) for one, name in zip(both, targets, strict=True)]
    move = shelves(site).archive if top == "done" else shelves(site).put_aside
    stuck = await move(INBOX_LANE, moves)

    assert targets == [target, "b.json"]
    assert stuck == [site.path / top / target]
    assert (site.path / top / target).read_bytes() == b"put there"
    assert (site.path / top / "b.json").read_bytes() == b"another"
    assert names_in(site.claims_folder()) == {claim.name}


@pytest.mark.parametrize("raw", [b"a" * 252 + b".md", "ü".encode() * 126 + b".md", b"\xff" * 255, b"x." + b"e" * 253])
async def test_beyond_the_numbers_a_name_of_any_length_fits_with_its_explanation(site: Site, raw: bytes) -> None:
    name = os.fsdecode(raw)
    names = [(await reject(site, name, words=b"%02d" % number))[0] for number in range(NUMBERED_MAX + 2)]
    originals = [Original(name=name, claim=f"claim-{number:02d}") for number in range(NUMBERED_MAX + 2)]

    done = await shelves(site).take_done_names(INBOX_LANE, originals)

    assert len(set(names)) == len(set(done)) == NUMBERED_MAX + 2
    assert len(names_in(site.path / "rejected")) == len(names_in(site.path / "done")) == NUMBERED_MAX + 2


class FullDisk:
    """An `os` in which one call says that there is no room, though the file is there."""

    def __init__(self, failing: str) -> None:
        self._failing = failing

    def __getattr__(self, name: str) -> object:
        return self._fail if name == self._failing else getattr(os, name)

    def _fail(self, descriptor: int) -> None:
        if self._failing == "close":
            os.close(descriptor)  # as a server does that finds out late
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("failing", ["fsync", "close"])
async def test_an_explanation_that_found_no_room_leaves_nothing_behind(
    site: Site, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Its name would be kept from ourselves where another daemon is at home, and again at each new attempt."""
    await Presence(site.root, OTHER_INSTANCE).establish()

    with monkeypatch.context() as patched:
        patched.setattr(module, "os", FullDisk(failing))
        with pytest.raises(OSError, match=r"No space left on device: '.*/rejected'"):
            await reject(site, "a.json")
    left = names_in(site.path / "rejected")

    assert left == set()
    assert await reject(site, "a.json") == ["a.json"]
