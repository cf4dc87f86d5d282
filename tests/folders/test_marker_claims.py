"""A marker is claimed with its file, or stays with it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from batchbox.folders import inbox as inbox_module
from batchbox.folders import markers as markers_module
from batchbox.model import Lane

from .failing import FailingOs
from .site import Site, names_in


@contextmanager
def resisting(number: int, *names: str) -> Iterator[None]:
    """Let nobody rename or delete these while the block lasts."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (inbox_module, markers_module):
            patched.setattr(module, "os", FailingOs(number, names))
        yield


async def test_a_marker_goes_with_its_file(site: Site) -> None:
    """Nothing of it is left, not even in processing/."""
    site.drop("a.md")
    site.drop("a.md.ready", b"")
    file = replace(await site.wanted("a.md"), marker="a.md.ready")

    outcomes = await site.claim(file)

    assert outcomes == ["claimed"]
    assert names_in(site.folder("inbox")) == set()
    assert names_in(site.claims_folder()) == {file.claim_name}


async def test_a_marker_is_put_back_when_its_file_cannot_be_claimed(site: Site) -> None:
    """A file without its marker would wait for ever."""
    site.drop("a.md")
    site.drop("a.md.ready", b"")
    wanted = await site.wanted("a.md")
    file = replace(wanted, marker="a.md.ready", claim_name=wanted.claim_name.replace("~", "~none/"))

    outcomes = await site.claim(file)

    assert outcomes != ["claimed"]
    assert names_in(site.folder("inbox")) == {"a.md", "a.md.ready"}
    assert names_in(site.claims_folder()) == set()


async def test_whoever_has_the_marker_has_the_file(site: Site) -> None:
    """Of two daemons only one gets it; the other leaves the file alone."""
    site.drop("a.md")
    file = replace(await site.wanted("a.md"), marker="a.md.ready")

    outcomes = await site.claim(file)

    assert outcomes == ["changed"]
    assert names_in(site.folder("inbox")) == {"a.md"}


@pytest.mark.parametrize(("number", "outcome"), [(errno.EBUSY, "busy"), (errno.EIO, "unclear")])
async def test_a_marker_that_resists_is_told_from_one_that_has_gone(site: Site, number: int, outcome: str) -> None:
    """Its file waits with it, and the files before it in the group are claimed, durably, all the same."""
    for name in ("a.md", "b.md"):
        site.drop(name)
    site.drop("b.md.ready", b"")
    files = [await site.wanted("a.md"), replace(await site.wanted("b.md"), marker="b.md.ready")]

    with resisting(number, "b.md.ready"):
        outcomes = await site.claim(*files)

    assert outcomes == ["claimed", outcome]
    assert names_in(site.folder("inbox")) == {"b.md", "b.md.ready"}


async def test_the_claims_before_one_that_goes_wrong_are_made_durable(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the file cannot be claimed, and its marker cannot be put back."""
    for name in ("a.md", "b.md"):
        site.drop(name)
    site.drop("b.md.ready", b"")
    marked = await site.wanted("b.md")
    synced: list[int] = []
    file = replace(marked, marker="b.md.ready", claim_name=marked.claim_name.replace("~", "~none/"))

    def fail(marker: str, claim: str, *, inbox: int, claims: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), marker)

    with monkeypatch.context() as patched:
        patched.setattr(inbox_module, "sync_folder", synced.append)
        patched.setattr(inbox_module, "put_marker_back", fail)
        outcomes = await site.claim(await site.wanted("a.md"), file)

    assert outcomes == ["claimed", "unclear"]
    assert len(synced) == 2
    await site.inbox.claims()
    assert names_in(site.folder("inbox")) == {"b.md", "b.md.ready"}


async def test_a_marker_that_cannot_be_deleted_is_not_said_to_have_gone(site: Site) -> None:
    for name in ("a.md.ready", "b.md.ready"):
        site.drop(name, b"")
    samples = await site.samples("a.md.ready", "b.md.ready")

    with resisting(errno.EACCES, "a.md.ready"):
        removed = await site.inbox.remove(Lane("_"), samples)
    removed_of_gone_lane = await site.inbox.remove(Lane("gone"), samples)

    assert (removed, removed_of_gone_lane) == ({"b.md.ready"}, set())
    assert names_in(site.folder("inbox")) == {"a.md.ready"}
