import stat
from collections.abc import AsyncIterator

import pytest

from batchbox.errors import RetiredError
from batchbox.folders.manifests import Manifests
from batchbox.model import Nonce

from .site import INSTANCE, OTHER_INSTANCE, Site, names_in

NONCE = Nonce("abcdefgh")


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    """Yield the pieces, as the database does."""
    for piece in data:
        yield piece


async def broken() -> AsyncIterator[bytes]:
    """Yield a piece, and fail."""
    yield b"head\n"
    raise ArithmeticError


def kept(site: Site) -> set[str]:
    """Return the names of this instance's manifests."""
    return names_in(site.path / ".batchbox" / "batches" / INSTANCE)


async def test_a_manifest_is_visible_when_it_is_whole(site: Site) -> None:
    manifests = Manifests(site.root, INSTANCE)

    await manifests.write(NONCE, pieces(b"head\n", b"one\n", b"", b"two\n"))

    assert kept(site) == {"abcdefgh.jsonl"}
    path = site.path / ".batchbox" / "batches" / INSTANCE / "abcdefgh.jsonl"
    assert path.read_bytes() == b"head\none\ntwo\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


async def test_a_manifest_that_could_not_be_written_to_its_end_is_no_manifest(site: Site) -> None:
    manifests = Manifests(site.root, INSTANCE)

    with pytest.raises(ArithmeticError):
        await manifests.write(NONCE, broken())

    assert "abcdefgh.jsonl" not in kept(site)
    await manifests.close(NONCE)
    assert not any(name.endswith(".closed") for name in kept(site))


async def test_what_an_earlier_attempt_left_is_written_over(site: Site) -> None:
    manifests = Manifests(site.root, INSTANCE)
    with pytest.raises(ArithmeticError):
        await manifests.write(NONCE, broken())

    await manifests.write(NONCE, pieces(b"whole\n"))

    assert kept(site) == {"abcdefgh.jsonl"}
    path = site.path / ".batchbox" / "batches" / INSTANCE / "abcdefgh.jsonl"
    assert path.read_bytes() == b"whole\n"


async def test_closing_renames_and_closing_again_does_nothing(site: Site) -> None:
    manifests = Manifests(site.root, INSTANCE)
    await manifests.write(NONCE, pieces(b"x\n"))

    await manifests.close(NONCE)
    await manifests.close(NONCE)

    assert kept(site) == {"abcdefgh.jsonl.closed"}


async def test_closing_one_that_was_never_written_does_nothing(site: Site) -> None:
    await Manifests(site.root, INSTANCE).close(NONCE)

    assert kept(site) == set()


async def test_an_instance_without_a_folder_for_them_says_so(site: Site) -> None:
    """Without a durable manifest there is no POST, so this must not pass in silence."""
    (site.path / ".batchbox" / "batches" / INSTANCE).rmdir()

    with pytest.raises(FileNotFoundError):
        await Manifests(site.root, INSTANCE).write(NONCE, pieces(b"x\n"))


async def test_a_retired_instance_writes_none(site: Site) -> None:
    """Its work was taken over: that is no trouble with the share, which would be waited out."""
    with pytest.raises(RetiredError):
        await Manifests(site.root, OTHER_INSTANCE).write(NONCE, pieces(b"x\n"))

    assert names_in(site.path / ".batchbox" / "batches") == {INSTANCE}
