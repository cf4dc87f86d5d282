"""What can never become a request: moved to rejected/, unharmed, beside its explanation, and never sent."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .site import Site, prompt, request, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD: dict[str, tuple[bytes, str]] = {
    "empty.md": (b"", "empty"),
    "letter.docx": (b"PK\x03\x04", "unknown_type"),
    "without-extension": (b"text", "unknown_type"),
    "cut-off.json": (b'{"messages": [', "incomplete"),
    "cut-off.jsonl": (json.dumps(request("one")).encode() + b'\n{"messages": [{"role"', "incomplete"),
    "nul-end.md": (b"text\0\0\0\0", "incomplete"),
    "broken.json": (b'{"messages": [}', "bad_json"),
    "twice-a-key.json": (
        b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 5, "max_tokens": 6}',
        "bad_json",
    ),
    "latin-1.md": (b"caf\xe9 noir", "bad_encoding"),
    "nul.md": (b"a\0b", "bad_encoding"),
    "header.md": (b"+++\ncolour = 1\n+++\ntext", "bad_header"),
    "deep.json": (b'{"messages": [{"role": "user", "content": ' + b"[" * 90 + b"]" * 90 + b"}]}", "too_deep"),
    "id.json": (json.dumps({"custom_id": "a b", "params": request("x")}).encode(), "bad_id"),
    "no-messages.json": (b'{"params": {"messages": []}}', "no_messages"),
    "stream.json": (json.dumps(request("x", stream=True)).encode(), "not_allowed"),
    "file-source.json": (
        (
            b'{"messages": [{"role": "user", "content": '
            b'[{"type": "document", "source": {"type": "file", "file_id": "f"}}]}]}'
        ),
        "not_allowed",
    ),
    "over.md": (b"+++\nmax_tokens = 999999\n+++\ntext", "over_limit"),
    "same-ids.jsonl": (
        b"".join(json.dumps({"custom_id": "d", "params": request(word)}).encode() + b"\n" for word in "ab"),
        "duplicate_id",
    ),
    "large.md": (b"x" * 1_000_001, "too_large"),
}


async def test_every_bad_file_is_rejected_with_its_reason(quiet_site: Site) -> None:
    """Each kind of bad content is moved to rejected/ unchanged, with its reason, and nothing of it is sent."""
    site = quiet_site

    for name, (content, _) in BAD.items():
        site.drop(name, content)
    await until(lambda: len(site.visible("rejected")) >= 2 * len(BAD), "every bad file is rejected")
    await site.settles()

    reasons = {name: site.explanation(name)["Reason"] for name in BAD}
    kept = {name: (site.root / "rejected" / name).read_bytes() for name in BAD}
    assert reasons == {name: reason for name, (_, reason) in BAD.items()}
    assert kept == {name: content for name, (content, _) in BAD.items()}
    assert site.simulator.ledger.attempts == ()
    for name in BAD:
        assert {"Not processed", "Detail", "What to do", "Received", "Rejected"} < site.explanation(name).keys()


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _dangling_link(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _hard_link(path: Path) -> None:
    other = path.parent.parent / f"kept-{path.name}"
    other.write_text(prompt("linked"))
    path.hardlink_to(other)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_link, "not_a_regular_file"),
        (_dangling_link, "not_a_regular_file"),
        (_pipe, "not_a_regular_file"),
        (_hard_link, "hard_link"),
    ],
)
async def test_what_is_no_plain_file_is_never_opened(
    quiet_site: Site, make: Callable[[Path], None], reason: str
) -> None:
    """Links and pipes are rejected as what they are; nothing that they point to is read or sent."""
    site = quiet_site
    name = f"odd{make.__name__}.md"

    make(site.root / "inbox" / name)
    await until(lambda: f"{name}.error.txt" in site.visible("rejected"), "it is rejected")
    await until(lambda: name in {path.name for path in (site.root / "rejected").iterdir()}, "it lies in rejected/")

    assert site.explanation(name)["Reason"] == reason
    assert site.simulator.ledger.attempts == ()


async def test_a_folder_with_a_files_name_is_a_lane(quiet_site: Site) -> None:
    """A folder is a lane whatever it is called: it stays, and what is dropped into it is answered."""
    site = quiet_site
    (site.root / "inbox" / "folder.md").mkdir()

    site.drop("inside.md", prompt("Inside"), lane="folder.md")
    await site.answers("inside", lane="folder.md")

    assert (site.root / "inbox" / "folder.md").is_dir()


async def test_a_second_rejected_file_of_a_name_stands_beside_the_first(quiet_site: Site) -> None:
    """Nothing in rejected/ is overwritten: the second file of a name gets `__2`, and an explanation of its own."""
    site = quiet_site
    site.drop("twice.json", '{"messages": [1,}')
    await until(lambda: "twice.json" in site.visible("rejected"), "the first is rejected")

    site.drop("twice.json", '{"messages": [2,}')
    await until(lambda: "twice__2.json" in site.visible("rejected"), "the second is rejected")

    assert (site.root / "rejected" / "twice.json").read_text() == '{"messages": [1,}'
    assert (site.root / "rejected" / "twice__2.json").read_text() == '{"messages": [2,}'
    assert "twice__2.json.error.txt" in site.visible("rejected")


async def test_files_of_other_programs_are_left_alone(quiet_site: Site) -> None:
    """Temporary and hidden files are never taken, however long they lie there."""
    site = quiet_site
    names = {".hidden.md", "~$letter.md", "_note.md", "film.md.crdownload", "text.md.part", "Thumbs.db"}

    for name in names:
        (site.root / "inbox" / name).write_text(prompt("not for you"))
    site.drop("after.md", prompt("For you"))
    await site.answers("after")
    site.drop("long-after.md", prompt("For you, too"))
    await site.answers("long-after")

    assert {path.name for path in (site.root / "inbox").iterdir() if path.is_file()} == names
